/** Matrices of few bits that stay as they are while an adapter is trained beside them: of 4 bits (normal-float.ts) or 16 (half-matrix.ts). */
import * as tf from '@tensorflow/tfjs-core';
import { disposeHalf, fromHalf, type HalfMatrix, halfLinear, halfRows } from './half-matrix';
import { disposeNormalFloat, fromNormalFloat, type NormalFloatMatrix, normalFloatLinear } from './normal-float';

export type CompactMatrix = NormalFloatMatrix | HalfMatrix;

/** y = x Wᵀ, differentiable with respect to x: `normalFloatLinear`, `halfLinear`. */
export const compactLinear = (x: tf.Tensor2D, weight: CompactMatrix): tf.Tensor2D =>
  weight.bits === 4 ? normalFloatLinear(x, weight) : halfLinear(x, weight);

/** Rows of W in float32. @param ids int32 [tokens] */
export const compactRows = (ids: tf.Tensor1D, weight: CompactMatrix): tf.Tensor2D =>
  weight.bits === 4 ? tf.gather(fromNormalFloat(weight), ids) : halfRows(ids, weight);

/** The matrix in float32, as it was rounded: [rows, columns]. */
export const fromCompact = (weight: CompactMatrix): tf.Tensor2D => (weight.bits === 4 ? fromNormalFloat(weight) : fromHalf(weight));

export function disposeCompact(weight: CompactMatrix): void {
  if (weight.bits === 4) disposeNormalFloat(weight);
  else disposeHalf(weight);
}
