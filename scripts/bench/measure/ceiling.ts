/** Child: how fast ONNX Runtime multiplies float32 matrices here. */
import { installedVersions } from '../../../lib/versions';
import { serve } from '../child';
import type { CeilingJob, CeilingResult } from '../jobs';
import { TimedProducts, waysOf } from './products';

/** Seconds for each way of each product. */
const BUDGET = 2;

serve(async ({ products }: CeilingJob): Promise<CeilingResult> => {
  const measured = products.flatMap(waysOf).map((way) => {
    const timed = new TimedProducts(way);
    const gflops = timed.gflops([Math.min(...timed.timeRuns(BUDGET))]);
    timed.dispose();
    return { ...way, gflops };
  });
  const best = measured.reduce((a, b) => (b.gflops > a.gflops ? b : a));
  const { 'onnxruntime-node': version } = installedVersions();
  return { ...best, versions: { 'onnxruntime-node': version } };
});
