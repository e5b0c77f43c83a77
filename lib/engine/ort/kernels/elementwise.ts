/** Operations on single elements, with broadcasting. */
import { backend_util, type TensorInfo } from '@tensorflow/tfjs-core';
import type { Emission, NumericType, Operand, OrtKernel } from '../kernel';
import { ELEMENT_TYPES, exactly, float } from '../onnx';

const broadcast = (inputs: TensorInfo[]): number[] => backend_util.assertAndGetBroadcastShape(inputs[0].shape, inputs[1].shape);
const ofOneType = (inputs: TensorInfo[]): boolean => inputs.every(({ dtype }) => dtype === inputs[0].dtype);
const isFloat = (inputs: TensorInfo[]): boolean => inputs[0].dtype === 'float32';

/** In place over the first or second operand, where the shapes allow it (the backend compares shapes). */
const BINARY_IN_PLACE: [number, number][] = [
  [0, 0],
  [1, 0],
];

/** A binary operation whose result has the type of its operands. */
function arithmetic(name: string, op: string, inPlace?: [number, number][]): OrtKernel {
  return {
    name,
    inputs: ['a', 'b'],
    infer: (inputs) => ({ shape: broadcast(inputs), dtype: inputs[0].dtype as NumericType }),
    emit: ({ graph, inputs: [a, b] }) => graph.op(op, [a.name, b.name]),
    inPlace,
    supports: (inputs) => inputs[0].dtype !== 'bool' && ofOneType(inputs),
  };
}

/** A sum. Where tokens are added to a cache, and time is that of many small operations, the normalization that reads it may compute it. */
function sum({ graph, inputs: [a, b], isWith }: Emission): string {
  const terms = [a.name, b.name] as const;
  const isOfRows = a.dtype === 'float32' && a.shape.length === 2 && a.shape.join() === b.shape.join();
  if (graph.target.device !== 'cpu' || !isOfRows || !isWith('CachedAttention')) return graph.op('Add', [...terms]);
  return graph.withOrigin(
    graph.whenRead((name) => graph.node('Add', [...terms], [name])),
    { kind: 'sum', terms },
  );
}

/** A binary operation on floats only. */
function floatArithmetic(name: string, emit: (emission: Emission) => string): OrtKernel {
  return {
    name,
    inputs: ['a', 'b'],
    infer: (inputs) => ({ shape: broadcast(inputs), dtype: 'float32' }),
    emit,
    supports: (inputs) => inputs.every((input) => input.dtype === 'float32'),
  };
}

/** A condition's shape beside a value of more axes, of which it decides about whole rows. */
function maskShape<D>(shape: readonly D[], { shape: { length: rank } }: { shape: readonly unknown[] }): Array<D | 1> {
  return [...shape, ...Array<1>(Math.max(0, rank - shape.length)).fill(1)];
}

function comparison(name: string, emit: (emission: Emission) => string): OrtKernel {
  return { name, inputs: ['a', 'b'], infer: (inputs) => ({ shape: broadcast(inputs), dtype: 'bool' }), emit, supports: ofOneType };
}

/** Operands as int32 where they are bool: ONNX Runtime does not order bools. */
function ordered({ graph, inputs }: Emission): string[] {
  return inputs.map((input) => (input.dtype === 'bool' ? graph.op('Cast', [input.name], { to: ELEMENT_TYPES.int32 }) : input.name));
}

function logical(name: string, op: string): OrtKernel {
  return {
    name,
    inputs: ['a', 'b'],
    infer: (inputs) => ({ shape: broadcast(inputs), dtype: 'bool' }),
    emit: ({ graph, inputs: [a, b] }) => graph.op(op, [a.name, b.name]),
    supports: (inputs) => inputs.every((input) => input.dtype === 'bool'),
  };
}

/** A unary operation; integers stay with the fallback unless `integers`. */
function unary(name: string, emit: string | ((emission: Emission) => string), { integers = false, input = 'x' } = {}): OrtKernel {
  return {
    name,
    inputs: [input],
    infer: ([x]) => ({ shape: x.shape, dtype: x.dtype as NumericType }),
    emit: typeof emit === 'string' ? ({ graph, inputs: [x] }) => graph.op(emit, [x.name]) : emit,
    inPlace: [[0, 0]],
    supports: (inputs) => isFloat(inputs) || (integers && inputs[0].dtype === 'int32'),
  };
}

/** A question about each float. */
function predicate(name: string, emit: (emission: Emission) => string): OrtKernel {
  return { name, inputs: ['x'], infer: ([x]) => ({ shape: x.shape, dtype: 'bool' }), emit, supports: isFloat };
}

