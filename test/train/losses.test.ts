/** Losses other than the plain one: label smoothing, and Dynamic Fine-Tuning. */
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { softCap, useDevice } from '../../lib/engine';
import { type LogRecord, parseConfig, type SFTConfig, SFTTrainer } from '../../lib/train';
import { type LossSettings, lossOf } from '../../lib/train/objective';
import { fixtures, readJsonFile, rows, short, tinyModel } from './support';

beforeEach(async () => {
  await useDevice('cpu');
});

interface Reference {
  family: string;
  settings: Record<string, unknown>;
  config: Record<string, unknown>;
  log: LogRecord[];
}

describe('a run logs what TRL logged, in training and in evaluation', () => {
  for (const { family, settings, config, log } of readJsonFile<Reference[]>(fixtures, 'losses.json')) {
    for (const gradientCheckpointing of [false, true]) {
      test(`${family}: ${JSON.stringify(settings)}${gradientCheckpointing ? ', with gradient checkpointing' : ''}`, async (t) => {
        const trainer = new SFTTrainer({
          ...{ model: await tinyModel(t, family), trainDataset: rows.slice(0, 16), evalDataset: rows.slice(40, 47) },
          config: { ...parseConfig(config), gradientCheckpointing, disableTqdm: true },
        });
        await trainer.train();
        assert.equal(trainer.log.length, log.length);
        for (const [i, expected] of log.entries()) {
          const tolerances = { loss: 1e-5, eval_loss: 1e-5, grad_norm: 1e-4, entropy: 1e-5, eval_entropy: 1e-5 };
          for (const [key, tolerance] of Object.entries(tolerances) as Array<['loss', number]>) {
            const [found, wanted] = [trainer.log[i][key], expected[key]];
            if (wanted === undefined) continue;
            assert.ok(
              found !== undefined && Math.abs(found / wanted - 1) < tolerance,
              `${key} of record ${i}: ${found}, expected ${wanted}`,
            );
          }
        }
      });
    }
  }
});

/** What the loss is by its definition, from all logits. */
function fromLogits(logits: tf.Tensor2D, targets: tf.Tensor1D, { lossType, labelSmoothingFactor: share = 0 }: LossSettings): tf.Tensor1D {
  const logP = tf.logSoftmax(logits);
  const ofTargets = tf.sum(tf.mul(logP, tf.oneHot(targets, logits.shape[1])), 1);
  if (lossType === 'dft') return tf.neg(tf.mul(tf.exp(ofTargets), ofTargets)) as tf.Tensor1D;
  return tf.neg(tf.add(tf.mul(ofTargets, 1 - share), tf.mul(tf.mean(logP, 1), share))) as tf.Tensor1D;
}

const nllFromLogits = (logits: tf.Tensor2D, targets: tf.Tensor1D) => fromLogits(logits, targets, {});

for (const backend of ['onnxruntime', 'cpu']) {
  const inputs = () => {
    const hidden = tf.randomNormal<tf.Rank.R2>([5, 8], 0, 1, 'float32', 1);
    const head = tf.randomNormal<tf.Rank.R2>([12, 8], 0, 1, 'float32', 2);
    const dy = tf.randomNormal<tf.Rank.R1>([5], 0, 1, 'float32', 3);
    return { hidden, head, dy, targets: tf.tensor1d([3, 0, 11, 3, 7], 'int32') };
  };
  const largest = (differences: tf.Tensor[]) => tf.max(tf.stack(differences.map((x) => tf.max(tf.abs(x))))).dataSync()[0];

  for (const [labelSmoothingFactor, softcap] of [[0.1], [1], [0.3, 0.8]]) {
    const kind = `label smoothing of ${labelSmoothingFactor}${softcap ? ' over soft-capped logits' : ''}`;
    test(`${kind} has the value and the gradients of its definition, on ${backend}`, async () => {
      await tf.setBackend(backend);
      const tensors = tf.memory().numTensors;
      const difference = tf.tidy(() => {
        const { hidden, head, dy, targets } = inputs();
        const logits = (h: tf.Tensor, w: tf.Tensor) =>
          softCap(tf.matMul(h as tf.Tensor2D, w as tf.Tensor2D, false, true) as tf.Tensor2D, softcap);
        const ours = (h: tf.Tensor, w: tf.Tensor) =>
          lossOf(
            nllFromLogits(logits(h, w), targets),
            { hidden: h as tf.Tensor2D, head: w as tf.Tensor2D, targets, softcap },
            { labelSmoothingFactor },
          );
        const plain = (h: tf.Tensor, w: tf.Tensor) => fromLogits(logits(h, w), targets, { labelSmoothingFactor });
        const found = [ours(hidden, head), ...tf.grads(ours)([hidden, head], dy)];
        const expected = [plain(hidden, head), ...tf.grads(plain)([hidden, head], dy)];
        return largest(found.map((x, i) => tf.sub(x, expected[i])));
      });
      assert.ok(difference < 2e-6, `${difference}`);
      assert.equal(tf.memory().numTensors, tensors);
    });
  }

  test(`Dynamic Fine-Tuning weighs a loss by a probability that passes no gradient on, on ${backend}`, async () => {
    await tf.setBackend(backend);
    const difference = tf.tidy(() => {
      const { hidden, head, dy, targets } = inputs();
      const nll = nllFromLogits(tf.matMul(hidden, head, false, true), targets);
      const ours = (x: tf.Tensor) => lossOf(x as tf.Tensor1D, { hidden, head, targets }, { lossType: 'dft' });
      const p = tf.exp(tf.neg(nll));
      return largest([tf.sub(ours(nll), tf.mul(p, nll)), tf.sub(tf.grad(ours)(nll, dy), tf.mul(dy, p))]);
    });
    assert.ok(difference < 1e-6, `${difference}`);
  });
}

test('without them the loss is the very tensor of negative log-likelihoods', () => {
  tf.tidy(() => {
    const matrix = tf.ones<tf.Rank.R2>([2, 2]);
    const nll = tf.tensor1d([1, 2]);
    for (const settings of [{}, { lossType: 'nll', labelSmoothingFactor: 0 }] as const)
      assert.equal(lossOf(nll, { hidden: matrix, head: matrix, targets: tf.tensor1d([0, 1], 'int32') }, settings), nll);
  });
});

describe('with an adapter, whose model has a head that is not trained,', () => {
  const run = async (t: Parameters<typeof tinyModel>[0], settings: Partial<SFTConfig>): Promise<readonly LogRecord[]> => {
    const options = { model: await tinyModel(t), trainDataset: rows, peftConfig: { r: 4, targetModules: 'all-linear' } };
    const trainer = new SFTTrainer({ ...options, config: { ...short, maxSteps: 4, learningRate: 1e-2, ...settings } });
    await trainer.train();
    const tensors = tf.memory().numTensors;
    await trainer.train();
    assert.equal(tf.memory().numTensors, tensors, 'tensors');
    return trainer.log;
  };
  for (const settings of [{ labelSmoothingFactor: 0.2 }, { lossType: 'dft' }] as const) {
    test(`${JSON.stringify(settings)} learns, the same however many tokens are computed at once, and leaves no tensor behind`, async (t) => {
      const whole = await run(t, settings);
      const cut = await run(t, { ...settings, tokensPerMicroBatch: 150 });
      for (const [i, { loss = 0 }] of whole.entries()) assert.ok(Math.abs(loss / (cut[i].loss ?? 0) - 1) < 1e-4, `loss ${i}`);
      assert.notEqual(whole[0].loss, whole[3].loss);
    });
  }
});
