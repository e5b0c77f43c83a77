import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runChild } from '../../scripts/bench/child';
import { readFlags } from '../../scripts/bench/flags';
import { trainingFlops } from '../../scripts/bench/flops';
import type { StepRecord, TrainResult } from '../../scripts/bench/jobs';
import { SHAPES, shapeOf } from '../../scripts/bench/shapes';
import { disagreements, shareOfProduct, steadyStep, tokensPerSecond } from '../../scripts/bench/summary';
import { sectionText } from '../../scripts/bench/table';
import { verdictRow } from '../../scripts/bench/targets';
import { middleRound, type TrainingRun, trainingSection } from '../../scripts/bench/training';

test('operations of a step are those of linear layers, head and causal pairs, counted by hand', () => {
  const model = { linearParameters: 10, headParameters: 100, lastParameters: 0, layers: 2, attentionWidth: 4 };
  // linear: 6·10·3 = 180; head: 6·100·1 = 600; attention: 3 tokens see 1 + 2 + 3 = 6 others, each 2·2·4 operations in each
  // of 2 layers = 192 forward, three times that with the backward pass = 576
  assert.equal(trainingFlops(model, [{ tokens: 3, targets: 1 }]), 180 + 600 + 576);
  // examples do not see each other: two of them need twice as much, not four times
  assert.equal(trainingFlops(model, Array(2).fill({ tokens: 3, targets: 1 })), 2 * (180 + 600 + 576));
  // of one whose first two tokens are another's, the last one is left, which sees 3
  assert.equal(trainingFlops(model, [{ tokens: 3, shared: 2, targets: 1 }]), 60 + 600 + 288);
  // 4 of the 10 weights lie behind the last attention, where only the target's token goes on: 6·6·3 + 6·4·1
  assert.equal(trainingFlops({ ...model, lastParameters: 4 }, [{ tokens: 3, targets: 1 }]), 132 + 600 + 576);
  // with an adapter of 5 numbers, 2 of them beside those 4: 4·6·3 + 6·3·3 and 4·104 + 6·2
  const adapted = { ...model, lastParameters: 4, adapterParameters: 5, lastAdapterParameters: 2 };
  assert.equal(trainingFlops(adapted, [{ tokens: 3, targets: 1 }]), 72 + 54 + 416 + 12 + 576);
});

const step = (loss: number, rest: Partial<StepRecord> = {}): StepRecord => ({ seconds: 2, loss, tokens: 100, ...rest });
const result = (...steps: StepRecord[]): TrainResult => ({ steps, peakBytes: 2e9 });

test('speed counts every step, the steady step leaves out the first', () => {
  const counters = { flops: 4e9, runSeconds: 1.8, compileSeconds: 0 };
  const run = result(step(3, { seconds: 6 }), step(2, counters), step(1, counters));
  assert.equal(tokensPerSecond(run), 30);
  const steady = steadyStep(run);
  assert.equal(steady?.seconds, 2);
  assert.equal(steady?.gflops, 2);
  assert.ok(Math.abs((steady?.javascript ?? 0) - 0.1) < 1e-12);
  assert.equal(steadyStep(result(step(3))), undefined);
});

test('a share of the product beside weighs each step with its time, as that product would have gone on for as long', () => {
  const slow = step(2, { seconds: 3, flops: 3e9, besideGflops: 2 });
  const fast = step(1, { seconds: 1, flops: 3e9, besideGflops: 4 });
  assert.deepEqual([slow, fast, step(1, { flops: 3e9 }), step(1, { besideGflops: 4 })].map(shareOfProduct), [
    0.5,
    0.75,
    undefined,
    undefined,
  ]);
  const steady = steadyStep(result(step(3), slow, fast));
  // 6 operations of the 3 · 2 + 1 · 4 that would have been possible
  assert.equal((steady?.gflops ?? 0) / (steady?.besideGflops ?? 0), 0.6);
  assert.equal(steadyStep(result(step(3), slow, step(1)))?.besideGflops, undefined);
});

