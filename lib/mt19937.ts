/**
 * The generator of PyTorch's random numbers on a CPU, MT19937 (Matsumoto and Nishimura 1998), four numbers at a time: dropout takes two words of
 * it for every number of every matrix, more than a processor goes through one by one beside training.
 */
import {
  add,
  and,
  andNot,
  assemble,
  type Code,
  constant,
  type Definition,
  fourBelow,
  fourEqual,
  isAny,
  isBelow,
  load,
  or,
  pick,
  repeat,
  shiftLeft,
  shiftRight,
  splat,
  store,
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
 * Writes a bit of the words from `target` on: whether numbers of 53 bits are below upper · 2³² + lower. Each has two words from `at` on: the lower 21
 * bits of the first are its upper ones. It draws multiples of four numbers.
 */
const drawBelow: Definition = {
  parameters: 6,
  variables: 7,
  body: ([at, end, target, upper, lower, bit], [first, second, bits, below, open, limit, mark]) => [
    limit.set(splat(upper.value)),
    mark.set(splat(bit.value)),
    repeat(
      [
        first.set(load(at.value)),
        second.set(load(at.value, 16)),
        bits.set(pick(first.value, second.value, [0, 2, 4, 6])),
        ...tempering(bits),
        bits.set(and(bits.value, four(0x1fffff))),
        below.set(fourBelow(bits.value, limit.value)),
        open.set(fourEqual(bits.value, limit.value)),
        // the second word decides where the first leaves it open, hardly ever
        when(isAny(open.value), [
          bits.set(pick(first.value, second.value, [1, 3, 5, 7])),
          ...tempering(bits),
          below.set(or(below.value, and(open.value, fourBelow(bits.value, splat(lower.value))))),
        ]),
        store(target.value, or(andNot(load(target.value), mark.value), and(below.value, mark.value))),
        at.set(add(at.value, constant(32))),
        target.set(add(target.value, constant(16))),
      ],
      isBelow(at.value, end.value),
    ),
  ],
};

/** Words that are drawn at once. */
const ROOM = 1 << 16;
/** Drawing four numbers at a time reads a little beyond the state. */
const TARGET = 4 * WORDS + 64;

/** The functions and their memory: a state, and behind it the words that bits are set in. */
function compile() {
  const code = assemble({ twistRange, drawBelow }, TARGET + 4 * ROOM + 64);
  const { buffer } = code.memory;
  return { ...code, state: new Int32Array(buffer, 0, WORDS), target: new Int32Array(buffer, TARGET, ROOM) };
}

let compiled: ReturnType<typeof compile> | undefined;

function twistInMemory({ state, twistRange: twist }: ReturnType<typeof compile>): void {
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
    for (let left = words; left > 0; ) {
      this.refill();
      const passed = Math.min(left, WORDS - this.next);
      this.next += passed;
      left -= passed;
    }
  }

  /**
   * Draws `count` numbers of 53 bits, two words each, and writes a bit for each, whether it is below the limit, upper · 2³² + lower: for number i
   * that of word `first + i`.
   */
  drawBelow({ upper, lower }: { upper: number; lower: number }, count: number, into: Int32Array, first: number, bit: number): void {
    for (let drawn = 0; drawn < count; drawn += ROOM) {
      const part = into.subarray(first + drawn, first + Math.min(drawn + ROOM, count));
      this.inMemory((memory) => {
        memory.target.set(part);
        this.drawInMemory(memory, { upper, lower, bit: 1 << bit, count: part.length });
        part.set(memory.target.subarray(0, part.length));
      });
    }
  }

  private drawInMemory(
    memory: ReturnType<typeof compile>,
    { upper, lower, bit, count }: { upper: number; lower: number; bit: number; count: number },
  ): void {
    const { state, target } = memory;
    const word = (): number => {
      if (this.next === WORDS) this.twist(memory);
      return temper(state[this.next++]);
    };
    for (let i = 0; i < count; ) {
      if (this.next === WORDS) this.twist(memory);
      const pairs = Math.min(count - i, (WORDS - this.next) >> 1);
      if (pairs === 0) {
        // the two words of a number lie in two states
        const [bits, rest] = [word() & 0x1fffff, word()];
        const isBelowLimit = bits < upper || (bits === upper && rest < lower);
        target[i] = isBelowLimit ? target[i] | bit : target[i] & ~bit;
        i++;
        continue;
      }
      memory.drawBelow(4 * this.next, 4 * (this.next + 2 * pairs), TARGET + 4 * i, upper, lower, bit);
      this.next += 2 * pairs;
      i += pairs;
    }
  }

  private refill(): void {
    if (this.next === WORDS) this.inMemory((memory) => this.twist(memory));
  }

  private twist(memory: ReturnType<typeof compile>): void {
    twistInMemory(memory);
    this.next = 0;
  }

  private inMemory(work: (memory: ReturnType<typeof compile>) => void): void {
    compiled ??= compile();
    compiled.state.set(this.words);
    work(compiled);
    this.words.set(compiled.state);
  }
}
