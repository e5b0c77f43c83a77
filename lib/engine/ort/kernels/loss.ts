/** Cross-entropy over a vocabulary, which is gone through in pieces (pieces.ts): the loss of each target, and its gradients. */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { Emission, Operand, OrtKernel } from '../kernel';
import { ELEMENT_TYPES, float, type GraphBuilder } from '../onnx';
import { indicator, type Piece, piecesOf, placesIn } from '../pieces';
import { matrixProduct } from '../products';

/** Ids are float32 in the graph, which holds all whole numbers up to here. */
const LARGEST_ID = 2 ** 24;

/** What one piece of the vocabulary says of each target; columns of float32, [targets, 1]. */
interface PieceOfLogits {
  /** Softmax within the piece, [targets, entries of the piece]. */
  probabilities: string;
  /** The largest logit, and its probability within the piece. */
  largest: string;
  largestProbability: string;
  /** Id of the largest logit, the first of equal ones, float32. */
  likeliest: string;
  /** Σ probability · logit. */
  expected: string;
  /** The target's logit if it is in this piece, else 0. */
  target: string;
}

/** What is known of a loss in a graph. */
interface LossInGraph {
  pieces: readonly PieceOfLogits[];
  /** [targets]. */
  nll: string;
  argmax: string;
  entropy: string;
  /** The share of each piece in the whole distribution, [targets, pieces]. */
  shares: string;
}

const tokenLoss: OrtKernel = {
  name: 'TokenLoss',
  inputs: ['hidden', 'weight', 'targets'],
  infer: ([, , { shape }]) => [
    { shape, dtype: 'float32' },
    { shape, dtype: 'int32' },
    { shape, dtype: 'float32' },
  ],
  key: (_, [, weight]) => weight.shape.join(),
  check: ([, weight], _, [, , targets]) => {
    const [vocabulary] = weight.shape;
    const wrong = targets?.find((id) => id < 0 || id >= vocabulary);
    util.assert(wrong === undefined, () => `TokenLoss: the target ${wrong} is not in [0, ${vocabulary - 1}]`);
  },
  emit: (emission) => {
    const { nll, argmax, entropy } = lossIn(emission);
    return [nll, argmax, entropy];
  },
};

/** The loss, from hidden states, weight and targets as the first inputs; written once in a graph, for the gradient too. */
function lossIn({ graph, inputs: [hidden, weight, targets], concrete: [, [vocabulary]], pieces }: Emission): LossInGraph {
  const operands = [hidden, weight, targets].map(({ name }) => name);
  return graph.once(`loss of ${operands}`, () =>
    joinPieces(graph, piecesOfLogits(graph, [hidden.name, targets.name], vocabulary, pieces(1))),
  );
}

function piecesOfLogits(graph: GraphBuilder, [hidden, targets]: string[], vocabulary: number, weights: string[]): PieceOfLogits[] {
  const ids = column(graph, targets);
  const found: PieceOfLogits[] = [];
  for (const [index, piece] of piecesOf(vocabulary).entries()) {
    const x = index === 0 ? hidden : after(graph, hidden, found[index - 1]);
    const logits = matrixProduct(graph, x, weights[index], { ranks: [2, 2], transB: true });
    found.push(pieceOfLogits(graph, logits, ids, piece));
  }
  return found;
}

function pieceOfLogits(graph: GraphBuilder, logits: string, ids: string, piece: Piece): PieceOfLogits {
  const last = graph.ints([-1]);
  const probabilities = graph.op('Softmax', [logits], { axis: -1 });
  const { place, isInside } = placesIn(graph, ids, piece);
  const largest = graph.op('ReduceMax', [logits, last], { keepdims: 1 });
  return {
    probabilities,
    largest,
    largestProbability: graph.op('ReduceMax', [probabilities, last], { keepdims: 1 }),
    likeliest: likeliestIn(graph, logits, largest, piece),
    expected: expectedLogits(graph, probabilities, logits),
    target: graph.op('Mul', [graph.op('GatherElements', [logits, place], { axis: 1 }), indicator(graph, isInside)]),
  };
}

