/** Weights in the order in which llama.cpp reads them. Values are those of a matrix, row by row. */

/**
 * llama.cpp turns the features 2i and 2i+1 of a head by one angle, where checkpoints have them half a head apart.
 * @param values [heads · headDim, …]
 */
export function inPairs(values: Float32Array, heads: number, headDim: number): Float32Array {
  const width = values.length / (heads * headDim);
  const paired = new Float32Array(values.length);
  const half = headDim / 2;
  for (let head = 0; head < heads; head++)
    for (let i = 0; i < headDim; i++) {
      const [from, to] = [head * headDim + i, head * headDim + (i < half ? 2 * i : 2 * (i - half) + 1)];
      paired.set(values.subarray(from * width, (from + 1) * width), to * width);
    }
  return paired;
}

/** All queries, then all keys, then all values, where checkpoints have those of one head after the other. @param values [heads · 3 · …] */
export function byKind(values: Float32Array, heads: number): Float32Array {
  const size = values.length / (3 * heads);
  const sorted = new Float32Array(values.length);
  for (let head = 0; head < heads; head++)
    for (let kind = 0; kind < 3; kind++)
      sorted.set(values.subarray((3 * head + kind) * size, (3 * head + kind + 1) * size), (kind * heads + head) * size);
  return sorted;
}

/**
 * Heads that stand in groups: the first of each group, then the second of each, and so on.
 * @param values [groups · heads of each, …] @param heads of all groups
 */
export function groupsInTurn(values: Float32Array, groups: number, heads: number): Float32Array {
  const size = values.length / heads;
  const each = heads / groups;
  const sorted = new Float32Array(values.length);
  for (let group = 0; group < groups; group++)
    for (let i = 0; i < each; i++) {
      const from = (group * each + i) * size;
      sorted.set(values.subarray(from, from + size), (i * groups + group) * size);
    }
  return sorted;
}

/** Sorts what lies behind the first so many values. */
export function behind(values: Float32Array, count: number, sort: (values: Float32Array) => Float32Array): Float32Array {
  const sorted = values.slice();
  sorted.set(sort(values.subarray(count)), count);
  return sorted;
}

/** Sorts each row. */
export function inEachRow(values: Float32Array, columns: number, sort: (row: Float32Array) => Float32Array): Float32Array {
  const sorted = new Float32Array(values.length);
  for (let at = 0; at < values.length; at += columns) sorted.set(sort(values.subarray(at, at + columns)), at);
  return sorted;
}

/**
 * Of matrices one after the other, each of several parts one below the other: the parts of one kind.
 * @param values [matrices · parts · …]
 */
export function partOfEach(values: Float32Array, matrices: number, parts: number, part: number): Float32Array {
  if (parts === 1) return values;
  const size = values.length / (matrices * parts);
  if (matrices === 1) return values.subarray(part * size, (part + 1) * size);
  const found = new Float32Array(matrices * size);
  for (let i = 0; i < matrices; i++) found.set(values.subarray((i * parts + part) * size, (i * parts + part + 1) * size), i * size);
  return found;
}
