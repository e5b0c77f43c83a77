/** Adapters of the parameters of experts: forward pass, gradients, files and merging are PEFT's. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { addAdapter, type CausalLM, generate, type LoraConfig, loadModel, mergeAdapter, saveModel } from '../../lib/model';
import { readSafetensors, writeSafetensors } from '../../lib/model/safetensors';
import { SFTTrainer } from '../../lib/train';
import { fixtures as modelFixtures } from '../model/support';
import {
  assertPass,
  fixtures,
  golden,
  loaded,
  lossOn,
  peftAdapter,
  type ReferencePass,
  readJsonFile,
  rows,
  short,
  temporaryFolder,
} from './support';

before(() => useDevice('cpu'));

interface Reference extends ReferencePass {
  name: string;
  variant: string;
  loss_of_merged: number;
  loss_of_base: number;
}

const { ids, cases } = readJsonFile<{ ids: number[]; cases: Reference[] }>(fixtures, 'parameters.json');

const variantFolder = (variant: string): string => path.join(modelFixtures, variant);

/** A copy of PEFT's adapter, beside its base. */
const adapterFolder = (t: TestContext, { name, variant }: Pick<Reference, 'name' | 'variant'>, changes: object = {}): string =>
  peftAdapter(t, `parameters/${name}`, '', { base_model_name_or_path: variantFolder(variant), ...changes });

function close(found: number, expected: number): void {
  assert.ok(Math.abs(found - expected) < 1e-5 * expected, `${found}, expected ${expected}`);
}

describe("an adapter that PEFT saved is PEFT's", () => {
  for (const reference of cases) {
    const { name, variant } = reference;
    test(`${name}, of ${variant}: loss and gradients, with and without gradient checkpointing`, async (t) => {
      const model = await loaded(t, adapterFolder(t, reference));
      for (const gradientCheckpointing of [false, true]) await assertPass(model, [ids], reference, { gradientCheckpointing });
    });

    test(`${name}, of ${variant}: files, and what it is merged`, async (t) => {
      const folder = adapterFolder(t, reference);
      const model = await loaded(t, folder);
      const saved = path.join(temporaryFolder(t), 'saved');
      await saveModel(model, saved);
      const [own, peft] = [saved, folder].map((place) => readJsonFile<Record<string, unknown>>(place, 'adapter_config.json'));
      for (const key of ['r', 'lora_alpha', 'use_rslora', 'target_modules', 'target_parameters'])
        assert.deepEqual(own[key], peft[key] ?? [], key);
      for (const key of ['rank_pattern', 'alpha_pattern']) assert.deepEqual(own[key] ?? {}, peft[key], key);
      const [tensors, expected] = await Promise.all(
        [saved, folder].map((place) => readSafetensors(path.join(place, 'adapter_model.safetensors'))),
      );
      assert.deepEqual([...tensors.keys()].sort(), [...expected.keys()].sort());
      for (const [tensor, { shape, data }] of expected) {
        assert.deepEqual(tensors.get(tensor)?.shape, shape, tensor);
        assert.deepEqual(tensors.get(tensor)?.data, data, tensor);
      }
      const told = await generate(model, 'a', { maxNewTokens: 8 });
      mergeAdapter(model);
      close(await lossOn(model, ids), reference.loss_of_merged);
      assert.equal(await generate(model, 'a', { maxNewTokens: 8 }), told);
      await saveModel(model, path.join(temporaryFolder(t), 'merged'));
    });
  }
});

const add = (model: CausalLM, config: LoraConfig) => addAdapter(model, { r: 2, ...config }, { seed: 1 });

test('a fresh adapter changes nothing, and a model generates with it and without', async (t) => {
  const { variant, loss_of_base: loss } = cases[0];
  const model = await loaded(t, variantFolder(variant));
  const without = await generate(model, 'a', { maxNewTokens: 12 });
  const { parameters } = add(model, { targetParameters: ['experts.gate_up_proj', 'experts.down_proj', 'gate.weight'] });
  close(await lossOn(model, ids), loss);
  assert.equal(await generate(model, 'a', { maxNewTokens: 12 }), without);
  for (const matrix of parameters.values()) tf.tidy(() => matrix.assign(tf.add(matrix, 0.3)));
  assert.notEqual(await generate(model, 'a', { maxNewTokens: 12 }), without);
});

test('training, merging and disposing leave no tensor behind, and the weights of the experts stay while it is trained', async () => {
  const once = async (): Promise<void> => {
    const model = await loadModel(path.join(golden, 'granitemoe', 'model'));
    const experts = [...model.parameters].filter(([name]) => name.includes('moe'));
    const values = await Promise.all(experts.map(([, weight]) => weight.data()));
    const peftConfig = { r: 2, targetModules: ['q_proj'], targetParameters: ['experts.gate_up_proj', 'router.weight'] };
    const config = { ...short, maxSteps: 2, saveStrategy: 'no' } as const;
    const trainer = new SFTTrainer({ model, trainDataset: rows.slice(0, 8), peftConfig, config });
    await trainer.train();
    assert.deepEqual(await Promise.all(experts.map(([, weight]) => weight.data())), values);
    mergeAdapter(model);
    model.dispose();
  };
  await once();
  const before = tf.memory().numTensors;
  await once();
  assert.equal(tf.memory().numTensors, before);
});

