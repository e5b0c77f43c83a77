/**
 * From a graph in float32 to one in float16, for models that other programs run: weights, inputs, products and nearly all between them get that
 * type. In float32 stays, as in transformers, the softmax, with the mask that is added to its scores, and a state that goes from token to token, with
 * what it decays by. Normalizations read and write float16; their operators compute in float32 by themselves.
 */
import { float32ToFloat16 } from '../../number-formats';
import { type Constant, ELEMENT_TYPES, type ElementType, type GraphParts, type NodeRecord, type ValueInfo } from './protobuf';

type FloatType = 'float16' | 'float32';

/** Products of matrices, which are in float16 whatever their operands are. */
const PRODUCTS: ReadonlySet<string> = new Set(['MatMul', 'Gemm', 'MatMulNBits']);

/** In float32 in any case. The branches of a condition are, as they were written. */
const IN_FLOAT32: ReadonlySet<string> = new Set(['Softmax', 'Softplus', 'If']);

/** Operators whose result is no number, whatever their operands are. */
const CONDITIONS: ReadonlySet<string> = new Set([
  'Equal',
  'Greater',
  'GreaterOrEqual',
  'Less',
  'LessOrEqual',
  'And',
  'Or',
  'Not',
  'IsNaN',
  'IsInf',
]);

const TYPE_OF_NUMBER: ReadonlyMap<unknown, ElementType> = new Map(
  Object.entries(ELEMENT_TYPES).map(([type, number]) => [number, type as ElementType]),
);

/**
 * The same graph in float16. The branches of a condition compute in float32, and must read nothing from around them but what is cast to it.
 * @param inFloat32 inputs and outputs that stay in float32
 */
export function toFloat16(parts: GraphParts, inFloat32: readonly string[]): GraphParts {
  return new Float16Graph(parts).run(inFloat32);
}

class Float16Graph {
  private readonly nodes: NodeRecord[] = [];
  /** Of what is given or computed. */
  private readonly types = new Map<string, ElementType>();
  /** Constants as they are read, by name. */
  private readonly constants = new Map<string, Constant>();
  private readonly outside = new Map<string, Constant>();
  private readonly sources: ReadonlyMap<string, Constant>;
  /** Names of values brought to another type. */
  private readonly casts = new Set<string>();
  private readonly halves = new Map<ArrayBufferLike, Map<string, Uint8Array>>();

  constructor(private readonly parts: GraphParts) {
    this.sources = new Map([...parts.constants, ...parts.outside.values()].map((constant) => [constant.name, constant]));
  }

  run(inFloat32: readonly string[]): GraphParts {
    const becomesHalf = ({ name, type }: ValueInfo): boolean => type === 'float32' && !inFloat32.includes(name);
    const inputs = this.parts.inputs.map((info): ValueInfo => (becomesHalf(info) ? { ...info, type: 'float16' } : info));
    for (const { name, type } of inputs) this.types.set(name, type as ElementType);
    for (const node of this.parts.nodes) this.write(node);
    const renamed = new Map(this.parts.renamed);
    const outputs = this.parts.outputs.map((info) => this.output(info, inFloat32.includes(info.name), renamed));
    const { nodes, outside } = this;
    return { nodes, constants: [...this.constants.values()], outside, inputs, outputs, described: new Map(), renamed };
  }

  private write(node: NodeRecord): void {
    const type = this.computedIn(node);
    const hasFloats = node.inputs.some((name) => this.isFloat(name));
    // a cast takes what it gets
    const inputs = node.inputs.map((name) => this.operand(name, node.op === 'Cast' ? (this.types.get(name) as FloatType) : type));
    this.nodes.push({ ...node, inputs });
    const result = resultOf(node) ?? (hasFloats ? type : this.typeOf(node.inputs[0]));
    for (const output of node.outputs) if (output) this.types.set(output, result);
  }

  /** What is no product goes on in float32 where an operand is. */
  private computedIn({ op, inputs }: NodeRecord): FloatType {
    if (IN_FLOAT32.has(op)) return 'float32';
    return !PRODUCTS.has(op) && inputs.some((name) => this.types.get(name) === 'float32') ? 'float32' : 'float16';
  }

  private typeOf(name: string): ElementType {
    const type = this.types.get(name) ?? this.sources.get(name)?.type;
    if (!type) throw new Error(`The graph does not say what ${name} is.`);
    return type;
  }

  private isFloat(name: string): boolean {
    return name !== '' && ['float16', 'float32'].includes(this.typeOf(name));
  }

  /** The name of an operand in a type, if it is of floats. */
  private operand(name: string, type: FloatType): string {
    const constant = this.sources.get(name);
    if (constant) return this.constant(constant, type);
    if (!this.isFloat(name) || this.typeOf(name) === type) return name;
    const found = `${name}.${type}`;
    if (!this.casts.has(found)) this.cast(name, found, type);
    this.casts.add(found);
    return found;
  }

  private cast(from: string, to: string, type: FloatType): void {
    this.nodes.push({ op: 'Cast', domain: '', inputs: [from], outputs: [to], attributes: { to: ELEMENT_TYPES[type] } });
  }

  private constant(constant: Constant, type: FloatType): string {
    const isFloat = constant.type === 'float32';
    // in float16, where nearly all are read, they keep their names
    const name = isFloat && type === 'float32' ? `${constant.name}.${type}` : constant.name;
    const written = this.parts.outside.has(constant.name) ? this.outside : this.constants;
    if (!written.has(name)) written.set(name, isFloat && type === 'float16' ? this.half(constant) : { ...constant, name });
    return name;
  }

  /** What lies over the same memory does so again: it is in the file once. */
  private half(constant: Constant): Constant {
    const { buffer, byteOffset, byteLength } = constant.data;
    const inBuffer = this.halves.get(buffer) ?? new Map<string, Uint8Array>();
    this.halves.set(buffer, inBuffer);
    const key = `${byteOffset} ${byteLength}`;
    const data = inBuffer.get(key) ?? new Uint8Array(float32ToFloat16(new Float32Array(buffer, byteOffset, byteLength / 4)).buffer);
    inBuffer.set(key, data);
    return { ...constant, type: 'float16', data };
  }

  /** @param renamed what values are called; an output that has to be brought to float32 is another value than the one that was called so */
  private output(info: ValueInfo, inFloat32: boolean, renamed: Map<string, string>): ValueInfo {
    const value = [...renamed].find(([, name]) => name === info.name)?.[0] ?? info.name;
    const type = this.typeOf(value);
    if (!inFloat32 || type !== 'float16') return { ...info, type };
    renamed.delete(value);
    this.cast(value, info.name, 'float32');
    return info;
  }
}

/** The type of a node's result where its operands do not say it. */
function resultOf({ op, attributes }: NodeRecord): ElementType | undefined {
  if (op === 'Cast') return TYPE_OF_NUMBER.get(attributes.to);
  if (op === 'If') return 'float32';
  if (op === 'Shape') return 'int64';
  return CONDITIONS.has(op) ? 'bool' : undefined;
}
