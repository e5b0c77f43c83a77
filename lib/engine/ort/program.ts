/** From the record to a compiled ONNX Runtime session: which nodes, their cache key, their ONNX graph. */
import { blockedInput } from './blocked-layout';
import type { Emission, Operand } from './kernel';
import { type Dim, GraphBuilder, multipleName, type Target } from './onnx';
import { inputInPieces, outputInPieces, split } from './pieces';
import { leaveResults } from './session';
import type { Node, Value } from './value';

/** A piece of the record that runs as one graph. */
export interface Cut {
  /** In the order of recording, which is an order of computation. */
  nodes: Node[];
  /** Values already in memory that the nodes read. */
  feeds: Value[];
  /** Values that somebody still wants. */
  fetches: Value[];
  /** Whether what it reads has to outlive it, although nobody holds it: no result may take its memory over. */
  keepsFeeds?: boolean;
}

/** Everything that must run so that `fetches` are known. */
export function cutOut(fetches: Value[]): Cut {
  const seen = new Set<Node>();
  const feeds = new Set<Value>();
  const stack = fetches.map((value) => value.node as Node);
  for (let node = stack.pop(); node; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    for (const input of node.inputs) {
      if (!input) continue;
      if (input.node) stack.push(input.node);
      else feeds.add(input);
    }
  }
  const nodes = [...seen].sort((a, b) => a.id - b.id);
  return { nodes, feeds: inOrderOfUse(nodes, feeds), fetches };
}

function inOrderOfUse(nodes: Node[], feeds: Set<Value>): Value[] {
  const ordered = new Set<Value>();
  for (const node of nodes) for (const input of node.inputs) if (input && feeds.has(input)) ordered.add(input);
  return [...ordered];
}

/** Sizes that vary from run to run, by value; the name stands for the size in keys and graphs. */
export type VaryingSizes = ReadonlyMap<number, string>;

/** A size that varies from run to run, and what all its values are multiples of. */
export type VaryingSize = number | { size: number; multipleOf: number };

/** The sizes by value. Those of 1 are never varying: they mean broadcasting. @param before others, which count where they are equal */
export function announcedSizes(sizes: Record<string, VaryingSize>, before: VaryingSizes = new Map()): VaryingSizes {
  const announced = new Map<number, string>();
  for (const [name, given] of Object.entries(sizes)) {
    const { size, multipleOf } = typeof given === 'number' ? { size: given, multipleOf: 1 } : given;
    if (size % multipleOf > 0) throw new Error(`The size ${name} is ${size}, which is not a multiple of ${multipleOf}.`);
    if (size > 1) announced.set(size, multipleOf > 1 ? multipleName(name, multipleOf) : name);
  }
  const others = [...before].filter(([, name]) => !Object.hasOwn(sizes, name));
  return new Map([...announced, ...others]);
}

/** Those of the announced sizes that a feed has: a graph can learn no other size when it runs. */
export function sizesOf(cut: Cut, announced: VaryingSizes): VaryingSizes {
  const fed = new Set(cut.feeds.filter((feed) => !feed.varies && !feed.element && feed.layout === 'rows').flatMap((feed) => feed.shape));
  return new Map([...announced].filter(([size]) => fed.has(size)));
}

/**
 * Two cuts with the same key compute the same function of their feeds: the key names every kernel, its attributes, its
 * operands and all shapes, where a varying size is written as its name. So a graph compiled for one cut serves the other.
 */
export function keyOf(cut: Cut, sizes: VaryingSizes): string {
  const names = new Map<Value, string>();
  const parts: string[] = [];
  for (const [index, feed] of cut.feeds.entries()) {
    names.set(feed, `f${index}`);
    parts.push(feed.element ?? feed.dtype, feed.layout, dimsOf(feed, sizes).join());
  }
  for (const [index, node] of cut.nodes.entries()) {
    for (const output of node.outputs) names.set(output, `${index}.${output.index}`);
    const inputs = node.inputs.map((input) => (input ? names.get(input) : '')).join();
    parts.push(`${node.kernel.name}(${inputs})${node.key}:${node.outputs.map((output) => dimsOf(output, sizes).join('x'))}`);
  }
  parts.push(cut.fetches.map((fetch) => names.get(fetch)).join());
  return parts.join(';');
}

function dimsOf(value: Value, sizes: VaryingSizes): Dim[] {
  // What lies in blocks, or is read as other numbers, is a weight: if it has one of the sizes, that is chance.
  if (value.layout === 'blocks' || value.element) return [...value.shape];
  return value.shape.map((size, axis) => (value.varies ? `any${axis}` : (sizes.get(size) ?? size)));
}

