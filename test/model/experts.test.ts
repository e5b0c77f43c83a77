/** Checkpoints and adapters of models of experts. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { Dataset } from '../../lib/data';
import { useDevice } from '../../lib/engine';
import { UserError } from '../../lib/errors';
import { addAdapter, type CausalLM, type LoraConfig, loadModel, saveModel } from '../../lib/model';
import { cutIntoParts } from '../../lib/model/parts';
import { readSafetensors } from '../../lib/model/safetensors';
import { SFTTrainer } from '../../lib/train';
import { changeTensors, fixtures, logitsOf, type Tensors } from './support';

const scratch = mkdtempSync(path.join(tmpdir(), 'tunebook-experts-'));
const ids = [5, 9, 12, 30, 41, 7];
before(() => useDevice('cpu'));
after(() => rmSync(scratch, { recursive: true }));

let copies = 0;

/** A copy of a good checkpoint with other keys in its configuration, and other tensors. */
async function changed(variant: string, keys: Record<string, unknown>, change?: (tensors: Tensors) => void): Promise<string> {
  const folder = path.join(scratch, `${variant}-${copies++}`);
  cpSync(path.join(fixtures, variant), folder, { recursive: true });
  const config = path.join(folder, 'config.json');
  writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), ...keys }));
  if (change) await changeTensors(folder, change);
  return folder;
}

/** The model must be refused in one sentence, and leave no tensor behind. */
async function refused(folder: string, sentence: RegExp): Promise<void> {
  const tensors = tf.memory().numTensors;
  await assert.rejects(loadModel(folder), (error: Error) => {
    assert.ok(error instanceof UserError, error.stack);
    assert.match(error.message, sentence);
    return true;
  });
  assert.equal(tf.memory().numTensors, tensors);
}

async function withModel(variant: string, use: (model: CausalLM) => Promise<void> | void): Promise<void> {
  const model = await loadModel(path.join(fixtures, variant));
  try {
    await use(model);
  } finally {
    model.dispose();
  }
}

