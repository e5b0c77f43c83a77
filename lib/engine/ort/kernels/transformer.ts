/** The fused operations of a transformer and their gradients: normalization, rotary embedding, gated units, embedding rows. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { Activation } from '../../ops';
import { isBlocked } from '../blocked-layout';
import { elementwise } from '../blocked-products';
import type { Emission, OrtKernel } from '../kernel';
import { ELEMENT_TYPES, float, type GraphBuilder } from '../onnx';
import { addRowsToPieces } from '../pieces';
import { blockedRows } from '../resting-layout';
import { addRows, sumsOfRows } from './row-sums';

const like = ([x]: TensorInfo[]) => ({ shape: x.shape, dtype: 'float32' as const });
const rowsOf = (x: TensorInfo): number[] => [...x.shape.slice(0, -1), 1];
const float32 = (graph: GraphBuilder, value: number): string => graph.scalar('float32', value);

/** Sum over all axes but the last. */
function sumRows(graph: GraphBuilder, x: string, rank: number): string {
  return graph.op('ReduceSum', [x, graph.ints(Array.from({ length: rank - 1 }, (_, axis) => axis))], { keepdims: 0 });
}

function mean(graph: GraphBuilder, x: string): string {
  return graph.op('ReduceMean', [x, graph.ints([-1])], { keepdims: 1 });
}

/**
 * Normalizes rows. A sum that nobody has read yet is computed in the same operation.
 * @param operands the rows, and what the operator `op` wants beside
 * @param count outputs of the operator: the result, and what the gradient needs
 */
function normalized(graph: GraphBuilder, op: Normalization, operands: string[], count: number, eps: number): string[] {
  const plain = (): string[] => graph.ops(op, operands, count, { axis: -1, epsilon: float(eps), stash_type: 1 });
  const [x, ...parameters] = operands;
  const origin = graph.originOf(x);
  if (origin?.kind !== 'sum' || !graph.isUnwritten(x)) return plain();
  const [result, sum] = [graph.freshName(), graph.freshName()];
  const terms = origin.terms.map((term) => graph.batched(term));
  graph.node(`Skip${op}`, [...terms, ...parameters], [result, '', '', sum], { epsilon: float(eps) });
  graph.isNowBatched(x, sum);
  const forGradient = (output: number): string => graph.whenRead((name) => graph.node('Identity', [plain()[output]], [name]));
  return [graph.unbatched(result), ...Array.from({ length: count - 1 }, (_, i) => forGradient(i + 1))];
}

type Normalization = 'SimplifiedLayerNormalization' | 'LayerNormalization';

/** Outputs: the result, and 1/rms of each row for the gradient. */
const rmsNorm: OrtKernel = {
  name: 'RmsNorm',
  inputs: ['x', 'weight'],
  infer: ([x]) => [like([x]), { shape: rowsOf(x), dtype: 'float32' }],
  key: ({ eps }) => `${eps}`,
  emit: ({ graph, inputs: [x, weight], attrs: { eps } }) => {
    const operands = [x.name, weight.name];
    if (graph.target.device === 'cpu') return normalized(graph, 'SimplifiedLayerNormalization', operands, 2, eps);
    // The WebGPU kernel leaves the second output unwritten.
    const inverse = graph.whenRead((name) => {
      const meanSquare = graph.op('Add', [mean(graph, graph.op('Mul', [x.name, x.name])), float32(graph, eps)]);
      graph.node('Reciprocal', [graph.op('Sqrt', [meanSquare])], [name]);
    });
    return [normalized(graph, 'SimplifiedLayerNormalization', operands, 1, eps)[0], inverse];
  },
};

/** Mean over the last axis of rows times a vector: a product with it, which reads the rows once and writes next to nothing. */
function meanAlong(graph: GraphBuilder, rows: string, vector: string, features: number): string {
  const share = graph.op('Mul', [vector, float32(graph, 1 / features)]);
  return graph.op('MatMul', [rows, graph.op('Reshape', [share, graph.ints([features, 1])])]);
}

/** With r = 1/rms(x) and p = dy·x: dx = r·dy·weight − x·r³·mean(p·weight); dweight = Σ r·p, a product of a row and a matrix. */
const rmsNormGrad: OrtKernel = {
  name: 'RmsNormGrad',
  inputs: ['dy', 'x', 'weight', 'inverse'],
  infer: ([dy, , weight]) => [like([dy]), like([weight])],
  key: (_, [, , weight]) => `${weight.shape[0]}`,
  emit: ({ graph, inputs: [dy, x, weight, inverse], concrete: [, , [features]] }) => {
    const mul = (a: string, b: string): string => graph.op('Mul', [a, b]);
    const product = mul(dy.name, x.name);
    const cube = mul(inverse.name, mul(inverse.name, inverse.name));
    const along = mul(meanAlong(graph, product, weight.name, features), cube);
    const dx = graph.op('Sub', [mul(mul(dy.name, weight.name), inverse.name), mul(x.name, along)]);
    const inversesInRow = graph.op('Reshape', [inverse.name, graph.ints([1, -1])]);
    const productInRows = graph.op('Reshape', [product, graph.ints([-1, features])]);
    return [dx, graph.op('Reshape', [graph.op('MatMul', [inversesInRow, productInRows]), graph.ints([features])])];
  },
};

