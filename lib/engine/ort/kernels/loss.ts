/** Cross-entropy over a vocabulary. */
import type { Emission, OrtKernel } from '../kernel';
import { ELEMENT_TYPES, float, type GraphBuilder } from '../onnx';
import { matrixProduct } from '../products';

/** Vocabulary entries that are computed together at most: their products, and a gradient of so many rows, stay in the processor's cache. */
const LONGEST_CHUNK = 2500;

/** Into how many equal chunks a vocabulary is cut: the fewest that are short enough, or one if no number of chunks fits. */
export function vocabularyChunks(vocabulary: number): number {
  const fewest = Math.ceil(vocabulary / LONGEST_CHUNK);
  for (let chunks = fewest; chunks <= 4 * fewest; chunks++) if (vocabulary % chunks === 0) return chunks;
  return 1;
}

/**
 * Outputs nll, argmax and entropy of each target, and for the gradient the softmax within each chunk of the vocabulary,
 * [chunks, targets, chunk], with the share of each chunk in the whole distribution, [chunks, targets].
 */
const tokenLoss: OrtKernel = {
  name: 'TokenLoss',
  inputs: ['hidden', 'weight', 'targets'],
  infer: ([hidden, weight, targets]) => {
    const chunks = vocabularyChunks(weight.shape[0]);
    return [
      { shape: targets.shape, dtype: 'float32' },
      { shape: targets.shape, dtype: 'int32' },
      { shape: targets.shape, dtype: 'float32' },
      { shape: [chunks, hidden.shape[0], weight.shape[0] / chunks], dtype: 'float32' },
      { shape: [chunks, hidden.shape[0]], dtype: 'float32' },
    ];
  },
  key: (_, [, weight]) => weight.shape.join(),
  emit: (emission) => {
    const { graph, inputs, concrete } = emission;
    const [vocabulary, features] = concrete[1];
    const chunks = vocabularyChunks(vocabulary);
    const chunk = vocabulary / chunks;
    const weight = graph.op('Reshape', [inputs[1].name, graph.ints([chunks, chunk, features])]);
    const hidden = graph.op('Unsqueeze', [inputs[0].name, graph.ints([0])]);
    const logits = matrixProduct(graph, hidden, weight, { ranks: [3, 3], transB: true });
    const probabilities = graph.op('Softmax', [logits], { axis: -1 });
    const maxima = overVocabulary(graph, 'ReduceMax', logits);
    const { logDenominator, shares } = joinChunks(graph, maxima, overVocabulary(graph, 'ReduceMax', probabilities));
    const nll = graph.op('Sub', [logDenominator, logitsOfTargets(emission, logits, chunk)]);
    const expected = graph.op('Mul', [expectedLogits(graph, probabilities, logits), shares]);
    const entropy = graph.op('Sub', [logDenominator, graph.op('ReduceSum', [expected, graph.ints([0])], { keepdims: 0 })]);
    const argmax = likeliest(graph, logits, maxima, chunk);
    return [nll, argmax, entropy, probabilities, onceKnown(graph, shares, [nll, argmax, entropy])];
  },
};

/**
 * The same shares, but not before the results are known. ONNX Runtime would leave those to the end of the run, and the logits,
 * the largest tensor of all, would stay in memory for them through the whole backward pass.
 */
function onceKnown(graph: GraphBuilder, shares: string, results: string[]): string {
  const first = graph.ints([0]);
  const rows = results.map((x) => graph.op('Unsqueeze', [graph.op('Cast', [x], { to: ELEMENT_TYPES.float32 }), first]));
  const none = graph.op('Slice', [graph.op('Concat', rows, { axis: 0 }), first, first, first]);
  return graph.op('Concat', [shares, none], { axis: 0 });
}

/** Reduces [chunks, targets, chunk] to [chunks, targets]. */
function overVocabulary(graph: GraphBuilder, op: 'ReduceMax', x: string): string {
  return graph.op(op, [x, graph.ints([-1])], { keepdims: 0 });
}

/**
 * The logarithm of the softmax's denominator over the whole vocabulary, [targets], and the share that each chunk has in it,
 * [chunks, targets]. Within a chunk, log Σ exp(logit) = logit_max − log p_max, which loses no precision.
 * @param maxima largest logit of each chunk, [chunks, targets]
 * @param probabilities that logit's probability within its chunk
 */
function joinChunks(graph: GraphBuilder, maxima: string, probabilities: string): { logDenominator: string; shares: string } {
  const first = graph.ints([0]);
  const within = graph.op('Sub', [maxima, graph.op('Log', [probabilities])]);
  const largest = graph.op('ReduceMax', [within, first], { keepdims: 1 });
  const relative = graph.op('Exp', [graph.op('Sub', [within, largest])]);
  const sum = graph.op('ReduceSum', [relative, first], { keepdims: 1 });
  const logDenominator = graph.op('Add', [largest, graph.op('Log', [sum])]);
  return { logDenominator: graph.op('Squeeze', [logDenominator, first]), shares: graph.op('Div', [relative, sum]) };
}

/** Σ p·logit of each chunk; on the CPU as a product of a row and a column: one pass over both. WebGPU has no kernel for that. */
function expectedLogits(graph: GraphBuilder, probabilities: string, logits: string): string {
  if (graph.target.device === 'webgpu') {
    return graph.op('ReduceSum', [graph.op('Mul', [probabilities, logits]), graph.ints([-1])], { keepdims: 0 });
  }
  const third = graph.ints([2]);
  const operands = [probabilities, logits].map((x) => graph.op('Unsqueeze', [x, third]));
  return graph.op('Squeeze', [graph.op('FusedMatMul', operands, { transB: 1, alpha: float(1) }), graph.ints([2, 3])]);
}

function logitsOfTargets({ graph, inputs }: Emission, logits: string, chunk: number): string {
  const ids = graph.op('Cast', [inputs[2].name], { to: ELEMENT_TYPES.int64 });
  const size = graph.scalar('int64', chunk);
  return graph.op('GatherND', [logits, places(graph, [graph.op('Div', [ids, size]), rowsOf(graph, logits), graph.op('Mod', [ids, size])])]);
}

/** Ids of the largest logits, int32 [targets]: first the chunk, then the place in it; the first of equal ones. */
function likeliest(graph: GraphBuilder, logits: string, maxima: string, chunk: number): string {
  const best = graph.op('ArgMax', [maxima], { axis: 0, keepdims: 0 });
  const among = graph.op('GatherND', [logits, places(graph, [best, rowsOf(graph, logits)])]);
  const place = graph.op('ArgMax', [among], { axis: 1, keepdims: 0 });
  const ids = graph.op('Add', [graph.op('Mul', [best, graph.scalar('int64', chunk)]), place]);
  return graph.op('Cast', [ids], { to: ELEMENT_TYPES.int32 });
}

/** 0, 1, …, targets − 1. */
function rowsOf(graph: GraphBuilder, logits: string): string {
  const count = graph.op('Squeeze', [graph.sizeOf(logits, 1)]);
  return graph.op('Range', [graph.scalar('int64', 0), count, graph.scalar('int64', 1)]);
}

/** Index vectors of each axis, int64 [targets], side by side. */
function places(graph: GraphBuilder, indices: string[]): string {
  const last = graph.ints([1]);
  return graph.op(
    'Concat',
    indices.map((index) => graph.op('Unsqueeze', [index, last])),
    { axis: 1 },
  );
}

export const lossKernels = [tokenLoss];
