/** Text from a model: prompts are read once, then each step adds one token to each of them. */
import { checkModel, checkOptions, type OptionNames } from '../arguments';
import { UserError } from '../errors';
import { Interruption } from '../interruption';
import { showValue } from '../json';
import { createRandom, type Random, restoreRandom } from '../random';
import type { ChatMessage, Tokenizer } from '../text';
import { checkLength, checkTokenIds, stretchesPositions, unstretchedLength } from './batch';
import { DecodingState } from './cache';
import { Drafter } from './draft';
import { BETTER_THAN_DRAFTS, PromptLookup } from './lookup';
import { areFinite, notFinite } from './not-finite';
import { checkOnePrompt, checkPrompts, checkTextOrPrompts, isConversation, type Prompt } from './prompts';
import { chooseToken, type SamplingOptions } from './sampling';
import { TextStream } from './text-stream';
import type { CausalLM } from './types';

/** How a text is continued: how far, how chosen, and who is told. */
export interface GenerateOptions {
  /** Most tokens to add. Default 128, or fewer where the model cannot read more. */
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
  stop?: string | readonly string[];
  /** Same seed, same text; a text does not depend on the prompts beside it. Without one every call differs. */
  seed?: number;
  /** Go on after an end-of-text token. Default false. */
  ignoreEos?: boolean;
  /**
   * A single prompt's text often repeats words of itself: guesses a few tokens by that and lets the model check them together, for
   * the same text (but for ties that rounding decides), sooner. Default true; not where layers keep a state (Qwen3.5, Granite 4.0 H, Falcon-H1),
   * from which no guess can be taken back.
   */
  promptLookup?: boolean;
  /**
   * Guesses a single prompt's next tokens with the weights rounded to 8 bits, which takes up to half as much memory again, and lets the
   * model check them together, for the same text (but for ties that rounding decides), sooner. By default where it pays: for a model of
   * more than 67 million weights on a CPU that writes some hundred tokens, here and in calls before, with the same weights. Not where layers keep a
   * state, either.
   */
  draft?: boolean;
  /** Called with each new piece of text; pieces are whole characters. */
  onToken?: (piece: string, promptIndex: number) => void;
}

/** Their names, for functions that have them among their own. */
export const GENERATE_OPTIONS: OptionNames<GenerateOptions> = {
  maxNewTokens: true,
  temperature: true,
  topK: true,
  topP: true,
  repetitionPenalty: true,
  stop: true,
  seed: true,
  ignoreEos: true,
  promptLookup: true,
  draft: true,
  onToken: true,
};

const SAMPLES = 'temperature, which samples where it is above 0';
const COUNTS = 'maxNewTokens, which does not count the prompt';

/** What transformers calls otherwise, as there and in the spelling of here. */
export const GENERATE_ELSEWHERE: Readonly<Record<string, string>> = {
  ...{ do_sample: SAMPLES, doSample: SAMPLES },
  ...{ max_length: COUNTS, maxLength: COUNTS },
  template: 'the prompt in its words, by alpacaPrompt({ instruction }), or give messages for the chat template',
  ...{ stop_strings: 'stop', stopStrings: 'stop', eos_token_id: 'stop', eosTokenId: 'stop', temp: 'temperature' },
};

/** What became of one prompt. */
export interface Generation {
  /** The new text, without the prompt and without special tokens. */
  text: string;
  /** Ids of the new tokens, without the end-of-text token that ended them. */
  ids: number[];
  /** Why it ended: an end-of-text token, a stop string, or `maxNewTokens`. */
  finish: 'eos' | 'stop' | 'length';
}

/** A new piece of text. */
export interface TextPiece {
  text: string;
  promptIndex: number;
}

const DEFAULT_NEW_TOKENS = 128;
/** Caches have a multiple of this many places, so that few sizes occur. */
const CAPACITY_STEP = 64;

/** A prompt in words. */
type Words = string | readonly ChatMessage[];

/**
 * Continues a prompt, or several together: a text, or the messages of a conversation, which the model's chat template writes.
 * @returns the new text, without the prompt
 * @throws UserError when there is no prompt, no such option or it is out of range, there are messages and the model has no chat template, a token is
 *   unknown to the model, the text would outgrow it, or the model computes NaN
 */
