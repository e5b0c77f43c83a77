/** The head of the bench's output: where and with what it was measured. */
import * as os from 'node:os';
import type { Ceilings } from './bench';
import type { BenchOptions } from './flags';
import { type CeilingResult, EXAMPLES_PER_STEP, RECIPE } from './jobs';

/** Machine, versions, ceilings and work, a line each. */
export function machineText({ onnxruntime, torch }: Ceilings, { data, steps, python }: BenchOptions): string {
  const versions = { node: process.versions.node, ...onnxruntime?.versions, ...torch?.versions };
  const { batchSize, accumulation, maxLength, learningRate } = RECIPE;
  return [
    `${os.cpus()[0]?.model.trim() ?? process.arch}, ${os.availableParallelism()} cores, ${(os.totalmem() / 1e9).toFixed(1)} GB, ${os.platform()} ${os.release()}`,
    Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', '),
    `float32 matrix product: ${ceilingText('ONNX Runtime', onnxruntime)}; ${ceilingText('torch', torch)}`,
    `${steps} ${steps === 1 ? 'step' : 'steps'} of ${EXAMPLES_PER_STEP} examples (batch ${batchSize}, accumulation ${accumulation}), max_length ${maxLength}, learning rate ${learningRate}, ` +
      `loss on completions, float32 weights, all cores; ${data}`,
    ...(python === undefined ? ['No peer in Python is measured, because --python was not given.'] : []),
  ].join('\n');
}

function ceilingText(name: string, ceiling: CeilingResult | undefined): string {
  if (!ceiling) return `${name} not measured`;
  const [m, k, n] = ceiling.product;
  return `${name} ${ceiling.gflops.toFixed(1)} GFLOPS ([${m}, ${k}] · [${k}, ${n}])`;
}
