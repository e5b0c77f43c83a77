/**
 * Run by webgpu.test.ts in a process of its own, whose environment names the Vulkan driver: golden values of one family, and
 * what crossed to and from the device, as JSON.
 */
import { engineStatistics, useDevice } from '../../lib/engine';
import type { SFTConfig } from '../../lib/train';
import { type GoldenOptions, type GoldenRun, goldenRun } from './golden-run';

/** What the child found. */
export interface WebGpuRun extends GoldenRun {
  weightBytes: number;
  /** After each step. */
  memory: { transferred: number; deviceTensors: number; deviceBytes: number }[];
  notes: string[];
  /** Whether the adapter has shader-f16. */
  float16: boolean;
}

/** What is run otherwise than in the reference's first run. */
interface Variant {
  config?: Partial<SFTConfig>;
  adapter?: boolean;
  dropout?: number;
  load?: GoldenOptions['load'];
}

async function main(family: string, steps: number, { config, ...variant }: Variant): Promise<void> {
  const { float16 } = await useDevice('webgpu');
  const found: WebGpuRun = { nll: [], log: [], weightBytes: 0, memory: [], notes: [], float16 };
  const run = await goldenRun(family, {
    steps,
    ...variant,
    // short rows: a software driver computes their squares slowly
    config: { fp16: false, tokensPerMicroBatch: 256, ...config },
    onStep: (model) => {
      found.weightBytes = [...model.parameters.values()].reduce((sum, { size }) => sum + 4 * size, 0);
      const { uploadedBytes = 0, downloadedBytes = 0, deviceTensors = 0, deviceBytes = 0 } = engineStatistics() ?? {};
      found.memory.push({ transferred: uploadedBytes + downloadedBytes, deviceTensors, deviceBytes });
    },
    onNote: (note) => void found.notes.push(note),
  });
  console.log(JSON.stringify({ ...found, ...run }));
}

const [family, steps, variant] = process.argv.slice(2);

const variants: Record<string, Variant> = {
  fp16: { config: { fp16: true } },
  adafactor: { config: { optim: 'adafactor' } },
  sgd: { config: { optim: 'sgd', optimArgs: 'momentum=0.9' } },
  adapter: { adapter: true },
  dropout: { adapter: true, dropout: 0.3 },
  'four-bits': { adapter: true, load: { loadIn4bit: true } },
  'sixteen-bits': { adapter: true, load: { dtype: 'bfloat16' } },
};

main(family as string, Number(steps), variants[variant] ?? {}).catch((error: Error) => {
  console.error(error.message);
  process.exitCode = 1;
});
