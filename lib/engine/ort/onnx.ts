/** Builds an ONNX graph in memory. */
import type { Origin } from './origin';
import {
  type Constant,
  type Dim,
  type ElementType,
  Float,
  type GraphParts,
  type NodeRecord,
  type ValueInfo,
  type ValueType,
  writeModel,
} from './protobuf';

export { type Dim, ELEMENT_TYPES, type ElementType } from './protobuf';

/** The name of a size that is known only when the graph runs, but always a multiple of a number. */
export const multipleName = (name: string, of: number): string => `${name}*${of}`;

/** Whether a size is certain to be a multiple of a number. */
export const isMultiple = (dim: Dim, of: number): boolean => (typeof dim === 'number' ? dim : Number(dim.split('*')[1] ?? 1)) % of === 0;

/** An integer unless wrapped by `float`: ONNX tells the two apart, JavaScript does not. */
export type Attribute = number | number[] | string | GraphBuilder | Float;
export type Attributes = Record<string, Attribute>;

/** Marks a floating-point attribute. */
export const float = (value: number): Float => new Float(value);

/** A number as a key says it: -0 is another one than 0. */
export const exactly = (value: number | boolean): string => (Object.is(value, -0) ? '-0' : String(value));

/** Versions of ONNX's operators. Attention came with 23; of versions after 21 the WebGPU provider lacks some, which would compute on the CPU. */
const OPSETS = { cpu: 23, webgpu: 21 } as const;

/**
 * Tensors that Split and Concat may have on WebGPU, on their side that has many. Adapters let a shader have 8 buffers at least
 * (maxStorageBuffersPerShaderStage), and a large tensor may take several.
 */
const MOST_PARTS = 7;

/** ONNX Runtime's own domains; the second is of operators on channels in blocks (blocked-products.ts). */
const CONTRIB = 'com.microsoft';
const BLOCKED = 'com.microsoft.nchwc';

/** The domain of each operator that is not ONNX's. */
const DOMAINS: Readonly<Record<string, string>> = {
  ...{ FusedMatMul: CONTRIB, QuickGelu: CONTRIB, FastGelu: CONTRIB, RotaryEmbedding: CONTRIB, GroupQueryAttention: CONTRIB },
  ...{ MatMulNBits: CONTRIB, GatherBlockQuantized: CONTRIB, MatMulBnb4: CONTRIB },
  ...{ SkipSimplifiedLayerNormalization: CONTRIB, SkipLayerNormalization: CONTRIB },
  ...{ ReorderInput: BLOCKED, Conv: BLOCKED, ReorderOutput: BLOCKED },
};

/** The type that products of matrices are computed in; everything else is float32. */
export type Precision = 'float32' | 'float16';

/** What a graph is written for. */
export interface Target {
  device: 'cpu' | 'webgpu';
  precision: Precision;
  /** Channels that lie together in the processor's own layout of matrices (blocked-products.ts); absent where it has none. */
  block?: number;
  /** Whether attention is one operator (fused-attention.ts). */
  fusesAttention?: boolean;
}

/** A graph under construction. Every method that adds a node returns the names of its outputs. */
export class GraphBuilder {
  /** Inputs, which they are as a whole too, and outputs that are bound in pieces (pieces.ts). */
  readonly inPieces = new Set<string>();
  private readonly nodes: NodeRecord[] = [];
  private readonly initializers = new Map<string, Constant>();
  private readonly outside = new Map<string, Constant>();
  private readonly inputs: ValueInfo[] = [];
  private readonly outputs: ValueInfo[] = [];
  private readonly described = new Map<string, ValueInfo>();
  private readonly computed = new Set<string>();
  private readonly renamed = new Map<string, string>();
  private readonly sizes = new Map<string, () => string>();
  private readonly knownSizes = new Map<string, string>();
  private readonly shared = new Map<string, unknown>();
  private readonly unwritten = new Map<string, () => void>();
  private readonly origins = new Map<string, Origin>();

  /** @param outer the graph whose values this one sees, if it is the body of a Loop */
  constructor(
    readonly target: Target = { device: 'cpu', precision: 'float32' },
    private readonly outer?: GraphBuilder,
    private readonly counter = { next: 0 },
  ) {}

  /** How many operations it has, without those in the bodies of its loops. */
  get nodeCount(): number {
    return this.nodes.length;
  }

