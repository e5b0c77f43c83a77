import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { UserError } from '../../lib/errors';
import { projectRoot } from '../../lib/project';
import { configHelp, fieldList, parseConfig, toSnakeCase } from '../../lib/train';

const refuses = (raw: unknown, pattern: RegExp) =>
  assert.throws(
    () => parseConfig(raw),
    (error: unknown) => {
      assert.ok(error instanceof UserError, String(error));
      assert.match(error.message, pattern);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    },
  );

test("defaults are TRL's", () => {
  const config = toSnakeCase(parseConfig());
  const expected = {
    ...{ learning_rate: 2e-5, num_train_epochs: 3, max_steps: -1, per_device_train_batch_size: 8, per_device_eval_batch_size: 8 },
    ...{
      gradient_accumulation_steps: 1,
      max_length: 1024,
      max_grad_norm: 1,
      lr_scheduler_type: 'linear',
      warmup_steps: 0,
      weight_decay: 0,
    },
    ...{ adam_beta1: 0.9, adam_beta2: 0.999, adam_epsilon: 1e-8, logging_steps: 10, logging_first_step: false, eval_strategy: 'no' },
    ...{ eval_steps: null, save_strategy: 'steps', save_steps: 500, save_total_limit: null, seed: 42, data_seed: null, packing: false },
    ...{
      packing_strategy: 'bfd',
      completion_only_loss: null,
      train_sampling_strategy: 'random',
      load_best_model_at_end: false,
      output_dir: null,
    },
  };
  for (const [key, value] of Object.entries(expected)) assert.deepEqual(config[key], value, key);
});

test("reads TRL's keys, TypeScript's names, and the words of a command line", () => {
  const words = {
    learning_rate: '1e-4',
    maxSteps: 20,
    logging_first_step: 'true',
    max_length: 'none',
    lr_scheduler_type: 'cosine_with_min_lr',
    lr_scheduler_kwargs: '{"min_lr_rate": 0.1}',
  };
  const { learningRate, maxSteps, loggingFirstStep, maxLength, lrSchedulerKwargs } = parseConfig(words);
  assert.deepEqual([learningRate, maxSteps, loggingFirstStep, maxLength, lrSchedulerKwargs], [1e-4, 20, true, null, { min_lr_rate: 0.1 }]);
});

test('a parsed configuration parses to itself', () => {
  const schedule = { lr_scheduler_type: 'cosine', lr_scheduler_kwargs: { num_cycles: 1 } };
  const config = parseConfig({ max_length: null, eval_strategy: 'epoch', save_total_limit: 2, ...schedule });
  assert.deepEqual(parseConfig(config), config);
  assert.deepEqual(parseConfig(toSnakeCase(config)), config);
});

test('a ~ at the beginning of output_dir is the home, as in transformers', () => {
  for (const [given, meant] of [
    ['~/runs/a~b', path.join(homedir(), 'runs/a~b')],
    ['~', homedir()],
    ['./~/runs', './~/runs'],
    ['~runs', '~runs'],
  ])
    assert.equal(parseConfig({ output_dir: given }).outputDir, meant);
});

test('undefined means not given', () => {
  assert.equal(parseConfig({ maxLength: undefined }).maxLength, 1024);
});

describe('an unknown key is refused with the nearest known one', () => {
  for (const [wrong, right] of [
    ['learning_rat', 'learning_rate'],
    ['lerning_rate', 'learning_rate'],
    ['per_device_batch_size', 'per_device_eval_batch_size|per_device_train_batch_size'],
    ['gradient_acumulation_steps', 'gradient_accumulation_steps'],
    ['perDeviceTrainBatchsize', 'perDeviceTrainBatchSize'],
    ['learningrate', 'learning_rate'],
    ['max_step', 'max_steps'],
    ['gradient_checkpoint', 'gradient_checkpointing'],
  ]) {
    test(wrong, () => refuses({ [wrong]: 1 }, new RegExp(`^${wrong} is not a known setting; the nearest is (${right})\\.$`)));
  }
  test('or, where none is near, with where they are listed', () =>
    refuses({ train_data: 1 }, /^train_data is not a known setting; tunebook sft --help lists them all\.$/));
  test('offering keys that the caller reads itself', () => {
    assert.throws(() => parseConfig({ dataset_nam: 'x' }, { otherKeys: ['dataset_name'] }), /nearest is dataset_name/);
    assert.doesNotThrow(() => parseConfig({ dataset_name: 'x' }, { otherKeys: ['dataset_name'] }));
  });
  test('former names of settings are said', () => refuses({ max_seq_length: 512 }, /former name of a setting; write max_length/));
});

