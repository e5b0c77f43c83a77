import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countingLine } from '../../lib/evaluate/counting-line';

/** A line whose clock is set by hand, and what it has shown. */
function lineOf(total: number): { tell: (done: number, at: number) => void; shown: Array<[string, boolean]> } {
  const shown: Array<[string, boolean]> = [];
  let time = 1000;
  const show = (text: string, last = false) => void shown.push([text, last]);
  const line = countingLine(total, 'answers', { show, now: () => time });
  const tell = (done: number, at: number) => {
    time = 1000 + 1000 * at;
    line(done);
  };
  return { tell, shown };
}

test('work of a moment shows nothing', () => {
  const { tell, shown } = lineOf(10);
  tell(5, 0.9);
  tell(10, 1.9);
  assert.deepEqual(shown, []);
});

test('longer work shows how many are done and how long the rest will take, four times a second, and its end', () => {
  const { tell, shown } = lineOf(100);
  tell(0, 3);
  tell(10, 4);
  tell(11, 4.1);
  tell(50, 60);
  tell(100, 90);
  assert.deepEqual(shown, [
    ['10 of 100 answers · 0:36 left', false],
    ['50 of 100 answers · 1:00 left', false],
    ['100 of 100 answers · done in 1:30', true],
  ]);
});
