/** Child: how fast ONNX Runtime multiplies float32 matrices here, through the engine's own sessions. */
import * as os from 'node:os';
import { GraphBuilder } from '../../../lib/engine/ort/onnx';
import { leaveResults, ortTensor, Session } from '../../../lib/engine/ort/session';
import { createRandom } from '../../../lib/random';
import { installedVersions } from '../../../lib/versions';
import { serve } from '../child';
import type { CeilingJob, CeilingResult, Product } from '../jobs';

/** Seconds for each product. */
const BUDGET = 0.25;

serve(async ({ products }: CeilingJob): Promise<CeilingResult> => {
  const measured = products.map((product) => ({ product, gflops: gflopsOf(product) }));
  const best = measured.reduce((a, b) => (b.gflops > a.gflops ? b : a));
  const { 'onnxruntime-node': version } = installedVersions();
  return { ...best, versions: { 'onnxruntime-node': version } };
});

/** The best of as many runs as the budget allows. */
function gflopsOf([m, k, n]: Product): number {
  const graph = new GraphBuilder();
  const product = graph.op('MatMul', [graph.input('a', 'float32', [m, k]), graph.input('b', 'float32', [k, n])]);
  leaveResults(graph);
  graph.outputAs('c', product, 'float32', [m, n]);
  const session = new Session(graph.toModel(), { threads: os.availableParallelism(), executionProviders: ['cpu'] });
  const feeds = { a: ortTensor('float32', randomNumbers(m * k), [m, k]), b: ortTensor('float32', randomNumbers(k * n), [k, n]) };
  const fetches = { c: ortTensor('float32', new Float32Array(m * n), [m, n]) };
  session.run(feeds, fetches);
  let best = Number.POSITIVE_INFINITY;
  const begun = performance.now();
  while (performance.now() - begun < BUDGET * 1000) {
    const started = performance.now();
    session.run(feeds, fetches);
    best = Math.min(best, (performance.now() - started) / 1000);
  }
  session.dispose();
  return (2 * m * k * n) / best / 1e9;
}

/** Zeros could be faster than numbers. */
function randomNumbers(size: number): Float32Array {
  const random = createRandom(0);
  return Float32Array.from({ length: size }, () => random.next() - 0.5);
}
