import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, test } from 'node:test';
import * as tunebook from '../../lib/index';
import { projectRoot } from '../../lib/project';

const { compareModels, exactMatch, generate, generateBatch, loadDataset, loadModel, perplexity, SFTTrainer, streamText, useDevice } =
  tunebook;

const directory = path.join(projectRoot, 'test/golden/llama/model');
const file = path.join(projectRoot, 'test/golden/rows.json');
const scratch = mkdtempSync(path.join(tmpdir(), 'tunebook-arguments-'));

/** As plain JavaScript calls them: with anything. */
const untyped = {
  trainer: (options?: unknown) => new SFTTrainer(options as ConstructorParameters<typeof SFTTrainer>[0]),
  perplexity: perplexity as (...given: unknown[]) => Promise<unknown>,
  exactMatch: exactMatch as (...given: unknown[]) => Promise<unknown>,
  compareModels: compareModels as (...given: unknown[]) => Promise<unknown>,
  generate: generate as (...given: unknown[]) => Promise<unknown>,
  generateBatch: generateBatch as unknown as (...given: unknown[]) => Promise<unknown>,
  streamText: (...given: unknown[]) => (streamText as (...given: unknown[]) => AsyncGenerator<string>)(...given).next(),
  loadDataset: loadDataset as (...given: unknown[]) => Promise<unknown>,
};

const says = (message: RegExp | string): { name: string; message: RegExp | string } => ({ name: 'UserError', message });

before(() => useDevice('cpu'));
after(() => rmSync(scratch, { recursive: true }));

/** All functions of the library, without their types. */
type Untyped = Record<string, (...given: unknown[]) => unknown>;
const library = tunebook as unknown as Untyped;

/** Calls that must say something else than a TypeError, by what they say. */
async function assertSays(calls: ReadonlyArray<readonly [call: () => unknown, message: string | RegExp]>): Promise<void> {
  for (const [call, message] of calls)
    await assert.rejects(async () => {
      await call();
    }, says(message));
}

test('options that a function does not have are refused, with what was meant', async () => {
  const model = await loadModel(directory);
  const trainDataset = (await loadDataset(file)).take(8);
  const whole = { model, trainDataset, config: { maxSteps: 1 } };
  assert.throws(() => untyped.trainer({ ...whole, args: {} }), says('args is no option of SFTTrainer; write config.'));
  assert.throws(() => untyped.trainer({ ...whole, eval_dataset: [] }), says('eval_dataset is no option of SFTTrainer; write evalDataset.'));
  assert.throws(
    () => untyped.trainer({ ...whole, max_steps: 5 }),
    says('max_steps is no option of SFTTrainer; write config: { maxSteps: ... }.'),
  );
  assert.throws(
    () => untyped.trainer({ ...whole, toString5: 5 }),
    says(/^toString5 is no option of SFTTrainer; there are model, trainDataset,/),
  );
  assert.throws(() => untyped.trainer(), says(/^The options of SFTTrainer are missing, but a table/));
  assert.throws(
    () => untyped.trainer(model as never),
    says('SFTTrainer takes one table: new SFTTrainer({ model, trainDataset, config }).'),
  );
  const trainer = untyped.trainer({ ...whole, evalDataset: undefined, someday: undefined });
  await assert.rejects(
    trainer.train({ resume_from_checkpoint: true } as object),
    says(/^resume_from_checkpoint is no option of train; write resumeFrom/),
  );
  await assert.rejects(
    untyped.perplexity(model, 'text', { max_length: 5 }),
    says('max_length is no option of perplexity; write maxLength.'),
  );
  await assert.rejects(untyped.loadDataset(file, { name: 'main' }), says('name is no option of loadDataset; write config.'));
  model.dispose();
});