describe('a value out of range is refused with the value and the range', () => {
  for (const [key, value, pattern] of [
    ['learning_rate', -1, /learning_rate is -1, but must be a number, at least 0 \(default 0\.00002\)/],
    ['learning_rate', 'fast', /learning_rate is "fast", but must be a number/],
    ['learning_rate', Number.NaN, /must be a number/],
    ['per_device_train_batch_size', 0, /whole number, at least 1 \(default 8\)/],
    ['per_device_train_batch_size', 1.5, /whole number/],
    ['num_train_epochs', 0, /above 0/],
    ['max_steps', 0, /max_steps is 0, but must be at least 1/],
    ['max_steps', -2, /at least -1/],
    ['adam_beta2', 1, /at least 0 and below 1/],
    ['warmup_ratio', 1.5, /at most 1/],
    ['lr_scheduler_type', 'reduce_lr_on_plateau', /one of linear, cosine, cosine_with_restarts/],
    ['packing', 'yes', /true or false/],
    ['logging_steps', 0, /at least 1, or a share/],
    ['save_total_limit', 0, /at least 1, or null/],
    ['seed', -3, /at least 0/],
    ['output_dir', 7, /a text/],
    ['max_length', 1, /at least 2/],
    ['warmup_steps', 2.5, /whole number of steps/],
    [
      'lr_scheduler_kwargs',
      { factor: 2 },
      /the keys min_lr, min_lr_rate, num_cycles.* \(a number\), .*decay_type \(one of linear, cosine, 1-sqrt\)/,
    ],
    ['lr_scheduler_kwargs', { decay_type: 'sqrt' }, /decay_type \(one of linear, cosine, 1-sqrt\)/],
  ] as const) {
    test(`${key}: ${JSON.stringify(value)}`, () => refuses({ [key]: value }, pattern));
  }
});

describe('settings that contradict each other are refused', () => {
  for (const [name, raw, pattern] of [
    ['packing without max_length', { packing: true, max_length: null }, /packing needs a max_length/],
    ['packing of the evaluation without max_length', { eval_packing: true, max_length: null }, /eval_packing needs a max_length/],
    [
      'a min_lr without a learning rate',
      { lr_scheduler_type: 'cosine_with_min_lr', lr_scheduler_kwargs: { min_lr: 1e-6 }, learning_rate: 0 },
      /choose a learning_rate above 0/,
    ],
    ['cosine_with_min_lr without a minimum', { lr_scheduler_type: 'cosine_with_min_lr' }, /needs exactly one of min_lr and min_lr_rate/],
    ['a fall without its length', { lr_scheduler_type: 'warmup_stable_decay' }, /needs num_decay_steps in lr_scheduler_kwargs, such as/],
    [
      'a polynomial that ends above its beginning',
      { lr_scheduler_type: 'polynomial', lr_scheduler_kwargs: { lr_end: 1e-3 }, learning_rate: 1e-4 },
      /lr_end in lr_scheduler_kwargs is 0\.001, but must be below learning_rate, which is 0\.0001/,
    ],
    ['a scale that is none', { lr_scheduler_type: 'inverse_sqrt', lr_scheduler_kwargs: { timescale: 0 } }, /timescale .* must be above 0/],
    ['save_strategy best without evaluation', { save_strategy: 'best' }, /eval_strategy is no/],
    ['load_best_model_at_end without evaluation', { load_best_model_at_end: true, output_dir: 'x' }, /needs evaluations/],
    [
      'checkpoints between evaluations',
      { load_best_model_at_end: true, output_dir: 'x', eval_strategy: 'steps', eval_steps: 4, save_steps: 6 },
      /multiple of eval_steps/,
    ],
    [
      'checkpoints at a share of all steps, evaluations at a number of them',
      { load_best_model_at_end: true, output_dir: 'x', eval_strategy: 'steps', eval_steps: 0.1, save_steps: 4 },
      /multiple of eval_steps/,
    ],
    [
      'a metric that no evaluation has',
      { eval_strategy: 'epoch', metric_for_best_model: 'eval_bleu' },
      /is eval_bleu, which no evaluation/,
    ],
    ['both spellings of a key', { max_steps: 3, maxSteps: 4 }, /given twice/],
    ['no table at all', [1], /a configuration is a table of settings/],
  ] as const) {
    test(name, () => refuses(raw, pattern));
  }
});

