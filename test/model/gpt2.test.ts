/** What is GPT-2's alone: matrices that its checkpoints hold transposed, and a share of its own that is dropped of the embeddings. */
import assert from 'node:assert/strict';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { before, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { addAdapter, saveModel } from '../../lib/model';
import { readSafetensors, writeSafetensors } from '../../lib/model/safetensors';
import { SFTTrainer } from '../../lib/train';
import { fixtures, golden, loaded, rows, short, temporaryFolder, tinyModel, weightsOf } from '../train/support';

before(() => useDevice('cpu'));

const source = path.join(golden, 'gpt2', 'model');

test('a checkpoint is written as it was read, matrices of linear layers transposed', async (t) => {
  const folder = path.join(temporaryFolder(t), 'saved');
  await saveModel(await tinyModel(t, 'gpt2'), folder);
  const [read, written] = [
    await readSafetensors(path.join(source, 'model.safetensors')),
    await readSafetensors(path.join(folder, 'model.safetensors')),
  ];
  assert.deepEqual(read.get('transformer.h.0.attn.c_attn.weight')?.shape, [64, 192]);
  assert.deepEqual(written, read);
});

test('a run that is continued from its checkpoint is the uninterrupted one', async (t) => {
  const outputDir = path.join(temporaryFolder(t), 'run');
  const config = { ...short, maxSteps: 4, saveSteps: 2 };
  const whole = await tinyModel(t, 'gpt2');
  await new SFTTrainer({ model: whole, trainDataset: rows, config }).train();
  const stopAtTwo = { onStepEnd: ({ step, stop }: { step: number; stop(): void }) => void (step === 2 && stop()) };
  const first = new SFTTrainer({
    model: await tinyModel(t, 'gpt2'),
    trainDataset: rows,
    config: { ...config, outputDir },
    callbacks: [stopAtTwo],
  });
  assert.ok((await first.train()).stopped);
  const model = await tinyModel(t, 'gpt2');
  await new SFTTrainer({ model, trainDataset: rows, config: { ...config, outputDir } }).train({ resumeFromCheckpoint: true });
  assert.deepEqual(await weightsOf(model), await weightsOf(whole));
});

test('its adapters say that the matrices beside them are transposed, as those of PEFT, and are read again', async (t) => {
  const folder = path.join(temporaryFolder(t), 'adapter');
  const model = await tinyModel(t, 'gpt2');
  addAdapter(model, { r: 2 }, { seed: 0 });
  await saveModel(model, folder);
  const config = JSON.parse(readFileSync(path.join(folder, 'adapter_config.json'), 'utf8'));
  assert.deepEqual([config.fan_in_fan_out, config.target_modules], [true, ['c_attn']]);
  assert.deepEqual([...((await loaded(t, folder)).adapter?.parameters.keys() ?? [])], [...(model.adapter?.parameters.keys() ?? [])]);
});

test('a linear layer that would be saved whole with an adapter is refused, an embedding is not', async (t) => {
  const model = await tinyModel(t, 'gpt2');
  assert.throws(
    () => addAdapter(model, { modulesToSave: ['c_fc'] }, { seed: 0 }),
    /The modules to save of the adapter mean transformer\.h\.0\.mlp\.c_fc, whose weights its checkpoints hold transposed/,
  );
  addAdapter(model, { modulesToSave: ['wte'] }, { seed: 0 });
});

test('the shares that are dropped are those of the configuration, or of its class in transformers', async (t) => {
  const sharesOf = async (shares: object) => {
    const folder = path.join(temporaryFolder(t), 'model');
    cpSync(source, folder, { recursive: true });
    const file = path.join(folder, 'config.json');
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...shares }));
    const { hiddenDropout, embeddingDropout, attentionDropout } = (await loaded(t, folder)).config;
    return [hiddenDropout, embeddingDropout, attentionDropout];
  };
  assert.deepEqual(await sharesOf({ resid_pdrop: 0.1, embd_pdrop: 0.2, attn_pdrop: 0.3 }), [0.1, 0.2, 0.3]);
  assert.deepEqual(await sharesOf({ resid_pdrop: 0.2, embd_pdrop: 0, attn_pdrop: undefined }), [0.2, 0, 0.1]);
});

test('an adapter whose tokenizer leaves its special tokens to the configuration of the base model is loaded again', async (t) => {
  const [base, folder] = [path.join(temporaryFolder(t), 'base'), path.join(temporaryFolder(t), 'adapter')];
  cpSync(source, base, { recursive: true });
  writeFileSync(path.join(base, 'tokenizer_config.json'), JSON.stringify({ model_max_length: 512 }));
  const model = await loaded(t, base);
  addAdapter(model, { r: 2 }, { seed: 0 });
  await saveModel(model, folder);
  const again = await loaded(t, folder);
  assert.deepEqual([again.tokenizer.eosId, again.tokenizer.padId], [model.tokenizer.eosId, model.tokenizer.padId]);
});

test('an adapter with an embedding that became smaller with a chat template is loaded again', async (t) => {
  const [base, folder] = [path.join(temporaryFolder(t), 'base'), path.join(temporaryFolder(t), 'adapter')];
  cpSync(source, base, { recursive: true });
  const tensors = [...(await readSafetensors(path.join(source, 'model.safetensors')))].map(([name, { shape, data }]) => {
    if (!name.endsWith('wte.weight')) return { name, shape, data: () => data };
    const wide = new Float32Array(1200 * shape[1]);
    wide.set(data);
    return { name, shape: [1200, shape[1]], data: () => wide };
  });
  await writeSafetensors(path.join(base, 'model.safetensors'), tensors);
  const config = JSON.parse(readFileSync(path.join(base, 'config.json'), 'utf8'));
  writeFileSync(path.join(base, 'config.json'), JSON.stringify({ ...config, vocab_size: 1200 }));
  const model = await loaded(t, base, { chatTemplateFrom: path.join(fixtures, 'chat-tokens') });
  assert.equal(model.config.vocabSize, 1088);
  addAdapter(model, { r: 2, modulesToSave: ['wte'] }, { seed: 0 });
  await saveModel(model, folder);
  assert.equal((await loaded(t, folder)).config.vocabSize, 1088);
});
