/** What sequences begin with in common is computed once. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, describe, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { findFamilies, generateBatch, loadModel, makeBatch, placeOf, sharedPrefixes, tokenNll } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { createRandom } from '../../lib/random';
import { scoreItems } from '../../lib/train/evaluation';
import { families } from '../golden-families';
import { batchLogits, closeTo, fixtures, logitsOf } from './support';

before(async () => {
  await useDevice('cpu');
});

/** Numbers from `first` on. */
const tokens = (count: number, first = 0): number[] => Array.from({ length: count }, (_, i) => first + i);

describe('sequences that begin alike are a family', () => {
  const prompt = tokens(20);

  test('with all that they share; others are none', () => {
    const sequences = [[...prompt, 100], tokens(30, 200), [...prompt, 101, 102], [...prompt, 103]];
    assert.deepEqual(findFamilies(sequences), [{ members: [0, 2, 3], tokens: 20 }]);
    assert.deepEqual(sharedPrefixes(sequences), [undefined, undefined, { segment: 0, tokens: 20 }, { segment: 0, tokens: 20 }]);
  });

  test('but for what is too short to be worth it', () => {
    assert.deepEqual(
      findFamilies([
        [...tokens(7), 100],
        [...tokens(7), 101],
      ]),
      [],
    );
    assert.equal(
      findFamilies([
        [...tokens(8), 100],
        [...tokens(8), 101],
      ]).length,
      1,
    );
  });

  test('two of those that share more, where they save more together than with the others', () => {
    const long = [...prompt, ...tokens(50, 100)];
    const sequences = [
      [...long, 1],
      [...prompt, 2],
      [...long, 3],
      [...prompt, 4],
    ];
    assert.deepEqual(findFamilies(sequences), [
      { members: [0, 2], tokens: 70 },
      { members: [1, 3], tokens: 20 },
    ]);
  });

  test('and keep at least a token of their own, also where one is the beginning of the other, or the same', () => {
    assert.deepEqual(findFamilies([prompt, [...prompt, 100]]), [{ members: [0, 1], tokens: 19 }]);
    assert.deepEqual(findFamilies([prompt, prompt, prompt]), [{ members: [0, 1, 2], tokens: 19 }]);
  });

  test('whatever the sequences are: each is in one family at most, and its members agree', () => {
    const random = createRandom(3);
    let saved = 0;
    for (let round = 0; round < 300; round++) {
      const sequences: number[][] = [];
      for (let i = random.int(8); i >= 0; i--) {
        const root = sequences.length > 0 ? sequences[random.int(sequences.length)] : [];
        sequences.push([...root.slice(0, random.int(root.length + 1)), ...Array.from({ length: 2 + random.int(15) }, () => random.int(3))]);
      }
      const seen = new Set<number>();
      for (const family of findFamilies(sequences)) {
        const [first, ...others] = family.members.map((member) => sequences[member]);
        assert.ok(others.length > 0 && family.tokens >= 8);
        for (const member of family.members) {
          assert.ok(!seen.has(member));
          seen.add(member);
          assert.ok(sequences[member].length > family.tokens);
        }
        for (const other of others) assert.deepEqual(other.slice(0, family.tokens), first.slice(0, family.tokens));
        saved += others.length * family.tokens;
      }
    }
    assert.ok(saved > 2000, `${saved} tokens saved`);
  });
});

const WITH_STATES = ['qwen3_5', 'granite_h', 'falcon_h1'];

const models = [
  // the layers of the others keep a state, with which a text begins
  ...families.filter((family) => !WITH_STATES.includes(family)).map((family) => path.join(projectRoot, 'test', 'golden', family, 'model')),
  ...['mistral', 'qwen2-window', 'opt-350m', 'lfm2'].map((variant) => path.join(fixtures, variant)),
];
for (const folder of models) {
  test(`${path.relative(projectRoot, folder)}: with a shared prefix, sequences have the logits that each has alone`, async (t) => {
    const model = await loadModel(folder);
    t.after(() => model.dispose());
    const { vocabSize } = model.config;
    const id = (i: number): number => (i * 37) % vocabSize;
    const prompt = tokens(12).map(id);
    const sequences = [5, 1, 9, 2].map((length, i) => [...prompt, ...tokens(length, 20 * (i + 1)).map(id)]);
    const batch = makeBatch(sequences, sharedPrefixes(sequences));
    assert.equal(batch.ids.size, 12 + 5 + 1 + 9 + 2);
    const rows = await batchLogits(model, batch);
    for (const [index, sequence] of sequences.entries()) {
      const alone = await logitsOf(model, sequence);
      for (const [place, expected] of alone.entries()) closeTo(rows[placeOf(batch, index, place)], expected, 2e-5);
    }
  });
}

test('texts that begin alike are read whole where layers keep a state', async (t) => {
  const model = await loadModel(path.join(projectRoot, 'test', 'golden', 'qwen3_5', 'model'));
  t.after(() => model.dispose());
  const id = (i: number): number => 2 + ((i * 37) % 1000);
  const beginning = tokens(70).map(id);
  const texts = [5, 1, 9].map((length, i) => [...beginning, ...tokens(length, 100 * (i + 1)).map(id)]);
  const together = await generateBatch(model, texts, { maxNewTokens: 5, ignoreEos: true });
  for (const [index, text] of texts.entries()) {
    const [alone] = await generateBatch(model, [text], { maxNewTokens: 5, ignoreEos: true });
    assert.deepEqual(together[index].ids, alone.ids);
  }
  const sequences = texts.map((ids) => ({ inputIds: Int32Array.from(ids), lossMask: new Uint8Array(ids.length).fill(1) }));
  const scored = await scoreItems(
    model,
    sequences.map((sequence) => [sequence]),
    { batchSize: 1 },
  );
  for (const [index, { inputIds }] of sequences.entries()) {
    const { nll } = await tokenNll(model, inputIds);
    const loss = nll.reduce((sum, x) => sum + x, 0);
    assert.ok(Math.abs(scored[index].loss - loss) < 1e-5 * loss);
  }
});
