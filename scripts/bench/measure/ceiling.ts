/** Child: how fast ONNX Runtime multiplies float32 matrices here, through the engine's own sessions. */
import * as os from 'node:os';
import { findBlock } from '../../../lib/engine/ort/blocked-products';
import { GraphBuilder } from '../../../lib/engine/ort/onnx';
import { leaveResults, ortTensor, Session } from '../../../lib/engine/ort/session';
import { sizeOf } from '../../../lib/engine/ort/value';
import { createRandom } from '../../../lib/random';
import { installedVersions } from '../../../lib/versions';
import { serve } from '../child';
import type { CeilingJob, CeilingResult, Product } from '../jobs';

const SETTINGS = { threads: os.availableParallelism(), executionProviders: ['cpu'] };

/** Seconds for each way of each product. */
const BUDGET = 0.25;

serve(async ({ products }: CeilingJob): Promise<CeilingResult> => {
  const measured = products.map((product) => ({ product, gflops: gflopsOf(product) }));
  const best = measured.reduce((a, b) => (b.gflops > a.gflops ? b : a));
  const { 'onnxruntime-node': version } = installedVersions();
  return { ...best, versions: { 'onnxruntime-node': version } };
});

/** The better of ONNX Runtime's two ways: a product of matrices, and a convolution on matrices that lie in the blocked layout already. */
function gflopsOf([m, k, n]: Product): number {
  const block = findBlock(SETTINGS);
  const ways = [{ op: 'MatMul', a: [m, k], b: [k, n], c: [m, n], attributes: {} }];
  if (block !== undefined && m % block === 0 && k % block === 0 && n % block === 0)
    ways.push({ op: 'Conv', a: [1, k, 8, m / 8], b: [n, k, 1, 1], c: [1, n, 8, m / 8], attributes: { kernel_shape: [1, 1] } });
  return (2 * m * k * n) / Math.min(...ways.map(secondsOf)) / 1e9;
}

interface Way {
  op: string;
  a: number[];
  b: number[];
  c: number[];
  attributes: Record<string, number[]>;
}

/** The best of as many runs as the budget allows. */
function secondsOf({ op, a, b, c, attributes }: Way): number {
  const graph = new GraphBuilder();
  const product = graph.op(op, [graph.input('a', 'float32', a), graph.input('b', 'float32', b)], attributes);
  leaveResults(graph);
  graph.outputAs('c', product, 'float32', c);
  const session = new Session(graph, SETTINGS);
  const feeds = { a: ortTensor('float32', randomNumbers(sizeOf(a)), a), b: ortTensor('float32', randomNumbers(sizeOf(b)), b) };
  const fetches = { c: ortTensor('float32', new Float32Array(sizeOf(c)), c) };
  session.run(feeds, fetches);
  let best = Number.POSITIVE_INFINITY;
  const begun = performance.now();
  while (performance.now() - begun < BUDGET * 1000) {
    const started = performance.now();
    session.run(feeds, fetches);
    best = Math.min(best, (performance.now() - started) / 1000);
  }
  session.dispose();
  return best;
}

/** Zeros could be faster than numbers. */
function randomNumbers(size: number): Float32Array {
  const random = createRandom(0);
  return Float32Array.from({ length: size }, () => random.next() - 0.5);
}
