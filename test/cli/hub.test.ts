/** Models by their Hub id on the command line. */
import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { ID, withHub } from '../data/hub-place';
import { COMMIT } from '../data/hub-server';
import { golden, goldenModel, goldenRows, put, refuses, tunebook, tunebookJson, workFolder } from './support';

const filesOf = (folder: string) => Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(path.join(folder, name))]));

test('an adapter may lie on the Hub, and so may the base model that it names', async (t) => {
  const folder = workFolder(t);
  const trained = path.join(golden, 'llama/lora_trained');
  const config = JSON.parse(readFileSync(path.join(trained, 'adapter_config.json'), 'utf8')) as object;
  const score = async (model: string) => {
    const { code, stdout, stderr } = await tunebook(['score', '--model', model, '--text', 'once upon', '--json'], {
      env: { HF_HUB_OFFLINE: undefined },
    });
    assert.equal(code, 0, stderr);
    return stdout;
  };
  cpSync(trained, folder, { recursive: true });
  put(folder, 'adapter_config.json', { ...config, base_model_name_or_path: goldenModel });
  const expected = await score(folder);
  await withHub(filesOf(folder), async () => assert.equal(await score(ID), expected));
  put(folder, 'adapter_config.json', { ...config, base_model_name_or_path: ID });
  await withHub(filesOf(goldenModel), async () => assert.equal(await score(folder), expected));
});

test('an adapter names the revision of its base on the Hub, also when it is trained further', async (t) => {
  const folder = workFolder(t);
  const short = ['--max_steps', '1', '--save_strategy', 'no', '--data', goldenRows];
  const revisionOf = (name: string) =>
    (JSON.parse(readFileSync(path.join(folder, name, 'adapter_config.json'), 'utf8')) as Record<string, unknown>).revision;
  const sft = async (...words: string[]) => {
    const { code, stderr } = await tunebook(['sft', ...short, ...words], { cwd: folder, env: { HF_HUB_OFFLINE: undefined } });
    assert.equal(code, 0, stderr);
  };
  await withHub(filesOf(goldenModel), async () => {
    await sft('--model', ID, '--model_revision', COMMIT, '--use_peft', '--output_dir', 'first');
    assert.equal(revisionOf('first'), COMMIT);
    await sft('--model', 'first', '--output_dir', 'second');
    assert.equal(revisionOf('second'), COMMIT);
  });
  await sft('--model', goldenModel, '--use_peft', '--output_dir', 'local');
  assert.equal(revisionOf('local'), null);
});

test('a model is looked up once: while the Hub is out of order, a verb takes it from the cache and says so once', async () => {
  await withHub(filesOf(goldenModel), async ({ hub }) => {
    const score = () => tunebook(['score', '--model', ID, '--text', 'once upon', '--json'], { env: { HF_HUB_OFFLINE: undefined } });
    const first = await score();
    assert.equal(first.code, 0, first.stderr);
    hub.faults.answer = (response) => void response.writeHead(500).end('sorry');
    const second = await score();
    assert.equal(second.code, 0, second.stderr);
    assert.equal(second.stdout, first.stdout);
    assert.equal(second.stderr.match(/is taken from the cache/g)?.length, 1, second.stderr);
  });
});

test('a recipe may name a dataset of the Hub, its splits and the column of its text', async (t) => {
  const folder = workFolder(t);
  const rows = (count: number) => Array.from({ length: count }, (_, i) => JSON.stringify({ content: `Number ${i} is ${i}.` })).join('\n');
  const card = '---\nconfigs:\n- config_name: few\n  data_dir: few\n- config_name: empty\n  data_dir: empty\n---\n';
  const content = { 'README.md': card, 'few/train.jsonl': rows(20), 'few/test.jsonl': rows(5) };
  const env = { HF_HUB_OFFLINE: undefined };
  await withHub(
    content,
    async () => {
      const recipe = put(
        folder,
        'recipe.yaml',
        `model_name_or_path: ${goldenModel}\ndataset_name: ${ID}\ndataset_config: few\ndataset_train_split: train[:12]\n` +
          'dataset_test_split: test\ndataset_text_field: content\ndataset_streaming: false\noutput_dir: out\neval_strategy: steps\n' +
          'eval_steps: 1\nmax_steps: 1\nsave_strategy: "no"\nper_device_train_batch_size: 2\n',
      );
      const { code, stderr } = await tunebook(['sft', '--config', recipe], { cwd: folder, env });
      assert.equal(code, 0, stderr);
      const run = JSON.parse(readFileSync(path.join(folder, 'out/run.json'), 'utf8')) as Record<string, { examples: number }>;
      assert.deepEqual([run.dataset.examples, run.eval_dataset.examples], [12, 5]);
      await refuses(['sft', '--config', recipe, '--dataset_config', 'empty'], /holds no JSON, Parquet or CSV file in empty/, {
        cwd: folder,
        env,
      });
      await refuses(
        ['sft', '--config', recipe, '--dataset_train_split', 'validation'],
        /The dataset tester\/tiny-model has no split validation; it has train, test\./,
        { cwd: folder, env },
      );
    },
    'dataset',
  );
  await withHub(
    { 'test.jsonl': rows(4).replaceAll('content', 'text') },
    async () => {
      const words = ['evaluate', '--model', goldenModel, '--data', ID, '--split', 'test[1:]'];
      const { num_examples: count } = await tunebookJson<{ num_examples: number }>(words, { env });
      assert.equal(count, 3);
    },
    'dataset',
  );
});
