import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type LogRecord, notebookProgress, parseConfig, type TrainerState, type TrainOutput, terminalProgress } from '../../lib/train';
import { formatNumber, formatSeconds } from '../../lib/train/format';
import { describeRecord } from '../../lib/train/progress';

const record: LogRecord = { loss: 1.23456, grad_norm: 2.5, learning_rate: 1e-4, mean_token_accuracy: 0.5, epoch: 0.5, step: 12 };
const state = (step: number): TrainerState => ({
  ...{ step, maxSteps: 40, epoch: 0.5, numTokens: 100, log: [record], tokensPerSecond: 1234.4 },
  secondsLeft: step === 0 ? undefined : 42,
  ...{ stepShare: 0, evaluationShare: 0 },
  config: parseConfig(),
  stop: () => {},
  finish: () => {},
});
const output: TrainOutput = {
  ...{ globalStep: 40, trainingLoss: 1.5, stopped: false },
  metrics: {
    train_runtime: 65,
    train_samples_per_second: 1,
    train_steps_per_second: 1,
    train_loss: 1.5,
    num_tokens: 5,
    tokens_per_second: 999.6,
    peak_memory_gb: 1.234,
    epoch: 1,
  },
};

function recordStream(isTTY: boolean, columns = 60) {
  const written: string[] = [];
  return { written, stream: { isTTY, columns, write: (text: string) => written.push(text) } };
}

