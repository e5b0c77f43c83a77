/** One chunk of the gated delta rule (composed-recurrence.ts), and its gradient, inside the body of a Scan. */
import { CHUNK } from '../../chunks';
import type { GraphBuilder } from '../onnx';
import { differencesOfSums, patternOfChunk } from './chunk-patterns';
import { ChunkStep, operationsOf } from './chunk-step';

/**
 * What a chunk brings. Heads of keys are the first axis, the heads of values that share one the second; or both axes are of anything else that
 * q and k have, too.
 */
export interface ChunkOperands {
  /** [keyHeads, 1, CHUNK, keyDim] */
  q: string;
  k: string;
  /** [keyHeads, group, CHUNK, valueDim] */
  v: string;
  /** [keyHeads, group, CHUNK, 1] */
  g: string;
  beta: string;
}

/** A chunk on its way forward. */
export class DeltaStep extends ChunkStep {
  /**
   * @param outer the graph that the constants lie in
   * @param before the state before the chunk, [keyHeads, group, keyDim, valueDim]
   */
  constructor(
    outer: GraphBuilder,
    graph: GraphBuilder,
    readonly operands: ChunkOperands,
    readonly before: string,
  ) {
    super(outer, graph, 4);
  }

  /** (I+A)⁻¹, by halves: see `inverted` in composed-recurrence.ts. */
  inverse(): string {
    const { overlap } = this;
    const belowBlocks = (size: number): string =>
      this.times(
        overlap,
        this.pattern(`below blocks of ${size}`, (row, column) => isBelowBlock(row, column, size)),
      );
    let found = this.minus(
      this.pattern('diagonal', (row, column) => row === column),
      belowBlocks(1),
    );
    for (let size = 2; size < CHUNK; size *= 2) found = this.minus(found, this.product(this.product(found, belowBlocks(size)), found));
    return found;
  }

  /** N = (I+A)⁻¹·β(v − e^Γ·k·S). */
  corrections(solved: string): string {
    return this.product(solved, this.times(this.operands.beta, this.missing));
  }

  /** O = e^Γ·q·S + T·N. */
  read(made: string): string {
    return this.plus(this.times(this.fromStart, this.readBefore), this.product(this.weights, made));
  }

  /** e^Γₙ·S + Kᵀ·N. */
  behind(made: string): string {
    return this.plus(this.times(this.left, this.before), this.product(this.keysToEnd, made, { transA: true }));
  }

  /** Γ. */
  private get summed(): string {
    return this.sums(this.operands.g, 2);
  }

  private get total(): string {
    return this.sum(this.operands.g, 2);
  }

  /** e^Γ. */
  get fromStart(): string {
    return this.exp(this.summed);
  }

  /** e^(Γₙ−Γ). */
  get toEnd(): string {
    return this.exp(this.sums(this.operands.g, 2, 'behind'));
  }

  /** e^Γₙ. */
  get left(): string {
    return this.exp(this.total);
  }

  /** e^(Γᵢ−Γⱼ) for j up to i, else 0. */
  get between(): string {
    const inRows = this.graph.op('Squeeze', [this.operands.g, this.outer.ints([3])]);
    const differences = differencesOfSums(this.graph, this.outer, inRows, 2);
    // masked before, too: what comes after would grow beyond all numbers
    return this.times(this.exp(this.times(differences, this.upTo)), this.upTo);
  }

  /** k·kᵀ. */
  get alike(): string {
    const { k } = this.operands;
    return this.product(k, k, { transB: true });
  }

  /** β·e^(Γᵢ−Γⱼ). */
  get learned(): string {
    return this.times(this.operands.beta, this.between);
  }

  /** A. */
  get overlap(): string {
    return this.times(this.times(this.alike, this.learned), this.below);
  }

  /** T = (q·kᵀ)∘e^(Γᵢ−Γⱼ). */
  get weights(): string {
    const { q, k } = this.operands;
    return this.times(this.product(q, k, { transB: true }), this.between);
  }

  /** k·S. */
  get known(): string {
    return this.product(this.operands.k, this.before);
  }