/** The ONNX model of a cut. Inputs are named i0, i1, … and outputs o0, o1, … in the order of feeds and fetches. */
export function emitGraph(cut: Cut, sizes: VaryingSizes, target: Target): GraphBuilder {
  const graph = new GraphBuilder(target);
  const operands = new Map<Value, Operand>();
  for (const [index, feed] of cut.feeds.entries()) {
    const shape = dimsOf(feed, sizes);
    const declared = feed.varies ? shape.map((_, axis) => `i${index}_${axis}`) : shape;
    if (feed.layout === 'blocks') blockedInput(graph, `i${index}`, feed.shape);
    else if (feed.element) graph.input(`i${index}`, feed.element);
    else graph.input(`i${index}`, feed.dtype, declared);
    operands.set(feed, { name: `i${index}`, shape, dtype: feed.dtype });
  }
  const written = new Emitter(graph, cut, sizes, operands).run();
  if (target.device === 'cpu') leaveResults(graph);
  for (const [index, fetch] of cut.fetches.entries()) {
    const operand = operands.get(fetch) as Operand;
    const pieces = written.get(fetch);
    if (pieces) outputInPieces(graph, `o${index}`, { shape: [...fetch.shape], dtype: fetch.dtype }, pieces);
    else graph.outputAs(`o${index}`, operand.name, fetch.dtype, operand.shape);
  }
  return graph;
}

/** Writes the nodes of a cut, turning sums with products into products that add onto a base (Gemm's third operand). */
export class Emitter {
  /** Names of the kernels that the cut calls. */
  private readonly kernels: ReadonlySet<string>;
  private readonly consumers = new Map<Value, number>();
  private readonly deferred = new Set<Node>();
  private readonly sums = new Map<Node, Value[]>();
  /** Additions of a vector to each row of a product. */
  private readonly biased = new Map<Node, { product: Node; bias: Value }>();
  /** Sums that are written in pieces, each onto the first of its terms. */
  private readonly piecewise = new Map<Node, Value[]>();
  /** Nodes that are written together, by the first of them. */
  private readonly together = new Map<Node, Node[]>();

  constructor(
    private readonly graph: GraphBuilder,
    private readonly cut: Cut,
    private readonly sizes: VaryingSizes,
    private readonly operands: Map<Value, Operand>,
  ) {
    this.kernels = new Set(cut.nodes.map(({ kernel }) => kernel.name));
    for (const node of cut.nodes)
      for (const input of node.inputs) if (input) this.consumers.set(input, (this.consumers.get(input) ?? 0) + 1);
    for (const fetch of cut.fetches) this.consumers.set(fetch, (this.consumers.get(fetch) ?? 0) + 1);
    this.findSums();
    this.findBiased();
    this.findTogether();
  }

  /** @returns the results that were written in pieces, by their names */
  run(): ReadonlyMap<Value, readonly string[]> {
    const written = new Map<Value, readonly string[]>();
    for (const node of this.cut.nodes) {
      if (this.deferred.has(node)) continue;
      const terms = this.sums.get(node);
      const inPieces = this.piecewise.get(node);
      const biased = this.biased.get(node);
      if (inPieces) {
        written.set(node.outputs[0], this.emitPieces(inPieces));
        this.bind(node, '');
      } else if (terms) this.bind(node, this.emitSum(terms));
      else if (biased) this.bind(node, this.emitBiased(biased));
      else if (this.together.has(node)) this.emitTogether(this.together.get(node) as Node[]);
      else this.bind(node, node.kernel.emit(this.emission(node)));
    }
    return written;
  }

  /** A tree of Adds over single-use terms becomes one sum; terms that can add themselves onto a base wait for it. */
  private findSums(): void {
    for (const node of [...this.cut.nodes].reverse()) {
      if (!isPlainSum(node) || this.deferred.has(node)) continue;
      const terms: Value[] = [];
      const inner: Node[] = [];
      const collect = (value: Value): void => {
        const source = value.node;
        const single = source !== undefined && this.consumers.get(value) === 1;
        if (single && isPlainSum(source)) {
          inner.push(source);
          for (const input of source.inputs) collect(input as Value);
        } else {
          terms.push(value);
        }
      };
      for (const input of node.inputs) collect(input as Value);
      const isPiecewise = this.canBeInPieces(node, terms);
      const waiting = isPiecewise ? terms.slice(1) : terms.filter((term) => this.addsOnto(term));
      if (waiting.length === 0) continue;
      for (const sum of inner) this.deferred.add(sum);
      for (const term of waiting) this.deferred.add(term.node as Node);
      (isPiecewise ? this.piecewise : this.sums).set(node, terms);
    }
  }

  /** Whether a sum of a matrix in memory and of what can be added to its pieces is only a result. */
  private canBeInPieces({ outputs: [sum] }: Node, [base, ...others]: Value[]): boolean {
    if (this.graph.target.device !== 'cpu' || base.node || !this.cut.fetches.includes(sum) || this.consumers.get(sum) !== 1) return false;
    if (!others.some(({ node }) => node?.kernel.inPieces)) return false;
    return others.every((term) => term.node?.kernel.emitOntoPieces && this.consumers.get(term) === 1);
  }

