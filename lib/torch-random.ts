/**
 * PyTorch's random numbers on a CPU, draw for draw, so that a seed says here what it says there: the order in which TRL's trainer reads
 * its examples, what an adapter of PEFT begins with, and what is dropped while a model is trained.
 */
import { Mt19937, WORDS } from './mt19937';

/** A state as text: its words and the place in them, 4 bytes each, in base64. */
const STATE_BYTES = 4 * (WORDS + 1);

/** A stream of 32-bit words, as of `torch.Generator().manual_seed(seed)`. */
export interface TorchRandom {
  /** A whole number from 0 up to 2³² − 1. */
  word(): number;
  /** Goes past so many words. */
  skip(words: number): void;
  /**
   * Draws as `torch.empty(count).bernoulli_(probability)` does, two words for each number, and writes them as bits from bit `first` of `into` on:
   * bit i is bit i % 8 of the byte i / 8.
   */
  bernoulli(probability: number, count: number, into: Uint8Array, first: number): void;
  /** A text from which `restoreTorchRandom` continues exactly here. */
  state(): string;
}

/** @param seed any whole number; only its lower 32 bits count, as in PyTorch */
export function createTorchRandom(seed: number): TorchRandom {
  const words = new Int32Array(WORDS);
  words[0] = seed % 2 ** 32;
  for (let i = 1; i < WORDS; i++) words[i] = Math.imul(1812433253, words[i - 1] ^ (words[i - 1] >>> 30)) + i;
  return new Stream(words, WORDS);
}

/** Continues a stream from a `state()` taken earlier. @throws if the text is none */
export function restoreTorchRandom(state: string): TorchRandom {
  if (!isTorchState(state)) throw new Error(`A state of random numbers is a text of ${STATE_BYTES} bytes in base64.`);
  const bytes = Buffer.from(state, 'base64');
  const words = Int32Array.from({ length: WORDS }, (_, i) => bytes.readInt32LE(4 * i));
  return new Stream(words, bytes.readInt32LE(4 * WORDS));
}

/** Whether a value is what `state()` returns. */
export function isTorchState(value: unknown): value is string {
  if (typeof value !== 'string') return false;
  const bytes = Buffer.from(value, 'base64');
  if (bytes.length !== STATE_BYTES) return false;
  const next = bytes.readInt32LE(4 * WORDS);
  return next >= 0 && next <= WORDS;
}

class Stream extends Mt19937 implements TorchRandom {
  bernoulli(probability: number, count: number, into: Uint8Array, first: number): void {
    const limit = Math.ceil(probability * 2 ** 53);
    this.drawBelow({ upper: Math.floor(limit / 2 ** 32), lower: limit % 2 ** 32 }, count, into, first);
  }

  state(): string {
    const bytes = Buffer.alloc(STATE_BYTES);
    for (const [i, word] of this.words.entries()) bytes.writeInt32LE(word, 4 * i);
    bytes.writeInt32LE(this.next, 4 * WORDS);
    return bytes.toString('base64');
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
