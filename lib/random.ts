/**
 * Seeded random numbers, the same on every machine, whose state can be saved and restored: for shuffles, sampling and
 * initial weights. The generator is xoshiro128** 1.1 by David Blackman and Sebastiano Vigna (public domain,
 * https://prng.di.unimi.it/xoshiro128starstar.c), seeded through splitmix32.
 */

/** A stream of random numbers. */
export interface Random {
  /** A number in [0, 1), with 32 random bits. */
  next(): number;
  /** A whole number in [0, n), each equally likely. */
  int(n: number): number;
  /** A draw from the standard normal distribution (Box-Muller; two draws of `next` each). */
  normal(): number;
  /** Four 32-bit words from which `restoreRandom` continues exactly here. */
  state(): number[];
}

/** A stream that the seed alone determines. Any number is a seed; its lower and upper 32 bits are mixed into one word. */
export function createRandom(seed: number): Random {
  let mixed = (seed ^ Math.imul(Math.floor(seed / 4294967296), 0x9e3779b9)) >>> 0;
  const words = Array.from({ length: 4 }, () => {
    mixed = (mixed + 0x9e3779b9) >>> 0;
    let z = mixed;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  });
  return restoreRandom(words);
}

/** Continues a stream from a `state()` taken earlier. */
export function restoreRandom(state: readonly number[]): Random {
  if (state.length !== 4 || !state.every((word) => Number.isInteger(word)) || state.every((word) => word === 0)) {
    throw new Error(`A random state is four whole numbers, not all zero; found ${JSON.stringify(state)}.`);
  }
  let [a, b, c, d] = state.map((word) => word | 0);
  const word = (): number => {
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotateLeft(d, 11);
    return result;
  };
  const next = (): number => word() / 4294967296;
  return {
    next,
    int: (n) => {
      // words beyond the last whole multiple of n would favour small numbers
      const limit = Math.floor(4294967296 / n) * n;
      for (;;) {
        const drawn = word();
        if (drawn < limit) return drawn % n;
      }
    },
    normal: () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
    state: () => [a >>> 0, b >>> 0, c >>> 0, d >>> 0],
  };
}

/** A shuffled copy (Fisher-Yates). */
export function shuffled<T>(list: readonly T[], random: Random): T[] {
  const copy = [...list];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = random.int(i + 1);
    [copy[i], copy[j]] = [copy[j], copy[i]];
  }
  return copy;
}

function rotateLeft(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
