/** Zeros that another thread makes ready. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import * as path from 'node:path';
import { afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { prepareZeros, undisturbed, zeros } from '../../lib/engine/zeros';

const SIZES = [300_000, 5, 300_000, 1_000_000, 5, 0, 300_000];

/** Nothing is ready for the next test. */
afterEach(() => prepareZeros([])());

/** Takes arrays of these sizes; they must be zero, of the right size, and each one's own. */
function takeAll(sizes: readonly number[]): void {
  const arrays = sizes.map(zeros);
  for (const [i, array] of arrays.entries()) {
    assert.equal(array.length, sizes[i]);
    assert.equal(array.byteLength, array.buffer.byteLength);
    assert.ok(
      array.every((x) => x === 0),
      `array ${i}`,
    );
    array.fill(i + 1);
  }
  for (const [i, array] of arrays.entries()) assert.ok(array.every((x) => x === i + 1));
}

for (const [when, wait] of [
  ['at once', 0],
  ['while the thread is at work', 60],
  ['when it has made them all', 600],
] as const) {
  test(`arrays that are asked for ${when}, in any order, are zero and separate`, async () => {
    for (const sizes of [SIZES, [...SIZES].reverse(), [7, ...SIZES, 300_000, 5]]) {
      prepareZeros(SIZES, 0);
      await sleep(wait);
      takeAll(sizes);
    }
  });
}

test('those that the thread has made are taken from it', async (t) => {
  if (availableParallelism() === 1) return t.skip('there is one processor only, so no thread is started');
  prepareZeros([64_000_000], 0);
  // The time that the thread gets for 256 MB, whatever the machine is doing.
  await sleep(5000);
  const before = process.resourceUsage().minorPageFault;
  const array = zeros(64_000_000);
  array.fill(1);
  const faults = process.resourceUsage().minorPageFault - before;
  assert.ok(faults < 20_000, `${faults} page faults at the first write to an array of 62,500 pages`);
});

test('while something is computed undisturbed, the thread rests, and goes on after it', () => {
  const forget = prepareZeros([64_000_000], 0);
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const before = process.resourceUsage().minorPageFault;
  // The thread starts meanwhile, which takes some thousand pages, and would touch 62,500.
  undisturbed(() => Atomics.wait(pause, 0, 0, 2000));
  const faults = process.resourceUsage().minorPageFault - before;
  assert.ok(faults < 20_000, `${faults} page faults while the thread was to rest`);
  takeAll([64_000_000]);
  forget();
});

test('it goes on after an error, and what was let go of is not waited for', () => {
  const forget = prepareZeros(SIZES, 0);
  const fail = (): never => {
    throw new Error('no');
  };
  assert.throws(() => undisturbed(fail), /no/);
  takeAll(SIZES);
  prepareZeros(SIZES, 0)();
  takeAll(SIZES);
  forget();
});

test('letting go of an earlier call leaves the later one alone', async (t) => {
  if (availableParallelism() === 1) return t.skip('there is one processor only, so no thread is started');
  const forgetFirst = prepareZeros(SIZES, 0);
  prepareZeros([64_000_000], 0);
  forgetFirst();
  await sleep(5000);
  const before = process.resourceUsage().minorPageFault;
  zeros(64_000_000).fill(1);
  assert.ok(process.resourceUsage().minorPageFault - before < 20_000);
});

test('a program that ends does not wait for the thread', () => {
  const module = path.join(__dirname, '../../lib/engine/zeros.js');
  const program = `require(${JSON.stringify(module)}).prepareZeros(new Array(50).fill(50_000_000)); console.log('end');`;
  const child = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8', timeout: 60_000 });
  assert.equal(child.status, 0, child.stderr);
  assert.equal(child.stdout, 'end\n');
});
