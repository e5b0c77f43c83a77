/**
 * Guesses of the tokens to come, for free: texts repeat words, names and phrases of themselves and of their prompt. The model reads
 * a few guessed tokens together in little more time than one, and what it would have written itself stays: the same text (but for
 * ties that rounding decides), sooner (prompt lookup decoding, Saxena 2023; transformers' `prompt_lookup_num_tokens`).
 */

/** Fewest and most tokens at the end of a text by which an earlier place is found that goes on like it. */
const SHORTEST_MATCH = 2;
const LONGEST_MATCH = 4;

/** Tokens guessed at once: so many at first, which the model reads in little more time than one; more while all of them are right. */
const FEWEST_GUESSES = 5;
const MOST_GUESSES = 20;

/** How often guesses must have been right lately: checking one that is wrong costs about half a token. */
const WORTH_CHECKING = 0.4;
/** The same where the model's own guesses (draft.ts) are to be had. */
export const BETTER_THAN_DRAFTS = 0.7;

/** Share of the newest guess in that. */
const NEWEST = 0.25;

/** The guesses for one text. Guesses are made all the time, but only offered while they turn out right. */
export class PromptLookup {
  /** The last guesses, and the length of the text that they were made for. */
  private last = { length: 0, guesses: [] as number[] };
  private rightLately = 0.5;
  private count = FEWEST_GUESSES;

  /**
   * How the text went on at the latest earlier place where it was the same: longer matches first.
   * @param ids the text so far: that of the last call, and at least one token more
   * @param most tokens to guess
   * @param worth how often guesses must have been right lately
   * @returns tokens; none if there is no such place, or if guesses were wrong more often
   */
  guess(ids: readonly number[], most: number, worth = WORTH_CHECKING): number[] {
    this.learn(ids);
    const guesses = guessTokens(ids, Math.min(this.count, most));
    this.last = { length: ids.length, guesses };
    return this.rightLately < worth ? [] : guesses;
  }

  /** Sees what became of the last guesses. */
  private learn(ids: readonly number[]): void {
    const { length, guesses } = this.last;
    if (guesses.length === 0) return;
    this.rightLately += NEWEST * (Number(ids[length] === guesses[0]) - this.rightLately);
    const wereAllRight = guesses.every((guess, i) => ids[length + i] === guess);
    this.count = wereAllRight ? Math.min(2 * this.count, MOST_GUESSES) : FEWEST_GUESSES;
  }
}

function guessTokens(ids: readonly number[], most: number): number[] {
  for (let length = LONGEST_MATCH; length >= SHORTEST_MATCH; length--) {
    const start = latestRepeat(ids, length);
    if (start !== undefined) return copiedFrom(ids, start, most);
  }
  return [];
}

/** The place after the latest earlier occurrence of the last `length` tokens. */
function latestRepeat(ids: readonly number[], length: number): number | undefined {
  const end = ids.length - length;
  for (let start = end - 1; start >= 0; start--) {
    let same = 0;
    while (same < length && ids[start + same] === ids[end + same]) same++;
    if (same === length) return start + length;
  }
  return undefined;
}

/** What follows from a place on, as if the text were to go on so forever: a repetition that has begun is continued. */
function copiedFrom(ids: readonly number[], start: number, count: number): number[] {
  const guesses: number[] = [];
  for (let at = start; at < start + count; at++) guesses.push(at < ids.length ? ids[at] : guesses[at - ids.length]);
  return guesses;
}