test('runs disagree when a loss differs by more than 1e-4 of itself, is no number, or tokens differ', () => {
  assert.deepEqual(disagreements(result(step(10)), result(step(10.0009))), []);
  assert.match(disagreements(result(step(3), step(10)), result(step(3), step(10.0011))).join(), /losses of step 2/);
  assert.match(disagreements(result(step(Number.NaN)), result(step(1))).join(), /losses of step 1/);
  assert.match(disagreements(result(step(1)), result(step(1, { tokens: 99 }))).join(), /100 tokens .* 99/);
});

test('a verdict judges the measured value at its border, and says when there is none', () => {
  const verdict = (value: number | undefined, target: Parameters<typeof verdictRow>[0]['target']) =>
    verdictRow({ name: 'm', unit: 'share', value, target }).verdict;
  assert.equal(verdict(0.8, { atLeast: 0.8 }), 'met');
  assert.equal(verdict(0.79999, { atLeast: 0.8 }), 'not met');
  assert.equal(verdict(1, { atMost: 1 }), 'met');
  assert.equal(verdict(0.08, { below: 0.08 }), 'not met');
  assert.equal(verdict(undefined, { below: 0.08 }), 'not measured');
  assert.deepEqual(verdictRow({ name: 'speed', unit: 'times', value: 2.345, target: { atLeast: 2.2 } }), {
    measure: 'speed',
    value: '2.35 ×',
    target: 'at least 2.20 ×',
    verdict: 'met',
  });
});

test('the table of a training shows ratios, losses side by side, and why an engine is missing', () => {
  const section = trainingSection(
    { name: 'smollm2-135m', shape: 'smollm2-135m' },
    [
      { engine: 'Tunebook', precision: 'float32', outcome: { result: result(step(10), step(9, { flops: 3e9, besideGflops: 2 })) } },
      { engine: 'TRL float32', precision: 'float32', outcome: { result: result(step(10, { seconds: 6 }), step(9.5, { seconds: 6 })) } },
      { engine: 'TRL bf16', precision: 'bf16', outcome: { failure: 'It ended with code 1: no bf16.' } },
    ],
    {},
  );
  const text = sectionText(section);
  assert.match(text, /times TRL float32\s+3\.00 ×\s+at least 2\.20 ×\s+met/);
  assert.match(text, /times TRL bf16\s+not measured\s+at least 1\.40 ×\s+not measured/);
  assert.match(text, /product beside them\s+75\.0%\s+at least 80\.0%\s+not met/);
  assert.match(text, /^2\s+9\.000000\s+9\.500000\s+75\.0%$/m);
  assert.match(text, /TRL bf16\s+It ended with code 1: no bf16\./);
  assert.equal(section.problems.length, 1);
  assert.match(section.problems[0], /smollm2-135m, Tunebook and TRL float32: the losses of step 2/);
});

test('a peer that was ended is as slow as the work it did not do', () => {
  const section = trainingSection(
    { name: 'smollm2-135m', shape: 'smollm2-135m' },
    [
      { engine: 'Tunebook', precision: 'float32', outcome: { result: result(step(10), step(9)) } },
      { engine: 'TRL float32', precision: 'float32', outcome: { result: result(step(10, { seconds: 6 }), step(9, { seconds: 6 })) } },
      { engine: 'TRL bf16', precision: 'bf16', outcome: { failure: 'It was not done after 18 seconds.', endedAfter: 18 } },
    ],
    {},
  );
  assert.match(sectionText(section), /times TRL bf16\s+over 4\.50 ×\s+at least 1\.40 ×\s+met/);
});

const round = (own: number, peer?: number): TrainingRun[] => {
  const run = (engine: string, seconds: number): TrainingRun => ({
    engine,
    precision: 'float32',
    outcome: { result: result(step(10, { seconds })) },
  });
  return [run('Tunebook', own), ...(peer === undefined ? [] : [run('TRL float32', peer)])];
};

test('of several rounds the one with the ratio in the middle is shown, with what all of them gave', () => {
  const rounds = [round(1, 3), round(4, 4), round(2, 4)];
  const [own, peer] = middleRound(rounds);
  assert.deepEqual([own.outcome, peer.outcome], [rounds[2][0].outcome, rounds[2][1].outcome]);
  assert.equal(own.note, 'times TRL float32 in 3 rounds: 3.00, 1.00, 2.00');
  assert.deepEqual(
    [own.rounds, peer.rounds],
    [0, 1].map((engine) => rounds.map((runs) => runs[engine].outcome)),
  );
  assert.equal(middleRound([round(1), round(3), round(2)])[0].note, 'tokens/s in 3 rounds: 100.00, 33.33, 50.00');
  assert.deepEqual(middleRound([round(1, 3)]), round(1, 3));
});

