import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import type { AlpacaExample } from '../../lib/data';
import { Dataset } from '../../lib/data';
import { useDevice } from '../../lib/engine';
import { type CausalLM, loadModel, mergeAdapter, saveModel } from '../../lib/model';
import { readSafetensors } from '../../lib/model/safetensors';
import { projectRoot } from '../../lib/project';
import { type LogRecord, parseConfig, type SFTConfig, SFTTrainer } from '../../lib/train';
import { goldenIds, lossOn } from './support';

const golden = path.join(projectRoot, 'test', 'golden');
const read = <T>(...names: string[]): T => JSON.parse(readFileSync(path.join(golden, ...names), 'utf8')) as T;
const rows = new Dataset(read<AlpacaExample[]>('rows.json'));
const scratch = mkdtempSync(path.join(tmpdir(), 'tunebook-lora-'));

before(() => useDevice('cpu'));
after(() => rmSync(scratch, { recursive: true }));

/** A golden adapter, with the golden model as its base. */
function adapterFolder(family: string, which: 'lora_init' | 'lora_trained'): string {
  const folder = path.join(scratch, family, which);
  cpSync(path.join(golden, family, which), folder, { recursive: true });
  const file = path.join(folder, 'adapter_config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  writeFileSync(file, JSON.stringify({ ...config, base_model_name_or_path: path.join(golden, family, 'model') }));
  return folder;
}

const short: Partial<SFTConfig> = {
  ...{
    maxSteps: 4,
    perDeviceTrainBatchSize: 4,
    learningRate: 2e-3,
    maxLength: 256,
    loggingSteps: 1,
    saveStrategy: 'no',
    disableTqdm: true,
  },
};
const loadLlama = () => loadModel(path.join(golden, 'llama', 'model'));
const ids = goldenIds('llama');

interface GoldenRun {
  config: Record<string, unknown>;
  lora: { r: number; lora_alpha: number; target_modules: string[] };
  log: LogRecord[];
  loss_after_on_forward_ids: number;
}

for (const family of ['llama', 'gpt_neox', 'opt']) {
  describe(`${family}: training an adapter`, () => {
    test('logs what TRL logged with PEFT, and ends with its matrices', async () => {
      const reference = read<GoldenRun>(family, 'sft_lora.json');
      const model = await loadModel(adapterFolder(family, 'lora_init'));
      const config = { ...parseConfig(reference.config), disableTqdm: true };
      const trainer = new SFTTrainer({ model, trainDataset: rows, config });
      await trainer.train();
      for (const [i, expected] of reference.log.entries()) {
        const found = trainer.log[i];
        close(found.loss, expected.loss, 1e-4, `loss of step ${i + 1}`);
        close(found.grad_norm, expected.grad_norm, 1e-3, `grad_norm of step ${i + 1}`);
        close(found.entropy, expected.entropy, 1e-4, `entropy of step ${i + 1}`);
        assert.equal(found.num_tokens, expected.num_tokens);
      }
      close(await lossOn(model, goldenIds(family)), reference.loss_after_on_forward_ids, 1e-4, 'loss afterwards');
      const trained = await readSafetensors(path.join(golden, family, 'lora_trained', 'adapter_model.safetensors'));
      assert.deepEqual([...(model.adapter?.parameters.keys() ?? [])].sort(), [...trained.keys()].sort());
      for (const [name, variable] of model.adapter?.parameters ?? []) {
        const expected = trained.get(name)?.data as Float32Array;
        (await variable.data()).forEach((x, i) => {
          assert.ok(Math.abs(x - expected[i]) < 2e-4, `${name}[${i}]: ${x}, expected ${expected[i]}`);
        });
      }
      model.dispose();
    });
  });
}

test('a fresh adapter changes nothing at first; trained, the weights stay and the loss falls', async () => {
  const model = await loadLlama();
  const untouched = new Map(await Promise.all([...model.parameters].map(async ([name, x]) => [name, await x.data()] as const)));
  const loss = await lossOn(model, ids);
  const trainer = new SFTTrainer({
    model,
    trainDataset: rows,
    peftConfig: { r: 8, loraAlpha: 16, targetModules: 'all-linear' },
    config: short,
  });
  assert.equal(await lossOn(model, ids), loss);
  const { eval_loss: first } = await trainer.evaluate(rows);
  await trainer.train();
  for (const [name, values] of untouched) assert.deepEqual(await model.parameters.get(name)?.data(), values, name);
  const { eval_loss: last } = await trainer.evaluate(rows);
  assert.ok(last < first, `${last} after ${first}`);
  model.dispose();
});

test('the same seed makes the same adapter and the same run, with and without gradient checkpointing', async () => {
  const runs: string[] = [];
  for (const gradientCheckpointing of [false, false, true]) {
    const model = await loadLlama();
    const trainer = new SFTTrainer({ model, trainDataset: rows, peftConfig: { r: 4 }, config: { ...short, gradientCheckpointing } });
    await trainer.train();
    const matrices = await Promise.all([...(model.adapter?.parameters.values() ?? [])].map((matrix) => matrix.data()));
    runs.push(JSON.stringify([trainer.log, matrices.map((values) => [...values])]));
    model.dispose();
  }
  assert.equal(runs[1], runs[0]);
  assert.equal(runs[2], runs[0]);
});

test('a run that is resumed goes on as if it had not been interrupted', async () => {
  const config = { ...short, saveStrategy: 'steps', saveSteps: 2 } as const;
  const peftConfig = { r: 8, targetModules: ['q_proj', 'down_proj'] };
  const whole = await loadLlama();
  const outputDir = path.join(scratch, 'whole');
  const trainer = new SFTTrainer({ model: whole, trainDataset: rows, peftConfig, config: { ...config, outputDir } });
  await trainer.train();
  assert.deepEqual(
    readdirSync(path.join(outputDir, 'checkpoint-2')).filter((name) => /adapter|safetensors|config\.json$/.test(name)),
    ['adapter_config.json', 'adapter_model.safetensors', 'optimizer.safetensors', 'tokenizer_config.json'],
  );
  const resumed = await loadLlama();
  const again = new SFTTrainer({ model: resumed, trainDataset: rows, peftConfig, config });
  await again.train({ resumeFromCheckpoint: path.join(outputDir, 'checkpoint-2') });
  assert.deepEqual(again.log, trainer.log);
  for (const [name, matrix] of resumed.adapter?.parameters ?? [])
    assert.deepEqual(await matrix.data(), await whole.adapter?.parameters.get(name)?.data(), name);
  const reordered = await loadLlama();
  const otherOrder = { ...peftConfig, targetModules: ['down_proj', 'q_proj'] };
  const same = new SFTTrainer({ model: reordered, trainDataset: rows, peftConfig: otherOrder, config });
  await same.train({ resumeFromCheckpoint: path.join(outputDir, 'checkpoint-2') });
  assert.deepEqual(same.log, trainer.log);
  reordered.dispose();
  const record = JSON.parse(readFileSync(path.join(outputDir, 'run.json'), 'utf8')) as { config: Record<string, unknown> };
  assert.deepEqual(record.config.peft_config, {
    r: 8,
    lora_alpha: 8,
    lora_dropout: 0,
    use_rslora: false,
    target_modules: ['q_proj', 'down_proj'],
  });
  for (const [other, difference] of [
    [{ ...peftConfig, r: 4 }, /^UserError: peft_config\.r is 4, but .*checkpoint-2 was written with 8; continue/],
    [{ ...peftConfig, useDora: true }, /peft_config\.use_dora is true, but .* was written with null;/],
    [undefined, /peft_config is null, but/],
  ] as const) {
    const model = await loadLlama();
    const refused = new SFTTrainer({ model, trainDataset: rows, peftConfig: other, config });
    await assert.rejects(refused.train({ resumeFromCheckpoint: path.join(outputDir, 'checkpoint-2') }), difference);
    model.dispose();
  }
  whole.dispose();
  resumed.dispose();
});

test('a run is not resumed beside other weights than those that its adapter was trained beside', async () => {
  const config = { ...short, saveStrategy: 'steps', saveSteps: 2 } as const;
  const outputDir = path.join(scratch, 'beside');
  const train = async (base: string, maxSteps: number, resumeFromCheckpoint: boolean | string) => {
    const model = await loadModel(base);
    const trainer = new SFTTrainer({
      model,
      trainDataset: rows,
      peftConfig: {},
      config: { ...config, outputDir },
      callbacks: [{ onStepEnd: ({ step, stop }) => void (step === maxSteps && stop()) }],
    });
    await trainer.train({ resumeFromCheckpoint }).finally(() => model.dispose());
  };
  const [moved, other] = [path.join(scratch, 'moved-base'), path.join(scratch, 'other-base')];
  cpSync(path.join(golden, 'llama', 'model'), moved, { recursive: true });
  const model = await loadLlama();
  await new SFTTrainer({ model, trainDataset: rows, config: { ...short, maxSteps: 1 } }).train();
  await saveModel(model, other);
  model.dispose();
  await train(path.join(golden, 'llama', 'model'), 2, false);
  const record = readFileSync(path.join(outputDir, 'run.json'), 'utf8');
  await assert.rejects(
    train(other, 4, true),
    /other-base.model\.safetensors holds other weights than the base model with which the adapter/,
  );
  assert.equal(readFileSync(path.join(outputDir, 'run.json'), 'utf8'), record);
  await train(moved, 4, true);
});

test('an adapter that was saved is loaded with its base, trained further, and merged', async () => {
  const model = await loadLlama();
  await new SFTTrainer({ model, trainDataset: rows, peftConfig: { r: 8, targetModules: ['v_proj'] }, config: short }).train();
  const loss = await lossOn(model, ids);
  const folder = path.join(scratch, 'saved');
  await saveModel(model, folder);
  model.dispose();
  const again = await loadModel(folder);
  assert.equal(await lossOn(again, ids), loss);
  const trainer = new SFTTrainer({ model: again, trainDataset: rows, config: short });
  await trainer.train();
  const further = await lossOn(again, ids);
  assert.ok(further < loss, `${further} after ${loss}`);
  mergeAdapter(again);
  close(await lossOn(again, ids), further, 1e-6, 'loss of the merged model');
  await saveModel(again, path.join(scratch, 'merged'));
  again.dispose();
  const merged = await loadModel(path.join(scratch, 'merged'));
  assert.equal(merged.adapter, undefined);
  close(await lossOn(merged, ids), further, 1e-6, 'loss of the merged model, loaded');
  merged.dispose();
});

test('training, merging and disposing leave no tensor behind', async () => {
  const train = async () => {
    const model = await loadLlama();
    await new SFTTrainer({ model, trainDataset: rows, peftConfig: {}, config: short }).train();
    mergeAdapter(model);
    await new SFTTrainer({ model, trainDataset: rows, peftConfig: {}, config: short }).train();
    model.dispose();
  };
  await train();
  const before = tf.memory().numTensors;
  await train();
  assert.equal(tf.memory().numTensors, before);
});

test('what cannot be is refused, in one sentence, and the model stays as it was', async () => {
  const model = await loadLlama();
  const refused = (peftConfig: object, why: RegExp) =>
    assert.throws(() => new SFTTrainer({ model, trainDataset: rows, peftConfig, config: short }), why);
  refused({ r: 0 }, /^UserError: r of the adapter is 0, but must be a whole number, at least 1\.$/);
  refused({ loraAlpha: 0 }, /loraAlpha of the adapter is 0/);
  refused({ loraDropout: 1 }, /loraDropout of the adapter is 1/);
  refused({ loraDropout: '0.1' }, /loraDropout of the adapter is "0\.1", but must be a number/);
  refused({ loraDropout: null }, /loraDropout of the adapter is null, but must be a number/);
  refused({ r: 4, lora_alpha: 16 }, /^UserError: lora_alpha is no setting of an adapter; there are r, loraAlpha, targetModules, /);
  refused({ useDora: 1 }, /useDora of the adapter is 1, but must be true or false/);
  refused({ useQalora: true }, /useQalora is no setting of an adapter;.* no other kinds of LoRA/);
  refused({ targetModules: [] }, /targetModules of the adapter is \[\]/);
  refused(
    { targetModules: ['query_key_value'] },
    /no layers of the model; its linear layers are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj\.$/,
  );
  refused({ targetModules: ['q_proj', 'lm_head'] }, /mean lm_head too/);
  refused({ targetModules: ['embed_tokens'] }, /mean model\.embed_tokens too/);
  refused({ targetModules: '.*\\.(q_proj' }, /no regular expression/);
  refused({ targetModules: '(.*)*x' }, /"\(\.\*\)\*x", are a regular expression that takes too long; write no repetition within another/);
  assert.equal(model.adapter, undefined);
  new SFTTrainer({ model, trainDataset: rows, peftConfig: { targetModules: '.*layers\\.1\\..*_proj' }, config: short });
  assert.equal((model as CausalLM).adapter?.parameters.size, 14);
  refused({}, /has an adapter already/);
  await assert.rejects(saveModel(model, model.directory as string), /is the folder of the adapter's base model/);
  model.dispose();
});

test('where PEFT chooses no layers, they must be named', async () => {
  const model = await loadModel(path.join(golden, 'smollm3', 'model'));
  assert.throws(
    () => new SFTTrainer({ model, trainDataset: rows, peftConfig: { r: 4 }, config: short }),
    /^UserError: PEFT chooses no layers of a smollm3 model by itself: name the target modules .*lora_target_modules\), 'all-linear' or some of q_proj, k_proj, .*, down_proj\.$/,
  );
  new SFTTrainer({ model, trainDataset: rows, peftConfig: { r: 4, targetModules: ['q_proj', 'v_proj'] }, config: short });
  assert.equal(model.adapter?.parameters.size, 8);
  model.dispose();
});

test('a layer that PEFT refuses an adapter gets none', async () => {
  const model = await loadModel(path.join(golden, 'falcon_h1', 'model'));
  for (const targetModules of ['all-linear', ['out_proj'], '.*mamba\\..*_proj'])
    assert.throws(
      () => new SFTTrainer({ model, trainDataset: rows, peftConfig: { r: 4, targetModules }, config: short }),
      /^UserError: .*layers\.0\.mamba\.out_proj, which PEFT gives none in a model of type falcon_h1; name the others: gate_proj, .*, o_proj\.$/,
    );
  new SFTTrainer({ model, trainDataset: rows, peftConfig: { r: 4, targetModules: ['in_proj'] }, config: short });
  assert.equal(model.adapter?.parameters.size, 4);
  model.dispose();
});

test('an adapter of weights that no checkpoint has is not saved alone', async () => {
  const model = await loadLlama();
  await new SFTTrainer({ model, trainDataset: rows, config: { ...short, maxSteps: 1 } }).train();
  const config = { ...short, maxSteps: 1, outputDir: path.join(scratch, 'alone') };
  const trainer = new SFTTrainer({ model, trainDataset: rows, peftConfig: {}, config });
  await assert.rejects(trainer.train(), /belongs to weights that no checkpoint has.*mergeAdapter/);
  await assert.rejects(saveModel(model, path.join(scratch, 'alone')), /belongs to weights that no checkpoint has/);
  assert.ok(!existsSync(path.join(scratch, 'alone')));
  model.dispose();
});

test('a target module that is no layer of the model is named in a note, as it has no effect', async () => {
  const notesWith = async (targetModules: readonly string[] | string) => {
    const model = await loadLlama();
    const { notes } = new SFTTrainer({ model, trainDataset: rows, peftConfig: { targetModules }, config: short });
    model.dispose();
    return notes.filter((note) => note.includes('target modules'));
  };
  assert.deepEqual(await notesWith(['q_proj', 'v_porj']), [
    'The target modules of the adapter name v_porj, which is no linear layer of this model and without effect.',
  ]);
  assert.match((await notesWith(['fc1', 'q_proj', '.*v_proj']))[0], /name fc1, \.\*v_proj, which are no linear layers/);
  for (const fine of [['q_proj', 'layers.1.mlp.up_proj'], 'all-linear', '.*q_proj']) assert.deepEqual(await notesWith(fine), []);
});

function close(found: number | undefined, expected: number | undefined, relative: number, what: string): void {
  assert.ok(found !== undefined && expected !== undefined, what);
  assert.ok(Math.abs(found - expected) <= relative * Math.abs(expected), `${what}: ${found}, expected ${expected}`);
}
