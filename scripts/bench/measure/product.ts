/** A float32 matrix product in ONNX Runtime, through the engine's own sessions, whose speed is what this machine can do. */
import * as os from 'node:os';
import { findBlock } from '../../../lib/engine/ort/blocked-products';
import { GraphBuilder } from '../../../lib/engine/ort/onnx';
import { leaveResults, ortTensor, Session } from '../../../lib/engine/ort/session';
import { sizeOf } from '../../../lib/engine/ort/value';
import { createRandom } from '../../../lib/random';
import type { Product, ProductWay } from '../jobs';

const SETTINGS = { threads: os.availableParallelism(), executionProviders: ['cpu'] };

/** ONNX Runtime's two ways: a product of matrices, and a convolution on matrices that lie in the blocked layout already. */
export function waysOf(product: Product): ProductWay[] {
  const block = findBlock(SETTINGS);
  const fits = block !== undefined && product.every((size) => size % block === 0);
  return [{ product, op: 'MatMul' }, ...(fits ? [{ product, op: 'Conv' } as const] : [])];
}

/** Compiled for one way, and run as often as somebody wants to know its speed. */
export class TimedProduct {
  private readonly session: Session;
  private readonly runOnce: () => void;
  private readonly operations: number;

  constructor({ product: [m, k, n], op }: ProductWay) {
    const isConv = op === 'Conv';
    const [a, b, c] = isConv ? [[1, k, 8, m / 8], [n, k, 1, 1], [1, n, 8, m / 8]] : [[m, k], [k, n], [m, n]]; // biome-ignore format: shapes side by side
    const graph = new GraphBuilder();
    const operands = [graph.input('a', 'float32', a), graph.input('b', 'float32', b)];
    const result = graph.op(op, operands, isConv ? { kernel_shape: [1, 1] } : {});
    leaveResults(graph);
    graph.outputAs('c', result, 'float32', c);
    this.session = new Session(graph, SETTINGS);
    const feeds = { a: ortTensor('float32', randomNumbers(sizeOf(a)), a), b: ortTensor('float32', randomNumbers(sizeOf(b)), b) };
    const fetches = { c: ortTensor('float32', new Float32Array(sizeOf(c)), c) };
    this.runOnce = () => this.session.run(feeds, fetches);
    this.operations = 2 * m * k * n;
    this.runOnce();
  }

  /** 10⁹ operations a second in the fastest of as many runs as begin within these seconds. */
  fastest(seconds: number): number {
    const begun = performance.now();
    let best = Number.POSITIVE_INFINITY;
    do {
      const started = performance.now();
      this.runOnce();
      best = Math.min(best, performance.now() - started);
    } while (performance.now() - begun < seconds * 1000);
    return this.operations / best / 1e6;
  }

  dispose(): void {
    this.session.dispose();
  }
}

/** Zeros could be faster than numbers. */
function randomNumbers(size: number): Float32Array {
  const random = createRandom(0);
  return Float32Array.from({ length: size }, () => random.next() - 0.5);
}
