/** One chunk of Mamba 2's recurrence (recurrence.ts), and its gradient, inside the body of a Scan. */
import { CHUNK } from '../../chunks';
import type { GraphBuilder } from '../onnx';
import { differencesOfSums } from './chunk-patterns';
import { ChunkStep, operationsOf } from './chunk-step';

/**
 * What a chunk brings. The first axis is heads of keys, or those of several texts. The heads of values that share one lie side by side, so that
 * one product serves them all.
 */
export interface StateSpaceOperands {
  /** [keyHeads, CHUNK, keyDim] */
  q: string;
  k: string;
  /** [keyHeads, CHUNK, group, valueDim] */
  v: string;
  /** [keyHeads, CHUNK, group] */
  g: string;
}

export interface StateSpaceSizes {
  keyDim: number;
  group: number;
  valueDim: number;
}

/** A chunk on its way forward. */
export class StateSpaceStep extends ChunkStep {
  /**
   * @param outer the graph that the constants lie in
   * @param before the state before the chunk, [keyHeads, keyDim, group, valueDim]
   */
  constructor(
    outer: GraphBuilder,
    graph: GraphBuilder,
    readonly operands: StateSpaceOperands,
    readonly before: string,
    private readonly sizes: StateSpaceSizes,
  ) {
    super(outer, graph, 3);
  }

  /** O = e^Γ·q·S + T·v. */
  read(): string {
    const weights = this.weights(this.upTo);
    return this.plus(this.readBefore, this.byToken(this.product(weights, this.valuesByHead)));
  }

  /** e^Γₙ·S + kᵀ·(e^(Γₙ−Γ)·v). */
  behind(): string {
    return this.plus(this.times(this.left, this.before), this.ofState(this.operands.k, this.valuesToEnd));
  }

  /** Γ. */
  private get summed(): string {
    return this.sums(this.operands.g, 1);
  }

  private get total(): string {
    return this.sum(this.operands.g, 1);
  }

  /** e^Γ, [keyHeads, CHUNK, group, 1]. */
  get fromStart(): string {
    return this.exp(this.unsqueeze(this.summed, 3));
  }

  /** e^(Γₙ−Γ), so too. */
  get toEnd(): string {
    return this.exp(this.unsqueeze(this.sums(this.operands.g, 1, 'behind'), 3));
  }

  /** e^Γₙ, [keyHeads, 1, group, 1]. */
  get left(): string {
    return this.exp(this.unsqueeze(this.total, 3));
  }

  /** e^(Γᵢ−Γⱼ) for j up to i, else 1, [keyHeads, group, CHUNK, CHUNK]. */
  get decays(): string {
    const inRows = this.graph.op('Transpose', [this.operands.g], { perm: [0, 2, 1] });
    const differences = differencesOfSums(this.graph, this.outer, inRows, 2);
    // what comes after would grow beyond all numbers
    return this.exp(this.graph.op('Min', [differences, this.outer.scalar('float32', 0)]));
  }

  /** T where a pattern has ones, else 0. */
  weights(pattern: string): string {
    const { q, k } = this.operands;
    const scores = this.times(this.product(q, k, { transB: true }), pattern);
    return this.times(this.decays, this.unsqueeze(scores, 1));
  }

  get valuesByHead(): string {
    return this.byHead(this.operands.v);
  }

  /** e^(Γₙ−Γ)·v. */
  get valuesToEnd(): string {
    return this.times(this.toEnd, this.operands.v);
  }

  /** e^Γ·q·S. */
  get readBefore(): string {
    return this.times(this.fromStart, this.inHeads(this.product(this.operands.q, this.sideBySide(this.before))));
  }

  /** [keyHeads, CHUNK, group, valueDim] as [keyHeads, group, CHUNK, valueDim], or the reverse. */
  byHead(x: string): string {
    return this.graph.op('Transpose', [x], { perm: [0, 2, 1, 3] });
  }

  byToken(x: string): string {
    return this.byHead(x);
  }

  /** […, group, valueDim] as […, group·valueDim]. */
  sideBySide(x: string): string {
    return this.graph.op('Reshape', [x, this.outer.ints([0, 0, this.sizes.group * this.sizes.valueDim])]);
  }

