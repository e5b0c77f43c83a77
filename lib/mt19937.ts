/**
 * The generator of PyTorch's random numbers on a CPU, MT19937 (Matsumoto and Nishimura 1998), four numbers at a time: dropout takes two words of
 * it for every number of every matrix, more than a processor goes through one by one beside training.
 */
import {
  add,
  and,
  assemble,
  type Code,
  constant,
  type Definition,
  fourBelow,
  fourEqual,
  isAny,
  isBelow,
  join,
  load,
  or,
  pick,
  repeat,
  shift,
  shiftLeft,
  shiftRight,
  signs,
  splat,
  store,
  storeSingle,
  subtract,
  type Variable,
  when,
  xor,
} from './wasm';

/** Words of a state. */
export const WORDS = 624;
const MIDDLE = 397;

const four = (value: number): Code => splat(constant(value));

/** What a word becomes before it is given out. */
function tempering(y: Variable): Code[] {
  return [
    y.set(xor(y.value, shiftRight(y.value, 11))),
    y.set(xor(y.value, and(shiftLeft(y.value, 7), four(0x9d2c5680)))),
    y.set(xor(y.value, and(shiftLeft(y.value, 15), four(0xefc60000)))),
    y.set(xor(y.value, shiftRight(y.value, 18))),
  ];
}

/** New words in the place of those from one address up to another, multiples of four of them; `distance` is that of the words they are mixed with. */
const twistRange: Definition = {
  parameters: 3,
  variables: 2,
  body: ([at, end, distance], [word, following]) => {
    const joined = or(and(word.value, four(0x80000000)), and(following.value, four(0x7fffffff)));
    const added = and(subtract(four(0), and(following.value, four(1))), four(0x9908b0df));
    return [
      repeat(
        [
          word.set(load(at.value)),
          following.set(load(at.value, 4)),
          store(at.value, xor(load(add(at.value, distance.value)), xor(shiftRight(joined, 1), added))),
          at.set(add(at.value, constant(16))),
        ],
        isBelow(at.value, end.value),
      ),
    ];
  },
};

/**
 * Whether numbers of 53 bits are below upper · 2³² + lower, as 8 bits of each word from `target` on. Each number has two words from `at` on: the
 * lower 21 bits of the first are its upper ones.
 */
const drawBelow: Definition = {
  parameters: 5,
  variables: 6,
  body: ([at, end, target, upper, lower], [first, second, bits, limit, fewer, more]) => {
    const drawFour = (offset: number, below: Variable): Code[] => [
      first.set(load(at.value, offset)),
      second.set(load(at.value, offset + 16)),
      bits.set(pick(first.value, second.value, [0, 2, 4, 6])),
      ...tempering(bits),
      bits.set(and(bits.value, four(0x1fffff))),
      below.set(fourBelow(bits.value, limit.value)),
      // the second word decides where the first leaves it open, hardly ever
      when(isAny(fourEqual(bits.value, limit.value)), [
        first.set(pick(first.value, second.value, [1, 3, 5, 7])),
        ...tempering(first),
        below.set(or(below.value, and(fourEqual(bits.value, limit.value), fourBelow(first.value, splat(lower.value))))),
      ]),
    ];
    return [
      limit.set(splat(upper.value)),
      repeat(
        [
          ...drawFour(0, fewer),
          ...drawFour(32, more),
          storeSingle(target.value, join(signs(fewer.value), shift(signs(more.value), 4))),
          at.set(add(at.value, constant(64))),
          target.set(add(target.value, constant(4))),
        ],
        isBelow(at.value, end.value),
      ),
    ];
  },
};

/** Words of the state that eight numbers take. */
const EIGHT = 16;

/** The functions and their memory: a state, and behind it the bits of as many numbers as it gives. */
function compile() {
  const target = 4 * WORDS;
  const size = WORDS / EIGHT;
  const code = assemble({ twistRange, drawBelow }, target + 4 * size);
  const { buffer } = code.memory;
  return { ...code, state: new Int32Array(buffer, 0, WORDS), target, drawn: new Int32Array(buffer, target, size) };
}

type Compiled = ReturnType<typeof compile>;

let compiled: Compiled | undefined;

function twistInMemory({ state, twistRange: twist }: Compiled): void {
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
   * `into` on, 8 bits to an element.
   */
  drawBelow(limit: { upper: number; lower: number }, count: number, into: Int32Array, first: number): void {
    this.inMemory((memory) => {
      for (let number = first; number < first + count; ) {
        if (this.next === WORDS) this.twist(memory);
        const eights = Math.min((first + count - number) >> 3, Math.floor((WORDS - this.next) / EIGHT));
        if (number % 8 === 0 && eights > 0) {
          this.drawEights(memory, limit, eights, into, number >> 3);
          number += 8 * eights;
        } else {
          const mask = 1 << (number % 8);
          if (this.drawOne(memory, limit)) into[number >> 3] |= mask;
          else into[number >> 3] &= ~mask;
          number++;
        }
      }
    });
  }

  private drawEights(
    memory: Compiled,
    { upper, lower }: { upper: number; lower: number },
    count: number,
    into: Int32Array,
    first: number,
  ): void {
    const end = this.next + EIGHT * count;
    memory.drawBelow(4 * this.next, 4 * end, memory.target, upper, lower);
    for (let i = 0; i < count; i++) into[first + i] = memory.drawn[i];
    this.next = end;
  }

  private drawOne(memory: Compiled, { upper, lower }: { upper: number; lower: number }): boolean {
    const bits = this.wordOf(memory) & 0x1fffff;
    const rest = this.wordOf(memory);
    return bits < upper || (bits === upper && rest < lower);
  }

  private wordOf(memory: Compiled): number {
    if (this.next === WORDS) this.twist(memory);
    return temper(memory.state[this.next++]);
  }

  private refill(): void {
    if (this.next === WORDS) this.inMemory((memory) => this.twist(memory));
  }

  private twist(memory: Compiled): void {
    twistInMemory(memory);
    this.next = 0;
  }

  private inMemory(work: (memory: Compiled) => void): void {
    compiled ??= compile();
    compiled.state.set(this.words);
    work(compiled);
    this.words.set(compiled.state);
  }
}
