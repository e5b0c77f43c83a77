/** Text of a growing sequence of tokens, piece by piece: a piece is given out once its characters are whole and no stop string can begin in it. */
import type { Tokenizer } from '../text';

/** Tokens of the prompt that new tokens are decoded behind, so that spaces between words come out as in running text. */
const CONTEXT = 5;
/** A token may be a byte, and a row of bytes is no text where it begins inside of a character, of which up to three more are before. */
const REST_OF_CHARACTER = 3;
/** What a decoder writes for bytes that are no whole character (yet). */
const UNFINISHED = '\ufffd';

export class TextStream {
  /** All text that came out so far. */
  text = '';
  /** Whether a stop string was met; `text` ends before it. */
  stopped = false;
  private readonly ids: number[];
  /** Tokens before `context` are settled; those from `context` to `read` are known text that later tokens may join to. */
  private context = 0;
  private read: number;
  private pending = '';

  constructor(
    private readonly tokenizer: Tokenizer,
    prompt: ArrayLike<number>,
    private readonly stop: readonly string[],
  ) {
    this.ids = this.endOf(Array.from(prompt));
    this.read = this.ids.length;
  }

  /** Of the ends of a prompt the first that begins with a character; where none does, the shortest. */
  private endOf(prompt: readonly number[]): number[] {
    const ends = Array.from({ length: REST_OF_CHARACTER + 1 }, (_, more) => prompt.slice(-CONTEXT - more));
    return ends.find((ids) => !this.tokenizer.decode(ids).startsWith(UNFINISHED)) ?? ends[0];
  }

  /** Takes the next token; returns the text that is now certain, possibly empty. */
  push(id: number): string {
    this.ids.push(id);
    const { known, all } = this.decodeTail();
    if (all.endsWith(UNFINISHED) || all.length <= known.length) return '';
    return this.settle(all.slice(known.length));
  }

  /** The rest, when no more tokens come. */
  finish(): string {
    if (this.stopped) return '';
    const { known, all } = this.decodeTail();
    this.settle(all.slice(known.length), true);
    return this.release(this.pending.length);
  }

  private decodeTail(): { known: string; all: string } {
    return {
      known: this.tokenizer.decode(this.ids.slice(this.context, this.read)),
      all: this.tokenizer.decode(this.ids.slice(this.context)),
    };
  }

  /** Adds decoded text; gives out what cannot be part of a stop string. */
  private settle(fresh: string, last = false): string {
    this.context = this.read;
    this.read = this.ids.length;
    this.pending += fresh;
    const found = this.stop.map((stop) => this.pending.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) {
      this.stopped = true;
      this.pending = this.pending.slice(0, Math.min(...found));
      return last ? '' : this.release(this.pending.length);
    }
    return last ? '' : this.release(this.pending.length - this.heldBack());
  }

  /** Length of the longest end of the pending text that a stop string begins with. */
  private heldBack(): number {
    const longest = Math.max(0, ...this.stop.map((stop) => stop.length - 1));
    for (let length = Math.min(longest, this.pending.length); length > 0; length--) {
      const end = this.pending.slice(-length);
      if (this.stop.some((stop) => stop.startsWith(end))) return length;
    }
    return 0;
  }

  private release(length: number): string {
    const piece = this.pending.slice(0, length);
    this.pending = this.pending.slice(length);
    this.text += piece;
    return piece;
  }
}
