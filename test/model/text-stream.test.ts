import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TextStream } from '../../lib/model/text-stream';
import type { Tokenizer } from '../../lib/text';

/** A tokenizer whose tokens are the bytes of UTF-8. */
const bytes = { decode: (ids: ArrayLike<number>) => Buffer.from(Array.from(ids)).toString('utf8') } as unknown as Tokenizer;

/** A tokenizer whose tokens are words; like SentencePiece's it drops the space that a text begins with. */
const words = {
  decode: (ids: ArrayLike<number>) =>
    Array.from(ids, (id) => ['The', ' capital', ' is', ' Paris'][id])
      .join('')
      .trimStart(),
} as unknown as Tokenizer;

function pieces(stream: TextStream, ids: Iterable<number>): string[] {
  const found: string[] = [];
  for (const id of ids) {
    if (stream.stopped) break;
    found.push(stream.push(id));
  }
  return [...found, stream.finish()].filter((piece) => piece !== '');
}

test('a character of several bytes comes out whole, when its last byte is there', () => {
  const stream = new TextStream(bytes, [], []);
  assert.deepEqual(pieces(stream, Buffer.from('a é 🙂!')), ['a', ' ', 'é', ' ', '🙂', '!']);
  assert.equal(stream.text, 'a é 🙂!');
});

test('bytes that never become a character come out at the end', () => {
  const stream = new TextStream(bytes, [], []);
  assert.deepEqual(pieces(stream, Buffer.from('né').subarray(0, 2)), ['n', '\ufffd']);
});

test('the space between prompt and answer is kept', () => {
  assert.deepEqual(pieces(new TextStream(words, [0, 1, 2], []), [3]), [' Paris']);
});

test('the text ends before a stop string, of which no part is given out', () => {
  const stream = new TextStream(bytes, [], ['\n\n', 'END']);
  assert.deepEqual(pieces(stream, Buffer.from('one\ntwo EN\n\nthree')).join(''), 'one\ntwo EN');
  assert.ok(stream.stopped);
});

test('what only began like a stop string is given out after all', () => {
  const stream = new TextStream(bytes, [], ['END']);
  assert.deepEqual(pieces(stream, Buffer.from('EEN')), ['E', 'EN']);
  assert.ok(!stream.stopped);
});

test('of several stop strings the one that occurs first counts', () => {
  const stream = new TextStream(
    { decode: (ids: ArrayLike<number>) => (ids.length ? 'ab stop, end' : '') } as unknown as Tokenizer,
    [],
    ['end', 'stop'],
  );
  assert.equal(stream.push(1), 'ab ');
});