test('options that generation does not have are refused, here and where answers are generated', async () => {
  const model = await loadModel(directory);
  const rows = (await loadDataset(file)).take(1);
  const { generate, generateBatch, streamText, exactMatch, compareModels } = untyped;
  const calls: Array<[string, (options: object) => Promise<unknown>]> = [
    ['generate', (options) => generate(model, 'x', options)],
    ['generate', (options) => generate(model, [], options)],
    ['generateBatch', (options) => generateBatch(model, [[40]], options)],
    ['streamText', (options) => streamText(model, 'x', options)],
    ['exactMatch', (options) => exactMatch(model, rows, options)],
    ['compareModels', (options) => compareModels({ base: model, tuned: model, questions: ['x'], ...options })],
  ];
  for (const [name, call] of calls) {
    await assert.rejects(call({ max_new_tokens: 5 }), says(`max_new_tokens is no option of ${name}; write maxNewTokens.`));
    await assert.rejects(call({ temprature: 0 }), says(`temprature is no option of ${name}; write temperature.`));
    await assert.rejects(
      call({ doSample: true }),
      says(`doSample is no option of ${name}; write temperature, which samples where it is above 0.`),
    );
    await assert.rejects(call({ xyz: 1 }), says(new RegExp(`^xyz is no option of ${name}; there are .*maxNewTokens, .*onToken`)));
    await call({ maxNewTokens: 1, temprature: undefined });
  }
  await assert.rejects(exactMatch(model, rows, { batch_size: 2 }), says('batch_size is no option of exactMatch; write batchSize.'));
  await assert.rejects(
    generate(model, 'x', 5),
    says('The options of generate are the number 5, but a table such as { name: value } was expected.'),
  );
  await assert.rejects(compareModels(), says(/^The options of compareModels are missing, but a table/));
  model.dispose();
});

test('what is no model and no data is refused, with how to load it', async () => {
  const model = await loadModel(directory);
  const unwaited = loadDataset(file);
  const isAwaited = /^The \w+ of \w+ (?:is|are) a promise, which await was left out for; give .*what await load\w+\(\.\.\.\) returns\.$/;
  assert.throws(() => untyped.trainer({ model: Promise.resolve(model), trainDataset: [] }), says(isAwaited));
  assert.throws(() => untyped.trainer({ model, trainDataset: unwaited }), says(isAwaited));
  assert.throws(() => untyped.trainer({ model, trainDataset: [], evalDataset: unwaited }), says(isAwaited));
  assert.throws(() => untyped.trainer({ model }), says(/^The trainDataset of SFTTrainer is missing; give rows, or what await loadDataset/));
  assert.throws(
    () => untyped.trainer({ model: 'data/base', trainDataset: [] }),
    says('The model of SFTTrainer is the text "data/base"; give what await loadModel("data/base") returns.'),
  );
  assert.throws(
    () => untyped.trainer({ model, trainDataset: file }),
    says(/^The trainDataset of SFTTrainer is the text ".*rows\.json"; give rows, or/),
  );
  const some = (await unwaited).take(2);
  for (const other of [new Set(some), some[Symbol.iterator]()])
    assert.throws(() => untyped.trainer({ model, trainDataset: other }), says(/^The trainDataset of SFTTrainer is an object; give rows/));
  const trainer = untyped.trainer({ model, trainDataset: some, evalDataset: null, config: { maxSteps: 1 } });
  await assert.rejects(trainer.evaluate(unwaited as unknown as []), says(isAwaited));
  for (const measure of [untyped.perplexity, untyped.exactMatch]) {
    await assert.rejects(measure(model, unwaited), says(isAwaited));
    await assert.rejects(measure(Promise.resolve(model), []), says(isAwaited));
  }
  for (const write of [untyped.generate, untyped.generateBatch, untyped.streamText])
    await assert.rejects(write(Promise.resolve(model), ['x']), says(isAwaited));
  await assert.rejects(
    untyped.generate('data/base', 'x'),
    says('The model of generate is the text "data/base"; give what await loadModel("data/base") returns.'),
  );
  await assert.rejects(untyped.exactMatch(model, file), says(/^The rows of exactMatch are/));
  model.dispose();
});

test('the path of a file is not scored as a text', async () => {
  const model = await loadModel(directory);
  await assert.rejects(
    perplexity(model, file),
    says(/^perplexity takes ".*rows\.json", which is the path of a file, as a text; give await loadDataset\(".*rows\.json"\), or a list/),
  );
  assert.ok((await perplexity(model, [file])).numTokens > 0);
  assert.ok((await perplexity(model, projectRoot)).numTokens > 0);
  // longer than a name can be
  assert.ok((await perplexity(model, 'The capital of France is Paris. '.repeat(30))).numTokens > 0);
  model.dispose();
});