describe("lr_scheduler_kwargs that the schedule does not have are refused, as transformers' functions refuse them", () => {
  const withKwargs = (type: string, kwargs: Record<string, number | string>) => ({ lr_scheduler_type: type, lr_scheduler_kwargs: kwargs });
  const minLr = 'remove it, or choose one that does: cosine_with_min_lr, cosine_warmup_with_min_lr';
  const cycles =
    'remove it, or choose one that does: cosine, cosine_with_restarts, cosine_with_min_lr, cosine_warmup_with_min_lr, warmup_stable_decay';
  for (const [type, kwargs, key, remedy] of [
    ['cosine', { min_lr_rate: 0.5 }, 'min_lr_rate', minLr],
    ['cosine', { num_cycles: 1, min_lr: 1e-6 }, 'min_lr', minLr],
    ['linear', { num_cycles: 2 }, 'num_cycles', cycles],
    ['linear', { min_lr: 1e-6 }, 'min_lr', minLr],
  ] as const) {
    test(`${type} with ${JSON.stringify(kwargs)}`, () =>
      refuses(
        withKwargs(type, kwargs),
        new RegExp(`^lr_scheduler_kwargs has ${key}, which lr_scheduler_type ${type} does not take; ${remedy}\\.$`),
      ));
  }
  test('those that it has are taken', () => {
    for (const [type, kwargs] of [
      ['cosine', { num_cycles: 2 }],
      ['cosine_with_min_lr', { num_cycles: 2, min_lr: 1e-6 }],
      ['cosine_with_min_lr', { min_lr_rate: 0.1 }],
      ['warmup_stable_decay', { num_decay_steps: 3, decay_type: '1-sqrt' }],
      ['linear', {}],
    ] as const) {
      assert.deepEqual(parseConfig(withKwargs(type, kwargs)).lrSchedulerKwargs, kwargs);
    }
  });
  test('the constant schedules take all and use none, which is said once', () => {
    for (const type of ['constant', 'constant_with_warmup']) {
      const notes: string[] = [];
      const onNote = (line: string) => void notes.push(line);
      parseConfig(parseConfig(withKwargs(type, { num_cycles: 2 }), { onNote }), { onNote });
      assert.deepEqual(notes, [`lr_scheduler_kwargs has no effect: lr_scheduler_type ${type} uses none.`]);
    }
  });
});

test('checkpoints at a multiple of the share of steps at which evaluations are', () => {
  const config = parseConfig({ load_best_model_at_end: true, output_dir: 'x', eval_strategy: 'steps', eval_steps: 0.1, save_steps: 0.3 });
  assert.equal(config.saveSteps, 0.3);
});

describe("keys of TRL's recipes that mean nothing here", () => {
  test('are accepted, with a note where they ask for something', () => {
    const notes: string[] = [];
    parseConfig(
      {
        bf16: true,
        fp16: false,
        use_cpu: true,
        report_to: 'none',
        activation_offloading: true,
        dataset_num_proc: 4,
        optim: 'adamw_torch_fused',
        neftune_noise_alpha: null,
      },
      { onNote: (line) => notes.push(line) },
    );
    assert.deepEqual(notes, [
      'bf16 has no effect here: computes in float32.',
      'use_cpu has no effect here: useDevice chooses the device.',
      'activation_offloading has no effect here: gradient_checkpointing saves memory.',
    ]);
  });
  for (const [key, value] of [
    ['deepspeed', 'z3.json'],
    ['push_to_hub', true],
  ] as const) {
    test(`are refused where they would change the result: ${key}`, () =>
      refuses({ [key]: value }, new RegExp(`^${key} is ${JSON.stringify(value)}, which would change the result here: `)));
  }
});

