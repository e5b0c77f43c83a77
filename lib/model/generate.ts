/** Text from a model. */
import type { CausalLM } from './types';

export interface GenerateOptions {
  /** Most tokens to add. Default 128. */
  maxNewTokens?: number;
  /** 0 (default): the likeliest token each time. Above: sampling, the hotter the more varied. */
  temperature?: number;
  /** Sample among the k likeliest tokens only. */
  topK?: number;
  /** Sample among the fewest tokens that together have this probability. */
  topP?: number;
  /** Above 1: makes tokens that already occurred, in prompt or answer, less likely (Keskar et al. 2019). Default 1. */
  repetitionPenalty?: number;
  /** The text ends before the first of these. */
  stop?: string[];
  /** Same seed, same text. */
  seed?: number;
  /** Go on after an end-of-text token. Default false. */
  ignoreEos?: boolean;
  /** Called with each new piece of text of each prompt. */
  onToken?: (piece: string, promptIndex: number) => void;
}

/** What became of one prompt. */
export interface Generation {
  /** The new text, without the prompt and without special tokens. */
  text: string;
  /** Ids of the new tokens, without the one that ended the text. */
  ids: number[];
  /** Why it ended: an end-of-text token, a stop string, or `maxNewTokens`. */
  finish: 'eos' | 'stop' | 'length';
}

/** A prompt as text, or as token ids. */
export type Prompt = string | readonly number[];

/** Continues one prompt; see `generateBatch` for several. @returns the new text */
export async function generate(model: CausalLM, prompt: Prompt, options?: GenerateOptions): Promise<string>;
export async function generate(model: CausalLM, prompt: Prompt[], options?: GenerateOptions): Promise<string[]>;
export async function generate(_model: CausalLM, _prompt: Prompt | Prompt[], _options: GenerateOptions = {}): Promise<string | string[]> {
  throw new Error('not yet');
}

/** Continues several prompts together. */
export async function generateBatch(_model: CausalLM, _prompts: readonly Prompt[], _options: GenerateOptions = {}): Promise<Generation[]> {
  throw new Error('not yet');
}
