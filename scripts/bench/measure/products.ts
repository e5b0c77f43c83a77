/**
 * Float32 matrix products in ONNX Runtime, through the engine's own sessions, whose speed is what this machine can do.
 *
 * They are timed as a training step computes them, many one after the other in one graph. A product that is a run of its own may take
 * half as long again, because its threads have to be woken for it; the fastest of many short ones is a moment that does not last.
 */
import * as os from 'node:os';
import { findBlock } from '../../../lib/engine/ort/blocked-products';
import { GraphBuilder } from '../../../lib/engine/ort/onnx';
import { leaveResults, ortTensor, Session } from '../../../lib/engine/ort/session';
import { sizeOf } from '../../../lib/engine/ort/value';
import { createRandom } from '../../../lib/random';
import type { Product, ProductWay } from '../jobs';

const SETTINGS = { threads: os.availableParallelism(), executionProviders: ['cpu'] };

/** Operations of one run, at least: half a second for two cores. */
const OPERATIONS = 8e10;

/** ONNX Runtime's two ways: a product of matrices, and a convolution on matrices that lie in the blocked layout already. */
export function waysOf(product: Product): ProductWay[] {
  const block = findBlock(SETTINGS);
  const fits = block !== undefined && product.every((size) => size % block === 0);
  return [{ product, op: 'MatMul' }, ...(fits ? [{ product, op: 'Conv' } as const] : [])];
}

/** [m, k] times [k, n], the result times [n, k], and so on. */
export class TimedProducts {
  private readonly session: Session;
  private readonly runOnce: () => void;
  /** Of one run. */
  private readonly operations: number;

  constructor({ product: [m, k, n], op }: ProductWay) {
    const isConv = op === 'Conv';
    const matrix = isConv ? [1, k, 8, m / 8] : [m, k];
    const weights = [
      [k, n],
      [n, k],
    ].map(([inner, columns]) => ({
      shape: isConv ? [columns, inner, 1, 1] : [inner, columns],
      // so that the results are as large as the operands
      scale: inner ** -0.5,
    }));
    const pairs = Math.ceil(OPERATIONS / (4 * m * k * n));
    this.operations = pairs * 4 * m * k * n;
    const graph = new GraphBuilder();
    const names = weights.map(({ shape }, i) => graph.input(`w${i}`, 'float32', shape));
    let result = graph.input('x', 'float32', matrix);
    for (let i = 0; i < 2 * pairs; i++) result = graph.op(op, [result, names[i % 2]], isConv ? { kernel_shape: [1, 1] } : {});
    leaveResults(graph);
    graph.outputAs('y', result, 'float32', matrix);
    this.session = new Session(graph, SETTINGS);
    const [w0, w1] = weights.map(({ shape, scale }) => ortTensor('float32', randomNumbers(sizeOf(shape), scale), shape));
    const feeds = { w0, w1, x: ortTensor('float32', randomNumbers(sizeOf(matrix), 1), matrix) };
    const fetches = { y: ortTensor('float32', new Float32Array(sizeOf(matrix)), matrix) };
    this.runOnce = () => this.session.run(feeds, fetches);
    this.runOnce();
  }

  /** The seconds of each of as many runs as begin within this budget of seconds, and at least of one. */
  timeRuns(budget: number): number[] {
    const times: number[] = [];
    const begun = performance.now();
    do {
      const started = performance.now();
      this.runOnce();
      times.push((performance.now() - started) / 1000);
    } while (performance.now() - begun < budget * 1000);
    return times;
  }

  /** The speed of runs that took these seconds, in 10⁹ operations a second. */
  gflops(times: readonly number[]): number {
    return (this.operations * times.length) / times.reduce((sum, time) => sum + time) / 1e9;
  }

  dispose(): void {
    this.session.dispose();
  }
}

/** Of this standard deviation. */
function randomNumbers(size: number, scale: number): Float32Array {
  const random = createRandom(0);
  const width = scale * Math.sqrt(12);
  return Float32Array.from({ length: size }, () => width * (random.next() - 0.5));
}
