/** What is left to chance is what PyTorch draws: runs in which numbers are dropped, or noise is added, are TRL's from step to step. */
import assert from 'node:assert/strict';
import { cpSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { before, describe, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { createTorchRandom, restoreTorchRandom } from '../../lib/torch-random';
import { type LogRecord, parseConfig, SFTTrainer } from '../../lib/train';
import { fixtures, golden, loaded, readJsonFile, rows, stopsAfter, temporaryFolder } from './support';

before(() => useDevice('cpu'));

interface Reference {
  /** Of each stream numbers of 0 and 1, and after each of these lists one from [0, 1). */
  draws: Array<{ seed: number; probability: number; parts: Array<{ count: number; kept: string; number: number }> }>;
  runs: Array<{
    family: string;
    change: Record<string, unknown>;
    config: Record<string, unknown>;
    peft: PeftSettings | null;
    log: LogRecord[];
  }>;
}

interface PeftSettings {
  lora_dropout?: number;
  target_modules?: string | string[];
  use_dora?: boolean;
}

const reference = readJsonFile<Reference>(fixtures, 'chance.json');

describe("a stream's numbers are PyTorch's", () => {
  for (const { seed, probability, parts } of reference.draws) {
    test(`with seed ${seed}, kept with probability ${probability}`, () => {
      let random = createTorchRandom(seed);
      const passing = createTorchRandom(seed);
      for (const { count, kept, number } of parts) {
        const words = new Uint8Array(Math.ceil((count + 11) / 8)).fill(0b11111111);
        random.bernoulli(probability, count, words, 10);
        const bits = [...words].flatMap((word) => [...word.toString(2).padStart(8, '0')].reverse());
        assert.equal(bits.slice(10, 10 + count).join(''), kept);
        // the others are as they were
        assert.ok([...bits.slice(0, 10), ...bits.slice(10 + count)].every((bit) => bit === '1'));
        random = restoreTorchRandom(random.state());
        assert.equal((random.word() % 2 ** 24) / 2 ** 24, number);
        passing.skip(2 * count + 1);
        assert.equal(passing.state(), random.state());
      }
    });
  }
});

test('numbers of which the first word alone does not say whether they are below the limit are drawn right, too', () => {
  const count = 1 << 20;
  const upper = 1234567;
  const [drawn, words] = [createTorchRandom(5), createTorchRandom(5)];
  let open = 0;
  for (let round = 0; round < 12; round++) {
    const bits = new Uint8Array(count / 8);
    drawn.bernoulli((upper + 0.5) / 2 ** 21, count, bits, 0);
    let wrong = 0;
    for (let i = 0; i < count; i++) {
      const bit = (bits[i >> 3] >> (i % 8)) & 1;
      const [first, second] = [words.word() & 0x1fffff, words.word()];
      if (first === upper) open++;
      if (bit !== Number(first < upper || (first === upper && second < 2 ** 31))) wrong++;
    }
    assert.equal(wrong, 0);
  }
  assert.ok(open > 2, `${open} of them`);
});

test('bits far behind, of which there are more than 32 bits count, are those that are drawn at the beginning', () => {
  const count = 1000;
  const [near, far] = [new Uint8Array(count / 8), new Uint8Array(2 ** 28 + count / 8)];
  createTorchRandom(5).bernoulli(0.5, count, near, 0);
  createTorchRandom(5).bernoulli(0.5, count, far, 2 ** 31);
  assert.deepEqual(far.subarray(2 ** 28), near);
});

/** Of two epochs the first step of the second, behind an evaluation where there are some: what is drawn later is drawn as before. */
const stepsOf = (log: readonly LogRecord[]): number => (log[log.length - 1].step as number) / 2 + 1;

/** How far from TRL's a value of the log may be, relatively. */
const TOLERANCES: Record<string, number> = { step: 0, grad_norm: 3e-4 };

describe("runs with dropout or noise are TRL's from step to step:", () => {
  for (const { family, change, config, peft, log } of reference.runs) {
    test(`${family}, ${JSON.stringify({ ...change, ...config, ...peft })}`, async (t) => {
      const last = stepsOf(log);
      const folder = path.join(temporaryFolder(t), 'model');
      cpSync(path.join(golden, family, 'model'), folder, { recursive: true });
      writeFileSync(path.join(folder, 'config.json'), JSON.stringify({ ...readJsonFile<object>(folder, 'config.json'), ...change }));
      const trainer = new SFTTrainer({
        model: await loaded(t, folder),
        peftConfig: peft ? { r: 4, loraDropout: peft.lora_dropout, targetModules: peft.target_modules, useDora: peft.use_dora } : undefined,
        ...{ trainDataset: rows.slice(0, 22), evalDataset: 'eval_strategy' in config ? rows.slice(9, 22) : undefined },
        // rows that hold parts of micro-batches, and several
        config: { ...parseConfig(config), tokensPerMicroBatch: 350, disableTqdm: true },
        callbacks: [stopsAfter(last)],
      });
      await trainer.train();
      const compared = log.filter(({ step = 0 }) => step <= last);
      assert.equal(trainer.log.length, compared.length);
      for (const [i, expected] of compared.entries()) {
        const found: LogRecord = trainer.log[i];
        for (const [key, wanted] of Object.entries(expected) as Array<['loss', number]>) {
          const tolerance = (TOLERANCES[key] ?? 2e-5) * Math.max(wanted, 1e-3);
          assert.ok(Math.abs((found[key] ?? Number.NaN) - wanted) <= tolerance, `${key} of record ${i}: ${found[key]}, expected ${wanted}`);
        }
      }
    });
  }
});
