/** GGUF files of models of experts. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, describe, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { bytesOfGguf, exportGguf, GGUF_DTYPES } from '../../lib/model';
import { created, loaded, open, refuses, temporaryFile, valuesOf, weightOf } from './gguf-files';
import { computesTheSame, withoutLlamaCpp } from './llama-cpp';
import { fixtures } from './support';

before(() => useDevice('cpu'));

const COMMON = {
  ...{ vocab_size: 1024, hidden_size: 64, intermediate_size: 96, num_hidden_layers: 3, num_attention_heads: 4, num_key_value_heads: 2 },
  ...{ max_position_embeddings: 512, initializer_range: 0.15, pad_token_id: 1, num_experts_per_tok: 3 },
};
const SCALES = { embedding_multiplier: 6, logits_scaling: 2, residual_multiplier: 0.5, attention_multiplier: 0.2 };
const GRANITE = { ...COMMON, ...SCALES, model_type: 'granitemoe', num_local_experts: 7 };
const GRANITE_4 = {
  ...{ ...GRANITE, model_type: 'granitemoehybrid', shared_intermediate_size: 64, tie_word_embeddings: true },
  ...{ mamba_n_heads: 8, mamba_d_state: 16, layer_types: ['mamba', 'attention', 'mamba'] },
};
const QWEN = { ...COMMON, model_type: 'qwen3_moe', moe_intermediate_size: 32, num_experts: 7, head_dim: 32, norm_topk_prob: true };
const QWEN_2 = { ...COMMON, model_type: 'qwen2_moe', moe_intermediate_size: 32, shared_expert_intermediate_size: 64, num_experts: 7 };
const MIXTRAL = { ...COMMON, model_type: 'mixtral', num_local_experts: 7 };
const LFM2 = {
  ...{ ...COMMON, model_type: 'lfm2_moe', moe_intermediate_size: 32, num_experts: 7, num_dense_layers: 1 },
  layer_types: ['conv', 'full_attention', 'conv'],
};
const OLMOE = { ...COMMON, model_type: 'olmoe', num_experts: 7, num_key_value_heads: 4 };

test('matrices of all experts are one tensor, of gates and of what they multiply each', async (t) => {
  const [file, model] = [temporaryFile(t), await created(t, GRANITE_4)];
  await exportGguf(model, file, { dtype: 'f32' });
  const found = await open(file);
  const expected = {
    ...{ 'general.architecture': 'granitehybrid', 'granitehybrid.expert_count': 7, 'granitehybrid.expert_used_count': 3 },
    ...{ 'granitehybrid.feed_forward_length': 96, 'granitehybrid.expert_shared_feed_forward_length': 64 },
  };
  for (const [key, value] of Object.entries(expected)) assert.deepEqual(found.metadata[key], value, key);
  const shapeOf = (name: string) => found.tensorInfos.find((info) => info.name === `blk.1.${name}.weight`)?.shape;
  assert.deepEqual(shapeOf('ffn_up_exps'), [64n, 96n, 7n]);
  assert.deepEqual(shapeOf('ffn_down_exps'), [96n, 64n, 7n]);
  assert.deepEqual(shapeOf('ffn_up_shexp'), [64n, 64n]);
  const both = weightOf(model, 'model.layers.1.block_sparse_moe.input_linear.weight');
  const [gates, ups] = ['gate', 'up'].map((which) => valuesOf(file, found, `blk.1.ffn_${which}_exps.weight`));
  const size = 96 * 64;
  for (const expert of [0, 6]) {
    assert.deepEqual(gates.subarray(expert * size, (expert + 1) * size), both.subarray(2 * expert * size, (2 * expert + 1) * size));
    assert.deepEqual(ups.subarray(expert * size, (expert + 1) * size), both.subarray((2 * expert + 1) * size, (2 * expert + 2) * size));
  }
});

test('what is added for choosing has a name of its own there, the share of what all tokens go through is a vector in float32', async (t) => {
  for (const [config, name, shape] of [
    [LFM2, 'blk.1.exp_probs_b.bias', [7n]],
    [{ ...LFM2, use_expert_bias: false }, 'blk.1.exp_probs_b.bias', [7n]],
    [QWEN_2, 'blk.2.ffn_gate_inp_shexp.weight', [64n]],
  ] as const) {
    const file = temporaryFile(t);
    await exportGguf(await created(t, config), file);
    const { tensorInfos } = await open(file);
    const found = tensorInfos.find((info) => info.name === name);
    assert.deepEqual([found?.shape, found?.dtype], [shape, 0]);
  }
});

test('what chooses experts stays in float32, their matrices take the number format', async (t) => {
  const model = await created(t, QWEN);
  for (const dtype of GGUF_DTYPES) {
    const file = temporaryFile(t);
    await exportGguf(model, file, { dtype });
    const { tensorInfos } = await open(file);
    const dtypeOf = (name: string) => tensorInfos.find((info) => info.name === name)?.dtype;
    assert.equal(dtypeOf('blk.0.ffn_gate_inp.weight'), 0);
    assert.equal(dtypeOf('blk.2.ffn_gate_exps.weight'), dtypeOf('blk.2.attn_q.weight'));
  }
  assert.ok(bytesOfGguf(model, 'q8_0') < 0.4 * bytesOfGguf(model, 'f32'));
});

describe('refused in one sentence, with nothing written:', () => {
  for (const [config, pattern] of [
    [
      { ...QWEN, norm_topk_prob: false },
      /does not bring the weights of a token's experts to a sum of 1 \(norm_topk_prob\) in a model of Qwen3-MoE, which llama\.cpp/,
    ],
    [{ ...QWEN, mlp_only_layers: [1] }, /has layers without experts in a model of Qwen3-MoE/],
    [{ ...QWEN, attention_bias: true }, /has biases in a model of Qwen3-MoE/],
    [
      { ...QWEN_2, norm_topk_prob: true },
      /brings the weights of a token's experts to a sum of 1 \(norm_topk_prob\) in a model of Qwen2-MoE/,
    ],
    [{ ...QWEN_2, mlp_only_layers: [1] }, /has layers without experts in a model of Qwen2-MoE/],
    [{ ...QWEN_2, qkv_bias: false }, /has no biases of queries, keys and values \(qkv_bias\) in a model of Qwen2-MoE/],
    [{ ...QWEN_2, head_dim: 32 }, /has heads of another width in a model of Qwen2-MoE/],
    [
      { ...LFM2, norm_topk_prob: false },
      /does not bring the weights of a token's experts to a sum of 1 \(norm_topk_prob\) in a model of LFM2-MoE/,
    ],
    [{ ...LFM2, routed_scaling_factor: 2 }, /multiplies the weights of a token's experts by 2 \(routed_scaling_factor\)/],
    [
      { ...MIXTRAL, model_type: 'gpt_oss' },
      /is a gpt-oss, whose positions are stretched between places that are no whole numbers \(truncate\), which llama/,
    ],
    [{ ...LFM2, conv_bias: true }, /has biases in its convolutions/],
    [{ ...OLMOE, norm_topk_prob: true }, /brings the weights of a token's experts to a sum of 1 \(norm_topk_prob\) in a model of OLMoE/],
    [{ ...OLMOE, num_key_value_heads: 2 }, /has 2 heads of keys for 4 of queries in a model of OLMoE/],
    [{ ...OLMOE, attention_bias: true }, /has biases in a model of OLMoE/],
    [{ ...GRANITE_4, layer_types: new Array(3).fill('attention') }, /has experts, attention in all layers and no positions/],
    [{ ...GRANITE, num_local_experts: 513, intermediate_size: 2 }, /has 513 experts in a layer, more than 512/],
  ] as const)
    test(JSON.stringify(config), async (t) => refuses(t, await created(t, config), pattern));
});

describe('llama.cpp itself computes the same tokens and probabilities:', { skip: withoutLlamaCpp }, () => {
  for (const [name, config] of [
    ['GraniteMoE', GRANITE],
    ['GraniteMoE with a head that is the embedding', { ...GRANITE, tie_word_embeddings: true, num_experts_per_tok: 7 }],
    ['GraniteMoE with one expert', { ...GRANITE, num_local_experts: 1, num_experts_per_tok: 1 }],
    ['GraniteMoE with many', { ...GRANITE, num_local_experts: 512, intermediate_size: 32, num_experts_per_tok: 8 }],
    ['Granite 4.0 H with experts', GRANITE_4],
    ['Granite 4.0 H with experts and positions', { ...GRANITE_4, position_embedding_type: 'rope' }],
    [
      'Granite 4.0 with experts and positions',
      { ...GRANITE_4, layer_types: new Array(3).fill('attention'), position_embedding_type: 'rope' },
    ],
    ['Qwen3-MoE', QWEN],
    ['Qwen3-MoE, positions stretched', { ...QWEN, rope_scaling: { rope_type: 'linear', factor: 4 }, tie_word_embeddings: true }],
    ['Qwen2-MoE', QWEN_2],
    ['Mixtral', MIXTRAL],
    ['Mixtral with a head that is the embedding', { ...MIXTRAL, tie_word_embeddings: true, head_dim: 32 }],
    ['LFM2-MoE', LFM2],
    ['LFM2-MoE without dense layers and biases', { ...LFM2, num_dense_layers: 0, use_expert_bias: false }],
    ['OLMoE', OLMOE],
    ['OLMoE with a head that is the embedding', { ...OLMOE, tie_word_embeddings: true }],
  ] as const)
    test(name, async (t) => computesTheSame(await created(t, config), temporaryFile(t)));

  test('GraniteMoE with biases, as a checkpoint of transformers', async (t) =>
    computesTheSame(await loaded(t, path.join(fixtures, 'granitemoe')), temporaryFile(t)));

  for (const [dtype, tolerance] of [
    ['f16', 0.02],
    ['bf16', 0.2],
    ['q8_0', 0.2],
  ] as const)
    for (const [name, config] of [
      ['Qwen3-MoE', QWEN],
      ['Granite 4.0 H', GRANITE_4],
    ] as const)
      test(`${name} in ${dtype}`, async (t) => computesTheSame(await created(t, config), temporaryFile(t), { dtype, tolerance }));
});