const constantLike = (value: number) => ({
  infer: ([x]: TensorInfo[]) => ({ shape: x.shape, dtype: x.dtype as NumericType }),
  emit: ({ graph, outputs: [output] }: Emission) => {
    return graph.op('Expand', [graph.scalar(output.dtype, value), graph.shape(output.shape)]);
  },
});

const square = ({ graph, inputs: [x] }: Emission): string => graph.op('Mul', [x.name, x.name]);
/** tfjs counts NaN as 0 here, ONNX keeps it. */
function sign({ graph, inputs: [x] }: Emission): string {
  const plain = graph.op('Sign', [x.name]);
  return x.dtype === 'float32' ? graph.op('Where', [graph.op('IsNaN', [x.name]), graph.scalar('float32', 0), plain]) : plain;
}
const constant = ({ graph }: Emission, value: number): string => graph.scalar('float32', value);

/** An operand's name in the graph. */
const named = (operand: Operand): string => operand.name;

export const elementwiseKernels: OrtKernel[] = [
  { ...arithmetic('Add', 'Add', BINARY_IN_PLACE), emit: sum },
  arithmetic('Sub', 'Sub', BINARY_IN_PLACE),
  arithmetic('Multiply', 'Mul', BINARY_IN_PLACE),
  arithmetic('Maximum', 'Max'),
  arithmetic('Minimum', 'Min'),
  floatArithmetic('RealDiv', ({ graph, inputs: [a, b] }) => graph.op('Div', [a.name, b.name])),
  floatArithmetic('Pow', ({ graph, inputs: [a, b] }) => graph.op('Pow', [a.name, b.name])),
  floatArithmetic('SquaredDifference', ({ graph, inputs: [a, b] }) => {
    const difference = graph.op('Sub', [a.name, b.name]);
    return graph.op('Mul', [difference, difference]);
  }),
  comparison('Equal', ({ graph, inputs: [a, b] }) => graph.op('Equal', [a.name, b.name])),
  comparison('NotEqual', ({ graph, inputs: [a, b] }) => graph.op('Not', [graph.op('Equal', [a.name, b.name])])),
  comparison('Greater', (emission) => emission.graph.op('Greater', ordered(emission))),
  comparison('GreaterEqual', (emission) => emission.graph.op('GreaterOrEqual', ordered(emission))),
  comparison('Less', (emission) => emission.graph.op('Less', ordered(emission))),
  comparison('LessEqual', (emission) => emission.graph.op('LessOrEqual', ordered(emission))),
  logical('LogicalAnd', 'And'),
  logical('LogicalOr', 'Or'),
  {
    name: 'LogicalNot',
    inputs: ['x'],
    infer: ([x]) => ({ shape: x.shape, dtype: 'bool' }),
    emit: ({ graph, inputs: [x] }) => graph.op('Not', [x.name]),
    supports: ([x]) => x.dtype === 'bool',
  },
  unary('Neg', 'Neg', { integers: true }),
  unary('Abs', 'Abs', { integers: true }),
  unary('Exp', 'Exp'),
  unary('Log', 'Log'),
  unary('Sqrt', 'Sqrt'),
  unary('Rsqrt', ({ graph, inputs: [x] }) => graph.op('Reciprocal', [graph.op('Sqrt', [x.name])])),
  unary('Square', square, { integers: true }),
  unary('Sign', sign, { integers: true }),
  unary('Sigmoid', 'Sigmoid'),
  unary('Tanh', 'Tanh'),
  unary('Relu', 'Relu'),
  unary('Erf', 'Erf'),
  unary('Reciprocal', 'Reciprocal'),
  unary('Floor', 'Floor'),
  unary('Ceil', 'Ceil'),
  unary('Round', 'Round'),
  unary('Sin', 'Sin'),
  unary('Cos', 'Cos'),
  unary('Softplus', 'Softplus'),
  ...['Asin', 'Acos', 'Atan', 'Sinh', 'Cosh', 'Asinh', 'Acosh', 'Atanh', 'Selu'].map((name) => unary(name, name)),
  unary('Relu6', ({ graph, inputs: [x] }) => graph.op('Clip', [x.name, graph.scalar('float32', 0), graph.scalar('float32', 6)])),
  predicate('IsNan', ({ graph, inputs: [x] }) => graph.op('IsNaN', [x.name])),
  predicate('IsInf', ({ graph, inputs: [x] }) => graph.op('IsInf', [x.name])),
  predicate('IsFinite', ({ graph, inputs: [x] }) =>
    graph.op('Not', [graph.op('Or', [graph.op('IsNaN', [x.name]), graph.op('IsInf', [x.name])])]),
  ),
  {
    name: 'Step',
    inputs: ['x'],
    infer: ([x]) => ({ shape: x.shape, dtype: x.dtype as NumericType }),
    key: ({ alpha }) => `${alpha}`,
    emit: (emission) => {
      const {
        graph,
        inputs: [x],
        attrs,
      } = emission;
      const positive = graph.op('Greater', [x.name, constant(emission, 0)]);
      const step = graph.op('Where', [positive, constant(emission, 1), constant(emission, attrs.alpha ?? 0)]);
      return graph.op('Where', [graph.op('IsNaN', [x.name]), named(x), step]);
    },
    supports: isFloat,
  },
  {
    name: 'ClipByValue',
    inputs: ['x'],
    infer: ([x]) => ({ shape: x.shape, dtype: x.dtype as NumericType }),
    key: ({ clipValueMin, clipValueMax }) => `${clipValueMin},${clipValueMax}`,
    emit: (emission) =>
      emission.graph.op('Clip', [
        emission.inputs[0].name,
        constant(emission, emission.attrs.clipValueMin),
        constant(emission, emission.attrs.clipValueMax),
      ]),
    supports: isFloat,
  },
  {
    name: 'Elu',
    inputs: ['x'],
    infer: ([x]) => ({ shape: x.shape, dtype: 'float32' }),
    emit: ({ graph, inputs: [x] }) => graph.op('Elu', [x.name], { alpha: float(1) }),
    supports: isFloat,
  },
  {
    name: 'LeakyRelu',
    inputs: ['x'],
    infer: ([x]) => ({ shape: x.shape, dtype: 'float32' }),
    key: ({ alpha }) => `${alpha}`,
    emit: ({ graph, inputs: [x], attrs }) => graph.op('LeakyRelu', [x.name], { alpha: float(attrs.alpha) }),
    supports: isFloat,
  },
  {
    name: 'AddN',
    infer: (inputs) => ({ shape: inputs[0].shape, dtype: inputs[0].dtype as NumericType }),
    emit: ({ graph, inputs }) => inputs.map(named).reduce((a, b) => graph.op('Add', [a, b])),
    supports: (inputs) => inputs[0].dtype !== 'bool' && ofOneType(inputs),
  },
  {
    name: 'Cast',
    inputs: ['x'],
    infer: ([x], { dtype }) => ({ shape: x.shape, dtype }),
    emit: ({ graph, inputs: [x], outputs: [output] }) => {
      const cast = graph.op('Cast', [x.name], { to: ELEMENT_TYPES[output.dtype] });
      if (x.dtype !== 'float32' || output.dtype !== 'int32') return cast;
      // What is no 32-bit integer (NaN, as in JavaScript, and beyond the range) becomes 0 on every processor.
      const fits = graph.op('Less', [graph.op('Abs', [x.name]), graph.scalar('float32', 2 ** 31)]);
      return graph.op('Where', [fits, cast, graph.scalar('int32', 0)]);
    },
    key: ({ dtype }) => dtype,
    supports: (_, { dtype }) => dtype === 'float32' || dtype === 'int32' || dtype === 'bool',
  },
  {
    name: 'Select',
    inputs: ['condition', 't', 'e'],
    // tf.where has stretched the operands to one shape already, but never from 1 to 0
    infer: ([condition, t, e]) => ({
      shape: [t.shape, e.shape].reduce(backend_util.assertAndGetBroadcastShape, maskShape(condition.shape, t)),
      dtype: t.dtype as NumericType,
    }),
    emit: ({ graph, inputs: [condition, t, e], outputs: [output], concrete }) => {
      // Over nothing, ONNX Runtime's own operation fails.
      if (concrete.flat().includes(0)) return graph.op('Expand', [graph.scalar(output.dtype, 0), graph.shape(output.shape)]);
      const isLower = condition.shape.length < t.shape.length;
      const mask = isLower ? graph.reshape(condition.name, maskShape(condition.shape, t)) : condition.name;
      return graph.op('Where', [mask, t.name, e.name]);
    },
    supports: ([condition, t, e]) => condition.dtype === 'bool' && t.dtype !== 'bool' && t.dtype === e.dtype,
  },
  { name: 'ZerosLike', inputs: ['x'], ...constantLike(0) },
  { name: 'OnesLike', inputs: ['x'], ...constantLike(1) },
  {
    name: 'Fill',
    inputs: [],
    infer: (_, { shape, dtype, value }) => ({ shape, dtype: dtype ?? (typeof value === 'boolean' ? 'bool' : 'float32') }),
    key: ({ value, dtype }) => `${exactly(value)},${dtype}`,
    emit: ({ graph, outputs: [output], attrs }) =>
      graph.op('Expand', [graph.scalar(output.dtype, Number(attrs.value)), graph.shape(output.shape)]),
    supports: (_, { dtype, value }) => (dtype === undefined ? typeof value !== 'string' : dtype in ELEMENT_TYPES),
  },
];
