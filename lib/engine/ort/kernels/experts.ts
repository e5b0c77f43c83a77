/**
 * Experts (experts.ts) and their gradients. What each expert does, it does for its own tokens alone: a Loop goes from one expert that was chosen by
 * any token to the next. In between tokens lie expert by expert, each once for each of its experts ("pairs"). Weights' gradients are made by a Scan,
 * which writes that of each expert where it belongs. An adapter's factors are multiplied one after the other with an expert's tokens, so that their
 * product, as large as the weights, is nowhere.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { ADAPTED_PARTS, EXPERT_PARTS, type ExpertPart, factorNames, KERNEL_NAMES, kindOf } from '../../expert-parts';
import type { Attrs, Emission, Operand, OrtKernel } from '../kernel';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { like } from './attention';
import { scaled } from './half-matrix';
import { loop } from './loop';
import { gatedUnit, siluSlope } from './transformer';

/** 1 at the largest values of each row, as many as `count`, else 0. */
const largest: OrtKernel = {
  name: 'Largest',
  inputs: ['x'],
  infer: ([x]) => like(x),
  key: ({ count }) => `${count}`,
  emit: ({ graph, inputs: [x], attrs: { count } }) => {
    const [values, places] = graph.ops('TopK', [x.name, graph.ints([count])], 2, { axis: -1, largest: 1, sorted: 1 });
    const zeros = graph.op('Expand', [graph.scalar('float32', 0), graph.op('Shape', [x.name])]);
    const ones = graph.op('Expand', [graph.scalar('float32', 1), graph.op('Shape', [values])]);
    return graph.op('ScatterElements', [zeros, places, ones], { axis: 1 });
  },
};

/** Where the tokens of each expert are. */
class Dispatch {
  /** How many tokens each expert has, int64 [experts]. */
  private readonly counts: string;
  /** Where its pairs begin, int64 [experts]. */
  private readonly starts: string;
  /** Of each pair, int64 [pairs]. */
  private readonly tokens: string;
  private readonly pairs: string;
  /** Where each token's pairs are, int64 [tokens·perToken]. */
  private readonly slots: string;

  /** @param chosen float32 [tokens, experts] */
  constructor(
    private readonly graph: GraphBuilder,
    private readonly chosen: string,
    private readonly perToken: number,
  ) {
    const int64 = (x: string): string => graph.op('Cast', [x], { to: ELEMENT_TYPES.int64 });
    const zero = graph.scalar('int64', 0);
    this.counts = int64(graph.op('ReduceSum', [chosen, graph.ints([0])], { keepdims: 0 }));
    this.starts = graph.op('CumSum', [this.counts, zero], { exclusive: 1 });
    const byExpert = graph.op('NonZero', [graph.op('Transpose', [chosen], { perm: [1, 0] })]);
    this.tokens = graph.op('Gather', [byExpert, graph.scalar('int64', 1)], { axis: 0 });
    this.pairs = graph.op('Transpose', [graph.op('NonZero', [chosen])], { perm: [1, 0] });
    const ranks = int64(graph.op('CumSum', [chosen, zero], { exclusive: 1 }));
    this.slots = graph.op('GatherND', [graph.op('Add', [ranks, this.starts]), this.pairs]);
  }

  /**
   * Goes from expert to expert.
   * @param sequences how many of float32 it gives, of each expert's pairs a row each
   * @returns those of all pairs, [pairs, …]
   */
  eachExpert(sequences: number, step: (expert: Expert) => string[]): string[] {
    const { graph, counts } = this;
    const present = graph.op('Reshape', [graph.op('NonZero', [counts]), graph.ints([-1])]);
    const plan = { count: graph.op('Size', [present]), sequences: new Array<'float32'>(sequences).fill('float32') };
    const found = loop(graph, plan, (body, iteration) => {
      const index = body.op('Gather', [present, iteration], { axis: 0 });
      const [start, count] = [this.starts, counts].map((of) => body.op('Gather', [of, index], { axis: 0 }));
      return { items: step(new Expert(body, { index, start, count, tokens: this.tokens })) };
    });
    return found.map((sequence) => graph.op('ConcatFromSequence', [sequence], { axis: 0 }));
  }