describe('a checkpoint is refused', () => {
  const nameOf = (expert: number): string => `model.layers.0.mlp.experts.${expert}.up_proj.weight`;

  test('where a matrix of an expert is missing', async () => {
    const folder = await changed('olmoe-defaults', {}, (tensors) => tensors.delete(nameOf(3)));
    await refused(folder, /the tensor "model\.layers\.0\.mlp\.experts\.3\.up_proj\.weight" is missing from the weights/);
  });

  test('where all matrices of the experts are', async () => {
    const folder = await changed('olmoe-defaults', {}, (tensors) => {
      for (const name of [...tensors.keys()]) if (name.startsWith('model.layers.1.mlp.experts.')) tensors.delete(name);
    });
    await refused(folder, /the tensor "model\.layers\.1\.mlp\.experts\.gate_up_proj" is missing/);
  });

  test('where one has another shape', async () => {
    const folder = await changed('olmoe-defaults', {}, (tensors) => {
      tensors.set(nameOf(2), { shape: [2, 32], data: new Float32Array(64) });
    });
    await refused(folder, /experts\.2\.up_proj\.weight" has shape \[2,32\], but config\.json asks for \[24,32\]/);
  });

  test('where there is an expert too many', async () => {
    await refused(await changed('olmoe-defaults', { num_experts: 11 }), /"model\.layers\.0\.mlp\.gate\.weight" has shape \[12,32\], but/);
    const folder = await changed('olmoe-defaults', {}, (tensors) => {
      tensors.set(nameOf(12), { shape: [24, 32], data: new Float32Array(24 * 32) });
    });
    await refused(
      folder,
      /holds the tensor "model\.layers\.0\.mlp\.experts\.12\.up_proj\.weight", which the model of config\.json does not have/,
    );
  });

  for (const [variant, keys, sentence] of [
    ['olmoe', { num_experts_per_tok: 7 }, /"num_experts_per_tok" is 7; expected at most num_experts, which is 6/],
    ['granitemoe', { num_local_experts: 0 }, /"num_local_experts" is 0; expected a whole number of at least 1/],
    ['granitemoe', { hidden_act: 'gelu' }, /"hidden_act" is "gelu"; expected silu, as experts compute with it alone/],
    ['granitemoehybrid-experts', { hidden_act: 'gelu' }, /"hidden_act" is "gelu"; expected silu/],
    ['granitemoe', { num_local_experts: 4 }, /router\.layer\.weight" has shape \[5,32\], but config\.json asks for \[4,32\]/],
    ['qwen3_moe', { mlp_only_layers: { 1: true } }, /"mlp_only_layers" is .*; expected a list of the numbers of layers/],
    ['qwen3_moe', { mlp_only_layers: ['1'] }, /"mlp_only_layers" is \["1"\]; expected a list of the numbers of layers/],
    [
      'qwen3_moe',
      { num_local_experts: 50_000_000 },
      /"num_local_experts" is 50000000; expected at most 100000 experts in all layers together/,
    ],
    ['olmoe', { num_experts: 50_000_000 }, /"num_experts" is 50000000; expected at most 100000 experts/],
    ['olmoe', { clip_qkv: 8 }, /"clip_qkv" is 8; expected null/],
    [
      'mixtral',
      { router_jitter_noise: 0.1 },
      /"router_jitter_noise" is 0\.1; expected 0, as what experts read is not multiplied by chance/,
    ],
    ['mixtral', { sliding_window: 0 }, /"sliding_window" is 0; expected a whole number of at least 1/],
    ['qwen2_moe', { use_sliding_window: false }, /"layer_types" is .*; expected "full_attention" alone, as use_sliding_window is false/],
    ['qwen2_moe', { num_experts: 2 }, /"num_experts_per_tok" is 3; expected at most num_experts, which is 2/],
    ['gpt_oss', { attention_dropout: 0.1 }, /"attention_dropout" is 0\.1; expected 0, as weights beside a sink are not dropped here/],
    ['gpt_oss', { swiglu_limit: 9 }, /"swiglu_limit" is 9; expected 7, as experts are clamped there in transformers, too/],
    [
      'gpt_oss-old-keys',
      { quantization_config: { quant_method: 'mxfp4' } },
      /the weights are quantized \("quantization_config" with the quant_method "mxfp4"\); take the checkpoint in 16 or 32 bits, .* ends in -BF16\.$/,
    ],
    ['lfm2_moe', { layer_types: null }, /"layer_types" is .*; expected "full_attention" or "conv" for each of the 3 layers/],
    ['lfm2_moe', { num_dense_layers: -1 }, /"num_dense_layers" is -1; expected a number of at least 0/],
    ['lfm2_moe', { num_dense_layers: 1.5 }, /"num_dense_layers" is 1\.5; expected a whole number/],
    ['lfm2_moe-defaults', { use_expert_bias: false }, /holds the tensor "model\.layers\.2\.feed_forward\.expert_bias", which the model of/],
    ['lfm2_moe', { use_expert_bias: true }, /the tensor "model\.layers\.1\.feed_forward\.expert_bias" is missing from the weights/],
  ] as const)
    test(`${variant} with ${JSON.stringify(keys)}`, async () => refused(await changed(variant, keys), sentence));
});

test('where a configuration says twice how many experts there are, the key counts that counts in transformers', async () => {
  for (const variant of ['qwen3_moe', 'olmoe']) {
    const model = await loadModel(await changed(variant, { num_experts: 5, num_local_experts: 6 }));
    model.dispose();
    await refused(
      await changed(variant, { num_experts: 6, num_local_experts: 5 }),
      /gate\.weight" has shape \[6,32\], but config\.json asks for \[5,32\]/,
    );
  }
});

test('files have a matrix for each expert, or those of all in one, as they had before', async () => {
  for (const variant of ['granitemoe', 'granitemoehybrid-experts', 'olmoe-defaults', 'mixtral', 'lfm2_moe-defaults', 'qwen2_moe'])
    await withModel(variant, async (model) => {
      const folder = path.join(scratch, `${variant}-saved`);
      await saveModel(model, folder);
      const [before, saved] = await Promise.all(
        [path.join(fixtures, variant), folder].map((place) => readSafetensors(path.join(place, 'model.safetensors'))),
      );
      const shapes = (tensors: Tensors) => [...tensors].map(([name, { shape }]) => `${name} ${shape}`).sort();
      assert.deepEqual(shapes(saved), shapes(before));
    });
});

test('the matrices of all experts in one tensor, as transformers has them in memory, are read too', async () => {
  await withModel('olmoe-defaults', async (model) => {
    const folder = await changed('olmoe-defaults', {}, (tensors) => {
      for (const name of model.inParts.keys()) {
        const variable = model.parameters.get(name) as tf.Variable;
        tensors.set(name, { shape: variable.shape, data: variable.dataSync() as Float32Array });
      }
      for (const name of [...tensors.keys()]) if (/experts\.\d/.test(name)) tensors.delete(name);
    });
    const again = await loadModel(folder);
    assert.deepEqual(await logitsOf(again, ids), await logitsOf(model, ids));
    again.dispose();
  });
});

describe('an adapter', () => {
  const add = (model: CausalLM, config: LoraConfig) => addAdapter(model, { r: 2, ...config }, { seed: 1 });

  test('has its targets named, where PEFT chooses none', async () => {
    for (const variant of ['qwen3_moe', 'olmoe', 'mixtral', 'qwen2_moe'])
      await withModel(variant, (model) => {
        const sentence =
          /name the target modules of the adapter \(targetModules; in a recipe lora_target_modules\), 'all-linear' or some of q_proj, k_proj, /;
        assert.throws(() => add(model, {}), sentence);
        add(model, { targetModules: '.*attn.*_proj' });
      });
  });

  test('of experts, or of what chooses among them, is refused as in PEFT', async () => {
    for (const [variant, name, meant] of [
      ['qwen3_moe', 'experts', 'model.layers.0.mlp.experts'],
      ['granitemoe', 'experts', 'model.layers.0.block_sparse_moe.experts'],
      ['granitemoe', 'router', 'model.layers.0.block_sparse_moe.router'],
    ] as const)
      await withModel(variant, (model) => {
        const sentence = `The target modules of the adapter mean ${meant} too, but only linear layers inside the model can have one; leave it out, and`;
        assert.throws(
          () => add(model, { targetModules: ['q_proj', name] }),
          ({ message }: Error) => message.startsWith(sentence),
        );
      });
  });

  test('means linear layers alone by a name that checkpoints give to experts too', async () => {
    await withModel('granitemoehybrid-experts', (model) => {
      const { layers } = add(model, { targetModules: ['input_linear'] }).parts;
      assert.deepEqual(
        layers.map(({ linear }) => linear.name),
        [0, 1].map((layer) => `model.layers.${layer}.shared_mlp.input_linear`),
      );
    });
  });

  test("that trains experts whole has PEFT's names for them", async () => {
    const names = (model: CausalLM) => [...(model.adapter?.parameters.keys() ?? [])].filter((name) => !name.includes('lora_'));
    const inLayers = (layers: number[], modules: string[]) =>
      layers.flatMap((layer) => modules.map((name) => `base_model.model.model.layers.${layer}.${name}`));
    for (const [variant, modulesToSave, expected] of [
      ['qwen3_moe', ['experts', 'gate'], inLayers([0, 2], ['mlp.gate.weight', 'mlp.experts.gate_up_proj', 'mlp.experts.down_proj'])],
      ['granitemoe', ['experts'], inLayers([0, 1], ['block_sparse_moe.experts.gate_up_proj', 'block_sparse_moe.experts.down_proj'])],
      ['granitemoe', ['router'], inLayers([0, 1], ['block_sparse_moe.router.weight'])],
      ['mixtral', ['mlp'], inLayers([0, 1], ['mlp.gate.weight', 'mlp.experts.gate_up_proj', 'mlp.experts.down_proj'])],
      ['granitemoehybrid-experts', ['input_linear'], inLayers([0, 1], ['shared_mlp.input_linear.weight'])],
    ] as const)
      await withModel(variant, async (model) => {
        add(model, { targetModules: ['q_proj'], modulesToSave });
        assert.deepEqual(names(model).sort(), [...expected].sort());
        for (const variable of model.adapter?.parameters.values() ?? []) variable.assign(variable.add(0.02));
        const folder = path.join(scratch, `${variant}-${modulesToSave}`);
        await saveModel(model, folder);
        const again = await loadModel(folder);
        assert.deepEqual(await logitsOf(again, ids), await logitsOf(model, ids));
        again.dispose();
      });
  });

  test('is trained beside layers in 4 bits, while the experts stay as they are', async () => {
    const model = await loadModel(path.join(fixtures, 'olmoe'), { loadIn4bit: true });
    assert.ok([...model.linears.values()].some(({ weight }) => weight.compact));
    for (const name of [...model.inParts.keys(), 'model.layers.0.mlp.gate.weight']) assert.ok(model.parameters.has(name), name);
    model.dispose();
  });
});

test('a parameter that a file holds in parts is read once for all of them', async () => {
  let reads = 0;
  const data = async (): Promise<Float32Array> => {
    reads++;
    return Float32Array.of(1, 2, 3, 4, 5, 6);
  };
  const names = ['a', 'b', 'c'];
  const parts = cutIntoParts([{ name: 'whole', shape: [3, 1, 2], data }], new Map([['whole', { shape: [3, 1, 2], names }]]));
  const found: number[][] = [];
  for (const part of parts) found.push([...(await part.data())]);
  assert.deepEqual(
    [reads, found],
    [
      1,
      [
        [1, 2],
        [3, 4],
        [5, 6],
      ],
    ],
  );
});

test('what is added to the scores of experts for choosing is saved, and neither trained nor counted', async () => {
  await withModel('lfm2_moe-defaults', async (model) => {
    const name = 'model.layers.2.feed_forward.expert_bias';
    const bias = model.parameters.get(name) as tf.Variable;
    assert.equal(bias.trainable, false);
    const all = [...model.parameters.values()].reduce((sum, { size }) => sum + size, 0);
    assert.equal(model.numParameters, all - bias.size);
    const before = [...(await bias.data())];
    const config = { maxSteps: 2, learningRate: 0.01, weightDecay: 0.5, saveStrategy: 'no', disableTqdm: true } as const;
    const trainer = new SFTTrainer({ model, trainDataset: new Dataset([{ text: 'A GOOD DAY' }, { text: 'B' }]), config });
    await trainer.train();
    assert.deepEqual([...(await bias.data())], before);
    assert.ok(before.every((value) => value !== 0));
    assert.ok(trainer.log.every((record) => !('aux_loss' in record)));
  });
});
