/** The WebGPU path, on a GPU or on a software Vulkan driver (SwiftShader, part of Debian's chromium package). */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import * as path from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, type TestContext, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { families } from '../golden-families';
import { assertGolden, assertLoss, goldenRun } from './golden-run';
import type { WebGpuRun } from './webgpu-child';

const SWIFTSHADER = '/usr/lib/chromium';
const DRIVER = path.join(SWIFTSHADER, 'vk_swiftshader_icd.json');

/** Without a driver of the machine's own choice, the software driver where it is installed. */
function environment(): NodeJS.ProcessEnv {
  if (process.env.VK_ICD_FILENAMES || !existsSync(DRIVER)) return process.env;
  const libraries = [SWIFTSHADER, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':');
  return { ...process.env, VK_ICD_FILENAMES: DRIVER, LD_LIBRARY_PATH: libraries };
}

/** Why nothing can be computed here, once a child program has said so: the next need not be started to say it again. */
let obstacle: string | undefined;

/** What a child program found, or undefined where it could not run, which skips the test. Waiting for it leaves the results of the tests before free to appear. */
async function run<T>(t: TestContext, program: string, ...args: string[]): Promise<T | undefined> {
  if (obstacle) {
    t.skip(obstacle);
    return undefined;
  }
  const child = spawn(process.execPath, [path.join(__dirname, program), ...args], { env: environment() });
  const [output, errors, [code, signal]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  if (errors.includes("The device 'webgpu' needs a GPU")) {
    obstacle = "there is no Vulkan driver here; Debian's package chromium brings one in software";
    t.skip(obstacle);
    return undefined;
  }
  assert.equal(code, 0, `${program} ${args.join(' ')} ended with ${signal ?? code}: ${errors}`);
  return JSON.parse(output) as T;
}

/** The largest difference of two lists of lists. */
function farthest(found: number[][], expected: number[][]): number {
  assert.deepEqual(
    found.map(({ length }) => length),
    expected.map(({ length }) => length),
  );
  const others = found.flat();
  return expected.flat().reduce((most, value, index) => Math.max(most, Math.abs(others[index] - value)), 0);
}

/** Loss and norm of the gradient of each step. */
const numbers = ({ log }: Pick<WebGpuRun, 'log'>) => log.map(({ loss = 0, grad_norm: norm = 0 }) => [loss, norm]);

const WITH_STATES = ['qwen3_5', 'granite_h'];

/** Families that are computed by the file of another one here, or of whose operations others have all that matters on a device. */
const COMPUTED_BY_OTHERS = [
  'smollm3',
  'olmo',
  'olmo3',
  'granitemoe',
  'granitemoehybrid',
  'qwen2_moe',
  'qwen3_moe',
  'mixtral',
  'lfm2_moe',
  'nanochat',
  'hunyuan_v1_dense',
  'falcon_h1',
  'starcoder2',
  'gpt_bigcode',
  'glm',
  'glm4',
  'gptj',
  'codegen',
  'bloom',
  'stablelm',
  'gemma',
  'gemma4',
  'gemma4_dense',
  'ministral3',
  'exaone4',
  'cohere2',
];

// Each test waits for a program of its own, which a driver in software keeps busy with one core.
describe('WebGPU', { concurrency: Math.min(availableParallelism(), 4) }, () => {
  for (const family of families.filter((name) => !COMPUTED_BY_OTHERS.includes(name))) {
    test(`${family} on WebGPU: the reference's losses and first training steps, weights and optimizer state staying there`, async (t) => {
      const found = await run<WebGpuRun>(t, 'webgpu-child.js', family, '3');
      if (!found) return;
      assertGolden(family, found);
      const [, second, third] = found.memory;
      const transferred = third.transferred - second.transferred;
      // tables of places for its convolutions and chunks are some 90 bytes a token beside
      const share = WITH_STATES.includes(family) ? 6 : 10;
      assert.ok(
        transferred < found.weightBytes / share,
        `${transferred} bytes crossed in a step, with weights of ${found.weightBytes} bytes`,
      );
      assert.equal(third.deviceTensors, second.deviceTensors);
      assert.equal(third.deviceBytes, second.deviceBytes);
      // weights, gradients and two moments
      assert.ok(third.deviceBytes > 3.9 * found.weightBytes, `${third.deviceBytes} bytes on the device`);
    });
  }

  for (const [variant, optimizer, config, most] of [
    // weights and sums of gradients, and as much again of momentum
    ['adafactor', 'Adafactor', { optim: 'adafactor' }, 2.4],
    ['sgd', 'SGD with momentum', { optim: 'sgd', optimArgs: 'momentum=0.9' }, 3.4],
  ] as const) {
    test(`${optimizer} on WebGPU makes the steps of the CPU, its state staying there`, async (t) => {
      const found = await run<WebGpuRun>(t, 'webgpu-child.js', 'llama', '3', variant);
      if (!found) return;
      await useDevice('cpu');
      const expected = await goldenRun('llama', { config: { ...config, tokensPerMicroBatch: 256 } });
      assert.ok(farthest(numbers(found), numbers(expected)) < 1e-5);
      const [, second, third] = found.memory;
      assert.ok(third.transferred - second.transferred < found.weightBytes / 10);
      assert.equal(third.deviceTensors, second.deviceTensors);
      assert.equal(third.deviceBytes, second.deviceBytes);
      assert.ok(
        third.deviceBytes < most * found.weightBytes,
        `${third.deviceBytes} bytes on the device, with weights of ${found.weightBytes}`,
      );
    });
  }

  test("an adapter on WebGPU: the reference's first training steps, in the memory of the weights and little more", async (t) => {
    const found = await run<WebGpuRun>(t, 'webgpu-child.js', 'llama', '3', 'adapter');
    if (!found) return;
    assertGolden('llama', found, { adapter: true });
    const [, second, third] = found.memory;
    assert.ok(third.transferred - second.transferred < found.weightBytes / 10);
    assert.equal(third.deviceBytes, second.deviceBytes);
    assert.ok(
      third.deviceBytes < 2.5 * found.weightBytes,
      `${third.deviceBytes} bytes on the device, with weights of ${found.weightBytes}`,
    );
  });

  test('dropout on WebGPU drops what it does on the CPU', async (t) => {
    const found = await run<WebGpuRun>(t, 'webgpu-child.js', 'llama', '2', 'dropout');
    if (!found) return;
    await useDevice('cpu');
    const expected = await goldenRun('llama', { steps: 2, adapter: true, dropout: 0.3, config: { tokensPerMicroBatch: 256 } });
    assert.ok(farthest(numbers(found), numbers(expected)) < 1e-5);
  });

  const compact = { 'four-bits': { loadIn4bit: true }, 'sixteen-bits': { dtype: 'bfloat16' } } as const;
  for (const [variant, load] of Object.entries(compact))
    test(`weights in ${variant} on WebGPU are those of the CPU, and stay there`, async (t) => {
      const found = await run<WebGpuRun>(t, 'webgpu-child.js', 'llama', '3', variant);
      if (!found) return;
      await useDevice('cpu');
      const expected = await goldenRun('llama', { adapter: true, load, config: { tokensPerMicroBatch: 256 } });
      assert.ok(farthest([found.nll], [expected.nll]) < 1e-5);
      assert.ok(farthest(numbers(found), numbers(expected)) < 1e-5);
      const [, second, third] = found.memory;
      const transferred = third.transferred - second.transferred;
      // of the weights that are in float32; scales as small as here are fed each time
      assert.ok(transferred < found.weightBytes / 2, `${transferred} bytes crossed in a step, with weights of ${found.weightBytes} bytes`);
      assert.equal(third.deviceBytes, second.deviceBytes);
    });

  test('fp16 on WebGPU loses what float32 does within 0.1%, or says that the GPU cannot', async (t) => {
    const found = await run<WebGpuRun>(t, 'webgpu-child.js', 'llama', '1', 'fp16');
    if (!found) return;
    assertLoss('llama', found, 1, 1e-3);
    const refusal = 'fp16 has no effect here: the GPU has no shader-f16, so everything computes in float32.';
    assert.equal(found.notes.includes(refusal), !found.float16);
    t.diagnostic(found.float16 ? 'computed in float16' : refusal);
  });

  test('results stay on the device until somebody reads them, and leave it when they are disposed; tensors fall into any number of parts', async (t) => {
    const found = await run<Record<string, unknown>>(t, 'webgpu-memory-child.js');
    if (!found) return;
    // three numbers of 4 bytes cross beside x, which has 4000
    assert.deepEqual(found.firstUse, { runs: 1, uploadedBytes: 4004, downloadedBytes: 4, deviceTensors: 0 });
    assert.deepEqual(
      found.secondUse,
      { runs: 1, uploadedBytes: 4004, downloadedBytes: 4, deviceTensors: 1 },
      'what is fed again moves over',
    );
    assert.deepEqual(found.thirdUse, { runs: 1, uploadedBytes: 4, downloadedBytes: 4, deviceTensors: 0 });
    assert.deepEqual(found.lastUse, { runs: 2, uploadedBytes: 8000, downloadedBytes: 8, deviceTensors: 0 }, 'what nobody holds does not');
    assert.deepEqual(found.unread, { runs: 1, uploadedBytes: 4, downloadedBytes: 4, deviceTensors: 1 });
    assert.deepEqual(found.readLater, [0, 2, 4]);
    assert.deepEqual(found.readTogether, { runs: 1, uploadedBytes: 12, downloadedBytes: 12000, deviceTensors: 0 });
    assert.deepEqual(found.typed, [
      [0, 2, 4],
      [0, 0, 1],
      [0, 2, 4],
    ]);
    assert.deepEqual(found.generated, found.generatedOnCpu);
    assert.equal(found.passes, 2, 'one recorded for the prompt, one for all tokens');
    assert.deepEqual(found.generatedWithGuesses, found.generatedOnCpu);
    assert.deepEqual(found.outliving, [4, 12]);
    assert.deepEqual(found.movedToCpu, [1, 3, 5]);
    assert.ok(farthest(found.parts as number[][], found.partsOnCpu as number[][]) < 1e-5);
    assert.ok(farthest([found.cappedAttention as number[]], [found.cappedAttentionOnCpu as number[]]) < 1e-5);
    assert.deepEqual(found.gradientWithPadding, [3, 4, 0, 0, 0, 0, 14, 16]);
    assert.deepEqual(found.leftOnDevice, { tensors: 0, bytes: 0 });
  });
});
