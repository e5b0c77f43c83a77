/** Experts with one more beside them that all tokens go through, each token by a share of its own (Qwen2-MoE). */
import * as tf from '@tensorflow/tfjs-core';
import type { Experts } from './experts';
import { GatedMlp } from './gated-mlp';
import type { Linear, ParameterList } from './layers';
import type { ForwardPass } from './types';

export class ExpertsWithShared {
  private readonly shared: GatedMlp;
  private readonly gate: Linear;

  /** @param module in which the experts are, too */
  constructor(
    private readonly experts: Experts,
    parameters: ParameterList,
    module: string,
    { hiddenSize, sharedSize }: { hiddenSize: number; sharedSize: number },
  ) {
    const sizes = { hiddenSize, intermediateSize: sharedSize };
    this.shared = new GatedMlp(parameters, `${module}.shared_expert`, { ...sizes, hiddenAct: 'silu', bias: false });
    this.gate = parameters.linear(`${module}.shared_expert_gate`, { in: hiddenSize, out: 1, bias: false });
  }

  /**
   * experts(x) + sigmoid(gate x) · shared(x), in an order in which what adapters drop is drawn.
   * @param x [tokens, features]
   */
  apply(x: tf.Tensor2D, pass: ForwardPass): tf.Tensor2D {
    const shared = this.shared.apply(x);
    const routed = this.experts.apply(x, pass);
    return tf.add(routed, tf.mul(tf.sigmoid(this.gate.apply(x)), shared));
  }
}
