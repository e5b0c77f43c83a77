/**
 * Cross-entropy over a vocabulary, which is gone through in pieces (pieces.ts): the loss of each target, and its gradients. Attribute of the
 * loss and of its gradient: `softcap`, by which logits are soft-capped; without it they are as they are.
 */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { Attrs, Emission, Operand, OrtKernel, Output } from '../kernel';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { indicator, piecesOf, placesIn } from '../pieces';
import { matrixProduct } from '../products';
import { column, logitsTable, smallestOfLargest, type Table, weighedSumOfRows } from './logits';

/** What one piece of the vocabulary says of each target; vectors [targets], float32 but for the place. */
interface PieceOfLogits {
  logits: Table;
  /** The target's entry in the piece, any for targets elsewhere, and 1 for targets in the piece, 0 for others. */
  place: string;
  inside: string;
  /** The largest logit, its id, the first of equal ones, and the target's logit, 0 if it is elsewhere. */
  largest: string;
  likeliest: string;
  target: string;
}

/** What is known of a loss in a graph; vectors [targets]. */
interface LossInGraph {
  nll: string;
  argmax: string;
  entropy: string;
}

/**
 * The gradient of the logits, p − e with the probabilities p and the targets' unit rows e, is a factor times the residuals. That of logits
 * before their soft-capping has its slope, too.
 */
interface GradientFactors {
  /** [targets]. */
  factor: string;
  /** A matrix [targets, entries] of each piece, written by the first call. */
  residuals(): string[];
}

/** Inputs of the loss; the bias of the output head may be missing. */
const INPUTS = ['hidden', 'weight', 'targets', 'bias'];

const tokenLoss: OrtKernel = {
  name: 'TokenLoss',
  inputs: INPUTS,
  infer: ([, , { shape }]) => [
    { shape, dtype: 'float32' },
    { shape, dtype: 'int32' },
    { shape, dtype: 'float32' },
  ],
  key: lossKey,
  check: ([, weight], _, [, , targets]) => {
    const [vocabulary] = weight.shape;
    const wrong = targets?.find((id) => id < 0 || id >= vocabulary);
    util.assert(wrong === undefined, () => `TokenLoss: the target ${wrong} is not in [0, ${vocabulary - 1}]`);
    return targets !== undefined;
  },
  emit: (emission) => {
    const { nll, argmax, entropy } = emission.isWith('TokenLossGrad') ? lossWithGradient(emission) : lossAlone(emission);
    return [nll, argmax, entropy];
  },
};

/** The same under another name, as tfjs differentiates a kernel by all of its inputs or by those of its name. */
const tokenLossWithBias: OrtKernel = { ...tokenLoss, name: 'TokenLossWithBias' };

function lossKey({ softcap }: Attrs, [, weight, , bias]: Array<TensorInfo | undefined>): string {
  return `${weight?.shape.join()}${softcap === undefined ? '' : `,${softcap}`}${bias ? ' with a bias' : ''}`;
}

/** Of a piece nothing is kept but vectors; its exponentials are of the distance to its own largest logit. */
function lossAlone(emission: Emission): LossInGraph {
  const { graph, concrete } = emission;
  const pieces: Array<PieceOfLogits & { sum: string; expected: string }> = [];
  for (const index of piecesOf(concrete[1][0]).keys()) {
    const piece = pieceOfLogits(emission, index, vectorsOf(pieces[index - 1]));
    const exponentials = piece.logits.exponentials(piece.largest);
    pieces.push({ ...piece, sum: exponentials.sum(), expected: exponentials.dot(piece.logits) });
  }
  const top = along(graph, 'ReduceMax', sideBySide(graph, pieces, 'largest'));
  const factors = graph.op('Exp', [graph.op('Sub', [sideBySide(graph, pieces, 'largest'), column(graph, top)])]);
  const total = (of: 'sum' | 'expected'): string => along(graph, 'ReduceSum', graph.op('Mul', [sideBySide(graph, pieces, of), factors]));
  const sum = total('sum');
  return joined(graph, pieces, { top, sum, expected: graph.op('Div', [total('expected'), sum]) });
}