describe('is refused in a sentence:', () => {
  const refusals: Array<[what: string, variant: string, config: LoraConfig, sentence: RegExp]> = [
    [
      'dropout',
      'olmoe',
      { targetParameters: ['experts.down_proj'], loraDropout: 0.05 },
      /^UserError: loraDropout \(lora_dropout\) of the adapter is 0\.05, but beside parameters such as model\.layers\.0\.mlp\.experts\.down_proj nothing is dropped, as in PEFT: set it to 0, or adapt linear layers alone \(target_modules\)\.$/,
    ],
    [
      'DoRA',
      'qwen3_moe',
      { targetModules: 'all-linear', useDora: true },
      /useDora \(use_dora\) of the adapter is true, but parameters such as/,
    ],
    [
      'one half of the gates',
      'olmoe',
      { targetModules: ['q_proj', 'up_proj'] },
      /name up_proj, but not the other half of the experts' parameter gate_up_proj: name both gate_proj and up_proj, or that parameter among the target parameters \(lora_target_parameters: gate_up_proj\)\.$/,
    ],
    [
      'one half of the gates of a Mixtral',
      'mixtral',
      { targetModules: ['w2', 'w3'] },
      /name w3, but not the other half of the experts' parameter gate_up_proj: name both w1 and w3, or that parameter/,
    ],
    [
      'experts of one layer of a Mixtral',
      'mixtral',
      { targetModules: ['layers.1.mlp.experts.w2'] },
      /mean layers\.1\.mlp\.experts\.w2, for which PEFT adapts the experts of all layers/,
    ],
    [
      'experts of one layer',
      'olmoe',
      { targetModules: ['layers.0.mlp.experts.down_proj'] },
      /mean layers\.0\.mlp\.experts\.down_proj, for which PEFT adapts the experts of all layers: name those by target parameters \(lora_target_parameters: mlp\.gate\.weight, mlp\.experts\.gate_up_proj, mlp\.experts\.down_proj\), and among the target modules layers beside them, q_proj, k_proj, v_proj, o_proj\.$/,
    ],
    [
      'a pattern that means experts',
      'qwen3_moe',
      { targetModules: '.*_proj' },
      /"\.\*_proj", mean model\.layers\.0\.mlp\.experts\.gate_proj, for which PEFT/,
    ],
    [
      'a parameter of a linear layer',
      'granitemoe',
      { targetParameters: ['experts.down_proj', 'q_proj.weight'] },
      /The target parameters of the adapter mean model\.layers\.0\.self_attn\.q_proj\.weight too, but only those of experts are adapted so; leave it out/,
    ],
    [
      "a checkpoint's own name",
      'granitemoe',
      { targetParameters: ['input_linear.weight'] },
      /\["input_linear\.weight"\], are no parameters of experts of the model; it has block_sparse_moe\.router\.weight, block_sparse_moe\.experts\.gate_up_proj, block_sparse_moe\.experts\.down_proj\.$/,
    ],
    [
      'a model without experts',
      'qwen3',
      { targetModules: [], targetParameters: ['down_proj'] },
      /it has no experts, and its layers are target modules\.$/,
    ],
    [
      'no list',
      'olmoe',
      { targetParameters: 'down_proj' as unknown as string[] },
      /targetParameters of the adapter is "down_proj", but must be names/,
    ],
    ['nothing at all', 'olmoe', { targetModules: [] }, /targetModules of the adapter is \[\], but must be names/],
    [
      'experts that are trained whole, too',
      'olmoe',
      { targetParameters: ['experts.down_proj'], modulesToSave: ['experts'] },
      /modules to save of the adapter mean model\.layers\.0\.mlp\.experts, which is among its targets; name it in one of the two/,
    ],
    [
      'a module of experts',
      'olmoe',
      { targetModules: ['q_proj', 'experts'] },
      /leave it out, and name its parameters \(lora_target_parameters: mlp\.gate/,
    ],
  ];
  for (const [what, variant, config, sentence] of refusals)
    test(what, async (t) => {
      const model = await loaded(t, variantFolder(variant));
      const before = tf.memory().numTensors;
      assert.throws(() => add(model, config), sentence);
      assert.equal(tf.memory().numTensors, before);
    });

  test('matrices for each expert, as of older adapters', async (t) => {
    const folder = adapterFolder(t, cases.find(({ name }) => name === 'gates') as Reference, { target_parameters: null });
    const tensor = 'base_model.model.model.layers.0.mlp.experts.0.up_proj.lora_A.weight';
    await writeSafetensors(
      path.join(folder, 'adapter_model.safetensors'),
      [{ name: tensor, shape: [2, 32], data: () => new Float32Array(64) }],
      {},
    );
    await assert.rejects(
      loadModel(folder),
      /experts\.0\.up_proj\.lora_A\.weight", matrices for each expert by itself, as PEFT wrote them with/,
    );
  });

  test('in a file', async (t) => {
    const of = cases.find(({ name }) => name === 'gates') as Reference;
    for (const [changes, sentence] of [
      [{ lora_dropout: 0.1 }, /lora_dropout\) of the adapter is 0\.1, but beside parameters/],
      [{ target_parameters: 'x' }, /target_parameters is "x", but must be a list of names\.$/],
      [{ rank_pattern: { gate_up_proj: 0 } }, /rank_pattern is .*, but must be a table of whole numbers above 0 by patterns of names\.$/],
      [{ alpha_pattern: { '(': 2 } }, /alpha_pattern is .*, but must be by regular expressions, and one is none: /],
      [{ rank_pattern: { '(.*)*x': 5 } }, /ranks and alphas, "\(\.\*\)\*x", are a regular expression that takes too long/],
      [{ rank_pattern: { gate_up_proj: 5 } }, /has shape \[12,32\], but this model and r ask for \[30,32\]/],
      [{ target_parameters: ['experts.gate_up_proj', 'experts.down_proj'] }, /base_layer\.lora_A\.weight" is missing/],
      [{ target_parameters: null }, /the tensor "base_model.*experts\.lora_A\.weight", which is no matrix of a linear layer/],
    ] as const)
      await assert.rejects(loadModel(adapterFolder(t, of, changes)), sentence);
  });
});