  /** The reverse of it. */
  inHeads(x: string): string {
    return this.graph.op('Reshape', [x, this.outer.ints([0, 0, this.sizes.group, this.sizes.valueDim])]);
  }

  /** aᵀ·x, of the shape of a state. @param a [keyHeads, CHUNK, keyDim] @param x [keyHeads, CHUNK, group, valueDim] */
  ofState(a: string, x: string): string {
    return this.inHeads(this.product(a, this.sideBySide(x), { transA: true }));
  }

  /** Of the group's heads, [keyHeads, group, CHUNK, CHUNK]; as a product, which ONNX Runtime computes faster than such a sum: [keyHeads, CHUNK, CHUNK]. */
  sumOfHeads(x: string): string {
    const { group } = this.sizes;
    const inRows = this.graph.op('Reshape', [x, this.outer.ints([0, group, CHUNK * CHUNK])]);
    return this.graph.op('Reshape', [this.product(this.ones(group), inRows), this.outer.ints([0, CHUNK, CHUNK])]);
  }

  /** Of each head's matrix of a state's shape, in the same way: [keyHeads, 1, group, 1]. */
  sumOfState(x: string): string {
    return this.sum(this.inHeads(this.product(this.ones(this.sizes.keyDim), this.sideBySide(x))), 3);
  }

  /** [1, 1, count] */
  private ones(count: number): string {
    return this.outer.once(`a row of ${count} ones`, () => this.outer.constant('float32', new Array<number>(count).fill(1), [1, 1, count]));
  }

  squeeze(x: string, axis: number): string {
    return this.graph.op('Squeeze', [x, this.outer.ints([axis])]);
  }

  unsqueeze(x: string, axis: number): string {
    return this.graph.op('Unsqueeze', [x, this.outer.ints([axis])]);
  }
}

/**
 * The gradient of a chunk, from those of what was read and of the state behind it. Each factor e^Γ passes on to Γ what it is multiplied with, each
 * difference Γᵢ−Γⱼ to its row and from its column, and Γ to g as a sum from the end. What row i of T∘dT adds up to is dOᵢ·(T·v)ᵢ, and column j
 * vⱼ·(Tᵀ·dO)ⱼ; the diagonal, where no difference is, stays out of both.
 */
export function stateSpaceStepGradient(step: StateSpaceStep, dRead: string, dBehind: string): StateSpaceOperands & { dBefore: string } {
  const { before, decays, fromStart, left, valuesToEnd } = step;
  const { q, k, v } = step.operands;
  const { product, times, plus, minus, sum } = operationsOf(step);
  const [byHead, byToken, sideBySide, inHeads] = [step.byHead, step.byToken, step.sideBySide, step.inHeads].map((turn) => turn.bind(step));
  const weights = step.weights(step.below);
  const dReadByHead = byHead(dRead);
  const dDecayed = times(product(dReadByHead, step.valuesByHead, { transB: true }), decays);
  const dScores = times(step.sumOfHeads(dDecayed), step.upTo);
  // what a token gives to later ones, to itself, and to the state behind
  const dvLater = byToken(product(weights, dReadByHead, { transA: true }));
  const dvOwn = times(step.unsqueeze(sum(times(q, k), 2), 3), dRead);
  const dvBehind = times(step.toEnd, inHeads(product(k, sideBySide(dBehind))));
  const dReadBefore = sideBySide(times(fromStart, dRead));
  const dq = plus(product(dReadBefore, sideBySide(before), { transB: true }), product(dScores, k));
  const dk = plus(product(sideBySide(valuesToEnd), sideBySide(dBehind), { transB: true }), product(dScores, q, { transA: true }));
  const dBefore = plus(times(left, dBehind), inHeads(product(q, dReadBefore, { transA: true })));
  const readEarlier = plus(step.readBefore, byToken(product(weights, step.valuesByHead)));
  const toBehind = sum(times(v, dvBehind), 3);
  const dSummed = minus(sum(times(dRead, readEarlier), 3), plus(sum(times(v, dvLater), 3), toBehind));
  const dTotal = plus(sum(toBehind, 1), times(left, step.sumOfState(times(before, dBehind))));
  const fromEnd = step.sums(dSummed, 1, 'from');
  return { q: dq, k: dk, v: plus(dvLater, dvOwn, dvBehind), g: step.squeeze(plus(fromEnd, dTotal), 3), dBefore };
}
