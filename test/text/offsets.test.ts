import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeSurfaces, maskBeginnings, maskSpans } from '../../lib/text/offsets';

/** Words with the space before them, in lower case, so that the tokens do not spell the text. */
const WORDS = ['the', ' cat', ' sat', ' catsat'];
const encode = (text: string) => (text.toLowerCase().match(/ ?[a-z]+/g) ?? []).map((word) => WORDS.indexOf(word));

test('where tokens do not spell the text, a stretch of it has as many of them as come up to its borders', () => {
  const text = 'The Cat SAT';
  assert.deepEqual(maskBeginnings(encode(text), text, [{ start: 3, end: 7 }], encode), {
    ids: [0, 1, 2],
    assistant: Uint8Array.of(0, 1, 0),
    exact: true,
  });
});

test('a border inside a token is said to be not exact', () => {
  const text = 'The CatSat';
  assert.equal(maskBeginnings(encode(text), text, [{ start: 7, end: 10 }], encode).exact, false);
});

test('tokens of spaces are found in a text, though the vocabulary lists them as added ones, too', () => {
  const vocab = { '▁': 0, '▁▁': 1, a: 2, '▁b': 3 };
  const spaces = { id: 1, content: '▁▁', special: false, single_word: false, lstrip: false, rstrip: false, normalized: false };
  const json = { model: { vocab }, added_tokens: [spaces], post_processor: null };
  const surfaces = makeSurfaces(json, (id) => Object.keys(vocab)[id]);
  assert.deepEqual(maskSpans([2, 1, 3], 'a   b', [{ start: 1, end: 3 }], surfaces), Uint8Array.of(0, 1, 0));
});
