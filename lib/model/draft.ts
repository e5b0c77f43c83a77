/**
 * Guesses of the tokens to come by the model itself, its weights rounded to 8 bits. Reading all weights for one token takes most of a
 * token's time, and those are a quarter as large. The model then reads the guesses together, with its own weights, in little more time
 * than one token, and what it would have written itself stays: the same text (but for ties that rounding decides), sooner
 * (speculative decoding, Leviathan et al. 2023; with a draft of rounded weights that shares the cache: Zhao et al. 2024, "QSpec").
 */
import { totalmem } from 'node:os';
import { canQuantize, currentPrecision, versionsOf } from '../engine';
import type { DecodingState } from './cache';
import { compactName } from './compact-weights';
import type { CausalLM } from './types';

/** Weights of the smallest model whose time for a token is mostly that of reading them. */
const SMALLEST = 1 << 26;

/** Bytes for each weight: in float32, and while they are rounded. Together they may take a share of the machine's memory. */
const BYTES_PER_WEIGHT = 4 + 3;
const SHARE_OF_MEMORY = 0.6;

/**
 * Rounding the weights takes as long as some sixty tokens, and each later token is then written in about half the time. It is done when
 * so many tokens have been read one by one, in one text or several, and when with those that may still come they are so many.
 */
const FEWEST_TOKENS = 64;
const FEWEST_IN_ALL = 250;

/** Tokens guessed at once. As in transformers, 2 more when all were right, else one less; kept from text to text. */
const FEWEST_GUESSES = 2;
const FIRST_GUESSES = 6;
const MOST_GUESSES = 16;

/** Share of the guesses that must have been right lately; where fewer were, so many tokens are read one by one before the next guesses. */
const WORTH_GUESSING = 0.6;
const PAUSE = 32;

/** Share of the newest guesses in that. */
const NEWEST = 0.25;

/** What is known of a model. */
interface Usage {
  /** Of its weights. */
  versions: string | undefined;
  /** Tokens written with them one by one. */
  tokens: number;
  /** Whether they have been rounded. */
  isRounded: boolean;
  /** Tokens to guess at once. */
  guesses: number;
}

const usages = new WeakMap<CausalLM, Usage>();

/** The guesses for one text. */
export class Drafter {
  private readonly usage: Usage;
  private guesses: readonly number[] = [];
  private rightLately = 1;
  private pause = 0;

  private constructor(
    model: CausalLM,
    versions: string | undefined,
    private readonly always: boolean,
  ) {
    const known = usages.get(model);
    this.usage = known && known.versions === versions ? known : { versions, tokens: 0, isRounded: false, guesses: FIRST_GUESSES };
    usages.set(model, this.usage);
  }

  /**
   * @param always guess, whether it pays or not
   * @returns undefined for a model that is too small, too large for the memory, or of few bits, for one of experts, whose weights are not rounded and
   *   which reads more of them the more tokens it reads together, and where the device has no products in 8 bits
   */
  static for(model: CausalLM, always = false): Drafter | undefined {
    if (compactName(model) !== undefined) return undefined;
    const weights = [...[...model.linears.values()].map(({ weight }) => weight.tensor), model.outputHead];
    const size = weights.reduce((sum, weight) => sum + weight.size, 0);
    if (currentPrecision() !== 'float32' || !weights.every(canQuantize)) return undefined;
    const pays = !model.config.experts && size >= SMALLEST && size * BYTES_PER_WEIGHT <= SHARE_OF_MEMORY * memoryOfMachine();
    return always || pays ? new Drafter(model, versionsOf(weights), always) : undefined;
  }

  /** Whether to guess now. @param room tokens that may still be added */
  isWorthIt(room: number): boolean {
    const { isRounded, tokens } = this.usage;
    return this.always || (this.pause === 0 && (isRounded || (tokens >= FEWEST_TOKENS && tokens + room >= FEWEST_IN_ALL)));
  }

  /**
   * Guesses how a text goes on.
   * @param state of the text so far, up to the token before the last; unchanged afterwards
   * @param last its last token
   * @param most tokens to guess
   * @param choose the token for a row of logits; undefined ends the guesses
   */
  async guess(state: DecodingState, last: number, most: number, choose: (logits: Float32Array) => number | undefined): Promise<number[]> {
    this.usage.isRounded = true;
    const guesses: number[] = [];
    let read = 0;
    for (let id: number | undefined = last; id !== undefined && read < Math.min(this.usage.guesses, most); read++) {
      state.append([[id]], 'quantized');
      id = choose(await state.nextLogits());
      if (id !== undefined) guesses.push(id);
    }
    state.forget(read);
    this.guesses = guesses;
    return guesses;
  }

  /** Notes that the model has read a token with guesses of its own, of the prompt's or none, and how many were right. */
  learn(guesses: readonly number[], right: number): void {
    const { usage } = this;
    if (guesses.length === 0) {
      usage.tokens++;
      this.pause = Math.max(this.pause - 1, 0);
    } else if (guesses === this.guesses) {
      usage.guesses = right === guesses.length ? Math.min(usage.guesses + 2, MOST_GUESSES) : Math.max(usage.guesses - 1, FEWEST_GUESSES);
      this.rightLately += NEWEST * (right / guesses.length - this.rightLately);
      if (this.rightLately > WORTH_GUESSING) return;
      this.rightLately = 1;
      usage.guesses = FEWEST_GUESSES;
      this.pause = PAUSE;
    }
  }
}

/** Bytes of memory, of the machine or of the container. */
function memoryOfMachine(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
