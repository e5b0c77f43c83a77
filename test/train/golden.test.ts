import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import { before, describe, test } from 'node:test';
import type { AlpacaExample } from '../../lib/data';
import { Dataset } from '../../lib/data';
import { useDevice } from '../../lib/engine';
import { loadModel, tokenNll } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { type LogRecord, parseConfig, SFTTrainer } from '../../lib/train';
import { families } from '../golden-families';

const golden = path.join(projectRoot, 'test', 'golden');
const read = <T>(...names: string[]): T => JSON.parse(readFileSync(path.join(golden, ...names), 'utf8')) as T;

interface GoldenRun {
  config: Record<string, unknown>;
  log: LogRecord[];
  loss_after_on_forward_ids: number;
  first_example: { input_ids: number[] };
}

before(async () => {
  await useDevice('cpu');
});

for (const family of families) {
  describe(`${family}: a run of the trainer logs what TRL logged`, () => {
    for (const run of ['sft', 'sft_cosine_wd', 'sft_full_loss']) {
      test(run, async () => {
        const reference = read<GoldenRun>(family, `${run}.json`);
        const model = await loadModel(path.join(golden, family, 'model'));
        const config = { ...parseConfig(reference.config), disableTqdm: true };
        const trainer = new SFTTrainer({ model, trainDataset: new Dataset(read<AlpacaExample[]>('rows.json')), config });
        assert.deepEqual([...trainer.trainItems[0][0].inputIds], reference.first_example.input_ids);
        await trainer.train();
        compareLogs(trainer.log, reference.log);
        const ids = read<{ input_ids: number[] }>(family, 'forward.json').input_ids;
        const { nll } = await tokenNll(model, ids);
        close(nll.reduce((sum, x) => sum + x, 0) / nll.length, reference.loss_after_on_forward_ids, 1e-4, 'loss afterwards');
        model.dispose();
      });
    }
  });
}

function compareLogs(ours: readonly LogRecord[], theirs: readonly LogRecord[]): void {
  assert.equal(ours.length, theirs.length);
  const worst = { loss: 0, grad_norm: 0, entropy: 0, aux_loss: 0 };
  for (const [i, expected] of theirs.entries()) {
    const found = ours[i];
    assert.deepEqual(Object.keys(found), Object.keys(expected), 'names and their order');
    for (const key of ['step', 'epoch', 'num_tokens'] as const) assert.equal(found[key], expected[key], `${key} of step ${i + 1}`);
    close(found.learning_rate, expected.learning_rate, 1e-12, `learning_rate of step ${i + 1}`);
    // one target of about 300 may fall on the other side of a tie
    assert.ok(Math.abs((found.mean_token_accuracy ?? 0) - (expected.mean_token_accuracy ?? 0)) < 0.004, `accuracy of step ${i + 1}`);
    for (const [key, tolerance] of [
      ['loss', 1e-4],
      ['grad_norm', 1e-3],
      ['entropy', 1e-4],
      ['aux_loss', 1e-4],
    ] as const) {
      if (!(key in expected)) continue;
      close(found[key], expected[key], tolerance, `${key} of step ${i + 1}`);
      worst[key] = Math.max(worst[key], Math.abs((found[key] as number) / (expected[key] as number) - 1));
    }
  }
  if (process.env.SHOW_AGREEMENT) console.log(worst);
}

function close(found: number | undefined, expected: number | undefined, relative: number, what: string): void {
  assert.ok(found !== undefined && expected !== undefined, what);
  assert.ok(Math.abs(found - expected) <= relative * Math.abs(expected), `${what}: ${found}, expected ${expected}`);
}