test('options of models, data, devices, plots and tokenizers are refused where there are none of that name', async () => {
  const model = await loadModel(directory);
  const rows = (await loadDataset(file)).take(8);
  const { tokenizer } = model;
  const log = [{ step: 1, loss: 2 }];
  const untyped = (made: object): Untyped => made as unknown as Untyped;
  const at = (name: string): string => path.join(scratch, name);
  const refused: ReadonlyArray<readonly [of: string, other: string, meant: string, call: (options: object) => unknown]> = [
    ['loadModel', 'load_in_4bit', 'loadIn4bit', (options) => library.loadModel(directory, options)],
    ['loadModel', 'device_map', 'await useDevice(...) before it', (options) => library.loadModel(directory, options)],
    ['createModel', 'sede', 'seed', (options) => library.createModel(model.config.raw, { tokenizer, ...options })],
    ['saveModel', 'dtpe', 'dtype', (options) => library.saveModel(model, at('saved'), options)],
    ['exportModel', 'dtype', 'dtypes', (options) => library.exportModel(model, at('exported'), options)],
    ['exportGguf', 'outtype', 'dtype', (options) => library.exportGguf(model, at('model.gguf'), options)],
    ['useDevice', 'threds', 'threads', (options) => library.useDevice('cpu', options)],
    ['earlyStopping', 'patence', 'patience', library.earlyStopping],
    ['earlyStopping', 'early_stopping_patience', 'patience', library.earlyStopping],
    ['loadTokenizer', 'eos_token', 'eosToken', (options) => library.loadTokenizer(directory, options)],
    ['plotTraining', 'save_to', 'saveTo', (options) => library.plotTraining(log, options)],
    ['plotComparison', 'save_to', 'saveTo', (options) => library.plotComparison({ log }, options)],
    ['LiveTrainingPlot', 'every_seconds', 'everySeconds', (options) => new tunebook.LiveTrainingPlot(options)],
    [
      'compareModels({ names })',
      'tunde',
      'tuned',
      (names) => library.compareModels({ base: model, tuned: model, questions: ['x'], names }),
    ],
    ['mixDatasets', 'probabilities', 'weights', (options) => library.mixDatasets([rows], options)],
    ['Dataset', 'origin', 'origins', (options) => new tunebook.Dataset([], options)],
    ['split', 'tset', 'test', (options) => untyped(rows).split(options)],
    ['split', 'test_size', 'test', (options) => untyped(rows).split(options)],
    ['formatExample', 'chat_template', 'chatTemplate', (options) => library.formatExample(rows.rows[0], tokenizer, options)],
    ['tokenizeExample', 'max_length', 'maxLength', (options) => library.tokenizeExample(rows.rows[0], tokenizer, options)],
    ['encode', 'add_special_tokens', 'addSpecialTokens', (options) => untyped(tokenizer).encode('x', options)],
    ['decode', 'skip_special_tokens', 'skipSpecialTokens', (options) => untyped(tokenizer).decode([40], options)],
    ['applyChatTemplate', 'add_generation_prompt', 'addGenerationPrompt', (options) => untyped(tokenizer).applyChatTemplate([], options)],
    [
      'encodeChat',
      'enable_thinking',
      'chatTemplateKwargs: { enable_thinking: ... }',
      (options) => untyped(tokenizer).encodeChat([], options),
    ],
  ];
  await assertSays(
    refused.map(([of, other, meant, call]) => [() => call({ [other]: 1 }), `${other} is no option of ${of}; write ${meant}.`] as const),
  );
  await assertSays([
    [() => library.loadModel(directory, 'main'), /^The options of loadModel are the text "main", but a table/],
    [() => library.createModel(model.config.raw), /^The options of createModel are missing, but a table/],
    [() => untyped(rows).split(0.1), /^The options of split are the number 0.1, but a table/],
  ]);
  assert.deepEqual(readdirSync(scratch), []);
  model.dispose();
});

