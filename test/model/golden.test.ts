import assert from 'node:assert/strict';
import * as path from 'node:path';
import { after, before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { tokenLoss, useDevice, varyingSizes } from '../../lib/engine';
import { readJson } from '../../lib/files';
import { type CausalLM, disposeBatch, generateBatch, loadModel, makeBatch, tokenNll } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { families } from '../golden-families';
import { closeTo, logitsOf } from './support';

interface Forward {
  input_ids: number[];
  loss: number;
  perplexity: number;
  token_nll: number[];
  logits_first: number[];
  logits_last: number[];
  argmax: number[];
  grad_norm_per_parameter: Record<string, number>;
  greedy: { prompt_ids: number[]; output_ids: number[] };
}

before(() => useDevice('cpu'));

for (const family of families) {
  const folder = path.join(projectRoot, 'test/golden', family);
  const golden = readJson(path.join(folder, 'forward.json')) as Forward;
  let model: CausalLM;
  before(async () => {
    model = await loadModel(path.join(folder, 'model'));
  });
  after(() => model.dispose());

  test(`${family}: token losses and argmax are those of transformers`, async () => {
    const { nll, argmax } = await tokenNll(model, golden.input_ids);
    closeTo(nll, golden.token_nll, 1e-4);
    assert.deepEqual([...argmax], golden.argmax);
  });

  test(`${family}: logits are those of transformers`, async () => {
    const logits = await logitsOf(model, golden.input_ids);
    closeTo(logits[0], golden.logits_first, 1e-4);
    closeTo(logits[logits.length - 1], golden.logits_last, 1e-4);
  });

  test(`${family}: the gradient of every parameter has the norm that PyTorch computes`, async () => {
    const norms = await gradientNorms(model, golden.input_ids);
    for (const [name, expected] of Object.entries(golden.grad_norm_per_parameter)) {
      const found = norms.get(name) ?? norms.get(name.replace(/^lm_head/, 'embed_out'));
      assert.ok(found !== undefined, `no gradient for ${name}`);
      // norms of a true zero (a bias that softmax cancels) are rounding noise
      assert.ok(Math.abs(found - expected) <= 1e-3 * expected + 1e-6, `${name}: ${found} instead of ${expected}`);
    }
    assert.equal(norms.size, Object.keys(golden.grad_norm_per_parameter).length);
  });

  test(`${family}: a greedy continuation has the ids that transformers generates`, async () => {
    const { prompt_ids: prompt, output_ids: output } = golden.greedy;
    const [result] = await generateBatch(model, [prompt], { maxNewTokens: 24, ignoreEos: true });
    assert.deepEqual([...prompt, ...result.ids], output);
  });
}

async function gradientNorms(model: CausalLM, ids: number[]): Promise<Map<string, number>> {
  varyingSizes({ tokens: ids.length, targets: ids.length - 1 });
  const batch = makeBatch([ids]);
  const names = new Map([...model.parameters].map(([name, variable]) => [variable.name, name]));
  const { value, grads } = tf.variableGrads(
    () => {
      const hidden = model.hiddenStates(batch);
      const targets = tf.slice(batch.ids, 1, ids.length - 1) as tf.Tensor1D;
      const { nll } = tokenLoss(
        tf.slice(hidden, [0, 0], [ids.length - 1, hidden.shape[1]]) as tf.Tensor2D,
        model.outputHead,
        targets,
        model.config.finalLogitSoftcapping,
        model.outputBias,
      );
      return tf.mean(nll);
    },
    [...model.parameters.values()].filter(({ trainable }) => trainable),
  );
  const norms = new Map<string, number>();
  for (const [variable, gradient] of Object.entries(grads)) {
    const squares = ((await gradient.data()) as Float32Array).reduce((sum, x) => sum + x * x, 0);
    norms.set(names.get(variable) ?? variable, Math.sqrt(squares));
    gradient.dispose();
  }
  value.dispose();
  disposeBatch(batch);
  return norms;
}
