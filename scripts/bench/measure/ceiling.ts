/** Child: how fast ONNX Runtime multiplies float32 matrices here. */
import { installedVersions } from '../../../lib/versions';
import { serve } from '../child';
import type { CeilingJob, CeilingResult } from '../jobs';
import { TimedProduct, waysOf } from './product';

/** Seconds for each way of each product. */
const BUDGET = 0.25;

serve(async ({ products }: CeilingJob): Promise<CeilingResult> => {
  const measured = products.flatMap(waysOf).map((way) => {
    const timed = new TimedProduct(way);
    const gflops = timed.fastest(BUDGET);
    timed.dispose();
    return { ...way, gflops };
  });
  const best = measured.reduce((a, b) => (b.gflops > a.gflops ? b : a));
  const { 'onnxruntime-node': version } = installedVersions();
  return { ...best, versions: { 'onnxruntime-node': version } };
});
