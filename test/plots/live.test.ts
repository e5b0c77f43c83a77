import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { displayPng, LiveTrainingPlot, plotTraining } from '../../lib/plots';

interface Message {
  data: Record<string, string>;
  metadata: Record<string, unknown>;
  transient: { display_id?: string };
}

/** Stands in for the running tslab kernel and keeps what it would send. */
function pretendNotebook(): Array<{ message: Message; update: boolean }> {
  const sent: Array<{ message: Message; update: boolean }> = [];
  const lastWriteDisplayData = (message: Message, update: boolean) => sent.push({ message, update });
  (globalThis as { __tslab__?: unknown }).__tslab__ = { require: () => ({ lastWriteDisplayData }) };
  return sent;
}

afterEach(() => {
  delete (globalThis as { __tslab__?: unknown }).__tslab__;
});

const record = (step: number) => ({ step, epoch: 0, loss: 1 / step });

const two = [record(1), record(2)];

test('live curves update one output in place, as PNGs of one size, so that nothing jumps at the end and narrow cells scale them', async () => {
  const sent = pretendNotebook();
  const live = new LiveTrainingPlot({ everySeconds: 0 });
  await live.onTrainBegin();
  await live.onLog({ log: two });
  await live.onTrainEnd({ log: two });
  assert.deepEqual(
    sent.map(({ update }) => update),
    [false, true],
  );
  assert.equal(sent[0].message.transient.display_id, sent[1].message.transient.display_id);
  for (const { message } of sent) {
    assert.deepEqual(Object.keys(message.data), ['image/png']);
    assert.ok(Buffer.from(message.data['image/png'], 'base64').subarray(1, 4).equals(Buffer.from('PNG')));
    assert.ok((message.metadata['image/png'] as { width: number }).width > 300);
    assert.deepEqual(message.metadata, sent[0].message.metadata);
  }
});

test('each run has curves of its own, and what is logged between runs draws none', async () => {
  const sent = pretendNotebook();
  const live = new LiveTrainingPlot({ everySeconds: 0 });
  for (let run = 0; run < 2; run++) {
    await live.onTrainBegin();
    await live.onLog({ log: two });
    await live.onTrainEnd({ log: two });
    await live.onLog({ log: two });
  }
  assert.equal(sent.length, 4);
  const ids = sent.map(({ message }) => message.transient.display_id);
  assert.ok(ids[0] === ids[1] && ids[2] === ids[3] && ids[1] !== ids[2]);
});

test('live curves are drawn at most as often as asked', async () => {
  const sent = pretendNotebook();
  const live = new LiveTrainingPlot({ everySeconds: 3600 });
  await live.onTrainBegin();
  for (let step = 1; step <= 50; step++) await live.onLog({ log: [record(step), record(step + 1)] });
  assert.equal(sent.length, 1);
});

test('what loading the drawing took does not count, and a slow drawing is waited for no longer than five seconds', async (t) => {
  const sent = pretendNotebook();
  const live = new LiveTrainingPlot();
  let now = 1_000_000;
  t.mock.method(Date, 'now', () => now);
  await live.onTrainBegin();
  await live.onLog({ log: two });
  assert.equal(sent.length, 1);
  now += 999;
  await live.onLog({ log: two });
  assert.equal(sent.length, 1);
  now += 1;
  let asked = 0;
  // a drawing of ten seconds: asked at its beginning and at its end
  t.mock.method(Date, 'now', () => now + (asked++ > 0 ? 10_000 : 0));
  await live.onLog({ log: two });
  assert.equal(sent.length, 2);
  now += 10_000;
  t.mock.method(Date, 'now', () => now);
  now += 4999;
  await live.onLog({ log: two });
  assert.equal(sent.length, 2);
  now += 1;
  await live.onLog({ log: two });
  assert.equal(sent.length, 3);
});

test('a single point draws nothing before the end', async () => {
  const sent = pretendNotebook();
  const live = new LiveTrainingPlot({ everySeconds: 0 });
  await live.onTrainBegin();
  await live.onLog({ log: [record(1), { step: 1, eval_loss: 1 }, { step: 2, eval_loss: 1 }] });
  assert.equal(sent.length, 0);
  await live.onTrainEnd({ log: [record(1)] });
  assert.equal(sent.length, 1);
});

test('a drawing that fails is said once and ends the drawing', async (t) => {
  const warned = t.mock.method(console, 'warn', () => {});
  const lastWriteDisplayData = () => {
    throw new Error('the cell is gone');
  };
  (globalThis as { __tslab__?: unknown }).__tslab__ = { require: () => ({ lastWriteDisplayData }) };
  const live = new LiveTrainingPlot({ everySeconds: 0 });
  await live.onTrainBegin();
  await live.onLog({ log: two });
  await live.onTrainEnd({ log: two });
  assert.equal(warned.mock.callCount(), 1);
  assert.match(String(warned.mock.calls[0].arguments[0]), /the cell is gone/);
});

test('outside of a notebook nothing is drawn or shown', async () => {
  const live = new LiveTrainingPlot({ everySeconds: 0 });
  await live.onTrainBegin();
  await live.onLog({ log: two });
  await live.onTrainEnd({ log: two });
  displayPng(new Uint8Array(4));
  await plotTraining([record(1)]);
});

test('in a notebook the curves are shown as one PNG', async () => {
  const sent = pretendNotebook();
  await plotTraining([1, 2, 3].map(record));
  assert.equal(sent.length, 1);
  assert.ok(sent[0].message.data['image/png'].length > 1000);
});
