import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import * as path from 'node:path';
import { before, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { UserError } from '../../lib/errors';
import { type CausalLM, createModel, tokenNll } from '../../lib/model';
import { defaultCallbackMakers, type LogRecord, parseConfig, type SFTConfig, SFTTrainer, type TrainerCallback } from '../../lib/train';
import { families } from '../golden-families';
import { fixtures, readJsonFile, rows, short, temporaryFolder, tinyModel, weightsOf } from './support';

before(async () => {
  await useDevice('cpu');
});

test('logging windows, epochs, evaluations and the mean loss are those of a TRL run', async (t) => {
  const reference = readJsonFile<{
    config: Record<string, unknown>;
    train_rows: number[];
    eval_rows: number[];
    log: Array<Record<string, number>>;
  }>(fixtures, 'windows.json');
  const model = await tinyModel(t);
  const trainer = new SFTTrainer({
    model,
    trainDataset: rows.slice(...reference.train_rows),
    evalDataset: rows.slice(...reference.eval_rows),
    config: { ...parseConfig(reference.config), disableTqdm: true },
  });
  const { trainingLoss } = await trainer.train();
  const expected = reference.log.slice(0, -1);
  assert.equal(trainer.log.length, expected.length);
  for (const [i, record] of expected.entries()) {
    const found = trainer.log[i] as unknown as Record<string, number>;
    assert.deepEqual(Object.keys(found), Object.keys(record));
    for (const [key, value] of Object.entries(record)) {
      const tolerance = key.includes('accuracy') ? 0.002 : key === 'grad_norm' ? 1e-3 * value : 1e-4 * value;
      assert.ok(Math.abs(found[key] - value) <= tolerance, `${key} of record ${i}: ${found[key]}, expected ${value}`);
    }
  }
  assert.ok(Math.abs(trainingLoss - reference.log[reference.log.length - 1].train_loss) < 1e-4 * trainingLoss);
});

describe('results do not depend on how examples lie in rows', () => {
  const run = async (t: Parameters<typeof tinyModel>[0], config: Partial<SFTConfig>) => {
    const trainer = new SFTTrainer({
      model: await tinyModel(t),
      trainDataset: rows.slice(0, 12),
      config: { ...short, maxSteps: 3, ...config },
    });
    await trainer.train();
    return trainer.log;
  };
  const agree = (found: readonly LogRecord[], expected: readonly LogRecord[]) => {
    assert.equal(found.length, expected.length);
    for (const [i, record] of expected.entries()) {
      for (const key of ['loss', 'grad_norm', 'entropy'] as const) {
        assert.ok(
          Math.abs((found[i][key] as number) / (record[key] as number) - 1) < 1e-5,
          `${key} of step ${i + 1}: ${found[i][key]} and ${record[key]}`,
        );
      }
      assert.equal(found[i].num_tokens, record.num_tokens);
      assert.ok(Math.abs((found[i].mean_token_accuracy as number) - (record.mean_token_accuracy as number)) < 0.01);
    }
  };
  test('a budget of one token, which computes every example alone, gives the losses of one long row', async (t) => {
    agree(await run(t, { tokensPerMicroBatch: 1 }), await run(t, { tokensPerMicroBatch: 100_000 }));
  });
  test('nor do they where the tokens that examples share at their beginning carry loss', async (t) => {
    const config = { completionOnlyLoss: false };
    agree(await run(t, { ...config, tokensPerMicroBatch: 1 }), await run(t, { ...config, tokensPerMicroBatch: 100_000 }));
  });
  test('micro-batches of 1 x 4 give the losses and norms of 4 x 1', async (t) => {
    const one = await run(t, { perDeviceTrainBatchSize: 1, gradientAccumulationSteps: 4 });
    const four = await run(t, { perDeviceTrainBatchSize: 4, gradientAccumulationSteps: 1 });
    for (const [i, record] of one.entries()) {
      assert.ok(Math.abs((record.loss as number) / (four[i].loss as number) - 1) < 1e-5);
      assert.ok(Math.abs((record.grad_norm as number) / (four[i].grad_norm as number) - 1) < 1e-5);
    }
  });
  for (const family of families) {
    test(`packed rows of whole examples give the loss and norm of separate ones (${family})`, async (t) => {
      const config = { ...short, maxSteps: 1, perDeviceTrainBatchSize: 64, gradientAccumulationSteps: 1 };
      const train = async (packing: boolean) => {
        const trainer = new SFTTrainer({
          model: await tinyModel(t, family),
          trainDataset: rows.slice(0, 10),
          config: { ...config, packing },
        });
        await trainer.train();
        return trainer;
      };
      const [packed, separate] = [await train(true), await train(false)];
      assert.ok(packed.trainItems.length < separate.trainItems.length && packed.trainItems.some((item) => item.length > 1));
      for (const key of ['loss', 'grad_norm'] as const) {
        assert.ok(Math.abs((packed.log[0][key] as number) / (separate.log[0][key] as number) - 1) < 1e-5, key);
      }
    });
  }
});

describe('a run is its seed', () => {
  const run = async (t: Parameters<typeof tinyModel>[0], seed: number) => {
    const model = await tinyModel(t);
    const trainer = new SFTTrainer({ model, trainDataset: rows.slice(0, 20), config: { ...short, seed } });
    await trainer.train();
    return { log: trainer.log, weights: await weightsOf(model) };
  };
  test('the same seed gives the same bits, another seed others', async (t) => {
    const [first, again, other] = [await run(t, 1), await run(t, 1), await run(t, 2)];
    assert.deepEqual(again, first);
    assert.notDeepEqual(other.log, first.log);
  });
});

test('training keeps no tensors, step by step and at its end', async (t) => {
  const model = await tinyModel(t);
  const counts: number[] = [];
  const callbacks: TrainerCallback[] = [{ onStepEnd: () => void counts.push(tf.memory().numTensors) }];
  const make = () => new SFTTrainer({ model, trainDataset: rows.slice(0, 20), evalDataset: rows.slice(20, 24), config: short, callbacks });
  await make().train();
  const before = tf.memory().numTensors;
  const trainer = make();
  await trainer.train();
  await trainer.evaluate();
  assert.equal(tf.memory().numTensors, before);
  assert.equal(new Set(counts).size, 1, `tensors after each step: ${counts}`);
});

describe('stopping', () => {
  test('ends after the step at work and leaves model and log usable', async (t) => {
    const model = await tinyModel(t);
    const stopAt3: TrainerCallback = { onStepEnd: (state) => void (state.step === 3 && state.stop()) };
    const trainer = new SFTTrainer({ model, trainDataset: rows.slice(0, 20), config: short, callbacks: [stopAt3] });
    const output = await trainer.train();
    assert.ok(output.stopped);
    assert.equal(output.globalStep, 3);
    assert.deepEqual(
      trainer.log.map(({ step }) => step),
      [1, 2, 3],
    );
    await trainer.evaluate(rows.slice(0, 2));
  });
  test('in the middle of a step drops that step', async (t) => {
    const model = await tinyModel(t);
    const untouched = await weightsOf(model);
    const before = tf.memory().numTensors;
    const trainer = new SFTTrainer({
      model,
      trainDataset: rows.slice(0, 20),
      config: { ...short, tokensPerMicroBatch: 1 },
      callbacks: [{ onStepBegin: () => void setImmediate(() => trainer.stop()) }],
    });
    const output = await trainer.train();
    assert.equal(output.globalStep, 0);
    assert.deepEqual(await weightsOf(model), untouched);
    assert.ok(tf.memory().numTensors <= before + 2, 'only the tables that the model itself keeps');
  });
});

test('callbacks are told everything in order', async (t) => {
  const told: string[] = [];
  const listener: TrainerCallback = {
    onTrainBegin: ({ maxSteps }) => void told.push(`begin ${maxSteps}`),
    onStepBegin: ({ step }) => void told.push(`step ${step}`),
    onStepEnd: ({ step, epoch }) => void told.push(`done ${step} ${epoch}`),
    onLog: (_, record) => void told.push(record.eval_loss === undefined ? 'log' : 'eval log'),
    onEvaluate: async (_, metrics) => void told.push(`evaluated ${metrics.eval_runtime > 0}`),
    onNote: (line) => void told.push(line),
    onTrainEnd: (_, { metrics }) =>
      void told.push(`end ${metrics.num_tokens} ${metrics.tokens_per_second > 0} ${metrics.peak_memory_gb > 0}`),
  };
  const config = { ...short, maxSteps: 2, maxLength: 128, evalStrategy: 'steps', evalSteps: 2 } as const;
  const trainer = new SFTTrainer({
    model: await tinyModel(t),
    trainDataset: rows.slice(0, 8),
    evalDataset: rows.slice(8, 10),
    config: { ...config, maxLength: 200 },
    callbacks: [listener],
  });
  const output = await trainer.train();
  const told2 = told.filter((line) => !line.includes('token '));
  assert.deepEqual(
    told2.filter((line) => /^(begin|step|done|log|eval|end)/.test(line)),
    [
      ...['begin 2', 'step 0', 'done 1 0.5', 'log', 'step 1', 'done 2 1', 'log', 'eval log', 'evaluated true'],
      `end ${output.metrics.num_tokens} true true`,
    ],
  );
});

test('each run, and an evaluation between runs, shows itself anew', async (t) => {
  t.mock.method(process.stderr, 'write', () => true);
  const made: string[][] = [];
  const maker = (): TrainerCallback => {
    const told: string[] = [];
    made.push(told);
    return { onTrainBegin: () => void told.push('begin'), onEvaluate: () => void told.push('evaluated') };
  };
  defaultCallbackMakers.push(maker);
  t.after(() => defaultCallbackMakers.splice(defaultCallbackMakers.indexOf(maker), 1));
  const trainer = new SFTTrainer({
    model: await tinyModel(t),
    trainDataset: rows.slice(0, 4),
    evalDataset: rows.slice(4, 6),
    config: { ...short, maxSteps: 1, disableTqdm: false, evalStrategy: 'steps', evalSteps: 1 },
  });
  await trainer.train();
  await trainer.evaluate();
  await trainer.train();
  assert.deepEqual(
    made.filter((told) => told.length > 0),
    [['begin', 'evaluated'], ['evaluated'], ['begin', 'evaluated']],
  );
});

test('the error that ends a run is told to its caller, whatever becomes of telling it to others', async (t) => {
  const failing: TrainerCallback = {
    onStepEnd: () => {
      throw new Error('the first');
    },
    onTrainError: () => {
      throw new Error('the second');
    },
  };
  const trainer = new SFTTrainer({ model: await tinyModel(t), trainDataset: rows.slice(0, 4), config: short, callbacks: [failing] });
  await assert.rejects(trainer.train(), /the first/);
});

test('a forward pass that fails leaves no tensor behind', async (t) => {
  const model = await tinyModel(t);
  const failing: CausalLM = Object.create(model, {
    hiddenStates: {
      value: () => {
        throw new Error('no memory');
      },
    },
  });
  const trainer = new SFTTrainer({ model: failing, trainDataset: rows.slice(0, 4), config: short });
  const fails = async () => {
    await assert.rejects(trainer.train(), /no memory/);
    await assert.rejects(trainer.evaluate(rows.slice(0, 2)), /no memory/);
    await assert.rejects(tokenNll(failing, [1, 2, 3]), /no memory/);
  };
  await fails();
  const before = tf.memory().numTensors;
  await fails();
  assert.equal(tf.memory().numTensors, before);
});

test('dataloader_drop_last leaves out the last batch of an evaluation too, if it is not full', async (t) => {
  const model = await tinyModel(t);
  const make = (evalRows: number, dataloaderDropLast: boolean) =>
    new SFTTrainer({
      model,
      trainDataset: rows.slice(0, 4),
      evalDataset: rows.slice(0, evalRows),
      config: { ...short, perDeviceEvalBatchSize: 2, dataloaderDropLast },
    });
  const whole = await make(4, false).evaluate();
  const dropping = await make(5, true).evaluate();
  const keeping = await make(5, false).evaluate();
  assert.equal(dropping.eval_loss, whole.eval_loss);
  assert.notEqual(keeping.eval_loss, whole.eval_loss);
  assert.throws(() => make(1, true), { name: 'UserError', message: /leaves nothing of 1 evaluation examples in batches of 2/ });
});

test('the parts of an evaluation are told, with its share that is done, and nothing is left of one that was stopped', async (t) => {
  const shares: number[] = [];
  const listener: TrainerCallback = {
    onPredictionStep: ({ evaluationShare, stop }) => {
      shares.push(evaluationShare);
      if (shares.length === 6) stop();
    },
    onTrainEnd: ({ evaluationShare }) => void shares.push(evaluationShare),
  };
  const trainer = new SFTTrainer({
    model: await tinyModel(t),
    trainDataset: rows.slice(0, 8),
    evalDataset: rows.slice(8, 12),
    config: { ...short, tokensPerMicroBatch: 1, evalStrategy: 'steps', evalSteps: 1 },
    callbacks: [listener],
  });
  await trainer.train();
  assert.deepEqual(shares, [0.25, 0.5, 0.75, 1, 0.25, 0.5, 0]);
});

test('the parts of a step are told, with its share that is done', async (t) => {
  const shares: number[] = [];
  const listener: TrainerCallback = {
    onSubstepEnd: ({ stepShare }) => void shares.push(stepShare),
    onStepEnd: ({ stepShare }) => void shares.push(stepShare),
  };
  const config = { ...short, maxSteps: 2, tokensPerMicroBatch: 1 };
  await new SFTTrainer({ model: await tinyModel(t), trainDataset: rows.slice(0, 8), config, callbacks: [listener] }).train();
  assert.deepEqual(shares, [0.25, 0.5, 0.75, 0, 0.25, 0.5, 0.75, 0]);
});

test('what transformers would drop is dropped; that layers, which it would skip, are not skipped is said', async (t) => {
  const modelOf = async (family: string, change: Record<string, unknown>) => {
    const { config, tokenizer } = await tinyModel(t, family);
    const raw: Record<string, unknown> = { ...config.raw, ...change };
    const model = createModel(raw, { seed: 0, tokenizer });
    t.after(() => model.dispose());
    return model;
  };
  const configOf = async (family: string, change: Record<string, unknown>) => (await modelOf(family, change)).config;
  const notesFor = async (family: string, change: Record<string, unknown>) =>
    new SFTTrainer({ model: await modelOf(family, change), trainDataset: rows.slice(0, 2), config: short }).notes;
  assert.deepEqual(await notesFor('opt', {}), []);
  // OPT's class in transformers has a default of its own
  assert.equal((await configOf('opt', { dropout: undefined })).hiddenDropout, 0.1);
  assert.deepEqual(await notesFor('opt', { layerdrop: 0.2 }), [
    'By its config.json TRL would train this model with layerdrop 0.2; here training is without.',
  ]);
  assert.equal((await configOf('llama', { attention_dropout: 0.05 })).attentionDropout, 0.05);
  assert.equal((await configOf('qwen3', { attention_dropout: 1 })).attentionDropout, 1);
  assert.deepEqual(await notesFor('gpt_neox', { hidden_dropout: 0.1, classifier_dropout: 0.1 }), []);
  await assert.rejects(notesFor('llama', { attention_dropout: 1.5 }), /"attention_dropout" is 1\.5; expected a number from 0 to 1/);
});

describe('what cannot be learned is refused with one sentence', () => {
  const refuses = async (make: () => Promise<unknown> | unknown, pattern: RegExp) =>
    assert.rejects(
      async () => make(),
      (error: unknown) =>
        error instanceof UserError && pattern.test(error.message) && !error.message.includes('\n') ? true : assert.fail(String(error)),
    );
  test('an example whose completion max_length cuts away entirely', async (t) => {
    const model = await tinyModel(t);
    await refuses(
      () => new SFTTrainer({ model, trainDataset: rows, config: { ...short, maxLength: 40 } }),
      /^row 1 \(and \d+ more like it\): the prompt alone fills maxLength 40 \(the example has \d+ tokens\), so its completion is cut away entirely .*; raise maxLength/,
    );
  });
  test('truncation that leaves something to learn is said', async (t) => {
    const trainer = new SFTTrainer({ model: await tinyModel(t), trainDataset: rows.slice(1, 3), config: { ...short, maxLength: 100 } });
    assert.ok(
      trainer.notes.some((note) => /^[12] of 2 examples were longer than maxLength 100 and lost their end\.$/.test(note)),
      trainer.notes.join(),
    );
  });
  test('an empty dataset', async (t) => {
    const model = await tinyModel(t);
    await refuses(() => new SFTTrainer({ model, trainDataset: [], config: short }), /^The dataset has no examples/);
    const none = { evalDataset: [], config: { ...short, evalStrategy: 'epoch' } } as const;
    await refuses(
      () => new SFTTrainer({ model, trainDataset: rows, ...none }),
      /^The evaluation dataset has no examples; .* leave it out\.$/,
    );
  });
  test('evaluation without a dataset', async (t) => {
    const model = await tinyModel(t);
    await refuses(
      () => new SFTTrainer({ model, trainDataset: rows, config: { ...short, evalStrategy: 'epoch' } }),
      /^evalStrategy is epoch, but there is no evaluation dataset; give evalDataset, or set evalStrategy: 'no'\.$/,
    );
    await refuses(
      () => new SFTTrainer({ model, trainDataset: rows, config: { ...short, evalOnStart: true } }),
      /^evalOnStart is true, but there is no evaluation dataset; give evalDataset, or set evalOnStart: false\.$/,
    );
    await refuses(() => new SFTTrainer({ model, trainDataset: rows.slice(0, 2), config: short }).evaluate(), /nothing to evaluate on/);
  });
  test('an unknown metric for the best model, before anything is computed', async (t) => {
    const model = await tinyModel(t);
    const config = { ...short, evalStrategy: 'steps', evalSteps: 1, metricForBestModel: 'blue' } as const;
    const options = { model, trainDataset: rows.slice(0, 4), evalDataset: rows.slice(4, 6), config };
    await refuses(() => new SFTTrainer(options), /metricForBestModel is blue, which no evaluation has; choose one of eval_loss/);
  });
});

test('a loss that is not finite stops the run before its update, with step, causes and checkpoint', async (t) => {
  const model = await tinyModel(t);
  const config = { ...short, loggingSteps: 1 };
  const poison: TrainerCallback = {
    onStepEnd: ({ step }) => {
      if (step !== 2) return;
      const [, norm] = [...model.parameters].find(([name]) => name === 'model.norm.weight') ?? [];
      const bad = tf.fill([norm?.shape[0] ?? 0], Number.NaN);
      norm?.assign(bad as never);
      bad.dispose();
    },
  };
  const trainer = new SFTTrainer({ model, trainDataset: rows.slice(0, 20), config, callbacks: [poison] });
  await assert.rejects(trainer.train(), (error: unknown) => {
    assert.ok(error instanceof UserError);
    assert.match(
      error.message,
      /^Step 3: the loss is NaN, so training stopped before this update; likely causes are a learningRate that is too high \(this step used [\d.e-]+; try a tenth\)/,
    );
    assert.match(error.message, /the model in memory has the weights of step 2, and there is no checkpoint yet\.$/);
    return true;
  });
  assert.equal(trainer.log.length, 2);
  const embedding = [...model.parameters].find(([name]) => name.includes('embed_tokens'))?.[1];
  assert.ok((await embedding?.data())?.every(Number.isFinite), 'no update was made with the gradients that are not finite');
});

test('while a model is trained nobody else trains it, and nobody but a callback saves it', async (t) => {
  const model = await tinyModel(t);
  const folder = temporaryFolder(t);
  const make = (callbacks: TrainerCallback[] = []) =>
    new SFTTrainer({ model, trainDataset: rows, config: { ...short, maxSteps: 2 }, callbacks });
  const trainer: SFTTrainer = make([{ onStepEnd: ({ step }) => trainer.saveModel(path.join(folder, `${step}`)) }]);
  const running = trainer.train();
  await assert.rejects(
    trainer.saveModel(path.join(folder, 'early')),
    /The model is still being trained; await trainer\.train\(\) before it is saved/,
  );
  await assert.rejects(make().train(), /The model is being trained already; await the train\(\) of its trainer first/);
  await running;
  await trainer.saveModel(path.join(folder, 'end'));
  assert.deepEqual(readdirSync(folder).sort(), ['1', '2', 'end']);
  await make().train();
});
