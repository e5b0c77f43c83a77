/** Computations that repeat. */
import * as tf from '@tensorflow/tfjs-core';
import { ortBackend } from './device';
import type { Recorded } from './ort/backend';

/**
 * A computation that is made again and again on tensors of the same few shapes, a step of generation for example. The first call for
 * each set of shapes records it; later ones run the graph that was recorded, without the time of recording it again. So the computation
 * may depend on nothing but its inputs and on tensors that stay, like weights; those are read as they are at each call. Not
 * differentiable.
 * On other backends than ours every call makes the computation anew.
 */
export class Repeated {
  private readonly recorded = new Map<string, Recorded>();

  /**
   * @param compute reads the inputs of a call and returns the outputs, all of which it has computed
   * @param read so many of the outputs, the first ones, will be read: from a GPU they come back with the run
   */
  constructor(
    private readonly compute: (inputs: tf.Tensor[]) => tf.Tensor[],
    private readonly read = 0,
  ) {}

  /**
   * @param inputs what it reads
   * @param spent what it reads after that and nobody else any more: disposed of here, so that outputs may take over its memory
   */
  run(inputs: readonly tf.Tensor[], spent: readonly tf.Tensor[]): tf.Tensor[] {
    const all = [...inputs, ...spent];
    const backend = ortBackend();
    const key = all.map(({ dtype, shape }) => `${dtype} ${shape}`).join();
    const recorded = this.recorded.get(key);
    const infos = recorded && backend?.repeat(recorded, all);
    if (infos) {
      tf.dispose([...spent]);
      return infos.map((info) => tf.engine().makeTensorFromTensorInfo(info));
    }
    this.recorded.delete(key);
    const operands = backend?.beginRecording(all);
    const outputs = tf.tidy(() => this.compute(all));
    tf.dispose([...spent]);
    const kept = operands && backend?.endRecording(operands, outputs, this.read);
    if (kept) this.recorded.set(key, kept);
    return outputs;
  }
}