/** All logits are kept until the largest of them is known, then their exponentials. Written once in a graph, for the gradient too. */
function lossWithGradient(emission: Emission): LossInGraph & GradientFactors {
  const { graph, inputs, concrete, attrs } = emission;
  const [hidden, weight, targets, bias] = inputs.map(({ name }) => name);
  const { softcap } = attrs;
  return graph.once(`loss of ${[hidden, weight, targets, bias, softcap ?? '']}`, () => {
    const pieces: PieceOfLogits[] = [];
    for (const index of piecesOf(concrete[1][0]).keys()) pieces.push(pieceOfLogits(emission, index, vectorsOf(pieces[index - 1])));
    const top = along(graph, 'ReduceMax', sideBySide(graph, pieces, 'largest'));
    const parts = pieces.map((piece) => ({ ...piece, exponentials: piece.logits.exponentials(top) }));
    const sums = parts.map(({ exponentials }) => ({ sum: exponentials.sum() }));
    const sum = along(graph, 'ReduceSum', sideBySide(graph, sums, 'sum'));
    const gradient =
      softcap === undefined ? gradientFactors(graph, parts, sum) : cappedGradientFactors(graph, parts, logOf(graph, top, sum), softcap);
    // the product of the residuals knows nothing of a bias, nor of a cap
    const isPlain = softcap === undefined && bias === '';
    const find = (): string => (isPlain ? expectedLogits(graph, { hidden, parts, sum, gradient }) : expectedOf(graph, parts, sum));
    const expected = graph.whenRead((name) => graph.node('Identity', [find()], [name]));
    return { ...joined(graph, pieces, { top, sum, expected }), ...gradient };
  });
}

/** A piece whose exponentials are of the distance to the largest logit of all pieces. */
type Part = PieceOfLogits & { exponentials: Table };

/** 1 / Σ exponentials, and the exponentials, less their sum at the target. */
function gradientFactors(graph: GraphBuilder, parts: readonly Part[], sum: string): GradientFactors {
  const inverse = graph.op('Reciprocal', [sum]);
  // The sum over a large vocabulary is more than float16 can hold.
  const isHalf = graph.target.precision === 'float16';
  const one = graph.scalar('float32', 1);
  const [whole, factor] = isHalf ? [one, one] : [sum, inverse];
  const write = (): string[] =>
    parts.map(({ exponentials, place, inside }) => {
      const numbers = isHalf ? exponentials.scaled(inverse) : exponentials;
      return numbers.plus(place, graph.op('Neg', [graph.op('Mul', [inside, whole])])).matrix();
    });
  return { factor, residuals: () => graph.once(`residuals of ${sum}`, write) };
}

/**
 * Residuals (p − e)·slope, and no factor. The slope is of the logits themselves, so that they stay; their exponentials go, as p is computed anew.
 * @param logDenominator ln Σ exp(logit)
 */
function cappedGradientFactors(
  graph: GraphBuilder,
  pieces: readonly PieceOfLogits[],
  logDenominator: string,
  softcap: number,
): GradientFactors {
  const write = (): string[] =>
    pieces.map(({ logits, place, inside }) => {
      const residuals = logits.exponentials(logDenominator).plus(place, graph.op('Neg', [inside]));
      return residuals.times(logits.slopeOfCap(softcap)).matrix();
    });
  return { factor: graph.scalar('float32', 1), residuals: () => graph.once(`residuals of ${logDenominator}`, write) };
}

/** top + ln sum. */
const logOf = (graph: GraphBuilder, top: string, sum: string): string => graph.op('Add', [top, graph.op('Log', [sum])]);

interface WithHidden {
  hidden: string;
  parts: readonly Part[];
  sum: string;
  gradient: GradientFactors;
}

