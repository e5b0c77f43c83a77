/** Tensors of bits that are no numbers of tfjs: smaller ones lie side by side in whole numbers of 32 bits. */
import * as tf from '@tensorflow/tfjs-core';
import { ortBackend } from './device';
import type { BitElement } from './ort/value';

/** A tensor over an array of such words; kept: like weights that are trained, it outlives a scope that somebody has open. */
export function wordsTensor(words: Int32Array): tf.Tensor1D {
  return tf.keep(sharedWords(words) ?? tf.tensor1d(words, 'int32'));
}

/** The same over memory that other tensors may share; undefined where the device has memory of its own. */
export function sharedWords(words: Int32Array): tf.Tensor1D | undefined {
  const backend = ortBackend();
  if (!backend?.worksOnHost) return undefined;
  return tf.engine().makeTensorFromTensorInfo(backend.makeTensorInfo([words.length], 'int32', words)) as tf.Tensor1D;
}

/** The words as ONNX Runtime is to read them on the CPU; undefined on another device. */
export function bitsAs(words: tf.Tensor1D, element: BitElement): tf.Tensor1D | undefined {
  const backend = ortBackend();
  if (!backend?.worksOnHost) return undefined;
  // each time: what was on another device in between comes back as whole numbers of 32 bits
  backend.knownValue(words.dataId).element = element;
  return words;
}