/** The id of each target's largest logit. */
function likeliestIn(graph: GraphBuilder, logits: string, largest: string, { first, size }: Piece): string {
  const place =
    graph.target.device === 'webgpu'
      ? smallestOfLargest(graph, logits, largest, graph.constant('float32', [...Array(size).keys()], [1, size]))
      : graph.op('Cast', [graph.op('ArgMax', [logits], { axis: -1, keepdims: 1 })], { to: ELEMENT_TYPES.float32 });
  return graph.op('Add', [place, graph.scalar('float32', first)]);
}

/**
 * Of each row the smallest of the ids, [1 or rows, entries], whose value is the largest. ArgMax does the same, but its int64 numbers
 * WebGPU can only hand to the CPU.
 */
function smallestOfLargest(graph: GraphBuilder, values: string, largest: string, ids: string): string {
  const others = graph.scalar('float32', LARGEST_ID);
  const candidates = graph.op('Where', [graph.op('Equal', [values, largest]), ids, others]);
  return graph.op('ReduceMin', [candidates, graph.ints([-1])], { keepdims: 1 });
}

/** Σ p·logit of each target; on the CPU as a product of a row and a column: one pass over both. WebGPU has no kernel for that. */
function expectedLogits(graph: GraphBuilder, probabilities: string, logits: string): string {
  if (graph.target.device === 'webgpu') {
    return graph.op('ReduceSum', [graph.op('Mul', [probabilities, logits]), graph.ints([-1])], { keepdims: 1 });
  }
  const operands = [probabilities, logits].map((x) => graph.op('Unsqueeze', [x, graph.ints([1])]));
  return graph.op('Squeeze', [graph.op('FusedMatMul', operands, { transB: 1, alpha: float(1) }), graph.ints([2])]);
}

/**
 * The same hidden states, but not before all is known of a piece. ONNX Runtime would compute the logits of every piece first, and
 * their memory be needed at once.
 */
function after(graph: GraphBuilder, hidden: string, { probabilities: _, ...columns }: PieceOfLogits): string {
  const none = graph.op('Slice', [
    graph.op('Concat', Object.values(columns), { axis: 1 }),
    graph.ints([0]),
    graph.ints([0]),
    graph.ints([1]),
  ]);
  return graph.op('Concat', [hidden, none], { axis: 1 });
}

/** The loss over all pieces. Within a piece, log Σ exp(logit) = logit_max − log p_max, which loses no precision. */
function joinPieces(graph: GraphBuilder, pieces: readonly PieceOfLogits[]): LossInGraph {
  const last = graph.ints([-1]);
  const all = (field: keyof PieceOfLogits): string =>
    graph.concat(
      pieces.map((piece) => piece[field]),
      1,
    );
  const over = (op: string, x: string): string => graph.op(op, [x, last], { keepdims: 1 });
  const vector = (x: string): string => graph.op('Squeeze', [x, last]);
  const largest = all('largest');
  const within = graph.op('Sub', [largest, graph.op('Log', [all('largestProbability')])]);
  const top = over('ReduceMax', within);
  const relative = graph.op('Exp', [graph.op('Sub', [within, top])]);
  const sum = over('ReduceSum', relative);
  const shares = graph.op('Div', [relative, sum]);
  const logDenominator = graph.op('Add', [top, graph.op('Log', [sum])]);
  const nll = graph.op('Sub', [logDenominator, over('ReduceSum', all('target'))]);
  const entropy = graph.op('Sub', [logDenominator, over('ReduceSum', graph.op('Mul', [all('expected'), shares]))]);
  const likeliest =
    graph.target.device === 'webgpu'
      ? smallestOfLargest(graph, largest, over('ReduceMax', largest), all('likeliest'))
      : graph.op('GatherElements', [all('likeliest'), graph.op('ArgMax', [largest], { axis: -1, keepdims: 1 })], { axis: 1 });
  const argmax = graph.op('Cast', [likeliest], { to: ELEMENT_TYPES.int32 });
  return { pieces, nll: vector(nll), argmax: vector(argmax), entropy: vector(entropy), shares };
}