  /** q·S. */
  get readBefore(): string {
    return this.product(this.operands.q, this.before);
  }

  /** v − e^Γ·k·S. */
  get missing(): string {
    return this.minus(this.operands.v, this.times(this.fromStart, this.known));
  }

  /** K. */
  get keysToEnd(): string {
    return this.times(this.toEnd, this.operands.k);
  }

  private pattern(name: string, isOne: (row: number, column: number) => boolean): string {
    return patternOfChunk(this.outer, name, isOne);
  }
}

/** Whether, of two blocks of a size that make up one of twice that, the row is of the second and the column of the first. */
function isBelowBlock(row: number, column: number, size: number): boolean {
  const [own, other] = [row, column].map((place) => Math.floor(place / size));
  return own % 2 === 1 && other === own - 1;
}

/** What flows back into a chunk. */
interface Backward {
  /** (I+A)⁻¹, as it was found on the way forward. */
  solved: string;
  /** Gradient of what was read. */
  dRead: string;
  /** Gradient of the state behind the chunk. */
  dBehind: string;
}

/**
 * The gradient of a chunk. With R = β(v − e^Γ·k·S), of which N = (I+A)⁻¹·R: dN = Tᵀ·dO + K·dS', dR = (I+A)⁻ᵀ·dN and dA = −dR·Nᵀ. Each factor e^Γ
 * passes on to Γ what it is multiplied with, each difference Γᵢ−Γⱼ to its row and from its column, and Γ to g as a sum from the end.
 */
export function deltaStepGradient(step: DeltaStep, { solved, dRead, dBehind }: Backward): ChunkOperands & { dBefore: string } {
  const { before, fromStart, between, weights, keysToEnd } = step;
  const { q, k, beta } = step.operands;
  const { product, times, plus, minus, sum } = operationsOf(step);
  const made = step.corrections(solved);
  const dMade = plus(product(weights, dRead, { transA: true }), product(keysToEnd, dBehind));
  const dRight = product(solved, dMade, { transA: true });
  const dOverlap = times(product(dRight, made, { transB: true, negative: true }), step.below);
  const dWeights = product(dRead, made, { transB: true });
  const dv = times(beta, dRight);
  const dKeysToEnd = product(made, dBehind, { transB: true });
  const dScores = times(dWeights, between);
  const dAlike = times(dOverlap, step.learned);
  // of q·S, and of k·S but for the sign
  const [dReadBefore, dKnown] = [times(fromStart, dRead), times(fromStart, dv)];
  const dq = plus(product(dReadBefore, before, { transB: true }), product(dScores, k));
  const dk = plus(
    minus(times(step.toEnd, dKeysToEnd), product(dKnown, before, { transB: true })),
    product(dScores, q, { transA: true }),
    product(dAlike, k),
    product(dAlike, k, { transA: true }),
  );
  const dBefore = minus(plus(times(step.left, dBehind), product(q, dReadBefore, { transA: true })), product(k, dKnown, { transA: true }));
  const dDifferences = plus(times(dWeights, weights), times(dOverlap, step.overlap));
  const dToEnd = sum(times(dKeysToEnd, keysToEnd), 3);
  const dSummed = minus(
    plus(sum(times(dReadBefore, step.readBefore), 3), sum(dDifferences, 3)),
    plus(sum(times(dKnown, step.known), 3), dToEnd, step.graph.op('Transpose', [sum(dDifferences, 2)], { perm: [0, 1, 3, 2] })),
  );
  const dTotal = plus(sum(dToEnd, 2), times(step.left, sum(times(before, dBehind), 2, 3)));
  const fromEnd = step.sums(dSummed, 2, 'from');
  const dBeta = plus(sum(times(dRight, step.missing), 3), sum(times(dOverlap, times(step.alike, between)), 3));
  // heads of values that share a key share its gradient
  return { q: sum(dq, 1), k: sum(dk, 1), v: dv, g: plus(fromEnd, dTotal), beta: dBeta, dBefore };
}
