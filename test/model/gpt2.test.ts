/** What is GPT-2's alone: matrices that its checkpoints hold transposed, and a share of its own that is dropped of the embeddings. */
import assert from 'node:assert/strict';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { before, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { addAdapter, saveModel } from '../../lib/model';
import { readSafetensors } from '../../lib/model/safetensors';
import { SFTTrainer } from '../../lib/train';
import { golden, loaded, rows, short, temporaryFolder, tinyModel, weightsOf } from '../train/support';

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
    /The modules to save of the adapter mean transformer\.h\.0\.mlp\.c_fc, a linear layer of a kind that is not saved with an adapter/,
  );
  addAdapter(model, { modulesToSave: ['wte'] }, { seed: 0 });
});

test('of the embeddings as much is dropped as of other hidden states, or nothing, which is said', async (t) => {
  const sharesOf = async (shares: object) => {
    const folder = path.join(temporaryFolder(t), 'model');
    cpSync(source, folder, { recursive: true });
    const file = path.join(folder, 'config.json');
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...shares }));
    const { hiddenDropout, otherDropout } = (await loaded(t, folder)).config;
    return { hiddenDropout, otherDropout };
  };
  assert.deepEqual(await sharesOf({ embd_pdrop: 0.2, resid_pdrop: 0.2 }), { hiddenDropout: 0.2, otherDropout: {} });
  assert.deepEqual(await sharesOf({ embd_pdrop: 0.1, resid_pdrop: 0.2, attn_pdrop: 0.3 }), {
    hiddenDropout: 0.2,
    otherDropout: { embd_pdrop: 0.1, attn_pdrop: 0.3 },
  });
  assert.deepEqual(await sharesOf({ embd_pdrop: 0, resid_pdrop: 0.2 }), { hiddenDropout: 0.2, otherDropout: {} });
});