describe('the optimizer', () => {
  test('is AdamW by any of its names, with a note where its moments would be rounded', () => {
    const read = (optim: string): { optim: string; notes: string[] } => {
      const notes: string[] = [];
      return { optim: parseConfig({ optim }, { onNote: (line) => notes.push(line) }).optim, notes };
    };
    const [exact, rounded] = [
      [
        ...['adamw_torch', 'adamw_torch_fused', 'adamw_torch_xla', 'adamw_torch_npu_fused', 'adamw_anyprecision'],
        ...['paged_adamw_32bit', 'adamw_apex_fused', 'adamw_hf', 'adamw'],
      ],
      ['adamw_torch_4bit', 'adamw_torch_8bit', 'adamw_bnb_8bit', 'adamw_8bit', 'paged_adamw_8bit'],
    ];
    for (const name of exact) assert.deepEqual(read(name), { optim: 'adamw_torch_fused', notes: [] });
    for (const name of rounded)
      assert.deepEqual(read(name), { optim: 'adamw_torch_fused', notes: [`optim is ${name}; here moments are kept in float32.`] });
  });
  test('may be another that is there, and none that is not', () => {
    for (const optim of ['adafactor', 'sgd']) assert.equal(parseConfig({ optim }).optim, optim);
    for (const optim of ['grokadamw', 'stable_adamw', 'galore_adafactor', 'apollo_adamw', 'schedule_free_sgd', 'paged_lion_8bit', null, ''])
      refuses({ optim }, /^optim is .+, but must be one of adamw_torch_fused \(or another name of AdamW\), adafactor, sgd \(default/);
  });
  test('takes the arguments that Trainer hands on to it', () => {
    const read = (optim_args: string | null) => parseConfig({ optim: 'sgd', optim_args }).optimArgs;
    assert.equal(read('nesterov=True, momentum=0.90'), 'momentum=0.9,nesterov=true');
    assert.equal(read('momentum=.5,dampening=1e-1,nesterov=no'), 'momentum=0.5,dampening=0.1');
    for (const nothing of [null, '', 'none', 'momentum=0']) assert.equal(read(nothing), null);
    for (const optim of ['adamw_torch', 'adafactor']) assert.equal(parseConfig({ optim, optim_args: '' }).optimArgs, null);
  });
  test('refuses arguments that it has not, or that contradict each other', () => {
    for (const args of ['lr=1', 'weight_decay=0.1', 'momentum', 'momentum=x', 'momentum=0.9;nesterov=true', 0.9])
      refuses(
        { optim: 'sgd', optim_args: args },
        /^optim_args is .+, but must be a text such as "momentum=0\.9,nesterov=true", or null\.$/,
      );
    refuses({ optim: 'sgd', optim_args: 'momentum=-1' }, /^optim_args has momentum -1, but it must be at least 0\.$/);
    for (const args of ['nesterov=true', 'momentum=0.9,dampening=0.1,nesterov=true'])
      refuses({ optim: 'sgd', optim_args: args }, /^optim_args has nesterov, which needs a momentum and a dampening of 0, as in torch\.$/);
    const args = { optim_args: 'momentum=0.9' };
    refuses(args, /^optim_args is "momentum=0\.9", which only optim sgd takes here: AdamW is set by adam_beta1, /);
    refuses({ optim: 'adafactor', ...args }, /^optim_args is "momentum=0\.9", which only optim sgd takes here: remove it\.$/);
  });
});

describe('the loss', () => {
  test('is the same by each name of the plain one', () => {
    for (const name of [null, 'none', 'nll', 'chunked_nll']) assert.equal(parseConfig({ loss_type: name }).lossType, 'nll');
  });
  test('of Dynamic Fine-Tuning takes no label smoothing, which is told', () => {
    const notes: string[] = [];
    const config = parseConfig({ loss_type: 'dft', label_smoothing_factor: 0.1 }, { onNote: (line) => notes.push(line) });
    assert.deepEqual([config.lossType, config.labelSmoothingFactor], ['dft', 0]);
    assert.deepEqual(notes, ['label_smoothing_factor has no effect: loss_type dft takes none.']);
  });
  test('is refused where there is none such', () => {
    refuses({ loss_type: 'focal' }, /^loss_type is "focal", but must be one of nll, chunked_nll, dft, or null/);
    refuses({ label_smoothing_factor: 1.5 }, /^label_smoothing_factor is 1\.5, but must be a number, at least 0 and at most 1/);
  });
});

test('NEFTune has no noise unless it is asked for, and none below 0', () => {
  assert.deepEqual(
    [{}, { neftune_noise_alpha: null }].map((raw) => parseConfig(raw).neftuneNoiseAlpha),
    [null, null],
  );
  assert.equal(parseConfig({ neftune_noise_alpha: '5' }).neftuneNoiseAlpha, 5);
  refuses({ neftune_noise_alpha: -1 }, /^neftune_noise_alpha is -1, but must be a number, at least 0, or null\.$/);
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY])
    refuses({ neftune_noise_alpha: value }, new RegExp(`^neftune_noise_alpha is ${value}, but must be a number, at least 0, or null\\.$`));
});

test('the help has one line for every setting', () => {
  const lines = configHelp().split('\n');
  assert.equal(lines.length, fieldList.length);
  assert.match(configHelp(), /--learning_rate +Highest learning rate\. A number, at least 0; default 0\.00002\./);
});

test('a message names the file that the setting came from', () => {
  assert.throws(() => parseConfig({ seed: 'x' }, { place: 'recipe.yaml' }), /^UserError: recipe\.yaml: seed is "x"/);
});

test('the documentation of each setting is its help', () => {
  const source = readFileSync(path.join(projectRoot, 'lib/train/config.ts'), 'utf8');
  const comments = new Map<string, string>();
  for (const [, comment, name] of source.matchAll(/^ {2}\/\*\* (.*) \*\/\n {2}(\w+): /gm)) comments.set(name, comment);
  for (const { name, help } of fieldList) assert.equal(comments.get(name), help, name);
});
