/** The pad token in the middle of a text: which of its gradients count. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { tokenLoss, useDevice } from '../../lib/engine';
import { readJson } from '../../lib/files';
import { type CausalLM, disposeBatch, loadModel, makeBatch } from '../../lib/model';
import { ConfigReader, readPaddingIdx } from '../../lib/model/config';
import { EMBEDDING_NAME } from '../../lib/model/resize';
import { closeTo, fixtures } from './support';

const { input_ids: ids, cases } = readJson(path.join(fixtures, 'padding.json')) as {
  input_ids: number[];
  cases: Record<string, { norm: number; pad_row: number[] }>;
};
const PAD = 1;

/** Gradient of the mean loss with respect to the embedding. */
async function embeddingGradient(model: CausalLM): Promise<{ norm: number; padRow: Float32Array }> {
  const batch = makeBatch([ids]);
  const [weight] = [...model.parameters].filter(([name]) => EMBEDDING_NAME.test(name)).map(([, variable]) => variable);
  const gradient = tf.tidy(() => {
    const loss = () => {
      const hidden = tf.slice(model.hiddenStates(batch), [0, 0], [ids.length - 1, -1]) as tf.Tensor2D;
      return tf.mean(
        tokenLoss(hidden, model.outputHead, tf.slice(batch.ids, 1) as tf.Tensor1D, model.config.finalLogitSoftcapping, model.outputBias)
          .nll,
      ) as tf.Scalar;
    };
    return tf.variableGrads(loss, [weight]).grads[weight.name];
  });
  const values = await gradient.data<'float32'>();
  const features = gradient.shape[1] as number;
  gradient.dispose();
  disposeBatch(batch);
  return { norm: Math.hypot(...values), padRow: values.slice(PAD * features, (PAD + 1) * features) };
}

for (const backend of ['onnxruntime', "tfjs's own"]) {
  for (const [variant, expected] of Object.entries(cases)) {
    test(`${variant} on ${backend}: a pad token in the text trains the embedding as in transformers`, async () => {
      await useDevice('cpu');
      if (backend !== 'onnxruntime') await tf.setBackend('cpu');
      const model = await loadModel(path.join(fixtures, variant));
      const { norm, padRow } = await embeddingGradient(model);
      closeTo(padRow, expected.pad_row, 1e-6);
      closeTo([norm], [expected.norm], 1e-5 * Math.max(expected.norm, 1));
      model.dispose();
    });
  }
}

test('pad_token_id is read as PyTorch reads a padding_idx', () => {
  const read = (pad_token_id?: unknown, missing?: number) =>
    readPaddingIdx(new ConfigReader(pad_token_id === undefined ? {} : { pad_token_id }, 'config.json'), 64, missing);
  assert.equal(read(), undefined);
  assert.equal(read(undefined, 1), 1);
  assert.equal(read(null, 1), undefined);
  assert.deepEqual(
    [0, 63, -1, -64].map((id) => read(id)),
    [0, 63, 63, 0],
  );
  for (const wrong of [64, -65, 1.5, '3', true, [3]]) {
    assert.throws(() => read(wrong), /^UserError: config\.json: "pad_token_id" is .+; expected null or a whole number from -64 to 63\.$/);
  }
});
