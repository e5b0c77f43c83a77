/** A long run holds no more at its end than at its beginning. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as tf from '@tensorflow/tfjs-core';
import { engineMemory, useDevice } from '../../lib/engine';
import type { EngineMemory } from '../../lib/engine/ort/statistics';
import { SFTTrainer } from '../../lib/train';
import { rows, short, tinyModel } from './support';

before(async () => {
  await useDevice('cpu');
});

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

interface Sample {
  step: number;
  /** tfjs's own count of tensors, the bytes of their data, and the engine's count of that data. */
  tensors: { numTensors: number; numBytes: number; engineTensors: number };
  /** Compiled graphs. */
  sessions: number;
  /** Buffers of typed arrays that anything refers to, without those that wait in the engine's pool, which bounds itself. */
  bufferBytes: number;
}

/** The spans of steps whose buffers are compared. */
const [EARLY, LATE] = [
  [3, 30],
  [171, 200],
] as const;

/** Where the buffers count, a collection goes first, which takes longer than a step: at every other step is often enough. */
const isCollected = (step: number): boolean => step % 2 === 0 && [EARLY, LATE].some(([from, to]) => step >= from && step <= to);

function takeSample(step: number): Sample {
  if (isCollected(step)) collectGarbage();
  const { tensors: engineTensors, sessions, idleBytes } = engineMemory() as EngineMemory;
  const { numTensors, numBytes } = tf.memory();
  return { step, tensors: { numTensors, numBytes, engineTensors }, sessions, bufferBytes: process.memoryUsage().arrayBuffers - idleBytes };
}

/** The least found in a span of steps: buffers that were let go are freed some time after the collection that finds them. */
const least = (samples: Sample[], [from, to]: readonly [number, number]): number =>
  Math.min(...samples.filter(({ step }) => isCollected(step) && step >= from && step <= to).map(({ bufferBytes }) => bufferBytes));

for (const [name, settings] of [
  ['', {}],
  [', with gradient checkpointing', { gradientCheckpointing: true }],
  [', with Adafactor', { optim: 'adafactor' }],
] as const) {
  test(`200 steps hold memory flat after the third${name}`, async (t) => {
    const samples: Sample[] = [];
    const trainer = new SFTTrainer({
      model: await tinyModel(t),
      trainDataset: rows,
      evalDataset: rows.slice(0, 8),
      config: {
        ...{ ...short, maxSteps: 200, perDeviceTrainBatchSize: 3, gradientAccumulationSteps: 1, ...settings },
        ...{ loggingSteps: 10, evalStrategy: 'steps', evalSteps: 50 },
      },
      callbacks: [{ onStepEnd: ({ step }) => void (step >= 3 && samples.push(takeSample(step))) }],
    });
    await trainer.train();
    for (const { step, tensors } of samples) assert.deepEqual(tensors, samples[0].tensors, `step ${step} against step 3`);
    const [early, late] = [least(samples, EARLY), least(samples, LATE)];
    // Node cuts small buffers from a larger one, of 64 kB since Node 24, which stays until the last of them goes
    assert.ok(late <= 1.01 * early + Buffer.poolSize, `buffers of ${late} bytes are held at the end, ${early} in the first 30 steps`);
    const { sessions } = samples[samples.length - 1];
    assert.ok(sessions <= 16, `${sessions} graphs are kept, though rows of all lengths share theirs`);
  });
}