/**
 * Σ p·logit of each target. Where the gradient of the hidden states is computed too, residuals · weight are known: with the rows
 * p·weight − weight[target], of which the hidden state makes Σ p·logit − the target's logit.
 */
function expectedLogits(graph: GraphBuilder, { hidden, parts, sum, gradient }: WithHidden): string {
  const product = graph.made(productKey(gradient.residuals()[0]));
  if (product && graph.target.precision === 'float32') {
    const beyond = graph.op('Mul', [along(graph, 'ReduceSum', graph.op('Mul', [hidden, product])), gradient.factor]);
    return graph.op('Add', [beyond, along(graph, 'ReduceSum', sideBySide(graph, parts, 'target'))]);
  }
  return expectedOf(graph, parts, sum);
}

/** The same of the exponentials themselves. */
function expectedOf(graph: GraphBuilder, parts: readonly Part[], sum: string): string {
  const expectations = parts.map(({ exponentials, logits }) => ({ expected: exponentials.dot(logits) }));
  return graph.op('Div', [along(graph, 'ReduceSum', sideBySide(graph, expectations, 'expected')), sum]);
}

const productKey = (residual: string): string => `residuals ${residual} … times the weight`;

/**
 * A piece's logits.
 * @param before vectors that are computed first, so that the pieces' logits come one after the other
 */
function pieceOfLogits(emission: Emission, index: number, before: string[]): PieceOfLogits {
  const { graph, inputs, concrete, pieces, attrs } = emission;
  const [hidden, , targets, { name: bias }] = inputs;
  const piece = piecesOf(concrete[1][0])[index];
  const products = logitsTable(graph, { hidden, weight: pieces(1)[index], bias: bias ? pieces(3)[index] : undefined, piece, before });
  const logits = attrs.softcap === undefined ? products : products.capped(attrs.softcap);
  const { place, isInside } = placesIn(graph, targets.name, piece);
  const inside = indicator(graph, isInside);
  return {
    ...{ logits, place, inside },
    largest: logits.largest,
    likeliest: graph.op('Add', [logits.likeliest, graph.scalar('float32', piece.first)]),
    target: graph.op('Mul', [logits.at(place), inside]),
  };
}

/** What is to be known of a piece before the next one. */
function vectorsOf(piece?: PieceOfLogits): string[] {
  if (!piece) return [];
  const { logits: _, place: __, inside: ___, ...vectors } = piece;
  return Object.values(vectors);
}

/** A vector of each piece, side by side: [targets, pieces]. */
function sideBySide<K extends string>(graph: GraphBuilder, pieces: ReadonlyArray<Record<K, string>>, field: K): string {
  const columns = pieces.map((piece) => column(graph, piece[field]));
  return graph.concat(columns, 1);
}

/** A sum or the largest along the last axis. */
const along = (graph: GraphBuilder, op: 'ReduceSum' | 'ReduceMax', x: string): string =>
  graph.op(op, [x, graph.ints([-1])], { keepdims: 0 });

/**
 * The loss over all pieces.
 * @param known the largest logit, Σ exp(logit − that), and Σ p·logit
 */
function joined(
  graph: GraphBuilder,
  pieces: readonly PieceOfLogits[],
  { top, sum, expected }: { top: string; sum: string; expected: string },
): LossInGraph {
  const logDenominator = logOf(graph, top, sum);
  const target = along(graph, 'ReduceSum', sideBySide(graph, pieces, 'target'));
  const [largest, ids] = [sideBySide(graph, pieces, 'largest'), sideBySide(graph, pieces, 'likeliest')];
  return {
    nll: graph.op('Sub', [logDenominator, target]),
    argmax: graph.op('Cast', [smallestOfLargest(graph, largest, column(graph, top), ids)], { to: ELEMENT_TYPES.int32 }),
    entropy: graph.whenRead((name) => graph.node('Sub', [logDenominator, expected], [name])),
  };
}