  private findBiased(): void {
    for (const node of this.cut.nodes) {
      if (node.kernel.name !== 'Add' || node.outputs[0].dtype !== 'float32') continue;
      const [matrix, bias] = node.inputs as Value[];
      const product = matrix.node;
      if (!product?.kernel.emitBiased || this.consumers.get(matrix) !== 1) continue;
      if (matrix.shape.length !== 2 || bias.shape.length !== 1 || bias.shape[0] !== matrix.shape[1]) continue;
      this.deferred.add(product);
      this.biased.set(node, { product, bias });
    }
  }

  private findTogether(): void {
    const byInput = new Map<Value, Node[]>();
    for (const node of this.cut.nodes) {
      const [input] = node.inputs;
      if (!input || !node.kernel.emitTogether) continue;
      byInput.set(input, [...(byInput.get(input) ?? []), node]);
    }
    for (const [first, ...others] of byInput.values()) {
      this.together.set(first, [first, ...others]);
      for (const other of others) this.deferred.add(other);
    }
  }

  private emitTogether(nodes: Node[]): void {
    const names = nodes[0].kernel.emitTogether?.(nodes.map((node) => this.emission(node))) as string[];
    for (const [index, node] of nodes.entries()) this.bind(node, names[index]);
  }

  private emitBiased({ product, bias }: { product: Node; bias: Value }): string {
    return product.kernel.emitBiased?.(this.emission(product), this.operand(bias).name) as string;
  }

  private addsOnto(value: Value): boolean {
    return value.node?.kernel.emitOnto !== undefined && this.consumers.get(value) === 1;
  }

  private emitSum(terms: Value[]): string {
    const ready = terms.filter((term) => !this.addsOnto(term)).map((term) => this.operand(term).name);
    // The largest product comes first: it may lie in the processor's own layout (blocked-products.ts), where others then add themselves onto it.
    const waiting = terms.filter((term) => this.addsOnto(term)).sort((a, b) => this.sizeOfOperands(b) - this.sizeOfOperands(a));
    let base = ready.length > 0 ? ready.reduce((a, b) => this.graph.op('Add', [a, b])) : undefined;
    for (const term of waiting) {
      const node = term.node as Node;
      const emission = this.emission(node);
      base = base === undefined ? ([] as string[]).concat(node.kernel.emit(emission))[0] : node.kernel.emitOnto?.(emission, base);
    }
    return base as string;
  }

  /** Elements of all that a value is computed from; varying sizes count as 1, so that they do not decide the order in which a compiled graph adds. */
  private sizeOfOperands({ node }: Value): number {
    const size = (value: Value): number =>
      dimsOf(value, this.sizes).reduce<number>((product, dim) => (typeof dim === 'number' ? product * dim : product), 1);
    return (node?.inputs ?? []).reduce((sum, input) => sum + (input ? size(input) : 0), 0);
  }

  private emitPieces([base, ...others]: Value[]): string[] {
    const add = (bases: string[], { node }: Value): string[] =>
      (node as Node).kernel.emitOntoPieces?.(this.emission(node as Node), bases) as string[];
    return others.reduce(add, this.namesOfPieces(base));
  }

  /** What is fed from main memory is fed in pieces, without a copy. */
  private namesOfPieces(value: Value): string[] {
    const operand = this.operand(value);
    const isFed = this.graph.target.device === 'cpu' && this.cut.feeds.includes(value);
    const pieces = isFed ? inputInPieces : split;
    return this.graph.once(`pieces of ${operand.name}`, () => pieces(this.graph, operand, value.shape));
  }

  private emission(node: Node): Emission {
    return {
      graph: this.graph,
      attrs: node.attrs,
      concrete: node.inputs.map((input) => input?.shape ?? []),
      inputs: node.inputs.map((input) => (input ? this.operand(input) : { name: '', shape: [], dtype: 'float32' })),
      outputs: node.outputs.map((output) => ({ shape: dimsOf(output, this.sizes), dtype: output.dtype })),
      pieces: (input) => this.namesOfPieces(node.inputs[input] as Value),
      isWith: (kernel) => this.kernels.has(kernel),
    };
  }

  private operand(value: Value): Operand {
    const found = this.operands.get(value);
    if (!found) throw new Error(`A value of ${value.node?.kernel.name} is read before it is computed.`);
    return found;
  }

  private bind(node: Node, names: string | string[]): void {
    const list = typeof names === 'string' ? [names] : names;
    for (const [index, output] of node.outputs.entries()) {
      this.operands.set(output, { name: list[index], shape: dimsOf(output, this.sizes), dtype: output.dtype });
    }
  }
}

/** An addition of two tensors of one shape. */
function isPlainSum(node: Node): boolean {
  if (node.kernel.name !== 'Add') return false;
  const shape = node.outputs[0].shape.join();
  return node.outputs[0].dtype === 'float32' && node.inputs.every((input) => input?.shape.join() === shape);
}
