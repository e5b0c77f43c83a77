/**
 * `npm run memory`: the peak memory of one training step on one example, by its length, with and without gradient
 * checkpointing, as a Markdown table. The model has SmolLM2-135M's shape and random weights; half of the example's tokens
 * carry loss. Each figure comes from a process of its own on one processor. Needs Linux, whose kernel counts a process's
 * peak afresh on request.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as tf from '@tensorflow/tfjs-core';
import { releaseMemory, useDevice } from '../lib/engine';
import { createModel } from '../lib/model';
import { projectRoot } from '../lib/project';
import { loadTokenizer } from '../lib/text';
import { GradientSums } from '../lib/train/gradients';
import { backwardRow } from '../lib/train/loss';
import { Optimizer } from '../lib/train/optimizer';
import { adamWRule } from '../lib/train/update-rules';

const LENGTHS = [512, 1024, 2048, 4096];
const TIMED_STEPS = 2;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const SHAPE = {
  ...{ model_type: 'llama', architectures: ['LlamaForCausalLM'], hidden_act: 'silu', tie_word_embeddings: true },
  ...{ hidden_size: 576, intermediate_size: 1536, num_hidden_layers: 30, num_attention_heads: 9, num_key_value_heads: 3 },
  ...{ vocab_size: 49152, max_position_embeddings: 8192, rms_norm_eps: 1e-5, rope_theta: 100000, initializer_range: 0.02 },
};

/** What one process finds. */
interface Figures {
  /** Megabytes (10⁶ bytes) of weights, gradients, moments and the program itself, before the step. */
  before: number;
  /** Megabytes at the peak of the step above that. */
  step: number;
  /** Of processor time, for a step on compiled graphs. */
  seconds: number;
}

async function measure(length: number, gradientCheckpointing: boolean): Promise<Figures> {
  await useDevice('cpu');
  const model = createModel(SHAPE, { seed: 0, tokenizer: await loadTokenizer(path.join(projectRoot, 'data', 'base')) });
  const optimizer = new Optimizer(model.parameters, adamWRule());
  const gradients = new GradientSums();
  const step = async (tokens: number): Promise<void> => {
    const share = tf.scalar(2 / tokens);
    const inputIds = Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % SHAPE.vocab_size);
    const lossMask = new Uint8Array(tokens).fill(1, tokens / 2);
    await backwardRow(model, [{ sequence: { inputIds, lossMask }, microBatch: 0, index: 0 }], gradients, { share, gradientCheckpointing });
    optimizer.update(gradients.entries(), 1e-5, 1);
    gradients.reset();
    share.dispose();
  };
  // A short step makes gradients and moments; then nothing else is kept.
  await step(16);
  releaseMemory();
  collectGarbage();
  const before = residentMegabytes('VmRSS');
  writeFileSync('/proc/self/clear_refs', '5');
  await step(length);
  const peak = residentMegabytes('VmHWM');
  const times: number[] = [];
  for (let i = 0; i < TIMED_STEPS; i++) {
    const start = process.cpuUsage();
    await step(length);
    const { user, system } = process.cpuUsage(start);
    times.push((user + system) / 1e6);
  }
  return { before, step: peak - before, seconds: Math.min(...times) };
}

function residentMegabytes(field: 'VmRSS' | 'VmHWM'): number {
  const [, kibibytes] = readFileSync('/proc/self/status', 'utf8').match(new RegExp(`${field}:\\s+(\\d+) kB`)) as RegExpMatchArray;
  return (Number(kibibytes) * 1024) / 1e6;
}

/** On one processor, so that the time does not depend on what else the machine does. */
function inProcessOfItsOwn(length: number, checkpointing: boolean): Figures {
  const command = ['-c', '0', process.execPath, __filename, String(length), String(checkpointing)];
  return JSON.parse(execFileSync('taskset', command, { encoding: 'utf8' })) as Figures;
}

function printTable(): void {
  let before = 0;
  const megabytes = (amount: number): string => Math.round(amount).toLocaleString('en');
  console.log('| tokens | MB | MB with checkpointing | less memory | more time |');
  console.log('| ---: | ---: | ---: | ---: | ---: |');
  for (const length of LENGTHS) {
    const [plain, saving] = [false, true].map((checkpointing) => inProcessOfItsOwn(length, checkpointing));
    before = Math.max(before, plain.before, saving.before);
    const less = (plain.step / saving.step).toFixed(1);
    const more = Math.round(100 * (saving.seconds / plain.seconds - 1));
    console.log(`| ${length} | ${megabytes(plain.step)} | ${megabytes(saving.step)} | ${less} × | ${more}% |`);
  }
  console.log(`Beside that the process holds ${megabytes(before)} MB: weights, gradients, moments, and the program.`);
}

async function main(): Promise<void> {
  const [length, checkpointing] = process.argv.slice(2);
  if (length === undefined) return printTable();
  if (!LENGTHS.includes(Number(length))) {
    console.error(`npm run memory takes no flags, but was given ${JSON.stringify(length)}.`);
    process.exitCode = 2;
  } else console.log(JSON.stringify(await measure(Number(length), checkpointing === 'true')));
}

void main();
