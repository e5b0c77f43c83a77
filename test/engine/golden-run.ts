/** The golden values of one model family on the device in use, for the tests of devices other than the CPU. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import type { AlpacaExample } from '../../lib/data';
import { readJson } from '../../lib/files';
import { type CausalLM, type LoadOptions, loadModel, tokenNll } from '../../lib/model';
import { type AdapterConfig, attachAdapter, readAdapterConfig } from '../../lib/model/adapter-files';
import { projectRoot } from '../../lib/project';
import { type LogRecord, parseConfig, type SFTConfig, SFTTrainer } from '../../lib/train';

/** Optimizer steps that are compared. */
const STEPS = 3;

/** What a device computes: the loss of each token of the golden ids, and the log of the first training steps. */
export interface GoldenRun {
  nll: number[];
  log: LogRecord[];
}

const read = <T>(...names: string[]): T => readJson(path.join(projectRoot, 'test', 'golden', ...names)) as T;

/** What a run may do otherwise. */
export interface GoldenOptions {
  steps?: number;
  /** Trains the golden adapter. */
  adapter?: boolean;
  /** Share of the adapter's inputs and of the attentions' weights that is dropped; the reference drops nothing. */
  dropout?: number;
  /** Keeps the weights in few bits, which the reference does not. */
  load?: Pick<LoadOptions, 'loadIn4bit' | 'dtype'>;
  /** Settings beside the reference's. */
  config?: Partial<SFTConfig>;
  onStep?: (model: CausalLM) => void;
  onNote?: (note: string) => void;
}

/** Scores the golden ids, then trains for a few steps. */
export async function goldenRun(
  family: string,
  { steps = STEPS, adapter, dropout = 0, load, config, onStep, onNote }: GoldenOptions = {},
): Promise<GoldenRun> {
  const folder = path.join(projectRoot, 'test', 'golden', family);
  const model = await loadModel(path.join(folder, 'model'), load);
  Object.assign(model.config, { attentionDropout: dropout });
  const adapterFolder = path.join(folder, 'lora_init');
  if (adapter) {
    const { settings, ...found } = readAdapterConfig(adapterFolder) as AdapterConfig;
    await attachAdapter(model, adapterFolder, { ...found, settings: { ...settings, loraDropout: dropout } }, { name: folder });
  }
  const { nll } = await tokenNll(model, read<{ input_ids: number[] }>(family, 'forward.json').input_ids);
  const trainer: SFTTrainer = new SFTTrainer({
    model,
    trainDataset: read<AlpacaExample[]>('rows.json'),
    config: {
      ...parseConfig(read<{ config: Record<string, unknown> }>(family, referenceOf(adapter)).config),
      disableTqdm: true,
      ...config,
    },
    callbacks: [
      {
        onLog: ({ step, stop }) => {
          onStep?.(model);
          if (step >= steps) stop();
        },
        onNote,
      },
    ],
  });
  await trainer.train();
  model.dispose();
  return { nll: [...nll], log: [...trainer.log] };
}

/** Asserts that a step's loss is the reference's, within a relative tolerance. */
export function assertLoss(family: string, { log }: GoldenRun, step: number, within: number): void {
  const reference = read<{ log: LogRecord[] }>(family, 'sft.json').log;
  assertRelative(log[step - 1]?.loss, reference[step - 1].loss, within, `loss of step ${step}`);
}

const referenceOf = (adapter = false): string => (adapter ? 'sft_lora.json' : 'sft.json');

/** Asserts that a run has the reference's numbers, as closely as `test/golden/README.md` asks for. */
export function assertGolden(family: string, { nll, log }: GoldenRun, { adapter }: GoldenOptions = {}): void {
  const expected = read<{ token_nll: number[] }>(family, 'forward.json').token_nll;
  assert.equal(nll.length, expected.length);
  for (const [i, loss] of expected.entries()) assert.ok(Math.abs(nll[i] - loss) < 1e-4, `token ${i + 1}: loss ${nll[i]}, expected ${loss}`);
  const reference = read<{ log: LogRecord[] }>(family, referenceOf(adapter)).log;
  assert.equal(log.length, STEPS);
  for (const [i, record] of log.entries()) {
    assertRelative(record.loss, reference[i].loss, 1e-4, `loss of step ${i + 1}`);
    assertRelative(record.grad_norm, reference[i].grad_norm, 1e-3, `grad_norm of step ${i + 1}`);
  }
}

function assertRelative(found = Number.NaN, expected = Number.NaN, tolerance: number, what: string): void {
  assert.ok(Math.abs(found / expected - 1) < tolerance, `${what}: ${found}, expected ${expected}`);
}
