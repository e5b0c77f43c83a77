/** Run by webgpu.test.ts in a process of its own: what the engine leaves on the device and what it reads back, as JSON. */
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { cachedAttention, computeRecorded, embedding, engineStatistics, releaseMemory, tokenLoss, useDevice } from '../../lib/engine';
import type { EngineStatistics } from '../../lib/engine/ort/statistics';
import { generateBatch, loadModel } from '../../lib/model';
import { projectRoot } from '../../lib/project';

const SIZE = 1000;

/** How the counters changed in the course of some work. */
async function changes(work: () => unknown): Promise<Partial<EngineStatistics>> {
  const statistics = engineStatistics() as EngineStatistics;
  const { runs, uploadedBytes, downloadedBytes, deviceTensors } = statistics;
  await work();
  return {
    runs: statistics.runs - runs,
    uploadedBytes: statistics.uploadedBytes - uploadedBytes,
    downloadedBytes: statistics.downloadedBytes - downloadedBytes,
    deviceTensors: statistics.deviceTensors - deviceTensors,
  };
}

/** Kernels that take a tensor apart into more parts than a shader has buffers for: loss and gradients of a large vocabulary, and the rows of a matrix. */
function manyParts(): number[][] {
  return tf.tidy(() => {
    // not by tf.sin, which a GPU may compute roughly
    const numbers = (...shape: number[]) =>
      tf.tensor(
        Float32Array.from({ length: tf.util.sizeFromShape(shape) }, (_, i) => Math.sin(i + 1)),
        shape,
      );
    const [hidden, weight, targets] = [numbers(5, 4), numbers(40_000, 4), tf.tensor1d([0, 39_999, 2047, 2048, 20_000], 'int32')];
    const { value, grads } = tf.valueAndGrads((h, w) => tf.sum(tokenLoss(h as tf.Tensor2D, w as tf.Tensor2D, targets).nll))([
      hidden,
      weight,
    ]);
    // of whole numbers, so that the largest are equal and not only close; the first of them counts
    const [wholeHidden, wholeWeight] = [hidden, weight].map((x) => tf.round(tf.mul(x, 5)) as tf.Tensor2D);
    const late = tf.greater(tf.range(0, 40_000).expandDims(1), 30_000);
    const likeliest = [wholeWeight, tf.mul(wholeWeight, tf.add(late, 1))].map(
      (w) => tokenLoss(wholeHidden, w as tf.Tensor2D, targets).argmax,
    );
    const rows = numbers(20, 3);
    const parts = [value, ...grads, ...likeliest, ...tf.unstack(rows), ...tf.split(rows, 20)];
    return parts.map((part) => [...part.dataSync()]);
  });
}

/** A new token of each of two sequences, whose scores are soft-capped; ONNX Runtime's own kernel would leave that out here. */
function cappedAttention(): number[] {
  return tf.tidy(() => {
    const numbers = (...shape: number[]) => tf.reshape(tf.mul(tf.range(1, tf.util.sizeFromShape(shape) + 1), 0.03), shape);
    const cache = { keys: numbers(2, 1, 4, 8) as tf.Tensor4D, values: numbers(2, 1, 4, 8) as tf.Tensor4D };
    const [q, k, v] = [16, 8, 8].map((width) => numbers(2, width) as tf.Tensor2D);
    const options = { heads: 2, kvHeads: 1, scale: 0.4, softcap: 0.5 };
    return [...cachedAttention(q, k, v, cache, tf.tensor1d([2, 3], 'int32'), options).output.dataSync()];
  });
}

/** Values that are there although the graph which computed them has been dropped: for others, or with all memory. */
async function outliving(): Promise<number[]> {
  const [first, second] = [1, 2].map((number) => {
    const tensor = tf.tidy(() => tf.add(tf.fill([300], number), number));
    computeRecorded();
    return tensor;
  });
  for (let size = 2; size < 70; size++) {
    const other = tf.tidy(() => tf.add(tf.fill([size], 1), 1));
    await other.data();
    other.dispose();
  }
  first.dispose();
  releaseMemory();
  const [found] = await second.data();
  const product = tf.mul(second, 3);
  second.dispose();
  const [later] = await product.data();
  product.dispose();
  return [found, later];
}

/** The gradient of a table of which one row learns nothing. */
function gradientWithPadding(): number[] {
  return tf.tidy(() => {
    const ids = tf.tensor1d([2, 0, 3, 2, 3], 'int32');
    const factors = tf.reshape(tf.range(1, 11), [5, 2]);
    const gradient = tf.grad((weight) => tf.sum(tf.mul(embedding(weight as tf.Tensor2D, ids, 2), factors)));
    return [...gradient(tf.ones([4, 2])).dataSync()];
  });
}

async function main(): Promise<void> {
  await useDevice('webgpu');
  const statistics = engineStatistics() as EngineStatistics;
  const x = tf.range(0, SIZE);
  const found: Record<string, unknown> = {};
  const held: tf.Tensor[] = [];
  const double = () => held[held.push(tf.keep(tf.mul(x, 2))) - 1];

  found.firstUse = await changes(() => tf.tidy(() => tf.sum(tf.mul(x, 3)).dataSync()));
  found.secondUse = await changes(() => tf.tidy(() => tf.sum(tf.mul(x, 4)).dataSync()));
  found.thirdUse = await changes(() => tf.tidy(() => tf.sum(tf.mul(x, 5)).dataSync()));
  found.lastUse = await changes(() => {
    const once = tf.range(0, SIZE);
    tf.tidy(() => tf.sum(once).dataSync());
    const total = tf.sum(once);
    once.dispose();
    total.dataSync();
    total.dispose();
  });
  found.unread = await changes(() => tf.tidy(() => tf.sum(double()).dataSync()));
  found.readLater = [...held[0].dataSync().slice(0, 3)];
  found.readTogether = await changes(() => Promise.all([double().data(), double().data(), double().data()]));
  found.typed = [
    [...tf.tidy(() => tf.cast(held[0], 'int32').dataSync()).slice(0, 3)],
    [...tf.tidy(() => tf.greater(held[0], 3).dataSync()).slice(0, 3)],
    [...tf.tidy(() => tf.reshape(held[0], [10, 100]).dataSync()).slice(0, 3)],
  ];
  const model = await loadModel(path.join(projectRoot, 'test', 'golden', 'llama', 'model'));
  const generate = async (promptLookup: boolean) =>
    (await generateBatch(model, ['one two three one two'], { maxNewTokens: 24, ignoreEos: true, promptLookup })).map(({ ids }) => [...ids]);
  let passes = 0;
  const forward = model.forward.bind(model);
  model.forward = (pass) => {
    passes++;
    return forward(pass);
  };
  found.generated = await generate(false);
  found.passes = passes;
  found.generatedWithGuesses = await generate(true);
  found.parts = manyParts();
  found.cappedAttention = cappedAttention();
  found.outliving = await outliving();
  found.gradientWithPadding = gradientWithPadding();
  await useDevice('cpu');
  found.partsOnCpu = manyParts();
  found.cappedAttentionOnCpu = cappedAttention();
  found.generatedOnCpu = await generate(false);
  found.movedToCpu = [...tf.tidy(() => tf.add(held[0], 1).dataSync()).slice(0, 3)];
  tf.dispose([x, ...held]);
  model.dispose();
  found.leftOnDevice = { tensors: statistics.deviceTensors, bytes: statistics.deviceBytes };
  console.log(JSON.stringify(found));
}

main().catch((error: Error) => {
  console.error(error.message);
  process.exitCode = 1;
});