  /**
   * Matrices of each expert, whether any token chose it or not, [experts, …, …].
   * @param count how many there are
   * @param operands [experts, …, …], of which each expert reads its own
   */
  matricesOfEach(count: number, operands: readonly string[], matrices: (expert: Expert, own: string[]) => string[]): string[] {
    const { graph } = this;
    const body = graph.subgraph();
    const [start, pairs] = ['start', 'count'].map(() => body.input(body.freshName(), 'int64', []));
    const own = operands.map(() => body.input(body.freshName(), 'float32'));
    for (const matrix of matrices(new Expert(body, { index: '', start, count: pairs, tokens: this.tokens }), own))
      body.output(matrix, 'float32');
    return graph.ops('Scan', [this.starts, this.counts, ...operands], count, { body, num_scan_inputs: 2 + operands.length });
  }

  /** Sums over each token's pairs. @param x [pairs, features] @returns [tokens, features] */
  sumOfEachToken(x: string, features: number): string {
    const { graph } = this;
    const byToken = graph.op('Reshape', [this.byToken(x), graph.ints([-1, this.perToken, features])]);
    return graph.op('ReduceSum', [byToken, graph.ints([1])], { keepdims: 0 });
  }

  /** A number of each pair at its place, else 0: [tokens, experts]. @param x [pairs, 1] */
  inTable(x: string): string {
    const { graph } = this;
    const zeros = graph.op('Mul', [this.chosen, graph.scalar('float32', 0)]);
    return graph.op('ScatterND', [zeros, this.pairs, graph.op('Reshape', [this.byToken(x), graph.ints([-1])])]);
  }

  private byToken(x: string): string {
    return this.graph.op('Gather', [x, this.slots], { axis: 0 });
  }
}

/** One expert in the body of a loop. */
class Expert {
  private readonly tokens: string;
  private readonly range: string[];

  constructor(
    readonly graph: GraphBuilder,
    private readonly at: { index: string; start: string; count: string; tokens: string },
  ) {
    const axis = graph.ints([0]);
    const [start, count] = [at.start, at.count].map((x) => graph.op('Reshape', [x, graph.ints([1])]));
    this.range = [start, graph.op('Add', [start, count]), axis];
    this.tokens = this.pairsOf(at.tokens);
  }

  /** Its own matrix. @param matrices [experts, …, …] */
  matrix(matrices: string): string {
    return this.graph.op('Gather', [matrices, this.at.index], { axis: 0 });
  }

  /** Its own of the weights, in float32. */
  private weight({ weights, scale }: AdaptedMatrices): string {
    const { graph } = this;
    const own = this.matrix(weights);
    return scale === undefined ? own : scaled(graph, graph.op('Cast', [own], { to: ELEMENT_TYPES.float32 }), scale);
  }

  /** The rows of its tokens. @param x [tokens, …] */
  rows(x: string): string {
    return this.graph.op('Gather', [x, this.tokens], { axis: 0 });
  }

  /** What its tokens have in its column, [pairs, 1]. @param table [tokens, experts] */
  column(table: string): string {
    const { graph, at } = this;
    return this.rows(graph.op('Gather', [table, graph.op('Reshape', [at.index, graph.ints([1])])], { axis: 1 }));
  }

  /** Its part of what lies expert by expert. @param x [pairs, …] */
  pairsOf(x: string): string {
    return this.graph.op('Slice', [x, ...this.range]);
  }

  /** x·(W + b·a)ᵀ with its own of these matrices. */
  linear(x: string, matrices: AdaptedMatrices): string {
    const { graph } = this;
    const { factors } = matrices;
    const y = graph.op('Gemm', [x, this.weight(matrices)], { transA: 0, transB: 1 });
    if (!factors) return y;
    const [a, b] = factors.map((matrices) => this.matrix(matrices));
    return graph.op('Gemm', [graph.op('Gemm', [x, a], { transA: 0, transB: 1 }), b, y], { transA: 0, transB: 1 });
  }

  /** x·(W + b·a) with its own of these matrices. */
  product(x: string, matrices: AdaptedMatrices): string {
    const { factors } = matrices;
    const y = this.plainProduct(x, this.weight(matrices));
    if (!factors) return y;
    const [a, b] = factors.map((matrices) => this.matrix(matrices));
    return this.graph.op('Gemm', [this.plainProduct(x, b), a, y], { transA: 0, transB: 0 });
  }

  /** x·matrix. */
  plainProduct(x: string, matrix: string): string {
    return this.graph.op('Gemm', [x, matrix], { transA: 0, transB: 0 });
  }

  /** xᵀ·y. */
  productOverPairs(x: string, y: string): string {
    return this.graph.op('Gemm', [x, y], { transA: 1, transB: 0 });
  }

  /** a·b, element by element. */
  mul(a: string, b: string): string {
    return this.graph.op('Mul', [a, b]);
  }

  /** Sums of rows, [pairs, 1]. */
  sumAlong(x: string): string {
    return this.graph.op('ReduceSum', [x, this.graph.ints([-1])], { keepdims: 1 });
  }

