/**
 * The generator of PyTorch's random numbers on a CPU, MT19937 (Matsumoto and Nishimura 1998), four numbers at a time: dropout takes two words of
 * it for every number of every matrix, more than a processor goes through one by one beside training.
 */
import { MT19937_WASM } from './mt19937-wasm';
import { openWasm } from './wasm';

/** Words of a state. */
export const WORDS = 624;
const MIDDLE = 397;

/** Words that eight numbers take. */
const EIGHT = 16;

/** Functions of WebAssembly (mt19937.wat). Addresses are in bytes. */
interface Functions {
  twist(at: number, end: number, distance: number): void;
  below(at: number, end: number, target: number, upper: number, lower: number): void;
}

/** Where states visit WebAssembly, which computes only in memory of its own. */
interface Workshop extends Functions {
  state: Int32Array;
  /** Of as many numbers as a state gives, four bits in each half. */
  drawn: Uint16Array;
}

function openWorkshop(): Workshop {
  const size = WORDS / EIGHT;
  const { functions, memory } = openWasm<Functions>(MT19937_WASM, 4 * WORDS + 2 * size);
  return { ...functions, state: new Int32Array(memory, 0, WORDS), drawn: new Uint16Array(memory, 4 * WORDS, size) };
}

let workshop: Workshop | undefined;

/** Makes the next 624 words out of these. */
function makeWords({ state, twist }: Workshop): void {
  const [first, second] = [WORDS - MIDDLE, WORDS - 1];
  const whole = first - (first % 4);
  twist(0, 4 * whole, 4 * MIDDLE);
  for (let i = whole; i < first; i++) state[i] = state[i + MIDDLE] ^ mix(state[i], state[i + 1]);
  twist(4 * first, 4 * second, 4 * (MIDDLE - WORDS));
  state[second] = state[MIDDLE - 1] ^ mix(state[second], state[0]);
}

const mix = (word: number, following: number): number =>
  (((word & 0x80000000) | (following & 0x7fffffff)) >>> 1) ^ (-(following & 1) & 0x9908b0df);

function temper(word: number): number {
  let y = word;
  y ^= y >>> 11;
  y ^= (y << 7) & 0x9d2c5680;
  y ^= (y << 15) & 0xefc60000;
  return (y ^ (y >>> 18)) >>> 0;
}

/** The number upper · 2³² + lower. */
export interface Limit {
  upper: number;
  lower: number;
}

/** A stream of 32-bit words. */
export class Mt19937 {
  /**
   * @param words the state, 624 of them; the stream's own from now on
   * @param next the first that has not been drawn
   */
  constructor(
    readonly words: Int32Array,
    public next: number,
  ) {}

  /** A whole number from 0 up to 2³² − 1. */
  word(): number {
    this.refill();
    return temper(this.words[this.next++]);
  }

  /** Goes past so many words. */
  skip(words: number): void {
    const here = Math.min(words, WORDS - this.next);
    this.next += here;
    if (here === words) return;
    this.inMemory((memory) => {
      for (let left = words - here; left > 0; left -= this.next) {
        this.twist(memory);
        this.next = Math.min(left, WORDS);
      }
    });
  }

  /**
   * Draws `count` numbers of 53 bits, two words each, and writes as bits whether they are below the limit, upper · 2³² + lower: from bit `first` of
   * `into` on.
   */
  drawBelow(limit: Limit, count: number, into: Uint8Array, first: number): void {
    this.inMemory((memory) => {
      for (let number = first; number < first + count; ) {
        if (this.next === WORDS) this.twist(memory);
        // by no bitwise operator: there may be more bits than 32 bits count
        const at = Math.floor(number / 8);
        const elements = Math.min(Math.floor((first + count - number) / 8), Math.floor((WORDS - this.next) / EIGHT));
        if (number % 8 === 0 && elements > 0) {
          this.drawElements(memory, limit, into.subarray(at, at + elements));
          number += 8 * elements;
        } else {
          const mask = 1 << (number % 8);
          if (this.drawOne(memory, limit)) into[at] |= mask;
          else into[at] &= ~mask;
          number++;
        }
      }
    });
  }

  private drawElements({ below, drawn }: Workshop, { upper, lower }: Limit, into: Uint8Array): void {
    const end = this.next + EIGHT * into.length;
    below(4 * this.next, 4 * end, drawn.byteOffset, upper, lower);
    for (let i = 0; i < into.length; i++) into[i] = (drawn[i] & 15) | (drawn[i] >> 4);
    this.next = end;
  }

  private drawOne(memory: Workshop, { upper, lower }: Limit): boolean {
    const bits = this.wordOf(memory) & 0x1fffff;
    const rest = this.wordOf(memory);
    return bits < upper || (bits === upper && rest < lower);
  }

  private wordOf(memory: Workshop): number {
    if (this.next === WORDS) this.twist(memory);
    return temper(memory.state[this.next++]);
  }

  private refill(): void {
    if (this.next === WORDS) this.inMemory((memory) => this.twist(memory));
  }

  private twist(memory: Workshop): void {
    makeWords(memory);
    this.next = 0;
  }

  private inMemory(work: (memory: Workshop) => void): void {
    workshop ??= openWorkshop();
    workshop.state.set(this.words);
    work(workshop);
    this.words.set(workshop.state);
  }
}
