import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { endLiveText } from '../../lib/display';
import { countingLine } from '../../lib/train/counting-line';

/** A line on a terminal, whose clock is set by hand, and what is written of it. */
function lineOf(t: TestContext, total: number): { tell: (done: number, at: number) => void; written: string[] } {
  const written: string[] = [];
  let time = 1000;
  const { isTTY } = process.stderr;
  process.stderr.isTTY = true;
  t.after(() => {
    process.stderr.isTTY = isTTY;
  });
  t.mock.method(process.stderr, 'write', (text: string) => written.push(text));
  t.mock.method(performance, 'now', () => time);
  const line = countingLine(total, 'answers');
  const tell = (done: number, at: number) => {
    time = 1000 + 1000 * at;
    line(done);
  };
  return { tell, written };
}

test('work of a moment shows nothing', (t) => {
  const { tell, written } = lineOf(t, 10);
  tell(5, 0.9);
  tell(10, 1.9);
  assert.deepEqual(written, []);
});

test('longer work shows how many are done and how long the rest will take, four times a second, and its end', (t) => {
  const { tell, written } = lineOf(t, 100);
  tell(0, 3);
  tell(10, 4);
  tell(11, 4.1);
  tell(50, 60);
  tell(100, 60.1);
  assert.deepEqual(written, [
    '\r10 of 100 answers · 0:36 left\u001b[K',
    '\r50 of 100 answers · 1:00 left\u001b[K',
    '\r100 of 100 answers · done in 1:00\u001b[K\n',
  ]);
});

test('what ends the work is written below the line', (t) => {
  const { tell, written } = lineOf(t, 100);
  endLiveText();
  tell(10, 4);
  endLiveText();
  endLiveText();
  assert.deepEqual(written.slice(1), ['\n']);
  tell(100, 5);
  endLiveText();
  assert.equal(written.length, 3);
});