/** Outputs: the result, and mean and 1/deviation of each row for the gradient. */
const layerNorm: OrtKernel = {
  name: 'LayerNorm',
  inputs: ['x', 'weight', 'bias'],
  infer: ([x]) => [like([x]), { shape: rowsOf(x), dtype: 'float32' }, { shape: rowsOf(x), dtype: 'float32' }],
  key: ({ eps }) => `${eps}`,
  emit: ({ graph, inputs: [x, weight, bias], attrs: { eps } }) =>
    normalized(graph, 'LayerNormalization', [x.name, weight.name, bias.name], 3, eps),
};

/** With p = dy·x̂: dx = r·(dy·weight − mean(dy·weight) − x̂·mean(p·weight)); dweight = Σ p; dbias = Σ dy. */
const layerNormGrad: OrtKernel = {
  name: 'LayerNormGrad',
  inputs: ['dy', 'x', 'weight', 'mean', 'inverse'],
  infer: ([dy, , weight]) => [like([dy]), like([weight]), like([weight])],
  key: (_, [, , weight]) => `${weight.shape[0]}`,
  emit: ({ graph, inputs: [dy, x, weight, average, inverse], concrete: [, , [features]] }) => {
    const mul = (a: string, b: string): string => graph.op('Mul', [a, b]);
    const normalized = mul(graph.op('Sub', [x.name, average.name]), inverse.name);
    const product = mul(dy.name, normalized);
    const along = mul(normalized, meanAlong(graph, product, weight.name, features));
    const rest = graph.op('Add', [along, meanAlong(graph, dy.name, weight.name, features)]);
    const dx = mul(graph.op('Sub', [mul(dy.name, weight.name), rest]), inverse.name);
    return [dx, sumRows(graph, product, dy.shape.length), sumRows(graph, dy.name, dy.shape.length)];
  },
};

/** Backwards the same turn with −sin, which is its transpose. Attributes: the heads, and whether pairs lie side by side (`interleaved`). */
const rotary: OrtKernel = {
  name: 'Rotary',
  inputs: ['x', 'cos', 'sin'],
  infer: like,
  key: ({ heads, interleaved }, [x, cos]) => `${heads},${x.shape[1]},${cos.shape[1]}${interleaved ? ',interleaved' : ''}`,
  emit: ({ graph, inputs: [x, cos, sin], attrs, concrete: [[, features], [, half]], isWith }) => {
    const headDim = features / attrs.heads;
    const turning = 2 * half;
    const position = graph.constant('int64', [0], [1]);
    const interleaved = attrs.interleaved ? 1 : 0;
    const attributes = { num_heads: attrs.heads, interleaved, rotary_embedding_dim: turning === headDim ? 0 : turning };
    const operands = (): string[] => [graph.batched(x.name), position, cos.name, sin.name];
    if (!isWith('CachedAttention')) return graph.unbatched(graph.op('RotaryEmbedding', operands(), attributes));
    const turned = graph.whenRead((name) => graph.node('RotaryEmbedding', operands(), [name], attributes));
    return graph.withOrigin(graph.unbatched(turned), { kind: 'turned', x: x.name, cos: cos.name, sin: sin.name, half, interleaved });
  },
};

/** silu(gate)·up. */
const swiGlu: OrtKernel = {
  name: 'SwiGlu',
  inputs: ['gate', 'up'],
  infer: like,
  emit: ({ graph, inputs }) => elementwise(graph, inputs, ([gate, up]) => [gatedUnit(graph, gate, up)]),
};

/** With s = sigmoid(gate), a = gate·s: dup = dy·a, dgate = dy·up·(s + a·(1 − s)). */
const swiGluGrad: OrtKernel = {
  name: 'SwiGluGrad',
  inputs: ['dy', 'gate', 'up'],
  infer: ([dy]) => [like([dy]), like([dy])],
  emit: ({ graph, inputs }) =>
    elementwise(graph, inputs, ([dy, gate, up]) => {
      const { slope, value } = siluSlope(graph, gate);
      return [graph.op('Mul', [graph.op('Mul', [dy, up]), slope]), graph.op('Mul', [dy, value])];
    }),
};

/** silu(gate)·up. */
export function gatedUnit(graph: GraphBuilder, gate: string, up: string): string {
  return graph.op('Mul', [graph.op('QuickGelu', [gate], { alpha: float(1) }), up]);
}

/** silu(x) = x·σ(x), and its slope. */
export function siluSlope(graph: GraphBuilder, x: string): { slope: string; value: string } {
  const sigmoid = graph.op('Sigmoid', [x]);
  const value = graph.op('Mul', [x, sigmoid]);
  const rest = graph.op('Sub', [float32(graph, 1), sigmoid]);
  return { slope: graph.op('Add', [sigmoid, graph.op('Mul', [value, rest])]), value };
}

