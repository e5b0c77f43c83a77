import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { GradientSums } from '../../lib/train/gradients';
import { clipFactor, decays, Optimizer } from '../../lib/train/optimizer';
import { adamWRule } from '../../lib/train/update-rules';
import { fixtures, readJsonFile } from './support';

interface AdamWFixture {
  shapes: Record<string, number[]>;
  start: Record<string, number[]>;
  steps: Array<{ gradients: Record<string, number[]>; norm: number; after: Record<string, number[]> }>;
}

before(async () => {
  await useDevice('cpu');
});

test("clipping, decay and update give torch's numbers", async () => {
  const { shapes, start, steps } = readJsonFile<AdamWFixture>(fixtures, 'adamw.json');
  const parameters = new Map(Object.keys(shapes).map((name) => [name, tf.variable(tf.tensor(start[name], shapes[name]))]));
  const optimizer = new Optimizer(parameters, adamWRule({ beta1: 0.8, beta2: 0.95, epsilon: 1e-6 }), 0.1);
  const sums = new GradientSums();
  // What a step that came to nothing leaves.
  for (const [name, shape] of Object.entries(shapes)) sums.add(name, tf.ones(shape));
  sums.reset();
  for (const { gradients, norm, after } of steps) {
    for (const name of Object.keys(shapes)) {
      // in two parts, as two rows of a step would add them
      for (const part of [0.25, 0.75])
        sums.add(
          name,
          tf.tensor(
            gradients[name].map((x) => x * part),
            shapes[name],
          ),
        );
    }
    const found = await sums.norm();
    assert.ok(Math.abs(found - norm) < 1e-5 * norm, `norm ${found}, expected ${norm}`);
    optimizer.update(sums.entries(), 0.01, clipFactor(found, 1));
    sums.wereUsed();
    for (const [name, parameter] of parameters) {
      const values = await parameter.data();
      for (const [i, expected] of after[name].entries())
        assert.ok(Math.abs(values[i] - expected) < 2e-6, `${name}[${i}]: ${values[i]}, expected ${expected}`);
    }
  }
  sums.dispose();
  optimizer.dispose();
  for (const parameter of parameters.values()) parameter.dispose();
});

test('gradients are scaled down to max_grad_norm, never up; 0 leaves them', () => {
  assert.equal(clipFactor(0.5, 1), 1);
  assert.ok(Math.abs(clipFactor(4, 1) - 1 / 4.000001) < 1e-12);
  assert.equal(clipFactor(1000, 0), 1);
});

test('decay is for matrices, not for biases and norms', () => {
  for (const name of [
    'model.layers.0.self_attn.q_proj.weight',
    'model.embed_tokens.weight',
    'lm_head.weight',
    'gpt_neox.layers.1.mlp.dense_h_to_4h.weight',
  ]) {
    assert.ok(decays(name, [4, 4]), name);
  }
  for (const name of [
    'model.layers.0.mamba.A_log',
    'model.layers.0.mamba.D',
    'model.layers.0.linear_attn.A_log',
    'model.layers.0.self_attn.sinks',
  ])
    assert.ok(decays(name, [4]), name);
  for (const [name, shape] of [
    ['model.norm.weight', [4]],
    ['model.layers.0.input_layernorm.weight', [4]],
    ['model.layers.0.self_attn.q_norm.weight', [4]],
    ['model.layers.0.self_attn.q_proj.bias', [4]],
    ['model.decoder.layers.0.final_layer_norm.weight', [4]],
    ['gpt_neox.final_layer_norm.bias', [4]],
    ['model.layers.0.mamba.dt_bias', [4]],
    ['some.vector', [4]],
    ['model.layers.2.feed_forward.expert_bias', [4]],
    ['model.layers.0.mlp.experts.gate_up_proj_bias', [4, 4]],
    ['model.layers.0.mlp.router.bias', [4]],
  ] as const) {
    assert.ok(!decays(name, shape), name);
  }
});