test('a round that failed is shown', () => {
  const failure: TrainingRun = { engine: 'TRL float32', precision: 'float32', outcome: { failure: 'It was killed.' } };
  assert.equal(middleRound([round(1, 3), [...round(1), failure]])[1], failure);
});

test('losses that disagree are found in every round, and said once', () => {
  const wrong: TrainingRun = { ...round(1)[0], engine: 'TRL float32', outcome: { result: result(step(11)) } };
  const runs = middleRound([[...round(1), wrong], round(4, 4), [...round(1), wrong]]);
  const { problems } = trainingSection({ name: 'smollm2-135m', shape: 'smollm2-135m' }, runs, {});
  assert.equal(problems.length, 1);
  assert.match(problems[0], /smollm2-135m, Tunebook and TRL float32: the losses of step 1 are 10 and 11/);
});

test('on a GPU nothing is held against what is wanted of a CPU', () => {
  const model = { name: 'smollm2-135m', shape: 'smollm2-135m' } as const;
  const measures = (device: 'cpu' | 'gpu') => trainingSection(model, round(1, 2), {}, device).tables[1];
  assert.deepEqual(measures('gpu'), [{ measure: 'tokens/s, times TRL float32', value: '2.00 ×', target: '', verdict: '' }]);
  assert.ok(measures('cpu').some(({ measure }) => measure.includes('peak memory')));
});

test('a checkpoint is recognized as one of the shapes by its sizes', () => {
  assert.equal(shapeOf({ ...SHAPES['pythia-410m'] }), 'pythia-410m');
  assert.equal(shapeOf({ ...SHAPES['pythia-410m'], num_hidden_layers: 6 }), undefined);
});

test('flags that are wrong are refused with one sentence', () => {
  assert.deepEqual([...readFlags(['--only', 'score,train']).only], ['score', 'train']);
  assert.throws(() => readFlags(['--steps', '0']), /--steps is "0"; give a whole number of at least 1\.$/);
  assert.throws(() => readFlags(['--rounds', '2']), /--rounds is 2; give an odd number/);
  assert.throws(() => readFlags(['--shapes', 'gpt2']), /--shapes names "gpt2"; choose among smollm2-135m, pythia-410m/);
  assert.equal(readFlags(['--device', 'gpu']).device, 'gpu');
  assert.throws(() => readFlags(['--device', 'cuda']), /--device is "cuda"; choose cpu or gpu\.$/);
  assert.throws(() => readFlags(['--python', '/no/such/python']), /--python names \/no\/such\/python, which does not exist/);
  assert.throws(() => readFlags(['--data']), /--data.*; the flags are --data, /);
  assert.throws(() => readFlags(['--speed']), /Unknown option '--speed'; the flags are --data, /);
});

test('a child gives its answer, or one sentence that says why there is none', async () => {
  const run = (program: string, limit?: number) => runChild([process.execPath, '-e', program], { n: 2 }, { limit });
  const answered = await run('console.log("noise"); console.log(JSON.stringify({ twice: 2 * JSON.parse(process.argv[1]).n }))');
  assert.deepEqual(answered, { result: { twice: 4 } });
  assert.deepEqual(await run('console.error("first\\nThe package is missing."); process.exit(1)'), { failure: 'The package is missing.' });
  assert.deepEqual(await run('console.error("fatal: no memory\\n at stack"); process.exit(7)'), {
    failure: 'It ended with code 7: fatal: no memory',
  });
  // what crashes behind its answer has answered
  assert.deepEqual(await run('console.log("{}"); process.exitCode = 3'), { result: {} });
  assert.match(JSON.stringify(await run('console.log("hello")')), /ended without an answer/);
  assert.match(JSON.stringify(await run('setInterval(() => {}, 1000)', 0.5)), /not done after 0\.5 seconds/);
  assert.match(JSON.stringify(await runChild(['/no/such/program'], {})), /cannot be started/);
});
