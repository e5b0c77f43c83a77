/** Dropout while training: what is dropped, and that nothing else depends on it. */
import assert from 'node:assert/strict';
import { cpSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { beforeEach, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { Dropout, engineStatistics, releaseMemory, useDevice } from '../../lib/engine';
import { type CausalLM, loadModel } from '../../lib/model';
import { createTorchRandom } from '../../lib/torch-random';
import { type LogRecord, type SFTConfig, SFTTrainer, type TrainerState } from '../../lib/train';
import {
  assertOnlyInTraining,
  assertPass,
  fixtures,
  golden,
  goldenIds,
  hashOf,
  type ReferencePass,
  readJsonFile,
  rows,
  short,
  temporaryFolder,
} from './support';

beforeEach(async () => {
  await useDevice('cpu');
});

const ones = (tokens: number, features: number) => tf.ones<tf.Rank.R2>([tokens, features]);

/** Drawn for matrices of one shape. */
function drawn({ places, tokens, features }: { places: number; tokens: number; features: number }, share: number, seed: number): Dropout {
  const random = createTorchRandom(seed);
  const kept = Array.from({ length: places }, () => new Uint8Array(Math.ceil((tokens * features) / 8)));
  for (const bits of kept) random.bernoulli(1 - share, tokens * features, bits, 0);
  return new Dropout(new Map(kept.entries()));
}

describe('the factors', () => {
  const make = (seed = 5) => drawn({ places: 3, tokens: 200, features: 64 }, 0.25, seed);

  test('are 0 for about the share, and else scale up', async () => {
    const dropout = make();
    for (const place of [0, 1, 2]) {
      const values = await dropout.apply(ones(200, 64), place, 0.25).data();
      const dropped = values.filter((x) => x === 0).length;
      assert.ok(values.every((x) => x === 0 || Math.abs(x - 4 / 3) < 1e-6));
      // the deviation of so many draws is 49
      assert.ok(Math.abs(dropped - 3200) < 250, `${dropped} of 12,800`);
    }
    dropout.dispose();
  });

  test('are the same at a place each time, others at another place and for another seed', async () => {
    const hash = async (dropout: Dropout, place: number) => hashOf(await dropout.apply(ones(200, 64), place, 0.25).data<'float32'>());
    const [a, b, other] = [make(), make(), make(6)];
    assert.equal(await hash(a, 1), await hash(a, 1));
    assert.equal(await hash(a, 1), await hash(b, 1));
    assert.equal(await hash(a, 2), await hash(b, 2));
    assert.notEqual(await hash(a, 1), await hash(a, 2));
    assert.notEqual(await hash(a, 1), await hash(other, 1));
    for (const dropout of [a, b, other]) dropout.dispose();
  });

  test('of the share 1 leave nothing', async () => {
    const dropout = drawn({ places: 1, tokens: 2, features: 3 }, 1, 0);
    assert.deepEqual([...(await dropout.apply(ones(2, 3), 0, 1).data())], [0, 0, 0, 0, 0, 0]);
    dropout.dispose();
  });

  for (const backend of ['onnxruntime', 'cpu']) {
    test(`make a product and its gradients those of plain operations, on ${backend}, and leave no tensor behind`, async () => {
      await tf.setBackend(backend);
      const before = tf.memory().numTensors;
      const dropout = drawn({ places: 2, tokens: 5, features: 4 }, 0.5, 1);
      const differences = tf.tidy(() => {
        const [x, weight, dy] = [
          [5, 4],
          [2, 4],
          [5, 2],
        ].map((shape, i) => tf.randomNormal<tf.Rank.R2>(shape as [number, number], 0, 1, 'float32', i));
        const factors = dropout.apply(ones(5, 4), 1, 0.5);
        const ours = (x: tf.Tensor, weight: tf.Tensor) => dropout.linear(x as tf.Tensor2D, weight as tf.Tensor2D, 1, 0.5);
        const plain = (x: tf.Tensor, weight: tf.Tensor) => tf.matMul(tf.mul(x, factors) as tf.Tensor2D, weight as tf.Tensor2D, false, true);
        const found = [ours(x, weight), ...tf.grads(ours)([x, weight], dy)];
        const expected = [plain(x, weight), ...tf.grads(plain)([x, weight], dy)];
        return tf.stack(found.map((a, i) => tf.max(tf.abs(tf.sub(a, expected[i])))));
      });
      assert.ok((await differences.data()).every((x) => x < 1e-6));
      differences.dispose();
      dropout.dispose();
      assert.equal(tf.memory().numTensors, before);
    });
  }
});

/** A golden model with another configuration, or with its golden adapter, of whose inputs a share is dropped. */
interface Variant {
  family: string;
  change: Record<string, unknown>;
  adapter: boolean;
  share: number;
}

type Reference = Variant & ReferencePass;

function changed(t: TestContext, { family, change, adapter, share }: Variant): Promise<CausalLM> {
  const folder = temporaryFolder(t);
  const copyOf = (which: string, file: string, keys: Record<string, unknown>): string => {
    const copy = path.join(folder, which);
    cpSync(path.join(golden, family, which), copy, { recursive: true });
    writeFileSync(path.join(copy, file), JSON.stringify({ ...readJsonFile<object>(copy, file), ...keys }));
    return copy;
  };
  const base = copyOf('model', 'config.json', change);
  return loadModel(adapter ? copyOf('lora_trained', 'adapter_config.json', { base_model_name_or_path: base, lora_dropout: share }) : base);
}

describe('loss and gradients are those of transformers and PEFT that drop the same', () => {
  for (const reference of readJsonFile<Reference[]>(fixtures, 'dropout.json')) {
    const { family, change, adapter } = reference;
    const settings = [JSON.stringify(change), ...(adapter ? ['an adapter'] : [])].join(', ');
    for (const gradientCheckpointing of [false, true]) {
      test(`${family}: ${settings}${gradientCheckpointing ? ', with gradient checkpointing' : ''}`, async (t) => {
        const model = await changed(t, reference);
        t.after(() => model.dispose());
        await assertPass(model, [goldenIds(family)], reference, { gradientCheckpointing });
      });
    }
  }
});

/** A run with dropout in the adapter, and of OPT's hidden states too. */
async function run(
  t: TestContext,
  settings: Partial<SFTConfig> = {},
  loraDropout = 0.3,
  resume?: string,
): Promise<{ log: readonly LogRecord[]; matrices: string[] }> {
  const model = await changed(t, { family: 'opt', change: { dropout: 0.2 }, adapter: false, share: 0 });
  t.after(() => model.dispose());
  const peftConfig = { r: 4, loraDropout, targetModules: 'all-linear' };
  const trainer = new SFTTrainer({ model, trainDataset: rows, peftConfig, config: { ...short, tokensPerMicroBatch: 300, ...settings } });
  await trainer.train({ resumeFromCheckpoint: resume });
  const parameters = [...(model.adapter?.parameters.values() ?? [])];
  return { log: trainer.log, matrices: await Promise.all(parameters.map(async (matrix) => hashOf(await matrix.data<'float32'>()))) };
}

test('the same seed drops the same, with gradient checkpointing too; another one, or another share, does not', async (t) => {
  const first = await run(t);
  assert.deepEqual(await run(t), first);
  assert.deepEqual(await run(t, { gradientCheckpointing: true }), first);
  const others = [await run(t, { seed: 8, dataSeed: 7 }), await run(t, {}, 0.1), await run(t, {}, 0)];
  for (const { log } of others) assert.notEqual(log[1].loss, first.log[1].loss);
});

test('a resumed run drops what an uninterrupted one does', async (t) => {
  const outputDir = temporaryFolder(t);
  const whole = await run(t, { outputDir, saveStrategy: 'steps', saveSteps: 2 });
  assert.deepEqual(await run(t, { outputDir: temporaryFolder(t) }, 0.3, path.join(outputDir, 'checkpoint-2')), whole);
});

test('nothing is dropped when the model is evaluated or read, and no tensor is left behind', (t) =>
  assertOnlyInTraining(t, {}, { loraDropout: 0.5 }));

test('layers of one kind share their graphs under gradient checkpointing', async (t) => {
  const compilations = async (loraDropout: number): Promise<number> => {
    releaseMemory();
    const before = engineStatistics()?.compilations ?? 0;
    await run(t, { maxSteps: 1, gradientCheckpointing: true }, loraDropout);
    return (engineStatistics()?.compilations ?? 0) - before;
  };
  assert.equal(await compilations(0.1), await compilations(0));
});

test('what the output head reads may come through a layer with dropout, too', async (t) => {
  const model = await loadModel(path.join(fixtures, '..', '..', 'model', 'fixtures', 'opt-350m'));
  t.after(() => model.dispose());
  const trainDataset = Array.from({ length: 4 }, (_, i) => ({ prompt: 'AB', completion: 'CDEFGH'.slice(0, 2 + i) }));
  const peftConfig = { r: 2, loraDropout: 0.3, targetModules: ['project_in', 'project_out'] };
  const trainer = new SFTTrainer({ model, trainDataset, peftConfig, config: { ...short, maxSteps: 2 } });
  await trainer.train();
  assert.ok(trainer.log.every(({ loss }) => Number.isFinite(loss)));
});

test('an evaluation in the middle of a step moves the stream, and is forgotten with a step that is not completed', async (t) => {
  const outputDir = temporaryFolder(t);
  const evaluating = async (settings: Partial<SFTConfig>, stopAt?: number, resume?: string, evaluates = true) => {
    const model = await changed(t, { family: 'opt', change: { dropout: 0.2 }, adapter: false, share: 0 });
    t.after(() => model.dispose());
    const config = { ...short, maxSteps: 4, tokensPerMicroBatch: 100, ...settings };
    const onSubstepEnd = async ({ step, stop }: TrainerState): Promise<void> => {
      if (evaluates) await trainer.evaluate();
      if (step === stopAt) stop();
    };
    const trainer = new SFTTrainer({ model, trainDataset: rows, evalDataset: rows.slice(0, 2), config, callbacks: [{ onSubstepEnd }] });
    await trainer.train({ resumeFromCheckpoint: resume });
    return trainer.log.filter(({ loss }) => loss !== undefined);
  };
  const whole = await evaluating({});
  await evaluating({ outputDir }, 2);
  assert.deepEqual(await evaluating({ outputDir: temporaryFolder(t) }, undefined, path.join(outputDir, 'checkpoint-2')), whole);
  const without = await evaluating({}, undefined, undefined, false);
  assert.notEqual(whole[0].loss, without[0].loss);
});
