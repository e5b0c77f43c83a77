/** Random numbers that another thread draws are those that would be drawn here. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { createTorchRandom } from '../../lib/torch-random';
import { Drawer } from '../../lib/train/drawer';
import { type DrawJob, type Drawn, drawing } from '../../lib/train/drawing';

/** Two micro-batches of two examples, the second of three columns, in two rows. */
const job: DrawJob = {
  random: createTorchRandom(3).state(),
  placements: [
    {
      layout: { rows: 2, columns: 5 },
      tokens: [
        { from: 0, to: 4, count: 5, row: 0 },
        { from: 5, to: 0, count: 4, row: 1 },
      ],
      read: [{ from: 2, to: 0, count: 3, row: 0 }],
    },
    { layout: { rows: 1, columns: 4 }, tokens: [{ from: 0, to: 0, count: 4, row: 0 }], read: [{ from: 3, to: 3, count: 1, row: 0 }] },
  ],
  sizes: [
    { tokens: 9, targets: 4 },
    { tokens: 4, targets: 1 },
  ],
  draws: [
    { features: 6, share: 0.3, onlyRead: false },
    { words: 2 },
    { features: 7, share: 0.5, onlyRead: true },
    { features: 2, share: 1, onlyRead: false },
  ],
  noise: { alpha: 5, features: 3 },
};

/** All of a job, on this thread. */
function drawnHere(job: DrawJob): Drawn {
  const work = drawing(job);
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
  }
}

function drawer(t: TestContext, hasThread = true): Drawer {
  const made = new Drawer();
  made.hasThread = hasThread;
  t.after(() => made.dispose());
  return made;
}

const expected = drawnHere(job);
const notHere = async (): Promise<void> => assert.fail('it was drawn here');

test('another thread draws the same, also when it is asked again before it has answered', async (t) => {
  const there = drawer(t);
  const second = { ...job, random: expected.random };
  assert.deepEqual(await Promise.all([job, second].map((each) => there.draw(each, notHere))), [expected, drawnHere(second)]);
  assert.notDeepEqual(expected.rows, drawnHere(second).rows);
});

test('without a thread all is drawn here, with breaks in which it may be stopped', async (t) => {
  let breaks = 0;
  const breathe = async (): Promise<void> => {
    breaks++;
  };
  assert.deepEqual(await drawer(t, false).draw(job, breathe), expected);
  assert.equal(breaks, 8);
  await assert.rejects(
    drawer(t, false).draw(job, async () => {
      throw new Error('stopped');
    }),
    /stopped/,
  );
});

test('a thread that ends, at work or between two jobs, is done without', async (t) => {
  const breathe = async (): Promise<void> => {};
  const threadOf = (made: Drawer): Worker => (made as unknown as { thread: Worker }).thread;
  const busy = drawer(t);
  const answer = busy.draw({ ...job, draws: Array.from({ length: 20_000 }, () => job.draws[0]) }, breathe);
  await new Promise((resolve) => setTimeout(resolve, 5));
  await threadOf(busy).terminate();
  assert.equal((await answer).rows.length, 2);
  assert.equal(busy.hasThread, false);
  const idle = drawer(t);
  await idle.draw(job, notHere);
  await threadOf(idle).terminate();
  assert.deepEqual(await idle.draw(job, breathe), expected);
});