  /** Gate and up of what both are in. */
  halves(gateUp: string, intermediate: number): string[] {
    return this.graph.split(gateUp, [intermediate, intermediate], 1);
  }
}

/** Matrices of all experts, [experts, out, in], and the factors of what is added to them. */
interface AdaptedMatrices {
  weights: string;
  /** Of those in float16, what they are multiplied by. */
  scale?: number;
  /** [experts, r, in] and [experts, out, r] */
  factors?: readonly [a: string, b: string];
}

/** The weights among a kernel's inputs, the fourth and fifth of them. @param first where the factors begin */
function matricesOf({ graph, inputs, attrs, concrete: [[, features]] }: Emission, first: number, adapted: readonly ExpertPart[]) {
  const [, , , gateUp, down] = inputs;
  const { intermediate, gateUpScale, downScale } = attrs;
  const factorsOf = (part: ExpertPart): AdaptedMatrices['factors'] => {
    const at = first + 2 * adapted.indexOf(part);
    return adapted.includes(part) ? [inputs[at].name, inputs[at + 1].name] : undefined;
  };
  // those in 16 bits come as a list of numbers
  const weights = ({ name }: Operand, scale: number | undefined, rows: number, columns: number): string =>
    scale === undefined ? name : graph.op('Reshape', [name, graph.ints([-1, rows, columns])]);
  return {
    gateUp: { weights: weights(gateUp, gateUpScale, 2 * intermediate, features), scale: gateUpScale, factors: factorsOf('gateUp') },
    down: { weights: weights(down, downScale, features, intermediate), scale: downScale, factors: factorsOf('down') },
  };
}

/** [pairs, features] with one row for each token: sizes that vary with the tokens then are theirs. */
const rowOfEachToken = (graph: GraphBuilder, x: string, width: number): string => graph.op('Reshape', [x, graph.ints([-1, width])]);

const keyOf = ({ perToken, intermediate, gateUpScale = '', downScale = '' }: Attrs, inputs: TensorInfo[]): string =>
  `${perToken},${intermediate},${gateUpScale},${downScale},${inputs.map(({ shape }) => shape.slice(1))}`;

/** Outputs: the result, and gate and up of all pairs for the gradient, expert by expert, [tokens, perToken·2·intermediate]. */
const experts = (adapted: readonly ExpertPart[]): OrtKernel => ({
  name: `Experts${kindOf(adapted)}`,
  inputs: ['x', 'weights', 'chosen', 'gateUp', 'down', ...adapted.flatMap(factorNames)],
  infer: ([x], { perToken, intermediate }) => [like(x), { shape: [x.shape[0], 2 * perToken * intermediate], dtype: 'float32' }],
  key: keyOf,
  emit: (emission) => {
    const { graph, inputs, attrs, concrete } = emission;
    const { perToken, intermediate } = attrs;
    const [x, weights, chosen] = inputs;
    const { gateUp, down } = matricesOf(emission, 5, adapted);
    const [[, features]] = concrete;
    const dispatch = new Dispatch(graph, chosen.name, perToken);
    const [outputs, gatesAndUps] = dispatch.eachExpert(2, (expert) => {
      const both = expert.linear(expert.rows(x.name), gateUp);
      const [gate, up] = expert.halves(both, intermediate);
      const inner = gatedUnit(expert.graph, gate, up);
      return [expert.mul(expert.linear(inner, down), expert.column(weights.name)), both];
    });
    return [dispatch.sumOfEachToken(outputs, features), rowOfEachToken(graph, gatesAndUps, perToken * 2 * intermediate)];
  },
});

/**
 * With h = silu(gate)·up, w the weight of a pair and d = dy·down: dw = Σ d·h, dh = w·d, and from there as SwiGluGrad. Outputs: the gradients of x and
 * weights; and for those of the experts' weights, pair by pair as `Experts` has them, the gradients of gate and up, and w·h.
 */