  /** A graph for the body of a Loop; it sees the values of this one by name. */
  subgraph(): GraphBuilder {
    return new GraphBuilder(this.target, this, this.counter);
  }

  /** A value, or several, that several nodes read, made by the first that asks for it. */
  once<T = string>(key: string, make: () => T): T {
    const found = (this.shared.get(key) as T | undefined) ?? make();
    this.shared.set(key, found);
    return found;
  }

  /** What `once` has made under the key. */
  made(key: string): string | undefined {
    return this.shared.get(key) as string | undefined;
  }

  /** A value whose nodes are written when the first node reads it, if ever. */
  whenRead(write: (name: string) => void): string {
    const name = this.freshName();
    this.unwritten.set(name, () => write(name));
    return name;
  }

  /** Whether the nodes of a value from `whenRead` are still to be written. */
  isUnwritten(name: string): boolean {
    return this.unwritten.has(name);
  }

  /** Says what a value was made of. @returns the value */
  withOrigin(name: string, origin: Origin): string {
    this.origins.set(name, origin);
    return name;
  }

  originOf(name: string): Origin | undefined {
    return this.origins.get(name);
  }

  private seeWritten(name: string): void {
    const write = this.unwritten.get(name);
    this.unwritten.delete(name);
    if (write) write();
    else this.outer?.seeWritten(name);
  }

  freshName(): string {
    return `v${this.counter.next++}`;
  }

  input(name: string, type: ValueType, shape?: Dim[]): string {
    this.inputs.push({ name, type, shape });
    if (shape) this.findSizes(name, shape);
    return name;
  }

  /** Says that sizes that have a name can be read off a value when the graph runs. */
  findSizes(value: string, shape: readonly Dim[]): void {
    for (const [axis, dim] of shape.entries())
      if (typeof dim === 'string' && !this.sizes.has(dim)) this.sizes.set(dim, () => this.sizeOf(value, axis));
  }

  /**
   * Says the shape of a value of float32, of which ONNX Runtime may know but a part: an operation on values that have the same shape for it
   * can work in place. Any text names a size.
   */
  describe(name: string, shape: Dim[]): string {
    this.described.set(name, { name, type: 'float32', shape });
    return name;
  }

  /** Declares a value of the graph as an output. */
  output(name: string, type: ValueType, shape?: Dim[]): void {
    this.seeWritten(name);
    this.outputs.push({ name, type, shape });
  }

  /** Declares a value as an output under another name; the value takes that name where it can. */
  outputAs(name: string, value: string, type: ValueType, shape?: Dim[]): void {
    this.seeWritten(value);
    const isComputed = this.computed.has(value) && !this.renamed.has(value);
    if (isComputed) this.renamed.set(value, name);
    else this.node('Identity', [value], [name]);
    this.output(name, type, shape);
  }

  /** Adds a node with one output. An absent optional input is ''. */
  op(op: string, inputs: string[], attributes: Attributes = {}): string {
    return this.ops(op, inputs, 1, attributes)[0];
  }

  /** Adds a node with several outputs. What has been computed already is not computed again. */
  ops(op: string, inputs: string[], outputs: number, attributes: Attributes = {}): string[] {
    const add = (): string[] => {
      const names = Array.from({ length: outputs }, () => this.freshName());
      this.node(op, inputs, names, attributes);
      return names;
    };
    const hasBody = Object.values(attributes).some((value) => value instanceof GraphBuilder);
    return hasBody ? add() : this.once(`${op} of ${inputs} ${JSON.stringify(attributes)}`, add);
  }

  /** Parts of a tensor, of these sizes along an axis. */
  split(x: string, sizes: number[], axis: number): string[] {
    if (sizes.length === 1) return [x];
    if (this.target.device === 'cpu' || sizes.length <= MOST_PARTS) return this.ops('Split', [x, this.ints(sizes)], sizes.length, { axis });
    let first = 0;
    return sizes.map((size) => {
      const behind = first + size;
      const part = this.op('Slice', [x, this.ints([first]), this.ints([behind]), this.ints([axis])]);
      first = behind;
      return part;
    });
  }

  /** The reverse of it. */
  concat(parts: readonly string[], axis: number): string {
    if (parts.length === 1) return parts[0];
    if (this.target.device === 'cpu' || parts.length <= MOST_PARTS) return this.op('Concat', [...parts], { axis });
    const groups = Array.from({ length: Math.ceil(parts.length / MOST_PARTS) }, (_, i) =>
      parts.slice(MOST_PARTS * i, MOST_PARTS * (i + 1)),
    );
    return this.concat(
      groups.map((group) => this.concat(group, axis)),
      axis,
    );
  }

