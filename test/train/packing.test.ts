import assert from 'node:assert/strict';
import { test } from 'node:test';
import { packBestFit, splitLong } from '../../lib/train/packing';
import { fixtures, readJsonFile, sequence } from './support';

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

test('packing loses no token and overfills no row', () => {
  const sequences = Array.from({ length: 300 }, (_, i) => sequence(1 + ((i * 37) % 90), 1000 * i));
  const packed = packBestFit(sequences, 90);
  const tokens = (list: typeof sequences) => list.flatMap(({ inputIds }) => [...inputIds]).sort((a, b) => a - b);
  assert.deepEqual(tokens(packed.flat()), tokens(sequences));
  assert.ok(packed.every((row) => row.reduce((sum, { inputIds }) => sum + inputIds.length, 0) <= 90));
  assert.ok(packed.length <= Math.ceil(tokens(sequences).length / 90) + 1);
});