export async function generate(model: CausalLM, prompt: Words, options?: GenerateOptions): Promise<string>;
export async function generate(model: CausalLM, prompt: readonly Words[], options?: GenerateOptions): Promise<string[]>;
export async function generate(
  model: CausalLM,
  prompt: Words | readonly Words[],
  options: GenerateOptions = {},
): Promise<string | string[]> {
  checkCall('generate', model, options);
  checkTextOrPrompts('generate', prompt);
  const isOne = typeof prompt === 'string' || isConversation(prompt);
  const results = await continueAll(model, isOne ? [prompt] : (prompt as readonly Words[]), options);
  const texts = results.map(({ text }) => text);
  return isOne ? texts[0] : texts;
}

/** Continues several prompts together, with ids and the reason each ended. Errors as in `generate`. */
export async function generateBatch(model: CausalLM, prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<Generation[]> {
  checkCall('generateBatch', model, options);
  checkPrompts('generateBatch', prompts);
  return continueAll(model, prompts, options);
}

async function continueAll(model: CausalLM, prompts: readonly Prompt[], options: GenerateOptions): Promise<Generation[]> {
  const together = new Run(model, prompts, options);
  if (!together.stretches()) return finishRun(together, 0, options);
  // each prompt by itself: a longer text would stretch the positions of those beside it
  const results: Generation[] = [];
  for (const [index, prompt] of prompts.entries()) results.push(...(await finishRun(new Run(model, [prompt], options), index, options)));
  return results;
}

/** @param first index of the run's first prompt */
async function finishRun(run: Run, first: number, { onToken }: GenerateOptions): Promise<Generation[]> {
  for await (const { text, promptIndex } of run.pieces()) onToken?.(text, first + promptIndex);
  return run.results();
}

/**
 * Continues one prompt, giving out the text as it comes: `for await (const piece of streamText(model, prompt)) ...`
 * @throws UserError as `generate` does, when the first piece is asked for
 */
export async function* streamText(model: CausalLM, prompt: Prompt, options: GenerateOptions = {}): AsyncGenerator<string, void, void> {
  checkCall('streamText', model, options);
  checkOnePrompt('streamText', prompt);
  for await (const { text, promptIndex } of new Run(model, [prompt], options).pieces()) {
    options.onToken?.(text, promptIndex);
    yield text;
  }
}

/** One prompt on its way. */
interface Sequence {
  readonly promptIds: readonly number[];
  readonly ids: number[];
  readonly seen: Set<number>;
  readonly stream: TextStream;
  readonly random: Random;
  finish?: Generation['finish'];
}

/** One call: reads the prompts, then steps until every sequence has ended. */
class Run {
  private readonly sequences: Sequence[];
  private readonly maxNewTokens: number;
  private readonly sampling: SamplingOptions;
  private readonly endIds: ReadonlySet<number>;
  private readonly lookup?: PromptLookup;
  private readonly drafter?: Drafter;
  private readonly interruption = new Interruption();
  /** Tokens added to each sequence. */
  private added = 0;

  constructor(
    private readonly model: CausalLM,
    prompts: readonly Prompt[],
    options: GenerateOptions,
  ) {
    const { temperature = 0, topK, topP, repetitionPenalty = 1, ignoreEos = false } = options;
    this.sampling = { temperature, topK, topP, repetitionPenalty };
    this.endIds = new Set(ignoreEos ? [] : [...model.tokenizer.stopIds, ...model.config.eosTokenIds]);
    const stop = [options.stop ?? []].flat();
    this.sequences = prompts.map((prompt) => {
      const promptIds = promptTokens(model, prompt);
      return {
        promptIds,
        ids: [],
        seen: new Set(promptIds),
        stream: new TextStream(model.tokenizer, promptIds, stop),
        random: createRandom(options.seed ?? Math.floor(Math.random() * 2 ** 32)),
      };
    });
    this.maxNewTokens = roomFor(model, this.longest(), options.maxNewTokens);
    // Where positions stretch with the length of the text (dynamic RoPE), wrong guesses would stretch them too.
    // And where layers keep a state, they could not be taken back.
    if (prompts.length !== 1 || stretchesPositions(model.config) || model.config.keepsState) return;
    if (options.promptLookup ?? true) this.lookup = new PromptLookup();
    if (options.draft ?? true) this.drafter = Drafter.for(model, options.draft);
  }

  /** Whether a text may become so long that positions stretch. The last token added is never read. */
  stretches(): boolean {
    return this.longest() + this.maxNewTokens - 1 > unstretchedLength(this.model.config);
  }

  results(): Generation[] {
    return this.sequences.map(({ stream, ids, finish = 'length' }) => ({ text: stream.text, ids, finish }));
  }

  async *pieces(): AsyncGenerator<TextPiece, void, void> {
    if (this.sequences.length === 0) return;
    const state = DecodingState.prefill(
      this.model,
      this.sequences.map(({ promptIds }) => promptIds),
      this.capacity(),
    );
    try {
      for (let guesses: number[] = []; ; ) {
        const { pieces, next, right } = this.choose(await state.nextLogits(), guesses);
        yield* pieces;
        if (this.isOver()) break;
        await this.interruption.breathe();
        state.forget(guesses.length - right);
        this.drafter?.learn(guesses, right);
        guesses = await this.guess(state, next[0]);
        state.append(next.map((id) => [id, ...guesses]));
      }
      for (const [promptIndex, { stream, finish }] of this.sequences.entries()) {
        const text = finish ? '' : stream.finish();
        if (stream.stopped) this.sequences[promptIndex].finish = 'stop';
        if (text !== '') yield { text, promptIndex };
      }
    } finally {
      state.dispose();
    }
  }

  /**
   * Chooses each sequence's next token; and, as long as it is the one that was guessed, the token after it, whose logits are there.
   * @param logits [sequences · (1 + guesses), vocabulary]
   * @param guesses of a single sequence; none for several
   * @returns the texts, the ids of the last tokens, and how many guesses were right
   */
  private choose(logits: Float32Array, guesses: readonly number[]): { pieces: TextPiece[]; next: number[]; right: number } {
    const { sequences } = this;
    const vocabulary = logits.length / sequences.length / (1 + guesses.length);
    const pieces: TextPiece[] = [];
    for (let right = 0; ; right++) {
      const next = sequences.map((sequence, promptIndex) => {
        const row = promptIndex + right;
        const { id, text } = this.advance(sequence, logits.subarray(row * vocabulary, (row + 1) * vocabulary));
        if (text !== '') pieces.push({ text, promptIndex });
        return id;
      });
      this.added++;
      if (this.isOver() || next[0] !== guesses[right]) return { pieces, next, right };
    }
  }

  private isOver(): boolean {
    return this.added === this.maxNewTokens || this.sequences.every(({ finish }) => finish);
  }

  /** Guesses how a single sequence goes on after its last token, which the state has not read yet; never more than may be added. */
  private async guess(state: DecodingState, last: number): Promise<number[]> {
    const room = this.maxNewTokens - this.added - 1;
    if (room < 1) return [];
    const [sequence] = this.sequences;
    const drafter = this.drafter?.isWorthIt(room) ? this.drafter : undefined;
    const worth = drafter ? BETTER_THAN_DRAFTS : undefined;
    const found = this.lookup?.guess([...sequence.promptIds, ...sequence.ids], room, worth) ?? [];
    return found.length > 0 || !drafter ? found : drafter.guess(state, last, room, this.foresee(sequence));
  }

  /** Chooses tokens as `advance` will if it finds the same logits: with the same random numbers, and none after the text's end. */
  private foresee({ random, seen }: Sequence): (logits: Float32Array) => number | undefined {
    const sameRandom = restoreRandom(random.state());
    const seenThen = new Set(seen);
    return (logits) => {
      const id = chooseToken(logits, seenThen, this.sampling, sameRandom);
      seenThen.add(id);
      return this.endIds.has(id) ? undefined : id;
    };
  }

  /** Chooses a sequence's next token; one that has ended goes on with any token, unseen. */
  private advance(sequence: Sequence, logits: Float32Array): { id: number; text: string } {
    const { ids, seen, stream, random, finish, promptIds } = sequence;
    if (finish) return { id: promptIds[0], text: '' };
    if (!areFinite(logits)) throw notFinite(this.model);
    const id = chooseToken(logits, seen, this.sampling, random);
    if (this.endIds.has(id)) {
      sequence.finish = 'eos';
      return { id, text: stream.finish() };
    }
    ids.push(id);
    seen.add(id);
    const text = stream.push(id);
    if (stream.stopped) sequence.finish = 'stop';
    return { id, text };
  }

  private longest(): number {
    return Math.max(0, ...this.sequences.map(({ promptIds }) => promptIds.length));
  }

  private capacity(): number {
    return CAPACITY_STEP * Math.ceil((this.longest() + this.maxNewTokens) / CAPACITY_STEP);
  }
}

/**
 * Looks at a prompt without continuing it.
 * @throws UserError as `generate` does for this prompt: a token is unknown to the model, or the text would outgrow it
 */
export function checkPrompt(model: CausalLM, prompt: Prompt, { maxNewTokens }: Pick<GenerateOptions, 'maxNewTokens'> = {}): void {
  roomFor(model, promptTokens(model, prompt).length, maxNewTokens);
}

/** How many tokens to add at most to prompts of which the longest has so many. */
function roomFor({ config }: CausalLM, longest: number, asked: number | undefined): number {
  checkLength(longest, config);
  // the last token added is never read, so it needs no position
  const room = config.positionLimit - longest + 1;
  if (asked !== undefined && asked > room) {
    throw new UserError(
      `A prompt of ${longest} tokens and maxNewTokens ${asked} exceed the ${config.positionLimit} tokens that the model can read; lower maxNewTokens to ${room} or shorten the prompt.`,
    );
  }
  return Math.min(asked ?? DEFAULT_NEW_TOKENS, room);
}

function promptTokens({ tokenizer, config }: CausalLM, prompt: Prompt): readonly number[] {
  const ids = tokensOf(prompt, tokenizer);
  if (ids.length === 0) {
    if (tokenizer.bosId !== undefined) return [tokenizer.bosId];
    throw new UserError('The prompt is empty, and the model has no token to begin a text with; give at least one word.');
  }
  checkTokenIds(ids, config);
  return ids;
}

/**
 * Text gets the special tokens that the tokenizer puts around a text, unless it begins with BOS as chat templates write it; what a template
 * writes of a conversation is whole.
 */
function tokensOf(prompt: Prompt, tokenizer: Tokenizer): readonly number[] {
  if (isConversation(prompt)) {
    if (prompt[prompt.length - 1].role === 'assistant')
      throw new UserError('The messages end with what the assistant says; give them up to the question that is to be answered.');
    return tokenizer.encode(tokenizer.applyChatTemplate(prompt, { addGenerationPrompt: true }));
  }
  if (typeof prompt !== 'string') return prompt;
  const { bosId } = tokenizer;
  const begins = bosId !== undefined && prompt.startsWith(tokenizer.tokenText(bosId));
  return tokenizer.encode(prompt, { addSpecialTokens: !begins });
}

/** Once a call, before anything is read. */
function checkCall(of: string, model: CausalLM, options: GenerateOptions): void {
  checkModel(of, model);
  checkOptions(of, options, GENERATE_OPTIONS, GENERATE_ELSEWHERE);
  checkValues(options);
}

function checkValues({
  maxNewTokens,
  temperature,
  topK,
  topP,
  repetitionPenalty,
  stop,
  seed,
  onToken,
  ...switches
}: GenerateOptions): void {
  const check = (name: string, value: unknown, fits: boolean, expected: string) => {
    if (value !== undefined && !fits) throw new UserError(`${name} is ${showValue(value)}; expected ${expected}.`);
  };
  const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value);
  check('maxNewTokens', maxNewTokens, Number.isInteger(maxNewTokens) && Number(maxNewTokens) >= 1, 'a whole number of at least 1');
  check('temperature', temperature, isNumber(temperature) && temperature >= 0, 'a number of at least 0 (0 takes the likeliest token)');
  check('topK', topK, Number.isInteger(topK) && Number(topK) >= 1, 'a whole number of at least 1');
  check('topP', topP, isNumber(topP) && topP > 0 && topP <= 1, 'a number above 0 and at most 1');
  check('repetitionPenalty', repetitionPenalty, isNumber(repetitionPenalty) && repetitionPenalty > 0, 'a number above 0');
  check(
    'stop',
    stop,
    [stop].flat().every((text) => typeof text === 'string' && text !== ''),
    'texts that are not empty',
  );
  check('seed', seed, isNumber(seed), 'a number');
  check('onToken', onToken, typeof onToken === 'function', 'a function');
  for (const [name, value] of Object.entries(switches)) check(name, value, typeof value === 'boolean', 'true or false');
}