const activation: OrtKernel = {
  name: 'Activation',
  inputs: ['x'],
  infer: like,
  key: ({ name }) => name,
  emit: ({ graph, inputs, attrs }) => elementwise(graph, inputs, ([x]) => [activated(graph, x, attrs.name)]),
};

function activated(graph: GraphBuilder, x: string, name: Activation): string {
  switch (name) {
    case 'relu':
      return graph.op('Relu', [x]);
    case 'relu2': {
      const positive = graph.op('Relu', [x]);
      return graph.op('Mul', [positive, positive]);
    }
    case 'silu':
    case 'swish':
      return graph.op('QuickGelu', [x], { alpha: float(1) });
    default:
      return graph.op('Gelu', [x], { approximate: name === 'gelu' ? 'none' : 'tanh' });
  }
}

const activationGrad: OrtKernel = {
  name: 'ActivationGrad',
  inputs: ['dy', 'x'],
  infer: like,
  key: ({ name }) => name,
  emit: ({ graph, inputs, attrs }) =>
    elementwise(graph, inputs, ([dy, x]) => [graph.op('Mul', [dy, activationSlope(graph, x, attrs.name)])]),
};

function activationSlope(graph: GraphBuilder, x: string, name: Activation): string {
  const constant = (value: number): string => float32(graph, value);
  const mul = (a: string, b: string): string => graph.op('Mul', [a, b]);
  const add = (a: string, b: string): string => graph.op('Add', [a, b]);
  switch (name) {
    case 'relu':
      return graph.op('Cast', [graph.op('Greater', [x, constant(0)])], { to: ELEMENT_TYPES.float32 });
    case 'relu2':
      return mul(graph.op('Relu', [x]), constant(2));
    case 'silu':
    case 'swish':
      return siluSlope(graph, x).slope;
    case 'gelu': {
      // Φ(x) + x·φ(x), with the normal distribution's Φ and φ.
      const u = mul(x, constant(Math.SQRT1_2));
      // 0.5·erf(u) + 0.5 in one pass over memory
      const cumulative = graph.op('HardSigmoid', [graph.op('Erf', [u])], { alpha: float(0.5), beta: float(0.5) });
      const density = graph.op('Exp', [graph.op('Sub', [constant(-0.5 * Math.log(2 * Math.PI)), mul(u, u)])]);
      return add(cumulative, mul(x, density));
    }
    default: {
      // 0.5(1 + t) + 0.5·x·(1 − t²)·c·(1 + 3·0.044715·x²) with t = tanh(c·(x + 0.044715·x³)), c = √(2/π).
      const square = mul(x, x);
      const c = Math.sqrt(2 / Math.PI);
      const inner = mul(x, add(mul(square, constant(c * 0.044715)), constant(c)));
      const tanh = graph.op('Tanh', [inner]);
      const innerSlope = add(mul(square, constant(3 * c * 0.044715)), constant(c));
      const outerSlope = graph.op('Sub', [constant(1), mul(tanh, tanh)]);
      return mul(add(add(tanh, constant(1)), mul(mul(x, outerSlope), innerSlope)), constant(0.5));
    }
  }
}

/** Rows of a table. */
const embedding: OrtKernel = {
  name: 'Embedding',
  inputs: ['weight', 'ids'],
  infer: ([weight, ids]) => ({ shape: [...ids.shape, weight.shape[1]], dtype: 'float32' }),
  inputInBlocks: () => 0,
  emit: ({ graph, inputs: [weight, ids] }) =>
    isBlocked(graph, weight.name)
      ? blockedRows(graph, weight.name, ids.name, weight.shape[1] as number)
      : graph.op('Gather', [weight.name, ids.name], { axis: 0 }),
};

/** A table of zeros with rows added at their ids; the gradient of Embedding. */
const scatter: OrtKernel = {
  name: 'ScatterRows',
  inputs: ['rows', 'ids'],
  infer: ([rows], { count }) => ({ shape: [count, rows.shape[1]], dtype: 'float32' }),
  emit: ({ graph, inputs: [rows, ids], outputs: [output] }) => sumsOfRows(graph, rows.name, ids.name, output.shape),
  emitOnto: onto,
  emitOntoPieces: (emission, bases) =>
    bases.length === 1 ? [onto(emission, bases[0])] : addRowsToPieces(emission, bases, emission.attrs.count),
};

/** Onto a large table row by row; onto about as many rows as there are ids by way of sums of them, which is faster. */
function onto({ graph, inputs: [rows, ids], outputs: [{ shape }] }: Emission, base: string): string {
  const areFew = typeof shape[0] === 'number';
  return areFew
    ? addRows(graph, base, ids.name, rows.name, rows.shape.length)
    : graph.op('Add', [base, sumsOfRows(graph, rows.name, ids.name, shape)]);
}

export const transformerKernels = [
  rmsNorm,
  rmsNormGrad,
  layerNorm,
  layerNormGrad,
  rotary,
  swiGlu,
  swiGluGrad,
  activation,
  activationGrad,
  embedding,
  scatter,
];
