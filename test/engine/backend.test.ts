import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { adamW, computeRecorded, ownedVariable, setToZero, useDevice, varyingSizes } from '../../lib/engine';
import { engineStatistics } from '../../lib/engine/device';
import type { EngineStatistics } from '../../lib/engine/ort/statistics';

before(async () => {
  await useDevice('cpu');
});

const statistics = (): EngineStatistics => engineStatistics() as EngineStatistics;
const values = (tensor: tf.Tensor): number[] => [...tensor.dataSync()];

test('nothing is computed before a value is read, and then everything alive is', () => {
  const runs = statistics().runs;
  const a = tf.tensor1d([1, 2, 3]);
  const b = tf.mul(a, 2);
  const c = tf.add(b, 1);
  assert.equal(statistics().runs, runs);
  assert.deepEqual(values(c), [3, 5, 7]);
  assert.deepEqual(values(b), [2, 4, 6]);
  assert.equal(statistics().runs, runs + 1);
  tf.dispose([a, b, c]);
});

test('a graph of the same structure is compiled once, whatever its numbers', () => {
  const compute = (x: number, factor: number): number[] =>
    tf.tidy(() => values(tf.exp(tf.mul(tf.tensor1d([x, x, 1.5]), tf.scalar(factor)))));
  compute(1, 2);
  const compilations = statistics().compilations;
  assert.ok(Math.abs(compute(0.5, 4)[0] - Math.exp(2)) < 1e-5);
  assert.equal(statistics().compilations, compilations);
});

test('shapes that vary without being announced are warned of once', (context) => {
  const said: string[] = [];
  context.mock.method(console, 'warn', (text: string) => said.push(text));
  const compute = (size: number): void => tf.tidy(() => void tf.sum(tf.tan(tf.mul(tf.ones([size]), tf.ones([size])))).dataSync());
  const many = (): void => {
    for (let size = 2; size < 60; size++) compute(size);
  };
  many();
  many();
  assert.equal(said.length, 1);
  assert.match(said[0], /compiled for new tensor shapes in 33 of the last 200 runs.*varyingSizes/);
});

test('sizes announced as varying share one graph, and results are those of each size', () => {
  const compute = (size: number): number[] => {
    varyingSizes({ tokens: size });
    return tf.tidy(() => {
      const x = tf.tensor2d(
        Array.from({ length: size * 6 }, (_, i) => i),
        [size, 6],
      );
      const heads = tf.transpose(tf.reshape(x, [size, 2, 3]), [1, 0, 2]);
      const scores = tf.matMul(heads, heads, false, true);
      return values(tf.sum(tf.softmax(tf.mul(scores, 1e-3)), 1));
    });
  };
  const reference = (size: number): number[] => {
    varyingSizes({});
    return compute(size);
  };
  compute(30);
  const compilations = statistics().compilations;
  const fortyOne = compute(41);
  assert.equal(statistics().compilations, compilations);
  assert.deepEqual(fortyOne, reference(41));
  varyingSizes({});
});

test('an announced size that no input has, but some other tensor by chance, does no harm', () => {
  varyingSizes({ segments: 7 });
  tf.tidy(() => {
    const x = tf.matMul(tf.ones([3, 2]), tf.ones([2, 5]));
    assert.deepEqual(values(tf.sum(tf.reshape(tf.concat([x, x, tf.slice(x, 0, 1)], 0), [7, 5]), 1)), Array(7).fill(10));
  });
  varyingSizes({});
});

test('a value read in the middle of a program is right, and so is what follows', () => {
  tf.tidy(() => {
    const a = tf.tensor1d([1, 4, 9]);
    const root = tf.sqrt(a);
    assert.deepEqual(values(root), [1, 2, 3]);
    assert.deepEqual(values(tf.add(root, a)), [2, 6, 12]);
  });
});

test('reads that run together give each its own value', async () => {
  const tensors = [1, 2, 3].map((x) => tf.tidy(() => tf.square(tf.scalar(x))));
  const read = await Promise.all(tensors.map((tensor) => tensor.data()));
  assert.deepEqual(
    read.map(([x]) => x),
    [1, 4, 9],
  );
  tf.dispose(tensors);
});

test('an array that was read stays as it was when its tensor is gone', () => {
  const tensor = tf.tidy(() => tf.fill([40000], 3));
  const kept = tensor.dataSync();
  tensor.dispose();
  const other = tf.tidy(() => tf.fill([40000], 5));
  other.dataSync();
  assert.ok(kept.every((x) => x === 3));
  other.dispose();
});

test('an accumulator takes over the memory of its old value, while a copy of that value stays', () => {
  const variable = tf.variable(tf.zeros([300, 300]));
  const add = (x: number): void => tf.tidy(() => variable.assign(tf.add(variable, tf.fill([300, 300], x))));
  add(1);
  variable.dataSync();
  const copy = tf.clone(variable);
  add(2);
  assert.equal(variable.dataSync()[7], 3);
  assert.equal(copy.dataSync()[7], 1);
  copy.dispose();
  for (let i = 0; i < 5; i++) {
    add(1);
    assert.equal(variable.dataSync()[89999], 4 + i);
  }
  setToZero([variable]);
  assert.equal(variable.dataSync()[0], 0);
  variable.dispose();
});

