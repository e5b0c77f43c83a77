/** What a run that fails leaves behind: everything but its own results. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { ownedVariable, releaseMemory, setToZero, useDevice } from '../../lib/engine';
import { engineMemory } from '../../lib/engine/device';
import { Session } from '../../lib/engine/ort/session';
import { generate, loadModel, tokenNll } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { SFTTrainer } from '../../lib/train';

before(async () => {
  await useDevice('cpu');
});

const values = (tensor: tf.Tensor): number[] => [...tensor.dataSync()];

/** A row of a table at a place that nobody knows before it is computed, and that does not exist. */
const outside = (): tf.Tensor => tf.gather(tf.tensor1d([1, 2]), tf.add(tf.tensor1d([6], 'int32'), tf.scalar(1, 'int32')));

/** A tensor whose memory is the engine's own. */
function computed(numbers: number[]): tf.Tensor {
  const tensor = tf.tidy(() => tf.add(tf.tensor1d(numbers), 0));
  tensor.dataSync();
  return tensor;
}

test('a computation that fails does not spoil the others', () => {
  tf.tidy(() => {
    const good = tf.add(tf.tensor1d([1, 2]), 1);
    const bad = tf.gather(tf.tensor1d([1, 2]), tf.add(tf.tensor1d([6], 'int32'), tf.scalar(1, 'int32')));
    assert.throws(() => bad.dataSync());
    assert.deepEqual(values(good), [2, 3]);
    assert.deepEqual(values(tf.mul(good, 2)), [4, 6]);
    assert.throws(() => bad.dataSync());
  });
});

test('after a run that failed, what is held can still be computed, one value after the other', () => {
  tf.tidy(() => {
    const y = tf.add(tf.tensor1d([1, 2]), 1);
    const z = tf.mul(y, 2);
    const place = tf.add(tf.tensor1d([0], 'int32'), tf.scalar(100, 'int32'));
    const outside = tf.gather(tf.tensor2d([[1], [2]]), place);
    assert.throws(() => outside.dataSync());
    assert.deepEqual(values(z), [4, 6]);
    assert.deepEqual(values(y), [2, 3]);
  });
});

test('a variable whose update was recorded with a computation that fails has it nevertheless', () => {
  const variable = tf.variable(tf.tensor1d([1, 2]));
  const addOne = () => tf.tidy(() => variable.assign(tf.add(variable, 1)));
  addOne();
  variable.dataSync();
  addOne();
  tf.tidy(() => assert.throws(() => outside().dataSync()));
  assert.deepEqual(values(variable), [3, 4]);
  addOne();
  assert.deepEqual(values(variable), [4, 5]);
  variable.dispose();
});

for (const when of ['before', 'after'] as const) {
  test(`operands that are disposed of ${when} a failure serve what is still to be computed, and then go`, () => {
    releaseMemory();
    tf.tidy(() => {
      const large = tf.tidy(() => tf.add(tf.ones([1 << 15]), 1));
      large.dataSync();
      const operand = computed([1, 2]);
      const [y, z] = [tf.mul(operand, tf.tensor1d([2, 3])), tf.add(operand, 5)];
      const sum = tf.sum(large);
      const bad = outside();
      if (when === 'before') tf.dispose([operand, large]);
      assert.throws(() => bad.dataSync());
      if (when === 'after') tf.dispose([operand, large]);
      // memory that was free by now would be written over
      const other = tf.tidy(() => tf.mul(tf.ones([1 << 15]), 7));
      other.dataSync();
      assert.deepEqual(values(y), [2, 6]);
      assert.deepEqual(values(z), [6, 7]);
      assert.deepEqual(values(sum), [2 << 15]);
    });
    tf.tidy(() => tf.ones([2]).dataSync());
    assert.ok((engineMemory()?.idleBuffers ?? 0) > 0, 'the large operand waits for its next use');
  });
}

test('variables whose computation failed can be set to zero', () => {
  const variable = ownedVariable(Float32Array.of(1, 2), [2]);
  tf.tidy(() => {
    variable.assign(tf.add(tf.tile(outside(), [2]), 1) as tf.Tensor);
    assert.throws(() => variable.dataSync());
  });
  setToZero([variable]);
  assert.deepEqual(values(variable), [0, 0]);
  variable.dispose();
});

/** Lets ONNX Runtime fail in the k-th run from now on, as it does when memory runs out. */
function failAt(t: TestContext, k: number): { restore(): void } {
  const { run } = Session.prototype;
  let left = k;
  const mock = t.mock.method(Session.prototype, 'run', function (this: Session, ...args: Parameters<Session['run']>) {
    if (--left === 0) throw new Error('bad allocation');
    return run.apply(this, args);
  });
  return { restore: () => mock.mock.restore() };
}

test('a run that fails for want of memory, wherever it is, is told as what it is, and model and tensors stay as they were', async (t) => {
  const model = await loadModel(path.join(projectRoot, 'test', 'golden', 'llama', 'model'));
  t.after(() => model.dispose());
  const trainDataset = ['Birds sing.', 'Rain falls on the hills.', 'Why?', 'The sea is wide and deep.'].map((text) => ({ text }));
  const config = { disableTqdm: true, maxSteps: 2, perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 2, learningRate: 0 };
  const train = (gradientCheckpointing: boolean) =>
    new SFTTrainer({ model, trainDataset, config: { ...config, gradientCheckpointing, tokensPerMicroBatch: 8 } }).train();
  const ways: Array<() => Promise<unknown>> = [
    () => train(false),
    () => train(true),
    () => generate(model, 'Birds', { maxNewTokens: 6, ignoreEos: true }),
    () => tokenNll(model, [5, 6, 7]),
  ];
  for (const way of ways) await way();
  const expected = (await tokenNll(model, [5, 6, 7])).nll;
  const tensors = tf.memory().numTensors;
  for (const way of ways) {
    for (let k = 1; k <= 12; k++) {
      const failing = failAt(t, k);
      const message = await way().then(
        () => 'finished',
        (error: Error) => error.message,
      );
      failing.restore();
      assert.equal(tf.memory().numTensors, tensors, `run ${k}`);
      if (message === 'finished') break;
      assert.equal(message, 'bad allocation', `run ${k}`);
    }
    assert.deepEqual((await tokenNll(model, [5, 6, 7])).nll, expected);
  }
});
