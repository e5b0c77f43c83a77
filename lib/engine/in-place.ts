/**
 * Variables that change in place, as a run of training keeps them: weights, sums of gradients, moments of the optimizer. In main memory
 * JavaScript goes over them itself; elsewhere plain tfjs operations do.
 */
import * as tf from '@tensorflow/tfjs-core';
import { ortBackend } from './device';
import type { OrtBackend } from './ort/backend';
import { prepareZeros, zeros } from './zeros';

/**
 * A variable that takes its array over: nobody else may use the array any more, because the engine changes it in place.
 * Saves the copy that a variable of an ordinary tensor makes at its first update.
 * @param trainable whether `tf.variableGrads` differentiates with respect to it
 */
export function ownedVariable<R extends tf.Rank>(data: Float32Array, shape: tf.ShapeMap[R], trainable = true): tf.Variable<R> {
  const initial = ownedTensor(data, shape);
  const variable = tf.variable(initial, trainable);
  initial.dispose();
  return variable as tf.Variable<R>;
}

/** A tensor that takes its array over: nobody else may use the array any more. Saves the copy that other tensors make of theirs. */
export function ownedTensor<R extends tf.Rank>(data: Float32Array, shape: tf.ShapeMap[R]): tf.Tensor<R> {
  const backend = ortBackend();
  return backend
    ? (tf.engine().makeTensorFromTensorInfo(backend.takeOver(data, shape)) as tf.Tensor<R>)
    : tf.tensor(data, shape, 'float32');
}

/** A variable of zeros that no gradient is taken of. */
export function ownedZeros<R extends tf.Rank>(shape: tf.ShapeMap[R]): tf.Variable<R> {
  return ownedVariable(zeros(tf.util.sizeFromShape(shape)), shape, false);
}

/**
 * Makes memory ready for `ownedZeros`, on another thread, where it pays.
 * @param shapes in about the order in which they will be asked for
 * @returns lets go of what was not asked for
 */
export function expectZeros(shapes: readonly number[][]): () => void {
  return prepareZeros(ortBackend()?.worksOnHost ? shapes.map((shape) => tf.util.sizeFromShape(shape)) : []);
}

/**
 * Sets variables to zero, in place where that is possible: a gradient accumulator keeps its memory, and the graph that adds
 * to it stays the same, from step to step.
 */
export function setToZero(variables: readonly tf.Variable[]): void {
  const backend = ortBackend();
  if (backend?.worksOnHost) {
    for (const variable of variables) {
      if (backend.isKnown(variable.dataId)) writableData(backend, variable).fill(0);
      else assignZeros(variable);
    }
    return;
  }
  tf.tidy(() => {
    // A zero that is fed: zeros written into the graph would be kept with it, as large as they are.
    const zero = tf.scalar(0);
    for (const variable of variables) variable.assign(tf.broadcastTo(zero, variable.shape));
  });
  backend?.flush();
}

/** What is still to be computed for the variable need not be, or cannot be: its computation may have failed. */
function assignZeros(variable: tf.Variable): void {
  const fresh = ownedTensor(zeros(variable.size), variable.shape);
  variable.assign(fresh);
  fresh.dispose();
}

/**
 * Replaces rows of a table, in place where that is possible.
 * @param table [rows, features]
 * @param values [ids, features]
 * @param ids of the rows; of one that is there twice the last values count
 */
export function setRows(table: tf.Variable, values: tf.Variable, ids: readonly number[]): void {
  const backend = ortBackend();
  const [rows, features] = table.shape;
  if (backend?.worksOnHost) {
    const given = backend.hostData(values.dataId) as Float32Array;
    const data = writableData(backend, table);
    for (const [i, id] of ids.entries()) data.set(given.subarray(i * features, (i + 1) * features), id * features);
    return;
  }
  const sources = Int32Array.from({ length: rows }, (_, row) => row);
  for (const [i, id] of ids.entries()) sources[id] = rows + i;
  tf.tidy(() => table.assign(tf.gather(tf.concat([table, values] as tf.Tensor[]), tf.tensor1d(sources, 'int32'))));
  backend?.flush();
}

/** The tensor's data itself where that lies in main memory, valid as long as the tensor; else a copy. */
export async function borrowData(tensor: tf.Tensor): Promise<Float32Array> {
  const backend = ortBackend();
  return (backend?.worksOnHost ? backend.hostData(tensor.dataId) : await tensor.data()) as Float32Array;
}

/** The variable's own data, to be changed; shared data is copied first. */
export function writableData(backend: OrtBackend, variable: tf.Variable): Float32Array {
  if (!backend.ownsAlone(variable.dataId)) {
    const copy = tf.engine().makeTensorFromTensorInfo(backend.copy(variable));
    variable.assign(copy);
    copy.dispose();
  }
  return backend.dataToChange(variable.dataId) as Float32Array;
}
