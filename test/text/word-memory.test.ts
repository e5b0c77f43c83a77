/** A tokenizer that remembers words gives the tokens of one that computes each of them anew. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { readJson } from '../../lib/files';
import { projectRoot } from '../../lib/project';
import { createRandom } from '../../lib/random';
import { rememberWords } from '../../lib/text/word-memory';

interface TokenizerJson {
  pre_tokenizer: object | null;
  model: { vocab: Record<string, number>; merges: Array<[string, string] | string> };
}

interface Backend {
  encode(text: string): number[];
}

const read = (...names: string[]): TokenizerJson => readJson(path.join(projectRoot, ...names, 'tokenizer.json')) as TokenizerJson;
const byteLevel = read('data', 'base');
const pieces = read('test', 'text', 'sentencepiece');

const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const SPLIT = { type: 'Split', pattern: { Regex: '\\p{N}{1,2}| ?[^\\s\\p{N}]+|\\s+' }, behavior: 'Isolated', invert: false };

/** With merges that bring tokens to life in which a space comes after something. */
function withMerges(tokenizer: TokenizerJson, merges: ReadonlyArray<[string, string]>): TokenizerJson {
  const vocab = { ...tokenizer.model.vocab };
  for (const pair of merges) {
    // what it is merged of must be there, too
    for (const token of [...pair, pair.join('')]) vocab[token] ??= Object.keys(vocab).length;
  }
  return { ...tokenizer, model: { ...tokenizer.model, vocab, merges: [...tokenizer.model.merges, ...merges] } };
}

const tokenizers: Record<string, TokenizerJson> = {
  'byte-level': byteLevel,
  'byte-level, with a space before everything': { ...byteLevel, pre_tokenizer: { ...bytes, add_prefix_space: true } },
  'byte-level behind another cut': {
    ...byteLevel,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [SPLIT, { ...bytes, use_regex: false }] },
  },
  'of pieces': pieces,
  'of pieces that go over spaces': withMerges(pieces, [
    ['e', '▁'],
    ['▁', '▁'],
    ['.', '▁'],
    ['▁', 'th'],
    ['e▁', '▁th'],
  ]),
};

const PARTS = [
  'the',
  'he ',
  'end.',
  'capital of',
  "it's",
  "I'LL",
  ' ',
  '  ',
  '   ',
  '\n',
  '\n\n',
  '\t',
  '▁',
  '▁▁',
  '1',
  '2026',
  'é',
  'ß',
  '中文',
  '🙂',
  '👩‍🚀',
  '\u0301',
  '<s>',
  '</s>',
  '<|endoftext|>',
  '!?',
  'Ω',
  '-',
  '__',
  'a'.repeat(40),
];

describe('words are remembered with their tokens by a tokenizer', () => {
  for (const [kind, json] of Object.entries(tokenizers)) {
    test(kind, async () => {
      const { PreTrainedTokenizer } = await import('@huggingface/transformers');
      const make = (): Backend => new PreTrainedTokenizer(structuredClone(json), {}) as unknown as Backend;
      const [plain, quick] = [make(), make()];
      rememberWords(quick as object);
      const random = createRandom(3);
      const texts = Array.from({ length: 400 }, () =>
        Array.from({ length: 1 + random.int(20) }, () => PARTS[random.int(PARTS.length)]).join(''),
      );
      // the second time from memory
      for (const text of [...texts, ...texts]) assert.deepEqual(quick.encode(text), plain.encode(text), JSON.stringify(text));
    });
  }
});

test('what is remembered of texts is their words alone', async () => {
  const { PreTrainedTokenizer } = await import('@huggingface/transformers');
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  for (const json of [byteLevel, pieces]) {
    const backend = new PreTrainedTokenizer(structuredClone(json), {}) as unknown as Backend;
    rememberWords(backend as object);
    backend.encode('the first text compiles what encodes it');
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    const texts = 120;
    // both cut a text behind its last letter, and remember its words
    const filler = ' tub'.repeat(5000);
    // a word of its own in each, which is long enough to be kept as a part of it
    const wordOf = (i: number): string => [...String(i)].map((digit) => 'abcdefghij'[Number(digit)].repeat(10)).join('');
    for (let i = 0; i < texts; i++) backend.encode(`${wordOf(i)}${filler} ${wordOf(i)}`);
    collectGarbage();
    const kept = process.memoryUsage().heapUsed - before;
    assert.ok(kept < (texts * filler.length) / 4, `${kept} bytes`);
  }
});
