/**
 * NumPy's permutations, draw for draw: a seed shuffles and splits a dataset here as it does in Hugging Face's datasets. The generator is
 * the one of `numpy.random.default_rng`: PCG XSL RR 128/64 (O'Neill 2014), whose 128-bit state is hashed from the seed by
 * `SeedSequence` (both after NumPy's documentation and its sources).
 */

/** `numpy.random.default_rng(seed).permutation(n)`: the numbers from 0 up to n − 1 in a random order. @param seed a whole number from 0 up */
export function permutation(n: number, seed: number): number[] {
  const word = createPcg64(seed);
  const order = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = upTo(i, word);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** A whole number from 0 up to `most`: words are cut to the bits that it may have, and drawn again where that is more. */
function upTo(most: number, word: () => number): number {
  const mask = 2 ** (32 - Math.clz32(most)) - 1;
  for (;;) {
    const drawn = (word() & mask) >>> 0;
    if (drawn <= most) return drawn;
  }
}

const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** A stream of 32-bit words: of each 64 bits that are drawn first the lower half, then the upper. */
function createPcg64(seed: number): () => number {
  const [stateHigh, stateLow, streamHigh, streamLow] = seedWords(seed);
  const increment = BigInt.asUintN(128, ((streamHigh << 64n) | streamLow) << 1n) | 1n;
  let state = 0n;
  const step = (): void => {
    state = BigInt.asUintN(128, state * MULTIPLIER + increment);
  };
  step();
  state += (stateHigh << 64n) | stateLow;
  step();
  let upper: number | undefined;
  return () => {
    if (upper !== undefined) {
      const word = upper;
      upper = undefined;
      return word;
    }
    step();
    const drawn = rotateRight(BigInt.asUintN(64, (state >> 64n) ^ state), state >> 122n);
    upper = Number(drawn >> 32n);
    return Number(BigInt.asUintN(32, drawn));
  };
}

function rotateRight(value: bigint, bits: bigint): bigint {
  return BigInt.asUintN(64, (value >> bits) | (value << (64n - bits)));
}

const POOL = 4;

/** `numpy.random.SeedSequence(seed).generate_state(4, numpy.uint64)` */
function seedWords(seed: number): bigint[] {
  const pool = poolOf(seed);
  const hash = createHash(0x8b51f9dd, 0x58f38ded);
  const halves = Array.from({ length: 8 }, (_, i) => BigInt(hash(pool[i % POOL])));
  return Array.from({ length: 4 }, (_, i) => (halves[2 * i + 1] << 32n) | halves[2 * i]);
}

/** The four words into which `SeedSequence` mixes a seed. */
function poolOf(seed: number): number[] {
  const hash = createHash(0x43b0d7e5, 0x931e8875);
  const pool = [seed % 2 ** 32, Math.floor(seed / 2 ** 32), 0, 0].map(hash);
  for (let from = 0; from < POOL; from++) {
    for (let to = 0; to < POOL; to++) {
      if (from !== to) pool[to] = folded(Math.imul(0xca01f9dd, pool[to]) - Math.imul(0x4973f715, hash(pool[from])));
    }
  }
  return pool;
}

/** A hash of words whose constant changes with each of them. */
function createHash(start: number, multiplier: number): (word: number) => number {
  let constant = start;
  return (word) => {
    const mixed = word ^ constant;
    constant = Math.imul(constant, multiplier);
    return folded(Math.imul(mixed, constant));
  };
}

function folded(word: number): number {
  return (word ^ (word >>> 16)) >>> 0;
}