const expertsGrad = (adapted: readonly ExpertPart[]): OrtKernel => ({
  name: `ExpertsGrad${kindOf(adapted)}`,
  inputs: ['dy', 'weights', 'chosen', 'gateUp', 'down', 'gatesAndUps', ...adapted.flatMap(factorNames)],
  infer: ([dy, weights, , , , gatesAndUps], { perToken, intermediate }) => [
    ...[like(dy), like(weights), like(gatesAndUps)],
    { shape: [dy.shape[0], perToken * intermediate], dtype: 'float32' as const },
  ],
  key: keyOf,
  emit: (emission) => {
    const { graph, inputs, attrs, concrete } = emission;
    const { perToken, intermediate } = attrs;
    const [dy, weights, chosen, , , gatesAndUps] = inputs;
    const { gateUp, down } = matricesOf(emission, 6, adapted);
    const [[, features]] = concrete;
    const dispatch = new Dispatch(graph, chosen.name, perToken);
    const pairs = rowOfEachToken(graph, gatesAndUps.name, 2 * intermediate);
    const [dx, dWeights, dGatesAndUps, inner] = dispatch.eachExpert(4, (expert) => {
      const [gate, up] = expert.halves(expert.pairsOf(pairs), intermediate);
      const { slope, value } = siluSlope(expert.graph, gate);
      const h = expert.mul(value, up);
      const d = expert.product(expert.rows(dy.name), down);
      const w = expert.column(weights.name);
      const dh = expert.mul(d, w);
      const dBoth = expert.graph.concat([expert.mul(expert.mul(dh, up), slope), expert.mul(dh, value)], 1);
      return [expert.product(dBoth, gateUp), expert.sumAlong(expert.mul(d, h)), dBoth, expert.mul(h, w)];
    });
    return [
      dispatch.sumOfEachToken(dx, features),
      dispatch.inTable(dWeights),
      rowOfEachToken(graph, dGatesAndUps, perToken * 2 * intermediate),
      rowOfEachToken(graph, inner, perToken * intermediate),
    ];
  },
});

/** Whether what a part gives lies pair by pair, and what it reads token by token, or the other way about. */
const GIVES_PAIRS: Readonly<Record<ExpertPart, boolean>> = { gateUp: true, down: false };

/**
 * What each expert brings to the gradients of its weights: what changes with its outputs, and its inputs.
 * @returns reads both of an expert, with a row for each pair
 */
function sidesOf(part: ExpertPart, graph: GraphBuilder, { pairs, x }: { pairs: Operand; x: Operand }, width: number) {
  const rows = rowOfEachToken(graph, pairs.name, width);
  return (expert: Expert): [outputs: string, inputs: string] => {
    const [own, ofTokens] = [expert.pairsOf(rows), expert.rows(x.name)];
    return GIVES_PAIRS[part] ? [own, ofTokens] : [ofTokens, own];
  };
}

/** The gradient of `gateUp` or `down`: for each expert the product of what its pairs bring and what its tokens bring. */
const weightGrad = (part: ExpertPart): OrtKernel => ({
  name: `Experts${KERNEL_NAMES[part]}Grad`,
  inputs: ['pairs', 'x', 'chosen'],
  infer: ([pairs, x, chosen], { perToken }) => {
    const sizes = [pairs.shape[1] / perToken, x.shape[1]];
    return { shape: [chosen.shape[1], ...(GIVES_PAIRS[part] ? sizes : sizes.reverse())], dtype: 'float32' };
  },
  key: keyOf,
  emit: ({ graph, inputs: [pairs, x, chosen], attrs: { perToken }, concrete: [[, width]] }) => {
    const sides = sidesOf(part, graph, { pairs, x }, width / perToken);
    const dispatch = new Dispatch(graph, chosen.name, perToken);
    return dispatch.matricesOfEach(1, [], (expert) => [expert.productOverPairs(...sides(expert))])[0];
  },
});

/** The gradients of the factors of what is added to `gateUp` or `down`. */
const factorsGrad = (part: ExpertPart): OrtKernel => ({
  name: `Experts${KERNEL_NAMES[part]}FactorsGrad`,
  inputs: ['pairs', 'x', 'chosen', 'a', 'b'],
  infer: ([, , , a, b]) => [like(a), like(b)],
  key: keyOf,
  emit: ({ graph, inputs: [pairs, x, chosen, a, b], attrs: { perToken }, concrete: [[, width]] }) => {
    const sides = sidesOf(part, graph, { pairs, x }, width / perToken);
    return new Dispatch(graph, chosen.name, perToken).matricesOfEach(2, [a.name, b.name], (expert, [ownA, ownB]) => {
      const [outputs, inputs] = sides(expert);
      const inner = expert.graph.op('Gemm', [inputs, ownA], { transA: 0, transB: 1 });
      return [expert.productOverPairs(expert.plainProduct(outputs, ownB), inputs), expert.productOverPairs(outputs, inner)];
    });
  },
});

export const expertKernels = [
  ...[largest, ...ADAPTED_PARTS.map(experts), ...ADAPTED_PARTS.map(expertsGrad)],
  ...EXPERT_PARTS.flatMap((part) => [weightGrad(part), factorsGrad(part)]),
];
