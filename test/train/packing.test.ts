import assert from 'node:assert/strict';
import { test } from 'node:test';
import { prepareExamples } from '../../lib/train';
import { packBestFit, packRows, splitLong } from '../../lib/train/packing';
import { fixtures, hashOf, readJsonFile, rows, sequence, tinyModel } from './support';

interface Case {
  length: number;
  strategy: 'bfd' | 'bfd_split';
  lengths: number[];
  /** For each row, the first id of each of its sequences: 1000 · (number of the sequence) + place in it. */
  starts: number[][];
  seq_lengths: number[][];
}

for (const { length, strategy, lengths, starts, seq_lengths: seqLengths } of readJsonFile<Case[]>(fixtures, 'packing.json')) {
  test(`${strategy} lays ${lengths.length} sequences into the rows that TRL makes (length ${length})`, () => {
    const sequences = lengths.map((n, i) => sequence(n, 1000 * i));
    const packed = packBestFit(strategy === 'bfd_split' ? splitLong(sequences, length) : sequences, length);
    assert.deepEqual(
      packed.map((row) => row.map(({ inputIds }) => inputIds.length)),
      seqLengths,
    );
    assert.deepEqual(
      packed.map((row) => row.map(({ inputIds }) => inputIds[0])),
      starts,
    );
  });
}

// rows and SHA-256 of their `seq_lengths` as JSON, as trl.data_utils.pack_dataset makes them of the same lengths
for (const [strategy, length, count, hash] of [
  ['bfd', 90, 760, '6e4b341456bfc892812d25eb8adc22497fb6227ff7f14ebb8dbaa1c7a56a1be9'],
  ['bfd_split', 60, 1138, '33a4bf36dfcfb312bdb35e5a1993efc3aad67838804284d420632c18d4d1652f'],
] as const) {
  test(`${strategy} lays more than 1000 sequences into the rows that TRL makes, which packs 1000 at a time`, () => {
    const sequences = Array.from({ length: 1500 }, (_, i) => sequence(1 + ((i * 37) % 90), 1000 * i));
    const packed = packRows(sequences, length, strategy === 'bfd_split');
    assert.equal(packed.length, count);
    const lengths = JSON.stringify(packed.map((row) => row.map(({ inputIds }) => inputIds.length)));
    assert.equal(hashOf(Buffer.from(lengths)), hash);
  });
}

test('packing loses no token and overfills no row', () => {
  const sequences = Array.from({ length: 300 }, (_, i) => sequence(1 + ((i * 37) % 90), 1000 * i));
  const packed = packBestFit(sequences, 90);
  const tokens = (list: typeof sequences) => list.flatMap(({ inputIds }) => [...inputIds]).sort((a, b) => a - b);
  assert.deepEqual(tokens(packed.flat()), tokens(sequences));
  assert.ok(packed.every((row) => row.reduce((sum, { inputIds }) => sum + inputIds.length, 0) <= 90));
  assert.ok(packed.length <= Math.ceil(tokens(sequences).length / 90) + 1);
});

test('in a row of any length all sequences lie together', () => {
  const sequences = [3, 5, 4].map((length) => sequence(length, 0));
  assert.deepEqual(packBestFit(sequences, Number.MAX_SAFE_INTEGER), packBestFit(sequences, 100));
});

test('examples are shuffled before they are packed, and the rows after', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const pack = (shuffleSeed?: number) =>
    prepareExamples(rows, tokenizer, { maxLength: 256, packing: true, shuffleSeed }).items.map((row) =>
      row
        .map(({ inputIds }) => inputIds.join())
        .sort()
        .join('|'),
    );
  const [plain, shuffled] = [pack(), pack(1)];
  assert.deepEqual(pack(1), shuffled);
  assert.notDeepEqual([...shuffled].sort(), [...plain].sort(), 'other examples lie together');
  const examples = (packed: string[]) => packed.flatMap((row) => row.split('|')).sort();
  assert.deepEqual(examples(shuffled), examples(plain));
});

test('rows that hold nothing but pieces of prompts are left out, and that is said', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const example = { prompt: 'word '.repeat(100), completion: 'end' };
  const { items, notes } = prepareExamples([example], tokenizer, { maxLength: 32, packing: true, packingStrategy: 'bfd_split' });
  assert.equal(items.length, 1);
  assert.match(notes.join('\n'), /\d+ of those rows hold no token to learn and were left out\./);
});
