/** Rows of embedding and head that an adapter trains: forward pass, gradients, files and runs are PEFT's and TRL's. */
import assert from 'node:assert/strict';
import { cpSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { addAdapter, type CausalLM, generate, loadModel, mergeAdapter, saveModel } from '../../lib/model';
import { readSafetensors, writeSafetensors } from '../../lib/model/safetensors';
import { projectRoot } from '../../lib/project';
import { SFTTrainer } from '../../lib/train';
import {
  assertPass,
  assertSameAgain,
  conversations,
  fixtures,
  golden,
  goldenIds,
  loaded,
  lossOn,
  peftAdapter,
  type ReferencePass,
  readJsonFile,
  rows,
  short,
  temporaryFolder,
  tinyModel,
} from './support';

before(async () => {
  await useDevice('cpu');
});

interface Reference extends ReferencePass {
  name: string;
  family: string;
  ids: number[];
  /** Tensors of PEFT's file. */
  names: string[];
  loss_of_merged: number;
}

interface Run {
  /** Whether the head is the embedding. */
  tied: boolean;
  log: Array<{ loss: number; grad_norm: number; num_tokens: number }>;
  /** Of what was trained, afterwards. */
  norms: Record<string, number>;
}

const { cases, runs } = readJsonFile<{ cases: Reference[]; runs: Run[] }>(fixtures, 'tokens.json');
const chat = path.join(fixtures, 'chat-tokens');

/** The folder of PEFT's adapter. */
function peftFolder(t: TestContext, { name, family }: Reference): string {
  const untied = { base_model_name_or_path: path.join(projectRoot, 'test/model/fixtures/llama-untied') };
  return peftAdapter(t, `tokens/${name}`, family, family === 'llama-untied' ? untied : {});
}

/** What PEFT saves whole where a vocabulary was resized, and of which nothing is trained. */
const BESIDE = /\.(?:base_layer|modules_to_save|original_module)\.weight$/;

for (const reference of cases) {
  const { name, family, ids, loss_of_merged: expected } = reference;
  describe(`${name} (${family}), as PEFT saved it`, () => {
    for (const gradientCheckpointing of [false, true]) {
      test(`has PEFT's loss and gradients${gradientCheckpointing ? ', with gradient checkpointing' : ''}`, async (t) => {
        const model = await loaded(t, peftFolder(t, reference));
        await assertPass(model, [ids], reference, { gradientCheckpointing });
      });
    }

    test('is saved with the tensors of that file, and merged into a model that computes the same', async (t) => {
      const model = await loaded(t, peftFolder(t, reference));
      const folder = temporaryFolder(t);
      await saveModel(model, path.join(folder, 'again'));
      const file = await readSafetensors(path.join(folder, 'again', 'adapter_model.safetensors'));
      assert.deepEqual(
        [...file.keys()].sort(),
        reference.names.filter((tensor) => !BESIDE.test(tensor)),
      );
      const again = await loaded(t, path.join(folder, 'again'));
      assert.deepEqual(again.adapter?.settings.trainableTokenIndices, model.adapter?.settings.trainableTokenIndices);
      assert.equal(await lossOn(again, ids), await lossOn(model, ids));
      mergeAdapter(model);
      await saveModel(model, path.join(folder, 'merged'));
      const merged = await loaded(t, path.join(folder, 'merged'));
      for (const whole of [again, model, merged]) {
        const loss = await lossOn(whole, ids);
        assert.ok(Math.abs(loss - expected) < 1e-5 * expected, `${loss}, expected ${expected}`);
      }
    });
  });
}

/** The golden Llama with a head of its own, nine tenths of its embedding, as make_tokens.py makes it. */
async function withOwnHead(t: TestContext): Promise<string> {
  const folder = path.join(temporaryFolder(t), 'untied');
  cpSync(path.join(golden, 'llama', 'model'), folder, { recursive: true });
  const config = { ...readJsonFile<object>(folder, 'config.json'), tie_word_embeddings: false };
  writeFileSync(path.join(folder, 'config.json'), JSON.stringify(config));
  const tensors = await readSafetensors(path.join(golden, 'llama', 'model', 'model.safetensors'));
  const { shape, data } = tensors.get('model.embed_tokens.weight') ?? assert.fail();
  tensors.set('lm_head.weight', { shape, data: data.map((x) => Math.fround(0.9) * x) });
  const all = [...tensors].map(([name, tensor]) => ({ name, shape: tensor.shape, data: () => tensor.data }));
  await writeSafetensors(path.join(folder, 'model.safetensors'), all, { dtype: 'float32' });
  return folder;
}

const threeSteps = {
  ...{ maxSteps: 3, perDeviceTrainBatchSize: 2, learningRate: 1e-2, lrSchedulerType: 'constant' as const, weightDecay: 0.1 },
  ...{ trainSamplingStrategy: 'sequential' as const, loggingSteps: 1, disableTqdm: true },
};

for (const { tied, log, norms } of runs) {
  const kind = tied ? 'the head is the embedding' : 'the head is a matrix of its own';
  test(`an adapter learns the tokens of a chat template as with TRL where ${kind}`, async (t) => {
    const base = tied ? path.join(golden, 'llama', 'model') : await withOwnHead(t);
    const model = await loaded(t, base, { chatTemplateFrom: chat });
    const peftConfig = { r: 2, loraAlpha: 4, targetModules: ['q_proj'] };
    const trainer = new SFTTrainer({ model, trainDataset: conversations, peftConfig, config: threeSteps });
    const note = `The adapter trains the rows of the 64 new tokens${tied ? '' : ', and lm_head whole'}, as in TRL.`;
    assert.ok(trainer.notes.includes(note));
    const parameters = model.adapter?.parameters ?? assert.fail();
    for (const [name, variable] of parameters) {
      if (!name.includes('lora_A')) continue;
      const start = tf.tensor(
        Float32Array.from({ length: variable.size }, (_, i) => 0.1 * Math.sin(i)),
        variable.shape,
      );
      variable.assign(start);
      start.dispose();
    }
    await trainer.train();
    for (const [i, { loss, grad_norm: norm, num_tokens: tokens }] of log.entries()) {
      const found = trainer.log[i];
      assert.ok(Math.abs((found.loss as number) - loss) < 1e-4, `loss ${found.loss}, expected ${loss}`);
      assert.ok(Math.abs((found.grad_norm as number) - norm) < 1e-3 * norm, `grad_norm ${found.grad_norm}, expected ${norm}`);
      assert.equal(found.num_tokens, tokens);
    }
    assert.deepEqual(
      [...parameters.keys()].sort(),
      Object.keys(norms)
        .map((name) => name.replace(/(?:\.modules_to_save)?\.default/, ''))
        .sort(),
    );
    for (const [name, norm] of Object.entries(norms)) {
      const variable = parameters.get(name.replace(/(?:\.modules_to_save)?\.default/, '')) ?? assert.fail(name);
      const own = Math.hypot(...(await variable.data<'float32'>()));
      assert.ok(Math.abs(own - norm) < 1e-3 * norm, `${name}: ${own}, expected ${norm}`);
    }
    await assertSavedWhole(t, model);
  });
}

/** Asserts that a model with new tokens is the same again from its adapter's file, and merged. */
async function assertSavedWhole(t: TestContext, model: CausalLM): Promise<void> {
  const folder = temporaryFolder(t);
  const ids = [1024, 37, 1027, 349, 1087, 5, 1025, 1024];
  const prompt = '<|turn|>user\nHi<|end_of_turn|>\n<|turn|>assistant\n';
  await saveModel(model, path.join(folder, 'adapter'));
  const again = await loaded(t, path.join(folder, 'adapter'));
  assert.equal(again.config.vocabSize, 1088);
  assert.equal(await lossOn(again, ids), await lossOn(model, ids));
  assert.equal(await generate(again, prompt, { maxNewTokens: 6 }), await generate(model, prompt, { maxNewTokens: 6 }));
  const expected = await lossOn(again, ids);
  mergeAdapter(again);
  await saveModel(again, path.join(folder, 'merged'));
  const merged = await loaded(t, path.join(folder, 'merged'));
  const loss = await lossOn(merged, ids);
  assert.ok(Math.abs(loss - expected) < 1e-5 * expected, `${loss}, expected ${expected}`);
  const { eos_token_id, vocab_size } = readJsonFile<Record<string, number>>(folder, 'merged', 'config.json');
  assert.deepEqual([eos_token_id, vocab_size], [1025, 1088]);
  const { eos_token_id: ends } = readJsonFile<{ eos_token_id: number[] }>(folder, 'merged', 'generation_config.json');
  assert.deepEqual(ends, [1025, 0]);
}

test('a fresh adapter changes nothing, and trains the rows alone', async (t) => {
  const model = await tinyModel(t, 'opt');
  const ids = goldenIds('opt');
  const before = await lossOn(model, ids);
  const table = model.embeddings[0].weight.value;
  const start = await table.data<'float32'>();
  const peftConfig = { r: 4, targetModules: ['q_proj'], trainableTokenIndices: [349, 37] };
  const trainer = new SFTTrainer({ model, trainDataset: rows, peftConfig, config: { ...short, maxSteps: 2, learningRate: 1e-2 } });
  assert.equal(await lossOn(model, ids), before);
  await trainer.train();
  await lossOn(model, ids);
  const end = await table.data<'float32'>();
  const changed = new Set([...end.keys()].filter((i) => end[i] !== start[i]).map((i) => Math.floor(i / table.shape[1])));
  assert.deepEqual([...changed].sort(), [349, 37]);
});

test('what the model does not have, or what is trained whole too, is refused', async (t) => {
  const model = await tinyModel(t);
  const tensors = tf.memory().numTensors;
  const refuses = (config: object, why: RegExp) => assert.throws(() => addAdapter(model, config, { seed: 1 }), why);
  refuses({ trainableTokenIndices: [1024] }, /of embed_tokens, hold 1024, but the rows of .* have the ids 0 to 1023\./);
  refuses({ trainableTokenIndices: [-1] }, /trainableTokenIndices of the adapter is \[-1\], but must be ids of tokens/);
  refuses({ trainableTokenIndices: [] }, /trainableTokenIndices of the adapter is \[\], but must be/);
  refuses({ trainableTokenIndices: { q_proj: [1] } }, /name "q_proj", but only embed_tokens and lm_head have a row for each token/);
  refuses(
    { trainableTokenIndices: { tokens: [1], embed_tokens: [2] } },
    /name embed_tokens twice, as "tokens" and as "embed_tokens"; give all of its ids under one of them/,
  );
  refuses({ trainableTokenIndices: { head: [1], embed_out: [2] } }, /name lm_head twice, as "head" and as "embed_out"; give/);
  refuses(
    { trainableTokenIndices: [1], modulesToSave: ['embed_tokens'] },
    /indices of embed_tokens, and embed_tokens among its modules to save/,
  );
  refuses(
    { trainableTokenIndices: [1], modulesToSave: ['lm_head'] },
    /trains rows of embed_tokens .*, which is the output head, too, so that lm_head cannot be among/,
  );
  refuses(
    { trainableTokenIndices: { embed_tokens: [1], lm_head: [2] }, ensureWeightTying: true },
    /other trainable token indices of lm_head than of embed_tokens, but the two are to stay one/,
  );
  assert.equal(model.adapter, undefined);
  assert.equal(tf.memory().numTensors, tensors);
  assert.ok(model.config.tieWordEmbeddings);
});

test('an adapter is not loaded with a template whose tokens it does not know', async (t) => {
  const reference = cases.find(({ name }) => name === 'tied') as Reference;
  await assert.rejects(
    loadModel(peftFolder(t, reference), { chatTemplateFrom: chat }),
    /chat-tokens brings 64 new tokens, which the adapter of .*adapter_config\.json has no rows for; merge it/,
  );
});

test('rows that PEFT saved and no base model has are the model, whose adapter is then not saved alone', async (t) => {
  const reference = cases.find(({ name }) => name === 'resized') as Reference;
  const folder = peftFolder(t, reference);
  const file = path.join(folder, 'adapter_model.safetensors');
  const tensors = await readSafetensors(file);
  const base = tensors.get('base_model.model.model.embed_tokens.token_adapter.base_layer.weight') ?? assert.fail();
  base.data[3 * base.shape[1]] += 1;
  const all = [...tensors].map(([name, { shape, data }]) => ({ name, shape, data: () => data }));
  await writeSafetensors(`${file}.new`, all, { dtype: 'float32' });
  cpSync(`${file}.new`, file);
  const model = await loaded(t, folder);
  assert.equal((await model.embeddings[0].weight.value.data<'float32'>())[3 * base.shape[1]], base.data[3 * base.shape[1]]);
  await assert.rejects(saveModel(model, path.join(folder, 'again')), /belongs to weights that no checkpoint has/);

  const inFourBits = await loaded(t, folder, { loadIn4bit: true });
  const remedy =
    /has, so it would be of no use alone; load the model without loadIn4bit, merge it \(mergeAdapter\(model\)\), and save the whole\.$/;
  await assert.rejects(saveModel(inFourBits, path.join(folder, 'again')), remedy);
  assert.throws(() => mergeAdapter(inFourBits), /was loaded in 4 bits, so it has no weights .*; load it without loadIn4bit\.$/);
});

test('a run is the same again, with gradient checkpointing, and resumed', (t) =>
  assertSameAgain(t, { r: 4, loraDropout: 0.2, trainableTokenIndices: { embed_tokens: [349, 37], lm_head: [5] } }));

test('training, saving, merging and disposing leave no tensor behind', async (t) => {
  const once = async () => {
    const model = await loadModel(path.join(golden, 'llama', 'model'));
    const config = { ...short, maxSteps: 2, saveStrategy: 'no' } as const;
    const peftConfig = { trainableTokenIndices: [349, 37] };
    await new SFTTrainer({ model, trainDataset: rows, peftConfig, config }).train();
    const folder = path.join(temporaryFolder(t), 'saved');
    await saveModel(model, folder);
    (await loadModel(folder)).dispose();
    mergeAdapter(model);
    model.dispose();
  };
  await once();
  const before = tf.memory().numTensors;
  await once();
  assert.equal(tf.memory().numTensors, before);
});