  /** Adds a node whose outputs have given names. */
  node(op: string, inputs: string[], outputs: string[], attributes: Attributes = {}): void {
    for (const input of inputs) this.seeWritten(input);
    for (const output of outputs) this.computed.add(output);
    this.nodes.push({ op, domain: DOMAINS[op] ?? '', inputs, outputs, attributes });
  }

  /** A constant vector of int64, the type of axes, sizes and indices. */
  ints(values: number[]): string {
    return this.constant('int64', values, [values.length]);
  }

  /** A constant scalar. */
  scalar(type: ElementType, value: number): string {
    return this.constant(type, [value], []);
  }

  constant(type: ElementType, values: number[], dims: number[]): string {
    const key = `${type}[${dims}]${values.map(exactly)}`;
    let found = this.initializers.get(key);
    if (!found) {
      found = { name: this.freshName(), type, dims, data: bytesOf(type, values) };
      this.initializers.set(key, found);
    }
    return found.name;
  }

  /** A constant of so much data that it stays outside of the protobuf: see `dataOutside`. */
  data(type: ElementType, values: Uint8Array | Float32Array | Int32Array, dims: readonly number[], name = this.freshName()): string {
    this.outside.set(name, { name, type, dims, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) });
    return name;
  }

  /** What the model refers to, by name. */
  get dataOutside(): Array<{ path: string; data: Uint8Array }> {
    return [...this.outside].map(([path, { data }]) => ({ path, data }));
  }

  /** A shape as an int64 vector; sizes known only at run time are read off values that have them. */
  shape(dims: readonly Dim[]): string {
    if (dims.every((dim) => typeof dim === 'number')) return this.ints(dims as number[]);
    const parts = dims.map((dim) => (typeof dim === 'number' ? this.ints([dim]) : this.size(dim)));
    return this.concat(parts, 0);
  }

  /**
   * The same value under a new name, in a shape, int64 [axes], that may leave a size to infer, without a copy. ONNX Runtime computes of a
   * node's operands that first which was written last, with all that it needs: if that is not the one which takes longest, the others wait in
   * memory.
   */
  again(x: string, shape: string): string {
    const name = this.freshName();
    this.node('Reshape', [x, shape], [name]);
    return name;
  }

  /** Reshape; at most one varying size is left for ONNX to infer. */
  reshape(x: string, dims: readonly Dim[]): string {
    return this.op('Reshape', [x, this.newShape(dims)], dims.includes(0) ? { allowzero: 1 } : {});
  }

  /** The shape for such a Reshape. */
  newShape(dims: readonly Dim[]): string {
    const varying = dims.filter((dim) => typeof dim === 'string').length;
    if (varying !== 1 || dims.includes(0)) return this.shape(dims);
    return this.ints(dims.map((dim) => (typeof dim === 'string' ? -1 : dim)));
  }

  /** A tensor [n, …] as [1, n, …]. */
  batched(x: string): string {
    return this.once(batchedKey(x), () => this.op('Unsqueeze', [x, this.ints([0])]));
  }

  /** A tensor [1, n, …] as [n, …]; who wants it `batched` gets it as it was. */
  unbatched(x: string): string {
    const name = this.whenRead((written) => this.node('Squeeze', [x, this.ints([0])], [written]));
    this.once(batchedKey(name), () => x);
    return name;
  }

  /** Says that a value from `whenRead`, [n, …], which nobody has read yet is now there as [1, n, …]. */
  isNowBatched(name: string, batched: string): void {
    this.unwritten.set(name, () => this.node('Squeeze', [batched, this.ints([0])], [name]));
    this.shared.set(batchedKey(name), batched);
  }

  /** Writes what works on the rows of tensors, however many axes are before them: where one is `batched` already, on all as such. */
  onRows(tensors: readonly string[], write: (tensors: string[]) => string[]): string[] {
    if (!tensors.some((x) => this.made(batchedKey(x)))) return write([...tensors]);
    return write(tensors.map((x) => this.batched(x))).map((y) => this.unbatched(y));
  }

  /** One size of a tensor as an int64 vector of length 1. */
  sizeOf(name: string, axis: number): string {
    return this.op('Shape', [name], { start: axis, end: axis + 1 });
  }

  /** The whole numbers below a size, int32 [size]. @param size int32, [] or [1] */
  upTo(size: string): string {
    return this.op('Range', [this.scalar('int32', 0), size, this.scalar('int32', 1)]);
  }

  /** The same int64 vector; of the shape that it says ONNX Runtime knows nothing, not even how many axes it has (see `openShapes`). */
  open(shape: string): string {
    return this.op('Reshape', [shape, this.anyLength]);
  }

  /** The shape [-1], apart from the constant that says an axis: without that ONNX Runtime would conclude wrong shapes. */
  private get anyLength(): string {
    return this.once('any length', () => {
      const name = this.freshName();
      this.initializers.set('any length', { name, type: 'int64', dims: [1], data: bytesOf('int64', [-1]) });
      return name;
    });
  }

  private size(symbol: string): string {
    let name = this.knownSizes.get(symbol);
    if (!name) {
      const make = this.sizes.get(symbol);
      if (!make) throw new Error(`No value of the graph is known to have the size ${symbol}.`);
      name = make();
      this.knownSizes.set(symbol, name);
    }
    return name;
  }

  /** The whole model as protobuf bytes, for a session of ours, which is handed the data outside by name. */
  toModel(): Uint8Array {
    const { parts } = this;
    return writeModel({ ...parts, inputs: [...parts.inputs, ...this.openShapes(parts)] }, this.opsets);
  }

  /** Versions of the operators that it is written for, by their domain. */
  get opsets(): Readonly<Record<string, number>> {
    const { device } = this.target;
    return { '': OPSETS[device], [CONTRIB]: 1, ...(device === 'cpu' && { [BLOCKED]: 1 }) };
  }

  /** What is written of it. */
  get parts(): GraphParts {
    const { needed: nodes, inputs, outputs, described, renamed } = this;
    return { nodes, constants: [...this.initializers.values()], outside: this.outside, inputs, outputs, described, renamed };
  }

  /** The nodes that its outputs need: of what a kernel writes, somebody may want but a part. */
  private get needed(): NodeRecord[] {
    const read = new Set(this.outputs.map(({ name }) => name));
    const needed: NodeRecord[] = [];
    for (const node of [...this.nodes].reverse()) {
      if (!node.outputs.some((name) => read.has(this.renamed.get(name) ?? name))) continue;
      needed.push(node);
      for (const name of namesReadBy(node)) read.add(name);
    }
    return needed.reverse();
  }

  /**
   * The constants that say a shape with a size to be inferred, as inputs with a default: ones that might be another when the graph runs.
   * If ONNX Runtime knew all but one size of a value, it would look for another value of its shape, whose memory it could take,
   * among all that came before: in vain, as an unknown size equals none, and for seconds where the graph is large.
   */
  private openShapes({ nodes }: GraphParts): ValueInfo[] {
    const isOpen = ({ type, dims: [axes], data }: Constant): boolean =>
      type === 'int64' && axes > 1 && new BigInt64Array(data.buffer).includes(-1n);
    const shapes = new Set(nodes.filter(({ op }) => op === 'Reshape').map(({ inputs: [, shape] }) => shape));
    const anyLength = this.initializers.get('any length');
    const open = [...this.initializers.values()].filter((constant) => shapes.has(constant.name) && isOpen(constant));
    return [...open, ...(anyLength ? [anyLength] : [])].map(({ name, type }) => ({ name, type }));
  }
}

/** What a node reads, in the bodies of loops too. */
function namesReadBy({ inputs, attributes }: NodeRecord): string[] {
  const ofBodies = Object.values(attributes).flatMap((value) => {
    if (!(value instanceof GraphBuilder)) return [];
    const { nodes, outputs } = value.parts;
    return [...nodes.flatMap(namesReadBy), ...outputs.map(({ name }) => name)];
  });
  return [...inputs, ...ofBodies];
}

const batchedKey = (x: string): string => `batched: ${x}`;

function bytesOf(type: ElementType, values: number[]): Uint8Array {
  const array =
    type === 'float32'
      ? Float32Array.from(values)
      : type === 'int64'
        ? BigInt64Array.from(values, BigInt)
        : type === 'int32'
          ? Int32Array.from(values)
          : Uint8Array.from(values);
  return new Uint8Array(array.buffer);
}