test('a run writes its result once: no second copy of it is made', () => {
  const x = tf.zeros([1 << 22]);
  tf.tidy(() => tf.add(x, 1).dataSync());
  const allocated = (): number => process.memoryUsage().arrayBuffers;
  const before = allocated();
  const y = tf.keep(tf.tidy(() => tf.mul(tf.add(x, 1), 3)));
  computeRecorded();
  // y lies where the first sum lay; a copy of its 16 MiB would be there until garbage is collected
  assert.ok(allocated() - before < 2 ** 23, `${allocated() - before} bytes`);
  assert.equal(values(y)[12345], 3);
  tf.dispose([x, y]);
});

test('the sum of a product and a base is exact in every order of the terms', () => {
  tf.tidy(() => {
    const a = tf.tensor2d([1, 2, 3, 4], [2, 2]);
    const b = tf.tensor2d([5, 6, 7, 8], [2, 2]);
    const base = tf.tensor2d([100, 200, 300, 400], [2, 2]);
    assert.deepEqual(values(tf.add(base, tf.matMul(a, b))), [119, 222, 343, 450]);
    assert.deepEqual(values(tf.add(tf.add(tf.matMul(a, b), tf.matMul(b, a, true, true)), tf.add(base, base))), [238, 465, 665, 900]);
    const product = tf.matMul(a, b);
    assert.deepEqual(values(tf.add(product, tf.add(base, product))), [138, 244, 386, 500]);
  });
});

test('a kernel that is not mapped falls back to tfjs and is counted', () => {
  tf.tidy(() => {
    const before = statistics().fallbacks.get('Diag') ?? 0;
    assert.deepEqual(values(tf.diag(tf.exp(tf.log(tf.tensor1d([1, 2]))))).map(Math.round), [1, 0, 0, 2]);
    assert.equal(statistics().fallbacks.get('Diag'), before + 1);
  });
});

test('tensors and data are counted truthfully', () => {
  const start = tf.memory();
  const kept = tf.tidy(() => tf.sum(tf.mul(tf.ones([10, 10]), 3)));
  kept.dataSync();
  assert.equal(tf.memory().numTensors, start.numTensors + 1);
  assert.equal(tf.memory().numDataBuffers, start.numDataBuffers + 1);
  kept.dispose();
  assert.deepEqual(tf.memory().numDataBuffers, start.numDataBuffers);
});

test('complex numbers are moved, read, reshaped and counted', () => {
  const { numTensors, numDataBuffers } = tf.memory();
  const dataIds = tf.engine().backend.numDataIds();
  tf.tidy(() => {
    const z = tf.complex(tf.mul(tf.tensor1d([1, 2]), 3), tf.tensor1d([5, 7]));
    assert.deepEqual(values(tf.real(tf.reshape(z, [2, 1]))), [3, 6]);
    assert.deepEqual(tf.imag(tf.reshape(z, [2, 1])).shape, [2, 1]);
    assert.deepEqual(values(tf.mul(z, z)), [9 - 25, 30, 36 - 49, 84]);
  });
  assert.deepEqual([tf.memory().numTensors, tf.memory().numDataBuffers], [numTensors, numDataBuffers]);
  assert.equal(tf.engine().backend.numDataIds(), dataIds);
});

test('tensors move to another backend and back, recorded or in memory', async () => {
  const given = tf.tensor1d([1, 2, 3]);
  const recorded = tf.mul(given, 2);
  await tf.setBackend('cpu');
  const there = tf.add(given, recorded);
  await tf.setBackend('onnxruntime');
  const back = tf.add(there, recorded);
  assert.deepEqual(values(back), [5, 10, 15]);
  assert.deepEqual(values(recorded), [2, 4, 6]);
  tf.dispose([given, recorded, there, back]);
});

test('an array that changes after an operation does not change its result', () => {
  tf.tidy(() => {
    const array = Float32Array.of(1, 2);
    const y = tf.mul(tf.tensor1d(array), 2);
    array.fill(9);
    const buffer = tf.buffer([2]);
    buffer.set(1, 0);
    const z = tf.mul(buffer.toTensor(), 2);
    buffer.set(7, 0);
    assert.deepEqual(values(y), [2, 4]);
    assert.deepEqual(values(z), [2, 0]);
  });
});

test('what is recorded reads a variable as it was before it changes in place', () => {
  const owned = (...numbers: number[]) => ownedVariable(Float32Array.from(numbers), [numbers.length]);
  const [zeroed, parameter, gradient, m, v] = [owned(1, 2), owned(1, 2), owned(1, 1), owned(0, 0), owned(0, 0)];
  tf.tidy(() => {
    const twice = tf.mul(zeroed, 2);
    setToZero([zeroed]);
    assert.deepEqual(values(twice), [2, 4]);
    const beforeUpdate = tf.mul(parameter, 2);
    const settings = { learningRate: 0.5, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, step: 1, gradientScale: 1 };
    adamW([{ parameter, gradient, moments: { m, v }, settings }]);
    assert.deepEqual(values(beforeUpdate), [2, 4]);
  });
  tf.dispose([zeroed, parameter, gradient, m, v]);
});

test('strings, integers and booleans keep their types', () => {
  tf.tidy(() => {
    assert.deepEqual(tf.tensor1d(['a', 'ä']).dataSync(), ['a', 'ä'] as never);
    assert.deepEqual(values(tf.add(tf.tensor1d([1, 2], 'int32'), tf.scalar(3, 'int32'))), [4, 5]);
    const mask = tf.greater(tf.tensor1d([1, 5]), 2);
    assert.equal(mask.dtype, 'bool');
    assert.deepEqual(values(tf.where(mask, tf.tensor1d([1, 2]), tf.tensor1d([3, 4]))), [3, 2]);
  });
});
