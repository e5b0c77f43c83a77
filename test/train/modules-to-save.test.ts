/** Modules that an adapter trains whole: forward pass, gradients, files and merging are PEFT's, where embedding and head are one too. */
import assert from 'node:assert/strict';
import { renameSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { beforeEach, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { addAdapter, loadModel, mergeAdapter, saveModel } from '../../lib/model';
import { readSafetensors, writeSafetensors } from '../../lib/model/safetensors';
import { type SFTConfig, SFTTrainer } from '../../lib/train';
import {
  assertPass,
  assertSameAgain,
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

beforeEach(async () => {
  await useDevice('cpu');
});

interface Reference extends ReferencePass {
  name: string;
  family: string;
  /** Tensors of PEFT's file. */
  names: string[];
  loss_of_merged: number;
  merged_is_tied: boolean;
}

const references = readJsonFile<Reference[]>(fixtures, 'modules.json');

/** The folder of PEFT's adapter. */
const peftFolder = (t: TestContext, { name, family }: Reference): string => peftAdapter(t, `modules/${name}`, family);

for (const reference of references) {
  const { name, family, loss_of_merged: expected } = reference;
  describe(`${name} (${family}), as PEFT saved it`, () => {
    for (const gradientCheckpointing of [false, true]) {
      test(`has PEFT's loss and gradients${gradientCheckpointing ? ', with gradient checkpointing' : ''}`, async (t) => {
        const model = await loaded(t, peftFolder(t, reference));
        await assertPass(model, [goldenIds(family)], reference, { gradientCheckpointing });
      });
    }

    test('is saved with the tensors of that file, and merged into a model that computes the same', async (t) => {
      const model = await loaded(t, peftFolder(t, reference));
      const folder = temporaryFolder(t);
      await saveModel(model, path.join(folder, 'again'));
      const file = await readSafetensors(path.join(folder, 'again', 'adapter_model.safetensors'));
      assert.deepEqual([...file.keys()].sort(), reference.names);
      const again = await loaded(t, path.join(folder, 'again'));
      assert.equal(await lossOn(again, goldenIds(family)), await lossOn(model, goldenIds(family)));
      mergeAdapter(model);
      await saveModel(model, path.join(folder, 'merged'));
      const merged = await loaded(t, path.join(folder, 'merged'));
      const { tie_word_embeddings: tied } = readJsonFile<{ tie_word_embeddings: boolean }>(path.join(folder, 'merged'), 'config.json');
      assert.equal(tied, reference.merged_is_tied);
      for (const whole of [model, merged]) {
        const loss = await lossOn(whole, goldenIds(family));
        assert.ok(Math.abs(loss - expected) < 1e-5 * expected, `${loss}, expected ${expected}`);
      }
    });
  });
}

test("a head under GPT-NeoX's old name is the head", async (t) => {
  const reference = references.find(({ family }) => family === 'gpt_neox') as Reference;
  const folder = peftFolder(t, reference);
  const model = await loaded(t, folder);
  const weights = path.join(folder, 'adapter_model.safetensors');
  const tensors = [...(await readSafetensors(weights))].map(([name, { shape, data }]) => ({
    ...{ name: name.replace('lm_head', 'embed_out'), shape, data: () => data },
  }));
  await writeSafetensors(`${weights}.old`, tensors, { dtype: 'float32' });
  renameSync(`${weights}.old`, weights);
  const config = readJsonFile<{ modules_to_save: string[] }>(folder, 'adapter_config.json');
  const modules_to_save = config.modules_to_save.map((name) => name.replace('lm_head', 'embed_out'));
  writeFileSync(path.join(folder, 'adapter_config.json'), JSON.stringify({ ...config, modules_to_save }));
  const old = await loaded(t, folder);
  assert.equal(await lossOn(old, goldenIds('gpt_neox')), await lossOn(model, goldenIds('gpt_neox')));
});

test('a fresh adapter changes nothing, and trains matrices and modules alone', async (t) => {
  const model = await tinyModel(t);
  const ids = goldenIds('llama');
  const before = await lossOn(model, ids);
  const { parameters } = addAdapter(model, { r: 4, targetModules: ['q_proj'], modulesToSave: ['lm_head'] }, { seed: 1 });
  assert.equal(await lossOn(model, ids), before);
  const [table, head] = ['model.embed_tokens.weight', 'lm_head.weight'].map((name) => model.parameters.get(name) as tf.Variable);
  assert.equal(parameters.get('base_model.model.lm_head.weight'), head);
  assert.ok(!parameters.has('base_model.model.model.embed_tokens.weight'));
  const start = await table.data<'float32'>();
  const config = { ...short, maxSteps: 2, learningRate: 1e-2, saveStrategy: 'no' } as const;
  await new SFTTrainer({ model, trainDataset: rows, config }).train();
  assert.deepEqual(await table.data<'float32'>(), start, 'the embedding stays');
  assert.notDeepEqual(await head.data<'float32'>(), start, 'the head is trained');
});

test('what means nothing, or what has matrices too, is refused', async (t) => {
  const model = await tinyModel(t);
  const tensors = tf.memory().numTensors;
  const refuses = (config: object, why: RegExp) => assert.throws(() => addAdapter(model, config, { seed: 1 }), why);
  refuses(
    { modulesToSave: ['embed'] },
    /name "embed", which the model does not have; it has lm_head, embed_tokens, input_layernorm, q_proj/,
  );
  refuses({ modulesToSave: 'lm_head' }, /modulesToSave of the adapter is "lm_head", but must be names of modules/);
  refuses({ modulesToSave: ['proj'] }, /mean model\.layers\.0\.self_attn\.q_proj, which is among its targets;/);
  refuses({ modulesToSave: ['self_attn'] }, /\["q_proj","v_proj"\], are all in modules to save, self_attn, which are trained whole/);
  refuses({ modulesToSave: ['model'], targetModules: 'all-linear' }, /"all-linear", are all in modules to save, model, which/);
  refuses({ modulesToSave: ['mlp'], targetModules: ['fc1'] }, /\["fc1"\], are no layers of the model; its linear layers are q_proj/);
  refuses({ ensureWeightTying: 'yes' }, /ensureWeightTying of the adapter is "yes", but must be true or false/);
  assert.equal(model.adapter, undefined);
  assert.equal(tf.memory().numTensors, tensors);
  assert.ok(model.config.tieWordEmbeddings);
});

test('norms of which each head has its own, as a file of PEFT would have them, are refused', async (t) => {
  const model = await loadModel(path.join(golden, '..', 'model', 'fixtures', 'stablelm'));
  t.after(() => model.dispose());
  assert.throws(
    () => addAdapter(model, { modulesToSave: ['q_layernorm'] }, { seed: 1 }),
    /^UserError: The modules to save of the adapter mean model\.layers\.0\.self_attn\.q_layernorm\.norms, a norm of each head;/,
  );
  assert.equal(model.adapter, undefined);
});

test('of target modules inside of a module that is trained whole no note says that the model has no such layers', async (t) => {
  const peftConfig = { targetModules: ['q_proj', 'up_proj', 'v_porj'], modulesToSave: ['mlp'] };
  const { notes } = new SFTTrainer({ model: await tinyModel(t), trainDataset: rows, peftConfig, config: short });
  assert.deepEqual(
    notes.filter((note) => note.includes('target modules')),
    ['The target modules of the adapter name v_porj, which is no linear layer of this model and without effect.'],
  );
});

const settings: Partial<SFTConfig> = { ...short, maxSteps: 4, learningRate: 2e-3 };

test('a run is the same again, with gradient checkpointing, and resumed', (t) =>
  assertSameAgain(t, { r: 4, loraDropout: 0.2, modulesToSave: ['embed_tokens', 'final_layer_norm'] }));

test('training, saving, merging and disposing leave no tensor behind', async (t) => {
  const once = async () => {
    const model = await loadModel(path.join(golden, 'llama', 'model'));
    const config = { ...settings, maxSteps: 2, saveStrategy: 'no' } as const;
    const peftConfig = { modulesToSave: ['embed_tokens', 'lm_head'] };
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