/**
 * The gradient of the logits in two parts, whose product it is: one for each target, and one for each target and entry, in pieces. In the
 * graph that computes the loss they are known; in another they are computed again.
 */
const tokenLossGrad: OrtKernel = {
  name: 'TokenLossGrad',
  inputs: [...INPUTS, 'dNll'],
  infer: ([hidden, weight, { shape }]) => [
    { shape, dtype: 'float32' },
    ...piecesOf(weight.shape[0]).map(({ size }): Output => ({ shape: [hidden.shape[0], size], dtype: 'float32' })),
  ],
  key: lossKey,
  emit: (emission) => {
    const { factor, residuals } = lossWithGradient(emission);
    return [emission.graph.op('Mul', [emission.inputs[4].name, factor]), ...residuals()];
  },
};

/** The gradient of the hidden states, from the weight and the parts of the logits' gradient. */
const tokenLossHiddenGrad: OrtKernel = {
  name: 'TokenLossHiddenGrad',
  infer: ([weight, factor]) => ({ shape: [factor.shape[0], weight.shape[1]], dtype: 'float32' }),
  key: (_, [, , ...pieces]) => widthsOf(pieces),
  emit: ({ graph, inputs: [weight, factor, ...residuals], pieces }) => {
    const weights = pieces(0);
    const add = (base: string | undefined, { name, shape: [targets, entries] }: Operand, index: number): string => {
      const sizes = { rows: targets, inner: entries, columns: weight.shape[1] };
      return matrixProduct(graph, name, weights[index], { ranks: [2, 2], base, sizes });
    };
    const product = graph.once(productKey(residuals[0].name), () => residuals.reduce(add, undefined as string | undefined) as string);
    return graph.op('Mul', [product, column(graph, factor.name)]);
  },
};

/** The gradient of the weight, from the hidden states and the parts of the logits' gradient. */
const tokenLossWeightGrad: OrtKernel = {
  name: 'TokenLossWeightGrad',
  infer: ([hidden, , ...pieces]) => ({
    shape: [pieces.reduce((rows, { shape }) => rows + shape[1], 0), hidden.shape[1]],
    dtype: 'float32',
  }),
  inPieces: true,
  key: (_, [, , ...pieces]) => widthsOf(pieces),
  emit: (emission) =>
    emission.graph.concat(
      emission.inputs.slice(2).map((residual) => weightGradient(emission, residual)),
      0,
    ),
  emitOntoPieces: (emission, bases) => bases.map((base, index) => weightGradient(emission, emission.inputs[index + 2], base)),
};

/** The gradient of a piece of the weight, [entries of the piece, features], on top of a base. */
function weightGradient(
  { graph, inputs: [hidden, factor] }: Emission,
  { name, shape: [targets, entries] }: Operand,
  base?: string,
): string {
  const scaled = graph.op('Mul', [hidden.name, column(graph, factor.name)]);
  const sizes = { rows: entries, inner: targets, columns: hidden.shape[1] };
  return matrixProduct(graph, name, scaled, { ranks: [2, 2], transA: true, base, sizes });
}

/** The gradient of the head's bias: of each entry the sum over the targets. */
const tokenLossBiasGrad: OrtKernel = {
  name: 'TokenLossBiasGrad',
  infer: ([, ...pieces]) => ({ shape: [pieces.reduce((entries, { shape }) => entries + shape[1], 0)], dtype: 'float32' }),
  key: (_, [, ...pieces]) => widthsOf(pieces),
  emit: ({ graph, inputs: [factor, ...residuals] }) =>
    graph.concat(
      residuals.map((residual) => weighedSumOfRows(graph, factor.name, residual)),
      0,
    ),
};

const widthsOf = (pieces: TensorInfo[]): string => pieces.map(({ shape }) => shape[1]).join();

export const lossKernels = [tokenLoss, tokenLossWithBias, tokenLossGrad, tokenLossHiddenGrad, tokenLossWeightGrad, tokenLossBiasGrad];
