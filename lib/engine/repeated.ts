/** Computations that repeat. */
import * as tf from '@tensorflow/tfjs-core';
import { ortBackend } from './device';
import type { Recorded } from './ort/recording';

/**
 * A computation that is made again and again on tensors of the same few shapes, a step of generation for example. The first call for
 * each set of shapes records it; later ones run the graph that was recorded, without the time of recording it again. So what is
 * computed may depend on nothing but its inputs and on other tensors that stay, like weights; those are read as they are at each
 * call. Calls that run the graph are not differentiable, and do not check indices.
 * On other backends than ours every call makes the computation anew.
 */
export class Repeated {
  private readonly recorded = new Map<string, Recorded>();

  /**
   * @param compute reads the inputs of a call, each as its argument only, and returns the outputs, all of which it has computed
   * @param read so many of the outputs, the first ones, will be read: from a GPU they come back with the run
   */
  constructor(
    private readonly compute: (inputs: tf.Tensor[]) => tf.Tensor[],
    private readonly read = 0,
  ) {}

  /**
   * @param inputs what it reads
   * @param spent what it reads after that and nobody else any more: disposed of here, so that outputs may take over its memory, or
   *   handed back as the output that it has become
   */
  run(inputs: readonly tf.Tensor[], spent: readonly tf.Tensor[]): tf.Tensor[] {
    const all = [...inputs, ...spent];
    const key = `${inputs.length}: ${all.map(({ dtype, shape }) => `${dtype} ${shape}`).join()}`;
    let outputs: tf.Tensor[] = [];
    try {
      outputs = this.repeat(key, all) ?? this.record(key, all, spent);
      return outputs;
    } finally {
      const handedBack = new Set(outputs);
      for (const tensor of spent) if (!handedBack.has(tensor)) tensor.dispose();
    }
  }

  private repeat(key: string, inputs: tf.Tensor[]): tf.Tensor[] | undefined {
    const recorded = this.recorded.get(key);
    const outputs = recorded && ortBackend()?.repeat(recorded, inputs);
    return outputs?.map((output) => (output instanceof tf.Tensor ? output : tf.engine().makeTensorFromTensorInfo(output)));
  }

  private record(key: string, inputs: tf.Tensor[], spent: readonly tf.Tensor[]): tf.Tensor[] {
    const backend = ortBackend();
    this.recorded.delete(key);
    const begun = backend?.beginRecording(inputs);
    const outputs = tf.tidy(() => this.compute(inputs));
    // Before the graph runs: only what nobody holds gives its memory away.
    tf.dispose([...spent]);
    try {
      const recorded = begun && backend?.endRecording(begun, outputs, this.read);
      if (recorded) this.recorded.set(key, recorded);
    } catch (error) {
      tf.dispose(outputs);
      throw error;
    }
    return outputs;
  }
}
