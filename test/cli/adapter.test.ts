import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { readScriptArguments } from '../../lib/cli/script-fields';
import { copyOfModel, goldenModel, goldenRows, put, refuses, tunebook, tunebookJson, workFolder } from './support';

interface Scores {
  loss: number;
  token_nll: number[];
}

const settings = ['--max_steps', '2', '--learning_rate', '2e-3', '--logging_steps', '1', '--save_strategy', 'no'];

test('an adapter is trained by a recipe for trl sft, loaded by every verb, and merged', async (t) => {
  const folder = workFolder(t);
  const recipe = put(
    folder,
    'recipe.yaml',
    `model_name_or_path: ${goldenModel}\ndataset_name: ${goldenRows}\noutput_dir: out\nuse_peft: true\nlora_r: 4\nlora_alpha: 8\n` +
      'lora_dropout: 0.05\nlora_task_type: CAUSAL_LM\nlora_modules_to_save: null\nlora_target_modules:\n- q_proj\n- down_proj\n',
  );
  const { code, stdout, stderr } = await tunebook(['sft', '--config', recipe, ...settings], { cwd: folder });
  assert.equal(code, 0, stderr);
  assert.match(stdout, /The trained adapter is in out, its curves in/);
  const out = path.join(folder, 'out');
  assert.ok(!existsSync(path.join(out, 'model.safetensors')));
  const config = JSON.parse(readFileSync(path.join(out, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
  assert.equal(config.base_model_name_or_path, goldenModel);
  assert.deepEqual([config.r, config.lora_alpha, config.lora_dropout, config.target_modules], [4, 8, 0.05, ['q_proj', 'down_proj']]);

  const text = ['--text', 'What has two wheels?'];
  const score = (model: string) => tunebookJson<Scores>(['score', '--model', model, ...text], { cwd: folder });
  const [base, tuned] = [await score(goldenModel), await score('out')];
  assert.notEqual(tuned.loss, base.loss);
  await tunebookJson(['merge', '--model', 'out', '--output_dir', 'merged'], { cwd: folder });
  assert.deepEqual(readdirSync(path.join(folder, 'merged')).sort(), readdirSync(goldenModel).sort());
  for (const [i, nll] of (await score('merged')).token_nll.entries()) assert.ok(Math.abs(nll - tuned.token_nll[i]) < 1e-5);
});

test('names of modules that commas part are read, and any other text is a pattern, however many commas it has', () => {
  const read = (text: string) => readScriptArguments({ lora_target_modules: text }, () => undefined).script.lora_target_modules;
  for (const text of ['q_proj,v_proj', ' q_proj , v_proj', 'q_proj,, v_proj,']) assert.deepEqual(read(text), ['q_proj', 'v_proj']);
  for (const text of ['.*(q|v)_proj', '.{1,2}_proj', ',', `q${', '.repeat(200)}!`]) assert.equal(read(text), text);
});

test('settings of an adapter without use_peft are said to do nothing', async (t) => {
  const common = ['sft', '--model', goldenModel, '--data', goldenRows, '--output_dir', 'out', ...settings];
  const { code, stderr } = await tunebook([...common, '--lora_r', '4', '--lora_target_modules', 'all-linear'], { cwd: workFolder(t) });
  assert.equal(code, 0, stderr);
  assert.match(stderr, /lora_r has no effect: use_peft is false\.\n.*lora_target_modules has no effect: use_peft is false\./);
});

test('flags name the layers in words or all of them; a full run into the same folder takes the place of the adapter', async (t) => {
  const folder = workFolder(t);
  const common = ['sft', '--model', goldenModel, '--data', goldenRows, '--output_dir', 'out', ...settings];
  const configOf = () =>
    JSON.parse(readFileSync(path.join(folder, 'out', 'adapter_config.json'), 'utf8')) as Record<
      'target_modules' | 'modules_to_save',
      string[]
    >;
  const targets = () => configOf().target_modules;
  await tunebookJson([...common, '--use_peft', '--lora_target_modules', 'k_proj', 'v_proj'], { cwd: folder });
  assert.deepEqual(targets(), ['k_proj', 'v_proj']);
  await tunebookJson([...common, '--use_peft', '--lora_target_modules', 'all-linear'], { cwd: folder });
  assert.deepEqual(targets(), ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']);
  const recipe = put(folder, 'recipe.yaml', 'use_peft: true\nlora_target_modules:\n- all-linear\n');
  await tunebookJson([...common, '--config', recipe, '--use_dora'], { cwd: folder });
  assert.equal(targets().length, 7);
  assert.match(readFileSync(path.join(folder, 'out', 'adapter_config.json'), 'utf8'), /"use_dora": true/);
  await tunebookJson([...common, '--use_peft', '--lora_modules_to_save', 'norm', 'lm_head'], { cwd: folder });
  assert.deepEqual(configOf().modules_to_save, ['norm', 'lm_head']);
  const tokens = () => (configOf() as { trainable_token_indices?: unknown }).trainable_token_indices;
  await tunebookJson([...common, '--use_peft', '--trainable_token_indices', '5', '1_000'], { cwd: folder });
  assert.deepEqual(tokens(), [5, 1000]);
  const withTable = put(folder, 'tokens.yaml', 'use_peft: true\ntrainable_token_indices:\n  embed_tokens: [5, 6]\n  lm_head: [7]\n');
  await tunebookJson([...common, '--config', withTable], { cwd: folder });
  assert.deepEqual(tokens(), { embed_tokens: [5, 6], lm_head: [7] });
  await tunebookJson(common, { cwd: folder });
  const files = readdirSync(path.join(folder, 'out'));
  assert.ok(files.includes('model.safetensors') && !files.some((name) => name.startsWith('adapter_')), files.join());
});

describe('refused in one sentence:', () => {
  const sft = ['sft', '--model', goldenModel, '--data', goldenRows, '--use_peft'];

  test('what an adapter cannot be here', async (t) => {
    const cwd = workFolder(t);
    await refuses([...sft, '--lora_r', '0'], /lora_r is "0", but must be a whole number, at least 1/, { cwd });
    await refuses([...sft, '--use_dora', 'maybe'], /use_dora is "maybe", but must be/, { cwd });
    await refuses([...sft, '--lora_modules_to_save', 'lm_haed'], /name "lm_haed", which the model does not have; it has .*lm_head/, {
      cwd,
    });
    await refuses([...sft, '--trainable_token_indices', '5', 'x'], /trainable_token_indices is \["5","x"\], but must be a list of ids/, {
      cwd,
    });
    await refuses([...sft, '--trainable_token_indices', '1024'], /of embed_tokens, hold 1024, but the rows of .* have the ids 0 to 1023/, {
      cwd,
    });
    await refuses(
      [...sft, '--lora_target_parameters', 'down_proj.weight'],
      /mean model\.layers\.0\.mlp\.down_proj\.weight too, but only those/,
      {
        cwd,
      },
    );
    const experts = ['sft', '--model', goldenModel.replace('llama', 'olmoe'), '--data', goldenRows, '--use_peft'];
    await refuses(
      [...experts, '--lora_target_parameters', 'experts.down_proj'],
      /loraDropout \(lora_dropout\) of the adapter is 0\.05, but/,
      {
        cwd,
      },
    );
    await refuses([...sft, '--lora_target_modules', 'c_attn'], /"c_attn", are no layers of the model; its linear layers are q_proj/, {
      cwd,
    });
    await refuses([...sft, '--lora_alpa', '4'], /lora_alpa is not a known setting; the nearest is lora_alpha/, { cwd });
  });

  test('a folder in which the adapter or its merged model would replace what it is made of', async (t) => {
    const folder = workFolder(t);
    const base = copyOfModel(folder);
    const training = ['sft', '--model', base, '--data', goldenRows, '--use_peft', ...settings];
    await refuses([...training, '--output_dir', base], /is the folder of the adapter's base model/);
    const out = path.join(folder, 'out');
    await tunebookJson([...training, '--output_dir', out]);
    await refuses(
      ['sft', '--model', out, '--data', goldenRows, '--use_peft', '--output_dir', path.join(folder, 'second')],
      /has an adapter already; train that one, .*use_peft: false.*tunebook merge/,
    );
    for (const place of [out, base]) await refuses(['merge', '--model', out, '--output_dir', place], /which would be replaced/);
    await refuses(
      ['merge', '--model', base, '--output_dir', path.join(folder, 'merged')],
      /is a whole model, so there is nothing to merge/,
    );
    assert.deepEqual(readdirSync(folder).sort(), ['model', 'out']);
  });
});
