/** The loss that keeps the experts of a model in use, beside TRL and beside itself computed in other ways. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { type AlpacaExample, Dataset } from '../../lib/data';
import { useDevice } from '../../lib/engine';
import { readJson } from '../../lib/files';
import { type CausalLM, loadModel } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { type LogRecord, parseConfig, SFTTrainer } from '../../lib/train';
import { GradientSums } from '../../lib/train/gradients';
import { backwardRow } from '../../lib/train/loss';

const golden = path.join(projectRoot, 'test', 'golden');
const rows = readJson(path.join(golden, 'rows.json')) as AlpacaExample[];
const runs = readJson(path.join(projectRoot, 'test/train/fixtures/router.json')) as Record<
  string,
  { config: Record<string, unknown>; log: LogRecord[] }
>;

before(() => useDevice('cpu'));

async function modelOf(t: TestContext, family: string): Promise<CausalLM> {
  const model = await loadModel(path.join(golden, family, 'model'));
  t.after(() => model.dispose());
  return model;
}

async function logOf(t: TestContext, settings: Record<string, unknown>, family = 'qwen3_moe'): Promise<readonly LogRecord[]> {
  const model = await modelOf(t, family);
  const config = { ...parseConfig(settings), disableTqdm: true };
  const evalDataset = config.evalStrategy === 'no' ? undefined : new Dataset(rows.slice(0, 10));
  const trainer = new SFTTrainer({ model, trainDataset: new Dataset(rows), evalDataset, config });
  await trainer.train();
  return trainer.log;
}

/** @param tolerance share of the expected number */
function assertAlike(found: readonly LogRecord[], expected: readonly LogRecord[], tolerance: number): void {
  assert.equal(found.length, expected.length);
  for (const [i, record] of expected.entries()) {
    assert.deepEqual(Object.keys(found[i]).sort(), Object.keys(record).sort());
    for (const [key, value] of Object.entries(record)) {
      const number = found[i][key as keyof LogRecord] as number;
      assert.ok(Math.abs(number - value) <= tolerance * Math.abs(value), `${key} of record ${i} is ${number}, expected ${value}`);
    }
  }
}

describe('logs what TRL logged', () => {
  for (const [name, { config, log }] of Object.entries(runs))
    test(name, async (t) => {
      assert.ok(log.every((record) => 'aux_loss' in record || 'eval_aux_loss' in record));
      assertAlike(await logOf(t, config), log, 1e-4);
    });
});

test('a micro-batch of more tokens than a row should have is computed in one; its logs are the same, also with gradient checkpointing', async (t) => {
  const { config } = runs.evaluated;
  const plain = await logOf(t, config);
  assertAlike(await logOf(t, { ...config, tokens_per_micro_batch: 50 }), plain, 1e-4);
  assertAlike(await logOf(t, { ...config, tokens_per_micro_batch: 50, gradient_checkpointing: true }), plain, 1e-4);
});

test('without a weight nothing of it is computed or logged, and a model without experts has none', async (t) => {
  const { config } = runs.evaluated;
  for (const record of await logOf(t, { ...config, router_aux_loss_coef: 0 }))
    assert.ok(!('aux_loss' in record) && !('eval_aux_loss' in record));
  for (const record of await logOf(t, config, 'qwen3')) assert.ok(!('aux_loss' in record) && !('eval_aux_loss' in record));
});

/** Gradients of the router loss of two micro-batches alone, by name. */
async function routerGradients(model: CausalLM, gradientCheckpointing: boolean): Promise<Record<string, Float32Array>> {
  const sums = new GradientSums();
  const [share, weight] = [tf.scalar(0), tf.scalar(0.7)];
  const parts = [18, 12, 25].map((length, i) => ({
    sequence: {
      inputIds: Int32Array.from({ length }, (_, token) => (37 * i + 11 * token) % 1000),
      lossMask: new Uint8Array(length).fill(1),
    },
    microBatch: i === 2 ? 1 : 0,
    index: i % 2,
  }));
  const { aux } = await backwardRow(model, parts, sums, { share, gradientCheckpointing, router: { microBatches: 3, weight } });
  assert.equal(aux?.length, 3);
  assert.equal(aux[2], 0, 'of a micro-batch of another row');
  const found: Record<string, Float32Array> = {};
  for (const [name, sum] of sums.entries()) found[name] = await sum.data<'float32'>();
  sums.dispose();
  tf.dispose([share, weight]);
  return found;
}

for (const family of ['granitemoe', 'qwen3_moe', 'olmoe'])
  test(`${family}: its gradients are the same bits with gradient checkpointing, and no tensor is left behind`, async (t) => {
    const model = await modelOf(t, family);
    // the first pass makes the tables of the positions
    await routerGradients(model, false);
    const tensors = tf.memory().numTensors;
    const plain = await routerGradients(model, false);
    assert.equal(tf.memory().numTensors, tensors);
    const checkpointed = await routerGradients(model, true);
    assert.equal(tf.memory().numTensors, tensors);
    assert.deepEqual(checkpointed, plain);
    const routers = Object.keys(plain).filter((name) => /router|mlp\.gate\./.test(name));
    assert.ok(routers.length >= 2 && routers.every((name) => Math.hypot(...plain[name]) > 1e-5), 'every router learns');
  });