/**
 * The gradient of the logits, dnll·(p − e) with the probabilities p and the targets' unit rows e, in pieces. In the graph that
 * computes the loss the probabilities are known; in another they are computed again.
 */
const tokenLossGrad: OrtKernel = {
  name: 'TokenLossGrad',
  inputs: ['hidden', 'weight', 'targets', 'dNll'],
  infer: ([hidden, weight]) => piecesOf(weight.shape[0]).map(({ size }) => ({ shape: [hidden.shape[0], size], dtype: 'float32' })),
  list: true,
  key: (_, [, weight]) => weight.shape.join(),
  emit: (emission) => {
    const { graph, inputs, concrete } = emission;
    const { pieces, shares } = lossIn(emission);
    const ids = column(graph, inputs[2].name);
    const scale = column(graph, inputs[3].name);
    const scaled = graph.op('Mul', [shares, scale]);
    const ones = pieces.map(() => 1);
    const factors = graph.split(scaled, ones, 1);
    return piecesOf(concrete[1][0]).map((piece, index) => {
      const { place, isInside } = placesIn(graph, ids, piece);
      const { probabilities } = pieces[index];
      const atTarget = graph.op('Neg', [graph.op('Mul', [indicator(graph, isInside), scale])]);
      return graph.op('ScatterElements', [graph.op('Mul', [probabilities, factors[index]]), place, atTarget], {
        axis: 1,
        reduction: 'add',
      });
    });
  },
};

/** The gradient of the hidden states, from the weight and the pieces of the logits' gradient. */
const tokenLossHiddenGrad: OrtKernel = {
  name: 'TokenLossHiddenGrad',
  infer: ([weight, piece]) => ({ shape: [piece.shape[0], weight.shape[1]], dtype: 'float32' }),
  key: (_, [, ...pieces]) => widthsOf(pieces),
  emit: ({ graph, inputs: [, ...dLogits], pieces }) => {
    const sumOf = (base: string | undefined, weight: string, index: number): string =>
      matrixProduct(graph, dLogits[index].name, weight, { ranks: [2, 2], base });
    return pieces(0).reduce(sumOf, undefined as string | undefined) as string;
  },
};

/** The gradient of the weight, from the hidden states and the pieces of the logits' gradient. */
const tokenLossWeightGrad: OrtKernel = {
  name: 'TokenLossWeightGrad',
  infer: ([hidden, ...pieces]) => ({
    shape: [pieces.reduce((rows, { shape }) => rows + shape[1], 0), hidden.shape[1]],
    dtype: 'float32',
  }),
  inPieces: true,
  key: (_, [, ...pieces]) => widthsOf(pieces),
  emit: ({ graph, inputs: [hidden, ...dLogits] }) =>
    graph.concat(
      dLogits.map((piece) => weightGradient(graph, hidden, piece)),
      0,
    ),
  emitOntoPieces: ({ graph, inputs: [hidden, ...dLogits] }, bases) =>
    bases.map((base, index) => weightGradient(graph, hidden, dLogits[index], base)),
};

/** The gradient of a piece of the weight, [entries of the piece, features], on top of a base. */
function weightGradient(graph: GraphBuilder, hidden: Operand, { name, shape: [targets, entries] }: Operand, base?: string): string {
  const sizes = { rows: entries, inner: targets, columns: hidden.shape[1] };
  return matrixProduct(graph, name, hidden.name, { ranks: [2, 2], transA: true, base, sizes });
}

const widthsOf = (pieces: TensorInfo[]): string => pieces.map(({ shape }) => shape[1]).join();

/** A vector [targets] as a column [targets, 1]. */
const column = (graph: GraphBuilder, vector: string): string => graph.op('Unsqueeze', [vector, graph.ints([1])]);

export const lossKernels = [tokenLoss, tokenLossGrad, tokenLossHiddenGrad, tokenLossWeightGrad];
