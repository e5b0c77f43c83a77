/** GGUF files of models with layers of Mamba 2: llama.cpp keeps the same states. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { type CausalLM, exportGguf } from '../../lib/model';
import { created, loaded, open, refuses, temporaryFile, valuesOf, weightOf } from './gguf-files';
import { computesTheSame, withoutLlamaCpp } from './llama-cpp';
import { fixtures } from './support';

before(() => useDevice('cpu'));

const GRANITE = {
  ...{ model_type: 'granitemoehybrid', vocab_size: 1024, hidden_size: 64, shared_intermediate_size: 96, num_hidden_layers: 3 },
  ...{ num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: 512, initializer_range: 0.15, pad_token_id: 1 },
  ...{ num_local_experts: 0, layer_types: ['mamba', 'attention', 'mamba'], tie_word_embeddings: true },
  ...{ mamba_n_heads: 8, mamba_d_state: 16 },
  ...{ embedding_multiplier: 6, logits_scaling: 2, residual_multiplier: 0.5, attention_multiplier: 0.2 },
};

/** Two groups of heads, normalized behind the gate each by itself. */
const FALCON = {
  ...{ model_type: 'falcon_h1', vocab_size: 1024, hidden_size: 64, intermediate_size: 96, num_hidden_layers: 2, pad_token_id: 1 },
  ...{ num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: 512, initializer_range: 0.15 },
  ...{ mamba_d_ssm: 96, mamba_n_heads: 6, mamba_n_groups: 2, mamba_d_state: 16, mamba_rms_norm: true, mamba_norm_before_gate: false },
  ...{ lm_head_multiplier: 0.7, embedding_multiplier: 5.5, key_multiplier: 0.4, mlp_multipliers: [0.9, 0.6] },
  ...{ attention_in_multiplier: 1.1, attention_out_multiplier: 0.9, ssm_in_multiplier: 1.25, ssm_out_multiplier: 0.4 },
  ssm_multipliers: [0.7, 0.8, 1.1, 1.2, 0.6],
};

/** With other vectors than a fresh model's, most of which are alike in all features. */
async function varied(t: TestContext, config: Record<string, unknown>): Promise<CausalLM> {
  const model = await created(t, config);
  for (const [i, variable] of [...model.parameters.values()].entries())
    if (variable.rank === 1)
      tf.tidy(() => variable.assign(tf.add(variable, tf.randomUniform(variable.shape, -0.7, 0.7, 'float32', i + 1))));
  return model;
}

test('keys of Granite 4.0 H, and weights as llama.cpp reads them', async (t) => {
  const [file, model] = [temporaryFile(t), await varied(t, GRANITE)];
  await exportGguf(model, file, { dtype: 'f16' });
  const found = await open(file);
  const expected = {
    ...{ 'general.architecture': 'granitehybrid', 'granitehybrid.attention.head_count_kv': [0, 2, 0] },
    ...{ 'granitehybrid.ssm.conv_kernel': 4, 'granitehybrid.ssm.state_size': 16, 'granitehybrid.ssm.group_count': 1 },
    ...{ 'granitehybrid.ssm.time_step_rank': 8, 'granitehybrid.ssm.inner_size': 128, 'granitehybrid.rope.scaling.finetuned': false },
  };
  for (const [key, value] of Object.entries(expected)) assert.deepEqual(found.metadata[key], value, key);
  // of each gated MLP two
  assert.equal(found.tensorInfos.length, model.parameters.size + 3);
  const infoOf = (name: string) => found.tensorInfos.find((info) => info.name === `blk.0.${name}`);
  for (const name of ['ssm_a', 'ssm_d']) {
    assert.deepEqual(infoOf(name)?.shape, [1n, 8n]);
    assert.equal(infoOf(name)?.dtype, 0, 'in float32');
  }
  assert.deepEqual(
    valuesOf(file, found, 'blk.0.ssm_a'),
    weightOf(model, 'model.layers.0.mamba.A_log').map((value) => -Math.exp(value)),
  );
  assert.deepEqual(valuesOf(file, found, 'blk.0.ssm_dt.bias'), weightOf(model, 'model.layers.0.mamba.dt_bias'));
});

describe('refused in one sentence, with nothing written:', () => {
  test('biases', async (t) =>
    refuses(t, await loaded(t, path.join(fixtures, 'granitemoehybrid-mamba')), /has the activation gelu_pytorch_tanh/));

  for (const [config, pattern] of [
    [{ mamba_n_groups: 2 }, /has 2 groups of heads \(mamba_n_groups\) in a model of Granite 4\.0 H, which llama\.cpp/],
    [{ mamba_proj_bias: true }, /has biases around its states/],
    [{ mamba_expand: 3 }, /has states of 192 features, not twice as many as the model \(mamba_expand\)/],
    [{ mamba_d_conv: 1 }, /has convolutions of one token/],
    [{ time_step_limit: [0, 0.5] }, /keeps time steps between 0 and 0\.5 \(time_step_limit\)/],
    [{ layer_types: ['mamba', 'mamba', 'mamba'] }, /has no layers in a model of Granite 4\.0 H but those of Mamba/],
  ] as const)
    test(JSON.stringify(config), async (t) => refuses(t, await created(t, { ...GRANITE, ...config }), pattern));

  for (const [config, pattern] of [
    [{ mamba_norm_before_gate: true }, /normalizes states before their gate \(mamba_norm_before_gate\), which llama\.cpp/],
    [{ attention_bias: true }, /has biases in a model of Falcon-H1/],
    [{ projectors_bias: true }, /has biases around its states/],
  ] as const)
    test(`Falcon-H1: ${JSON.stringify(config)}`, async (t) => refuses(t, await created(t, { ...FALCON, ...config }), pattern));
});

describe('llama.cpp itself computes the same probabilities over several chunks:', { skip: withoutLlamaCpp }, () => {
  for (const [name, config] of [
    ['Granite 4.0 H', {}],
    ['wider states, shorter convolutions without biases', { mamba_d_state: 32, mamba_d_conv: 3, mamba_conv_bias: false, mamba_n_heads: 4 }],
    ['positions', { position_embedding_type: 'rope', layer_types: ['attention', 'mamba', 'attention'], tie_word_embeddings: false }],
  ] as const)
    test(name, async (t) => computesTheSame(await varied(t, { ...GRANITE, ...config }), temporaryFile(t), { length: 150 }));

  for (const [name, config] of [
    ['Falcon-H1', {}],
    ['Falcon-H1 whose states are not normalized', { mamba_rms_norm: false, mamba_n_groups: 1, tie_word_embeddings: true }],
  ] as const)
    test(name, async (t) => computesTheSame(await varied(t, { ...FALCON, ...config }), temporaryFile(t), { length: 150 }));

  test('in 8 bits', async (t) =>
    computesTheSame(await varied(t, GRANITE), temporaryFile(t), { dtype: 'q8_0', length: 150, tolerance: 0.2 }));
});
