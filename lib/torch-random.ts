/**
 * PyTorch's random numbers on a CPU, draw for draw, so that a seed says here what it says there: the order in which TRL's trainer reads
 * its examples, and what an adapter of PEFT begins with. The generator is MT19937 (Matsumoto and Nishimura 1998), seeded by the
 * lower 32 bits of the seed.
 */

const WORDS = 624;
const MIDDLE = 397;

/** A stream of 32-bit words, as of `torch.Generator().manual_seed(seed)`. */
export interface TorchRandom {
  /** A whole number from 0 up to 2³² − 1. */
  word(): number;
}

/** @param seed any whole number; only its lower 32 bits count, as in PyTorch */
export function createTorchRandom(seed: number): TorchRandom {
  const state = new Uint32Array(WORDS);
  state[0] = seed % 2 ** 32;
  for (let i = 1; i < WORDS; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  let next = WORDS;
  return {
    word: () => {
      if (next === WORDS) {
        twist(state);
        next = 0;
      }
      return temper(state[next++]);
    },
  };
}

/** Makes the next 624 words out of these. */
function twist(state: Uint32Array): void {
  for (let i = 0; i < WORDS; i++) {
    const joined = (state[i] & 0x80000000) | (state[(i + 1) % WORDS] & 0x7fffffff);
    state[i] = state[(i + MIDDLE) % WORDS] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
  }
}

function temper(word: number): number {
  let y = word;
  y ^= y >>> 11;
  y ^= (y << 7) & 0x9d2c5680;
  y ^= (y << 15) & 0xefc60000;
  return (y ^ (y >>> 18)) >>> 0;
}

/** `torch.randperm(n)`: the numbers from 0 up to n − 1 in a random order. */
export function randperm(n: number, random: TorchRandom): number[] {
  const order = Array.from({ length: n }, (_, i) => i);
  for (let i = 0; i < n - 1; i++) {
    const j = i + (random.word() % (n - i));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** `torch.empty(length).uniform_(-bound, bound)` in float32. */
export function uniform(length: number, bound: number, random: TorchRandom): Float32Array {
  const [from, to] = [Math.fround(-bound), Math.fround(bound)];
  const range = Math.fround(to - from);
  // 24 random bits; product and sum are rounded together, as processors with a fused multiply-add do it
  return Float32Array.from({ length }, () => (random.word() % 2 ** 24) * 2 ** -24 * range + from);
}
