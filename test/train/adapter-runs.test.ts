/** Runs that train an adapter of PEFT further, with DoRA or modules that are trained whole, are TRL's from step to step. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, describe, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { readSafetensors } from '../../lib/model/safetensors';
import { type LogRecord, parseConfig, SFTTrainer } from '../../lib/train';
import { fixtures, loaded, peftAdapter, readJsonFile, rows, stopsAfter, temporaryFolder } from './support';

before(() => useDevice('cpu'));

interface Reference {
  /** Of the adapter that the run begins with. */
  folder: string;
  family: string;
  load_in_4bit: boolean;
  config: Record<string, unknown>;
  log: LogRecord[];
  /** Of each tensor of the adapter after the run. */
  norms: Record<string, number>;
}

function assertClose(found: number | undefined, expected: number, tolerance: number, what: string): void {
  const isClose = found !== undefined && Math.abs(found - expected) <= tolerance * Math.max(expected, 1e-3);
  assert.ok(isClose, `${what}: ${found}, expected ${expected}`);
}

const TOLERANCES = {
  ...{ loss: 1e-5, grad_norm: 1e-4, mean_token_accuracy: 1e-6, entropy: 1e-5 },
  ...{ eval_loss: 1e-5, eval_mean_token_accuracy: 1e-6, eval_entropy: 1e-5 },
};

for (const { folder, family, load_in_4bit: loadIn4bit, config, log, norms } of readJsonFile<Reference[]>(fixtures, 'adapter-runs.json')) {
  describe(`the adapter ${folder}${loadIn4bit ? ', beside weights in 4 bits,' : ''}`, () => {
    for (const gradientCheckpointing of [false, true]) {
      test(`is trained further as by TRL${gradientCheckpointing ? ', with gradient checkpointing: the first steps' : ''}`, async (t) => {
        const model = await loaded(t, peftAdapter(t, folder, family), { loadIn4bit });
        const trainer = new SFTTrainer({
          ...{ model, trainDataset: rows, evalDataset: rows.slice(40, 47) },
          config: { ...parseConfig(config), gradientCheckpointing, disableTqdm: true },
          callbacks: gradientCheckpointing ? [stopsAfter(2)] : [],
        });
        await trainer.train();
        assert.equal(trainer.log.length, gradientCheckpointing ? 2 : log.length);
        for (const [i, expected] of log.slice(0, trainer.log.length).entries()) {
          for (const [key, tolerance] of Object.entries(TOLERANCES) as Array<['loss', number]>) {
            const wanted = expected[key];
            if (wanted !== undefined) assertClose(trainer.log[i][key], wanted, tolerance, `${key} of record ${i}`);
          }
        }
        if (gradientCheckpointing) return;
        const saved = path.join(temporaryFolder(t), 'trained');
        await trainer.saveModel(saved);
        const tensors = await readSafetensors(path.join(saved, 'adapter_model.safetensors'));
        assert.deepEqual([...tensors.keys()].sort(), Object.keys(norms).sort());
        for (const [name, norm] of Object.entries(norms)) {
          const { data } = tensors.get(name) ?? assert.fail(name);
          assertClose(Math.sqrt(data.reduce((sum, x) => sum + x * x, 0)), norm, 1e-5, `the norm of ${name}`);
        }
      });
    }
  });
}
