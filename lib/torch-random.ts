/**
 * PyTorch's random numbers on a CPU, draw for draw, so that a seed says here what it says there: the order in which TRL's trainer reads
 * its examples, what an adapter of PEFT begins with, and what is dropped while a model is trained. The generator is MT19937 (Matsumoto and
 * Nishimura 1998), seeded by the lower 32 bits of the seed.
 */

const WORDS = 624;
const MIDDLE = 397;
/** A state as text: its words and the place in them, 4 bytes each, in base64. */
const STATE_BYTES = 4 * (WORDS + 1);

/** A stream of 32-bit words, as of `torch.Generator().manual_seed(seed)`. */
export interface TorchRandom {
  /** A whole number from 0 up to 2³² − 1. */
  word(): number;
  /** Goes past so many words. */
  skip(words: number): void;
  /**
   * Draws as `torch.empty(count).bernoulli_(probability)` does, two words for each number, and sets a bit in `into` for each 1: that of
   * number i in word `first + i`.
   */
  bernoulli(probability: number, count: number, into: Int32Array, first: number, bit: number): void;
  /** A text from which `restoreTorchRandom` continues exactly here. */
  state(): string;
}

/** @param seed any whole number; only its lower 32 bits count, as in PyTorch */
export function createTorchRandom(seed: number): TorchRandom {
  const words = new Int32Array(WORDS);
  words[0] = seed % 2 ** 32;
  for (let i = 1; i < WORDS; i++) words[i] = Math.imul(1812433253, words[i - 1] ^ (words[i - 1] >>> 30)) + i;
  return new Mt19937(words, WORDS);
}

/** Continues a stream from a `state()` taken earlier. @throws if the text is none */
export function restoreTorchRandom(state: string): TorchRandom {
  if (!isTorchState(state)) throw new Error(`A state of random numbers is a text of ${STATE_BYTES} bytes in base64.`);
  const bytes = Buffer.from(state, 'base64');
  const words = Int32Array.from({ length: WORDS }, (_, i) => bytes.readInt32LE(4 * i));
  return new Mt19937(words, bytes.readInt32LE(4 * WORDS));
}

/** Whether a value is what `state()` returns. */
export function isTorchState(value: unknown): value is string {
  if (typeof value !== 'string') return false;
  const bytes = Buffer.from(value, 'base64');
  if (bytes.length !== STATE_BYTES) return false;
  const next = bytes.readInt32LE(4 * WORDS);
  return next >= 0 && next <= WORDS;
}

class Mt19937 implements TorchRandom {
  /** @param next the first of the words that has not been drawn */
  constructor(
    private readonly words: Int32Array,
    private next: number,
  ) {}

  word(): number {
    this.refill();
    return temper(this.words[this.next++]) >>> 0;
  }

  skip(words: number): void {
    for (let left = words; left > 0; ) {
      this.refill();
      const passed = Math.min(left, WORDS - this.next);
      this.next += passed;
      left -= passed;
    }
  }

  bernoulli(probability: number, count: number, into: Int32Array, first: number, bit: number): void {
    const limit = limitOf(probability);
    for (let i = 0; i < count; ) {
      this.refill();
      const pairs = Math.min(count - i, (WORDS - this.next) >> 1);
      if (pairs === 0) {
        // the two words of a number lie in two refills
        if (isBelow(this.word(), this.word(), limit)) into[first + i] |= 1 << bit;
        i++;
        continue;
      }
      drawPairs(this.words, this.next, { pairs, limit, into, first: first + i, bit });
      this.next += 2 * pairs;
      i += pairs;
    }
  }

  state(): string {
    const bytes = Buffer.alloc(STATE_BYTES);
    for (const [i, word] of this.words.entries()) bytes.writeInt32LE(word, 4 * i);
    bytes.writeInt32LE(this.next, 4 * WORDS);
    return bytes.toString('base64');
  }

  private refill(): void {
    if (this.next < WORDS) return;
    twist(this.words);
    this.next = 0;
  }
}

/** Makes the next 624 words out of these. */
function twist(words: Int32Array): void {
  twistRange(words, 0, WORDS - MIDDLE, MIDDLE);
  twistRange(words, WORDS - MIDDLE, WORDS - 1, MIDDLE - WORDS);
  words[WORDS - 1] = words[MIDDLE - 1] ^ mix(words[WORDS - 1], words[0]);
}

function twistRange(words: Int32Array, from: number, to: number, distance: number): void {
  let word = words[from];
  for (let i = from; i < to; i++) {
    const following = words[i + 1];
    words[i] = words[i + distance] ^ mix(word, following);
    word = following;
  }
}

const mix = (word: number, following: number): number =>
  (((word & 0x80000000) | (following & 0x7fffffff)) >>> 1) ^ (-(following & 1) & 0x9908b0df);

function temper(word: number): number {
  let y = word;
  y ^= y >>> 11;
  y ^= (y << 7) & 0x9d2c5680;
  y ^= (y << 15) & 0xefc60000;
  return y ^ (y >>> 18);
}

/** The numbers below `upper` · 2³² + `lower`, of 53 random bits, are those below a probability. */
interface Limit {
  upper: number;
  lower: number;
}

function limitOf(probability: number): Limit {
  const limit = Math.ceil(probability * 2 ** 53);
  return { upper: Math.floor(limit / 2 ** 32), lower: limit % 2 ** 32 };
}

/** Of two words the lower 21 bits of the first are above the second. */
function isBelow(first: number, second: number, { upper, lower }: Limit): boolean {
  const bits = first & 0x1fffff;
  return bits < upper || (bits === upper && second < lower);
}

/** The inner loop of `bernoulli`; it looks at the second word of a number only where the first leaves the answer open. */
function drawPairs(
  words: Int32Array,
  start: number,
  { pairs, limit, into, first, bit }: { pairs: number; limit: Limit; into: Int32Array; first: number; bit: number },
): void {
  const { upper } = limit;
  for (let i = 0; i < pairs; i++) {
    const bits = temper(words[start + 2 * i]) & 0x1fffff;
    let isOne = (bits - upper) >>> 31;
    if (bits === upper) isOne = isBelow(bits, temper(words[start + 2 * i + 1]) >>> 0, limit) ? 1 : 0;
    into[first + i] |= isOne << bit;
  }
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
  const numbers = new Float32Array(length);
  // 24 random bits; product and sum are rounded together, as processors with a fused multiply-add do it
  for (let i = 0; i < length; i++) numbers[i] = (random.word() % 2 ** 24) * 2 ** -24 * range + from;
  return numbers;
}