test('values that options cannot have are refused, where they were ignored or made a broken file', async () => {
  const model = await loadModel(directory);
  const { raw } = model.config;
  const log = [{ step: 1, loss: 2 }];
  const compare = (names: unknown) => library.compareModels({ base: model, tuned: model, questions: ['x'], names });
  await assertSays([
    [
      () => library.loadModel(directory, { dtype: 'bf16' }),
      'There is no dtype "bf16" to keep weights in; choose from float32, bfloat16, float16, and auto.',
    ],
    [() => library.createModel(raw, { tokenizer: model.tokenizer }), 'The seed of createModel is missing; give a number.'],
    [() => library.createModel(raw, { seed: 1, tokenizer: directory }), /^The tokenizer of createModel is the text .*loadTokenizer\("/],
    [
      () => library.saveModel(model, path.join(scratch, 'saved'), { dtype: 'fp16' }),
      'There is no dtype "fp16" to save in; choose from float32, float16, and bfloat16.',
    ],
    [() => library.exportModel(model, scratch, { dtypes: 'q8' }), 'dtypes is the text "q8"; give a list, such as ["q8"].'],
    [() => library.useDevice({ threads: 1 }), /^There is no device {"threads":1}; choose one of auto,/],
    [() => library.plotTraining(log, { curves: 'loss' }), /^curves is the text "loss"; give a list with some of loss, accuracy,/],
    [() => library.plotTraining(log, { curves: ['los'] }), /^There is no curve "los"; choose from loss, accuracy,/],
    [() => compare({ base: 5 }), 'The name of base in compareModels({ names }) is the number 5; give a text.'],
  ]);
  assert.deepEqual(readdirSync(scratch), []);
  model.dispose();
});

test('what is no prompt, no token ids and no path is refused, with what was meant', async () => {
  const model = await loadModel(directory);
  const rows = (await loadDataset(file)).take(2);
  const stream = (prompt?: unknown) => untyped.streamText(model, prompt);
  const trainerWith = (callbacks: unknown) => untyped.trainer({ model, trainDataset: rows, callbacks });
  await assertSays([
    [() => library.generate(model), 'The prompt of generate is missing; give a text or messages, or a list of them.'],
    [
      () => library.generate(model, [40, 41]),
      'The prompt of generate is a list of token ids, but a text was expected; call generateBatch(model, [ids]).',
    ],
    [() => library.generate(model, rows), /^The prompt of generate is an object; .*; of a row formatExample\(row, model.tokenizer\)/],
    [
      () => library.generate(model, { role: 'user', content: 'Hi' }),
      /^The prompt of generate is an object; .*; a single message is \[\{ role, content \}\]/,
    ],
    [
      () =>
        library.generate(model, [
          { role: 'user', content: 'Hi' },
          { role: 'assistant', content: 'Ho' },
        ]),
      'The messages end with what the assistant says; give them up to the question that is to be answered.',
    ],
    [
      () => library.generateBatch(model, [{ role: 'user', content: 'Hi' }]),
      'The prompts of generateBatch are messages, as one prompt is; give a list of prompts, such as [messages].',
    ],
    [
      () => library.generate(model, ['x', rows.rows[0]]),
      /^Prompt 2 of generate is an object; give a text, messages or token ids; of a row/,
    ],
    [() => library.generateBatch(model), 'The prompts of generateBatch are missing; give a list, such as [...].'],
    [() => library.generateBatch(model, 'text'), 'The prompts of generateBatch are the text "text"; give a list, such as ["text"].'],
    [() => library.generateBatch(model, [40, 41]), /^The prompts of generateBatch are token ids, as one prompt is; give a list/],
    [() => stream(), 'The prompt of streamText is missing; give a text, messages or token ids.'],
    [() => stream(['x', 'y']), /^streamText continues one prompt, but is given a list of texts; give one of them, or call generate/],
    [() => library.tokenNll('path', [40, 41]), 'The model of tokenNll is the text "path"; give what await loadModel("path") returns.'],
    [() => library.tokenNll(model), /^The ids of tokenNll are missing; give a list of numbers/],
    [() => library.tokenNll(model, 'a text'), /; give a list of numbers, as model.tokenizer.encode\("a text"\) returns it\.$/],
    [() => library.tokenNll(model, [[40, 41]]), /^The ids of tokenNll are a list; give a list of numbers/],
    [() => library.mergeAdapter('x'), 'The model of mergeAdapter is the text "x"; give what await loadModel("x") returns.'],
    [() => library.loadModel(), 'The folder or Hub id of loadModel is missing; give it as a text.'],
    [() => library.loadDataset(5), 'The place of loadDataset is the number 5; give it as a text.'],
    [() => library.loadModel(5n), 'The folder or Hub id of loadModel is the bigint 5; give it as a text.'],
    [() => library.loadModel(Symbol('x')), 'The folder or Hub id of loadModel is the symbol Symbol(x); give it as a text.'],
    [() => library.loadModel(Number.NaN), 'The folder or Hub id of loadModel is the number NaN; give it as a text.'],
    [() => library.generate(model, 'x', { maxNewTokens: 5n }), 'maxNewTokens is 5n; expected a whole number of at least 1.'],
    [() => library.mixDatasets(rows, rows), /^The datasets of mixDatasets are an object; give a list/],
    [() => library.mixDatasets([rows, loadDataset(file)]), /^Dataset 2 of mixDatasets is a promise, which await was left out for;/],
    [() => library.mixDatasets([rows], { seed: 'x' }), 'The seed "x" must be a whole number from 0 up.'],
    [() => library.mixDatasets([rows], { weights: 1 }), /^weights 1 must be one number above 0 for each of the 1 datasets\.$/],
    [() => library.formatExample(), 'The example of formatExample is missing; give a row, such as dataset.rows[0].'],
    [
      () => library.formatExample(rows.rows[0], 'gpt2'),
      /^The tokenizer of formatExample is the text "gpt2"; give what await loadTokenizer/,
    ],
    [() => library.tokenizeExample(rows, model.tokenizer), /^The example of tokenizeExample is an object; give a row/],
    [() => library.tokenizeExample(rows.rows[0]), /^The tokenizer of tokenizeExample is missing; give what await loadTokenizer/],
    [() => library.showTokens(rows.rows[0], model.tokenizer), /^The example of showTokens is an object; give what tokenizeExample/],
    [() => library.showTable(5), 'The rows of showTable are the number 5; give a list of records, such as [{ step: 1, loss: 2.5 }].'],
    [
      () => library.tokenizeExample(rows.rows[0], model.tokenizer, { template: 'alpaca' }),
      /^The template is the text "alpaca"; give a function/,
    ],
    [
      () => library.generate(model, 'x', { template: 'alpaca' }),
      /^template is no option of generate; write the prompt in its words, by alpacaPrompt/,
    ],
    [() => loadDataset(file, { map: (() => {}) as () => unknown }), /^The map of loadDataset returned nothing for .* 1; return a row/],
    [
      () => loadDataset(file, { split: 'test' }),
      /is a file, whose rows are the split train; name the file or folder that has the split test/,
    ],
    [
      () => tunebook.Dataset.fromRows([{ prompt: 'a', completion: undefined }]),
      /^rows row 1: "completion" is undefined, but a text was expected/,
    ],
    [
      () => trainerWith({ onLog() {} }),
      'The callbacks of SFTTrainer are an object; give a list, such as [earlyStopping({ patience: 3 })].',
    ],
    [() => trainerWith([null]), /^Callback 1 of SFTTrainer is null; give an object with functions such as onLog/],
    [() => trainerWith([{ onLog() {} }, () => 1]), /^Callback 2 of SFTTrainer is a function; give an object/],
    [() => trainerWith([{ on_log() {} }]), 'Callback 1 of SFTTrainer has on_log, which is no event; write onLog.'],
    [() => trainerWith([{ onstepend() {} }]), /^Callback 1 of SFTTrainer has none of the events onTrainBegin, /],
    [() => library.plotTraining('runs/metrics.jsonl'), /^The run of plotTraining is the text "runs\/metrics.jsonl"; give the trainer/],
    [() => library.plotComparison({ a: { lag: [] } }), /^The run a of plotComparison is an object; give its trainer, or its records/],
  ]);
  for (const save of ['saveModel', 'exportModel', 'exportGguf']) {
    const place = path.join(scratch, 'model.gguf');
    await assertSays([
      [() => library[save]('x', place), `The model of ${save} is the text "x"; give what await loadModel("x") returns.`],
      [() => library[save](model), new RegExp(`^The (folder|file) of ${save} is missing; give it as a text\\.$`)],
    ]);
  }
  assert.deepEqual(readdirSync(scratch), []);
  const [{ ids }] = await tunebook.generateBatch(model, [Int32Array.from([40, 41]) as unknown as number[]], { maxNewTokens: 2 });
  assert.deepEqual((await tunebook.generateBatch(model, [[40, 41]], { maxNewTokens: 2 }))[0].ids, ids);
  assert.equal((await tunebook.tokenNll(model, Int32Array.from([40, 41]))).nll.length, 1);
  model.dispose();
});
