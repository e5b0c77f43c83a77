/**
 * The loss that keeps the routers of a model of experts from sending all tokens to the same ones (Fedus et al. 2021, "Switch Transformers", equations 4
 * to 6), as transformers' `load_balancing_loss_func` has it. Of a micro-batch it is
 *
 *   experts · Σ over experts of (how many of a token's places it takes) · (probability that a router gives it),
 *
 * both as means over all tokens of all layers. It takes a whole micro-batch, however many carry loss.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { CausalLM, Routed } from '../model';
import type { SFTConfig } from './config';

/** The settings that it depends on; one without a coefficient has none. */
export type RouterLossSettings = Partial<Pick<SFTConfig, 'routerAuxLossCoef' | 'lossType' | 'labelSmoothingFactor'>>;

/**
 * By how much the router loss of each micro-batch counts: 0 where it is only logged, as other losses than the plain one stand for themselves in TRL.
 * @returns undefined where there is none: the model has no experts, or a router that transformers has no such loss for, or nobody asked for it
 */
export function weightOfRouterLoss({ config }: CausalLM, settings: RouterLossSettings): number | undefined {
  const { routerAuxLossCoef: coefficient = 0, lossType, labelSmoothingFactor = 0 } = settings;
  if (!config.experts || config.experts.withoutRouterLoss || coefficient === 0) return undefined;
  return lossType === 'dft' || labelSmoothingFactor > 0 ? 0 : coefficient;
}

/** Sees the routings of a row's tokens, layer by layer. */
export class Routings {
  private readonly layers: Array<{ went: tf.Tensor2D; probabilities: tf.Tensor2D }> = [];

  /** @param shares float32 [micro-batches, tokens]: of each token what its micro-batch is the mean over, 0 for those of others; zeros for a micro-batch of other rows */
  constructor(private readonly shares: tf.Tensor2D) {}

  readonly see: Routed = (_layer, logits, chosen) => {
    this.layers.push({ went: tf.matMul(this.shares, chosen), probabilities: meanProbabilities(this.shares, logits) });
  };

  /** The loss of each micro-batch, [micro-batches]; differentiable. */
  loss(): tf.Tensor1D {
    const { went, probabilities } = this.layers.reduce((sum, layer) => ({
      went: tf.add<tf.Tensor2D>(sum.went, layer.went),
      probabilities: tf.add<tf.Tensor2D>(sum.probabilities, layer.probabilities),
    }));
    return routerLoss(went, probabilities, this.layers.length);
  }
}

/** Of each micro-batch the mean of what the routers give each expert, [micro-batches, experts]. */
const meanProbabilities = (shares: tf.Tensor2D, logits: tf.Tensor2D): tf.Tensor2D => tf.matMul(shares, tf.softmax(logits));

/** @param went sums over the layers, [micro-batches, experts] */
function routerLoss(went: tf.Tensor2D, probabilities: tf.Tensor2D, layers: number): tf.Tensor1D {
  return tf.mul(tf.sum(tf.mul(went, probabilities), 1), went.shape[1] / layers ** 2);
}

/**
 * The same where layers are computed a second time for their gradients (gradient checkpointing), each by itself: what went where is known from the first
 * time, so that the second time each layer has a share of the loss that stands for all of it.
 */
export class RoutingsTwice {
  private went: tf.Tensor2D;
  private probabilities: tf.Tensor2D;
  private layers = 0;
  private isKnown = false;
  private share?: tf.Scalar;

  /** @param weight of the loss of each micro-batch, a scalar */
  constructor(
    private readonly shares: tf.Tensor2D,
    private readonly weight: tf.Scalar,
    experts: number,
  ) {
    const zeros = (): tf.Tensor2D => tf.keep(tf.zeros([shares.shape[0], experts]));
    [this.went, this.probabilities] = [zeros(), zeros()];
  }

  readonly see: Routed = (_layer, logits, chosen) => {
    const probabilities = meanProbabilities(this.shares, logits);
    if (this.isKnown) this.share = tf.sum(tf.mul(this.factors(), probabilities));
    else this.addLayer(tf.matMul(this.shares, chosen), probabilities);
  };

  /** The loss of each micro-batch, [micro-batches], when all layers have been seen; passes no gradient on. */
  loss(): tf.Tensor1D {
    this.isKnown = true;
    return routerLoss(this.went, this.probabilities, this.layers);
  }

  /** A layer whose gradients are with its share of the loss. */
  withShare(layer: (x: tf.Tensor2D) => tf.Tensor2D): (x: tf.Tensor2D) => tf.Tensor2D {
    return (x) => {
      this.share = undefined;
      const y = layer(x);
      return this.share ? beside(y, this.share) : y;
    };
  }

  dispose(): void {
    tf.dispose([this.went, this.probabilities]);
  }

  private addLayer(went: tf.Tensor2D, probabilities: tf.Tensor2D): void {
    const before = [this.went, this.probabilities];
    this.went = tf.keep(tf.add(this.went, went));
    this.probabilities = tf.keep(tf.add(this.probabilities, probabilities));
    tf.dispose(before);
    this.layers++;
  }

  /** What a mean probability adds to the loss, weighed. */
  private factors(): tf.Tensor2D {
    // in the order of the gradient that is not computed twice: to the same bits
    return tf.mul(this.went, tf.mul(this.weight, this.went.shape[1] / this.layers ** 2));
  }
}

/** y as it is; its gradient comes with that of a loss beside it. */
function beside(y: tf.Tensor2D, loss: tf.Scalar): tf.Tensor2D {
  const joined = tf.customGrad((x) => ({
    value: tf.clone(x as tf.Tensor2D),
    gradFunc: (dy: tf.Tensor) => [dy, tf.scalar(1)],
  }));
  return joined(y, loss) as tf.Tensor2D;
}

/** Of each token of a row what it counts in the means of its micro-batch, on the host: [micro-batches, tokens]. @param owners the micro-batch of each token that has one */
export function sharesOf(owners: readonly number[], microBatches: number, tokens: number): Float32Array {
  const counts = new Float64Array(microBatches);
  for (const owner of owners) counts[owner]++;
  const shares = new Float32Array(microBatches * tokens);
  for (const [token, owner] of owners.entries()) shares[owner * tokens + token] = 1 / counts[owner];
  return shares;
}