describe('progress in a terminal', () => {
  test('is a bar that redraws itself, with steps, pace and time left, no wider than the terminal', () => {
    const { written, stream } = recordStream(true);
    const progress = terminalProgress(stream);
    progress.onTrainBegin?.(state(0));
    progress.onStepEnd?.(state(12));
    assert.equal(written[0], '\r\x1b[2K[........................................] 0/40  compiling');
    assert.equal(written[1], '\r\x1b[2K[########.................] 12/40  1234 tokens/s  0:42 left');
    for (const text of written) assert.ok(text.replace('\r\x1b[2K', '').length < 60);
  });
  test('is as wide as usual where the terminal does not know its width', () => {
    const { written, stream } = recordStream(true, 0);
    terminalProgress(stream).onStepEnd?.(state(12));
    assert.match(written[0], /\[#{12}\.{28}\] 12\/40 {2}1234 tokens\/s {2}0:42 left$/);
  });
  test('says of a step that takes long how far it has come', (t) => {
    let time = 10_000;
    t.mock.method(performance, 'now', () => time);
    const { written, stream } = recordStream(true);
    const progress = terminalProgress(stream);
    progress.onStepBegin?.(state(12));
    time += 1000;
    progress.onSubstepEnd?.({ ...state(12), stepShare: 0.25 });
    time += 30_000;
    progress.onSubstepEnd?.({ ...state(12), stepShare: 0.75 });
    assert.match(written[0], /\] 12\/40 {2}1234 tokens/);
    assert.match(written[1], /\] 12\/40 {2}step 13: 75% {2}1234 tokens/);
  });
  test('keeps log records above the bar', () => {
    const { written, stream } = recordStream(true);
    terminalProgress(stream).onLog?.(state(12), record);
    assert.equal(written[0], '\r\x1b[2Kstep 12/40  loss 1.235  accuracy 0.5  grad norm 2.5  rate 1.00e-4\n');
    assert.match(written[1], /\[#+\.+\] 12\/40/);
  });
  test('is plain lines where nobody watches', () => {
    const { written, stream } = recordStream(false);
    const progress = terminalProgress(stream);
    progress.onTrainBegin?.(state(0));
    progress.onStepEnd?.(state(11));
    progress.onNote?.('2 of 9 examples were longer.');
    progress.onLog?.(state(12), record);
    progress.onSave?.(state(12), 'out/checkpoint-12');
    progress.onTrainEnd?.(state(40), output);
    assert.deepEqual(written, [
      '2 of 9 examples were longer.\n',
      'step 12/40  loss 1.235  accuracy 0.5  grad norm 2.5  rate 1.00e-4  1234 tokens/s  0:42 left\n',
      'saved out/checkpoint-12\n',
      'trained 40 steps in 1:05: mean loss 1.5, 1000 tokens/s, peak memory 1.23 GB\n',
    ]);
  });
  test('counts of a continued run the steps that it made itself', () => {
    const { written, stream } = recordStream(false);
    for (const [first, stopped] of [
      [12, false],
      [39, false],
      [0, true],
      [40, true],
    ] as const) {
      const progress = terminalProgress(stream);
      progress.onTrainBegin?.(state(first));
      progress.onTrainEnd?.(state(40), { ...output, stopped });
    }
    assert.deepEqual(
      written.map((line) => line.split(':')[0]),
      ['trained 28 steps (13 to 40) in 1', 'trained 1 step (step 40) in 1', 'stopped after 40 steps in 1', 'stopped after 0 steps in 1'],
    );
  });
  test('says of a continued run that had ended that nothing was left', () => {
    const { written, stream } = recordStream(false);
    terminalProgress(stream).onTrainEnd?.({ ...state(40), secondsLeft: undefined }, output);
    assert.deepEqual(written, ['nothing was left to train after step 40: mean loss 1.5\n']);
    notebookProgress({ html: (html) => written.push(html) }).onTrainEnd?.({ ...state(40), secondsLeft: undefined }, output);
    assert.match(written[1], /nothing was left to train, done in/);
  });
});

describe('progress in a notebook', () => {
  test('is one place of the cell, with the last record and the end', () => {
    const shown: string[] = [];
    const progress = notebookProgress({ html: (html) => shown.push(html) });
    progress.onNote?.('2 < 9');
    progress.onTrainBegin?.(state(0));
    progress.onLog?.(state(12), record);
    progress.onTrainEnd?.(state(40), output);
    assert.equal(shown.length, 2, 'what comes within a quarter of a second is not drawn');
    assert.match(shown[0], /2 &lt; 9.*<progress max="40" value="0".* 0\/40 steps · epoch 0\.50 · compiling</);
    assert.match(shown[shown.length - 1], /value="40".*1234 tokens\/s · done in 1:05, peak memory 1\.2 GB<div>step 12 · loss 1\.235/);
  });
  test('says the mean loss of a run that logged nothing', () => {
    const shown: string[] = [];
    notebookProgress({ html: (html) => shown.push(html) }).onTrainEnd?.(state(40), output);
    assert.match(shown[0], / · done in 1:05, mean loss 1\.5, peak memory 1\.2 GB<\/div>/);
  });
});

test('a step that takes long moves the bar of a notebook', (t) => {
  let time = 10_000;
  t.mock.method(performance, 'now', () => time);
  const shown: string[] = [];
  const progress = notebookProgress({ html: (html) => shown.push(html) });
  progress.onStepBegin?.(state(0));
  time += 20_000;
  progress.onSubstepEnd?.({ ...state(0), stepShare: 1 / 3 });
  assert.match(shown[0], /value="0.333\d*".* 0\/40 steps · step 1: 33% · epoch 0\.50<\/div>/);
  time += 10_000;
  progress.onPredictionStep?.({ ...state(1), evaluationShare: 0.5 });
  progress.onLog?.(state(1), { eval_loss: 1, epoch: 1, step: 1 });
  assert.match(shown[1], / 1\/40 steps · evaluation: 50% · epoch/);
  assert.match(shown[2], / 1\/40 steps · epoch.*eval loss 1/);
});

test('figures are short', () => {
  assert.equal(formatSeconds(3723), '1:02:03');
  assert.equal(formatSeconds(59.6), '1:00');
  assert.equal(formatNumber(0.00002), '2.00e-5');
  assert.equal(formatNumber(12.34567), '12.35');
  assert.equal(describeRecord({ eval_loss: 2, eval_mean_token_accuracy: 0.25, epoch: 1, step: 2 }), 'eval loss 2  eval accuracy 0.25');
});
