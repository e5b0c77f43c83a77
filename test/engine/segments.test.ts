/** How attention goes through a packed row. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { makeSegments, useDevice } from '../../lib/engine';
import { createRandom } from '../../lib/random';

before(async () => {
  await useDevice('cpu');
});

interface Block {
  segment: number;
  start: number;
  end: number;
}

/** The groups of blocks, and where each token is among their places. */
function groupsOf(lengths: number[]): { groups: Block[][]; slots: number[][] } {
  const segments = makeSegments(lengths);
  const [blocks, bounds, slots] = [segments.tables.blocks, segments.tables.groups, segments.tables.slots].map((x) => x.arraySync());
  segments.dispose();
  const groups = bounds.map(([first, behind]) => blocks.slice(first, behind).map(([, , segment, start, end]) => ({ segment, start, end })));
  return { groups, slots };
}

/** The longest block's length, or the next even number. */
const widthOf = (group: Block[]): number => 2 * Math.ceil(Math.max(...group.map(({ start, end }) => end - start)) / 2);

test('every token is in one block, in its own segment, at the place that the table says', () => {
  const random = createRandom(11);
  for (let round = 0; round < 50; round++) {
    const lengths = Array.from({ length: 1 + random.int(12) }, () => 1 + random.int(random.int(2) ? 400 : 30));
    const tokens = lengths.reduce((a, b) => a + b);
    const segmentOf = lengths.flatMap((length, i) => new Array<number>(length).fill(lengths.slice(0, i).reduce((a, b) => a + b, 0)));
    const { groups, slots } = groupsOf(lengths);
    assert.equal(slots.length, tokens);
    const found: number[][] = [];
    let before = 0;
    for (const group of groups) {
      const width = widthOf(group);
      for (const { segment, start, end } of group) {
        assert.ok(end > start);
        for (let token = start; token < end; token++) {
          assert.equal(segment, segmentOf[token]);
          assert.equal(found[token], undefined, `token ${token} is in two blocks`);
          found[token] = [before, width, token - start];
        }
        before += width;
      }
    }
    assert.deepEqual(found, slots);
  }
});

test('a block after others of its segment is a group of its own, and comes before them', () => {
  const { groups } = groupsOf([300, 20, 257]);
  const inParts = groups.filter((group) => group.some(({ segment, start, end }) => start > segment || end - segment > 128));
  assert.deepEqual(
    inParts.map((group) => group.map(({ start, end }) => [start, end])),
    [[[200, 300]], [[100, 200]], [[491, 577]], [[405, 491]]],
  );
});

test('segments of similar length are computed together, and few places only fill up', () => {
  const equal = groupsOf(new Array(12).fill(100));
  assert.equal(equal.groups.length, 1);
  const lengths = [100, 7, 98, 8, 97, 5, 120, 9];
  const { groups } = groupsOf(lengths);
  assert.ok(groups.length <= 3, `${groups.length} groups`);
  const scores = groups.reduce((sum, group) => sum + group.length * widthOf(group) ** 2, 0);
  const own = lengths.reduce((sum, length) => sum + length ** 2, 0);
  assert.ok(scores < 1.3 * own, `${scores} scores for ${own}`);
});
