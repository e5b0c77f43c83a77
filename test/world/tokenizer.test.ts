import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { loadTokenizer } from '../../lib/text';
import { trainBpe } from '../../scripts/pretrain/bpe';
import { makeText } from '../../scripts/pretrain/data';
import { makeEncoder, SPECIAL_TOKENS, tokenizerJson } from '../../scripts/pretrain/tokenizer-files';

const base = path.join(projectRoot, 'data', 'base');
const made = makeText();

/** Strings, and their ids as the tokenizers library (Python) reads tokenizer.json. */
const peer = readFileSync(path.join(projectRoot, 'test', 'world', 'tokenizer_ids.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as { text: string; ids: number[] });

test('the text has at least 3 million tokens', () => {
  assert.ok(made.tokens >= 3_000_000, `${made.tokens}`);
});

test('the shipped tokenizer.json is the one that training on the text gives', () => {
  const shipped = JSON.parse(readFileSync(path.join(base, 'tokenizer.json'), 'utf8')) as unknown;
  assert.deepEqual(shipped, JSON.parse(JSON.stringify(tokenizerJson(made.bpe))));
  assert.equal(made.bpe.vocabulary.length, 2048);
  assert.equal(new Set(made.bpe.vocabulary).size, 2048);
});

test('our encoder, transformers.js and Python read the same ids and give the text back', async () => {
  const tokenizer = await loadTokenizer(base);
  const encode = makeEncoder(made.bpe);
  assert.ok(peer.length >= 100);
  for (const { text, ids } of peer) {
    assert.deepEqual(tokenizer.encode(text), ids, text);
    assert.equal(tokenizer.decode(ids), text);
    assert.deepEqual(encode(text), ids, text);
  }
});

test('end of text and padding are settled', async () => {
  const tokenizer = await loadTokenizer(base);
  assert.deepEqual([tokenizer.eosId, tokenizer.padId, tokenizer.vocabSize], [0, 1, 2048]);
  assert.deepEqual(tokenizer.encode(`one${SPECIAL_TOKENS[0]}`).at(-1), 0);
});

test('byte-pair training joins the most frequent pair first', () => {
  const { merges, vocabulary } = trainBpe(['abab abab abab', 'xy'], 2 + 256 + 3, SPECIAL_TOKENS);
  assert.deepEqual(merges, [
    ['a', 'b'],
    ['ab', 'ab'],
    ['Ġ', 'abab'],
  ]);
  assert.equal(vocabulary.at(-1), 'Ġabab');
});
