/** From a dataset to what the trainer reads: token sequences, cut to length and, with packing, laid together in rows. */
import { createHash } from 'node:crypto';
import type { Dataset, Example, MessagesExample } from '../data';
import { parseRows } from '../data/rows';
import { atPlace, UserError } from '../errors';
import { isObject } from '../json';
import { permutation } from '../numpy-random';
import { checkConversation, explainNoTarget, type PromptTemplate, type TokenizedExample, type Tokenizer, tokenizeExample } from '../text';
import { countingLine } from './counting-line';
import { packRows } from './packing';

/** The tokens of one example; attention stays inside it. */
export interface Sequence {
  readonly inputIds: Int32Array;
  /** 1 where the token is a target of the loss. */
  readonly lossMask: Uint8Array;
}

/** What a batch counts as one: an example, or a packed row of several. */
export type Item = readonly Sequence[];

export interface PrepareOptions {
  /** Longest example in tokens; null: no limit. With packing, the length of a row. */
  maxLength?: number | null;
  /** Whether examples without a target, but with packing, are left out; else they are refused. Default false. */
  dropFullyMasked?: boolean;
  /** Null: where rows have a prompt, their completions only. */
  completionOnlyLoss?: boolean | null;
  assistantOnlyLoss?: boolean;
  packing?: boolean;
  packingStrategy?: 'bfd' | 'bfd_split';
  /** Shuffles the examples with this seed, as TRL does: before they are packed, and the packed rows once more; default: they keep their order. */
  shuffleSeed?: number;
  template?: PromptTemplate;
  chatTemplate?: string;
  /** Longest sequence that the model can read. */
  positionLimit?: number;
  /** Ids that the model knows: those below this. */
  vocabSize?: number;
  /** Whether to show how many are tokenized, once that takes long. Default false. */
  showsProgress?: boolean;
}

/** A dataset made ready. */
export interface PreparedDataset {
  readonly items: readonly Item[];
  /** What is worth saying to the user, such as how many examples were cut. */
  readonly notes: readonly string[];
}

/** Examples that `prepare` takes: a dataset, or just rows. */
export type Examples = Dataset | readonly Example[];

/**
 * Tokenizes every example and, with packing, lays them into rows of `maxLength`. Packed rows that are
 * left without a target are left out, and so are empty examples without packing, which is said.
 * @throws UserError when there is no example, when one has not the shape of a row, when one leaves nothing to learn (unless `dropFullyMasked`),
 * when one is longer than the model can read, or when only assistant turns are to be learned and one is no conversation
 */
export function prepareExamples(examples: Examples, tokenizer: Tokenizer, options: PrepareOptions = {}): PreparedDataset {
  const { maxLength = null, packing = false, packingStrategy = 'bfd', shuffleSeed, dropFullyMasked = false } = options;
  const placeOf = placesOf(examples);
  const rows = checkedRows(examples, options.template);
  if (rows.length === 0) throw new UserError('The dataset has no examples; give at least one.');
  const splits = packing && packingStrategy === 'bfd_split' && maxLength !== null;
  const tokenizing = {
    maxLength: splits ? undefined : (maxLength ?? undefined),
    completionOnlyLoss: options.completionOnlyLoss ?? undefined,
    assistantOnlyLoss: options.assistantOnlyLoss,
    template: options.template,
    chatTemplate: options.chatTemplate,
  };
  const tell = options.showsProgress ? countingLine(rows.length, 'examples tokenized') : () => {};
  const tokenized = rows.map((row, index) => {
    tell(index);
    const place = placeOf(index);
    checkConversation(row, options, place);
    const made = atPlace(place, () => tokenizeExample(row, tokenizer, tokenizing));
    checkKnown(made, place, options);
    return made;
  });
  tell(rows.length);
  if (!dropFullyMasked) checkTargets(tokenized, placeOf, options);
  checkLengths(tokenized, placeOf, splits ? maxLength : Number.POSITIVE_INFINITY, options);
  const notes = [
    ...notesOf(tokenized, maxLength),
    ...borderNotes(rows, tokenized, placeOf),
    ...stopNotes(tokenizer, options),
    ...lastTurnNotes(rows, options),
    ...noTurnNotes(rows, placeOf, options),
  ];
  const packs = packing && maxLength !== null;
  const teaches = (made: TokenizedExample): boolean => !isEmpty(made) && !isMasked(made);
  if (!tokenized.some(teaches)) throw new UserError(explainNoTarget(tokenized[0], placeOf(0)));
  // in a packed row an example is tokens among others, where it has any; alone it could be all of a step
  const kept = tokenized.filter(packs ? ({ inputIds }) => inputIds.length > 0 : teaches);
  if (tokenized.some(isEmpty) && !packs) notes.push(emptyNote(tokenized, placeOf));
  if (tokenized.some(isMasked) && !packs) notes.push(maskedNote(tokenized, placeOf));
  const inOrder = kept.map(({ inputIds, lossMask }): Sequence => ({ inputIds, lossMask }));
  const sequences = shuffled(inOrder, shuffleSeed);
  if (!packs) return { items: sequences.map((sequence) => [sequence]), notes };
  const packed = packRows(sequences, maxLength, splits);
  notes.push(`${sequences.length} examples were packed into ${packed.length} rows of up to ${maxLength} tokens.`);
  // a row of prompts alone: pieces of split examples
  const items = packed.filter((row) => row.some((sequence) => countTargets(sequence) > 0));
  if (items.length < packed.length) notes.push(`${packed.length - items.length} of those rows hold no token to learn and were left out.`);
  return { items: shuffled(items, shuffleSeed), notes };
}

/** As `shuffle(seed)` of Hugging Face's datasets; without a seed as they are. */
function shuffled<T>(list: readonly T[], seed: number | undefined): readonly T[] {
  return seed === undefined ? list : permutation(list.length, seed).map((index) => list[index]);
}

/**
 * Rows in the shape that they are tokenized from; types do not hold those who write JavaScript, or read rows on their own.
 * @throws UserError as the rows of a file are refused; with a template, which may take rows of any shape, only what is no record
 */
export function checkedRows(examples: Examples, template?: PromptTemplate): Example[] {
  const placeOf = placesOf(examples);
  return [...examples].map((row, index) => {
    if (template && isObject(row)) return row;
    const { extras: _, ...columns } = isObject(row) ? row : { extras: undefined };
    return parseRows([isObject(row) ? columns : row], () => placeOf(index)).rows[0];
  });
}

/** Where the rows came from, for messages. */
export function placesOf(examples: Examples): (index: number) => string {
  return (index) => ('placeOf' in examples ? examples.placeOf(index) : `row ${index + 1}`);
}

/** Whether an example is nothing but its end, as that of an empty text is: TRL keeps it, though nothing predicts its only token. */
function isEmpty({ inputIds, lossMask, truncated }: TokenizedExample): boolean {
  return inputIds.length === 1 && lossMask[0] === 1 && !truncated;
}

/** Whether no token of an example with some is a target, as where `maxLength` has cut its completion away. */
function isMasked(made: TokenizedExample): boolean {
  return countTargets(made) === 0 && !isEmpty(made);
}

function maskedNote(tokenized: readonly TokenizedExample[], placeOf: (index: number) => string): string {
  const count = tokenized.filter(isMasked).length;
  const [have, were] = count === 1 ? ['has', 'was'] : ['have', 'were'];
  return `${count} of ${tokenized.length} examples ${have} nothing left to learn within max_length (first: ${placeOf(tokenized.findIndex(isMasked))}) and ${were} left out.`;
}

function emptyNote(tokenized: readonly TokenizedExample[], placeOf: (index: number) => string): string {
  const count = tokenized.filter(isEmpty).length;
  const which = count === 1 ? '1 example has' : `${count} examples have`;
  return `${which} no text (first: ${placeOf(tokenized.findIndex(isEmpty))}), from which there is nothing to learn, and ${count === 1 ? 'was' : 'were'} left out.`;
}

/** @throws UserError when an example leaves nothing to learn; one without any text may be left out */
function checkTargets(
  tokenized: readonly TokenizedExample[],
  placeOf: (index: number) => string,
  { positionLimit, dropFullyMasked }: PrepareOptions,
): void {
  const without = [...tokenized.keys()].filter((index) => isMasked(tokenized[index]));
  if (without.length === 0) return;
  const sentence = explainNoTarget(tokenized[without[0]], placesIn(without, placeOf), positionLimit).replace(/[.]$/, '');
  // who has no such setting is not told of it
  const remedy = dropFullyMasked === undefined ? '' : '; drop_fully_masked: true leaves such rows out, as TRL does';
  throw new UserError(`${sentence}${remedy}.`);
}

/**
 * @param pieceLength tokens of the longest piece that an example will be cut into
 * @throws UserError when one is longer than the model can read
 */
function checkLengths(
  tokenized: readonly TokenizedExample[],
  placeOf: (index: number) => string,
  pieceLength: number,
  { positionLimit: limit = Number.POSITIVE_INFINITY }: PrepareOptions,
): void {
  const lengths = tokenized.map(({ inputIds }) => Math.min(inputIds.length, pieceLength));
  const long = [...lengths.keys()].filter((index) => lengths[index] > limit);
  if (long.length === 0) return;
  throw new UserError(
    `${placesIn(long, placeOf)} has ${Math.min(tokenized[long[0]].fullLength, pieceLength)} tokens, but the model reads at most ${limit}; set max_length: ${limit}, which cuts off the end, or shorten or remove the row.`,
  );
}

/** The first of some rows, and how many others there are. */
function placesIn([first, ...others]: readonly number[], placeOf: (index: number) => string): string {
  return others.length === 0 ? placeOf(first) : `${placeOf(first)} (and ${others.length} more like it)`;
}

function checkKnown({ inputIds }: TokenizedExample, place: string, { vocabSize }: PrepareOptions): void {
  const stranger = vocabSize === undefined ? undefined : inputIds.find((id) => id >= vocabSize);
  if (stranger === undefined) return;
  throw new UserError(
    `${place}: the tokenizer made the token id ${stranger}, but the model knows only ids below ${vocabSize}; use this model's own tokenizer.`,
  );
}

function notesOf(tokenized: readonly TokenizedExample[], maxLength: number | null): string[] {
  const cut = tokenized.filter(({ truncated }) => truncated).length;
  return cut > 0 ? [`${cut} of ${tokenized.length} examples were longer than max_length ${maxLength} and lost their end.`] : [];
}

/** Where the prompt alone has other tokens than the whole begins with: TRL counts the prompt's all the same. */
function borderNotes(rows: readonly Example[], tokenized: readonly TokenizedExample[], placeOf: (index: number) => string): string[] {
  const mismatched = [...tokenized.keys()].filter((index) => tokenized[index].boundaryMismatch);
  const isSplit = (index: number): boolean => (rows[index] as Partial<MessagesExample>).promptLength !== undefined;
  const where = (found: readonly number[]): string => `In ${found.length} of ${rows.length} examples (first: ${placeOf(found[0])})`;
  const [conversations, texts] = [mismatched.filter(isSplit), mismatched.filter((index) => !isSplit(index))];
  const notes: string[] = [];
  if (texts.length > 0) {
    notes.push(
      `${where(texts)} a token spans the end of the prompt, so the border of the completion is off by a token; ` +
        'where a prompt ends with a space, begin the completion with it.',
    );
  }
  if (conversations.length > 0) {
    notes.push(
      `${where(conversations)} the chat template begins the conversation otherwise than it writes the prompt, as where it opens reasoning that the answer does not have; ` +
        'as many tokens as the prompt has carry no loss, as in TRL, though some may be of the answer. Write answers as the template opens them, or give "messages" and assistant_only_loss.',
    );
  }
  return notes;
}

/** What generation blocks leave out of a turn is not learned, be it what ends it. */
function stopNotes(tokenizer: Tokenizer, { assistantOnlyLoss, chatTemplate }: PrepareOptions): string[] {
  if (!assistantOnlyLoss) return [];
  const [question, answer] = [
    { role: 'user', content: 'question' },
    { role: 'assistant', content: 'answer' },
  ];
  try {
    const { ids, assistant } = tokenizer.encodeChat([question, answer, question], { chatTemplate, assistantOnly: true });
    const learned = ids.filter((_, index) => assistant[index] === 1);
    if (tokenizer.decode(learned, { skipSpecialTokens: false }).trim() !== answer.content) return [];
  } catch (error) {
    // a template that refuses just this conversation
    if (error instanceof UserError) return [];
    throw error;
  }
  return [
    'The {% generation %} blocks of the chat template do not have what ends a turn of the assistant, so with assistant_only_loss the model may not learn to stop; put the end into them.',
  ];
}

/** TRL has no completion in a conversation and would learn all of it; what is meant by the setting is more likely the answer. */
function lastTurnNotes(rows: readonly Example[], { completionOnlyLoss, assistantOnlyLoss, template }: PrepareOptions): string[] {
  if (completionOnlyLoss !== true || assistantOnlyLoss || template) return [];
  const count = rows.filter((row) => 'messages' in row && row.promptLength === undefined).length;
  if (count === 0) return [];
  return [
    `completion_only_loss is true: of ${count} of ${rows.length} examples, which are conversations, only the last assistant turn carries loss (TRL would learn all of their tokens).`,
  ];
}

/** By default all of a conversation is learned, as in TRL, which is hardly meant of one in which nobody answers. */
function noTurnNotes(rows: readonly Example[], placeOf: (index: number) => string, options: PrepareOptions): string[] {
  if (options.completionOnlyLoss || options.assistantOnlyLoss || options.template) return [];
  const isWithout = (row: Example): boolean =>
    'messages' in row && row.promptLength === undefined && row.messages.every(({ role }) => role !== 'assistant');
  const count = rows.filter(isWithout).length;
  if (count === 0) return [];
  const [are, theySay, them] = count === 1 ? ['is a conversation', 'it says', 'it'] : ['are conversations', 'they say', 'them'];
  return [
    `${count} of ${rows.length} examples ${are} without an assistant turn (first: ${placeOf(rows.findIndex(isWithout))}); ` +
      `all that ${theySay} is learned, so add answers or filter ${them} out unless that is meant.`,
  ];
}

/** Targets of a sequence: tokens that carry loss, without the first, which nothing predicts. */
export function countTargets({ lossMask }: Sequence): number {
  let count = 0;
  for (let i = 1; i < lossMask.length; i++) count += lossMask[i];
  return count;
}

/** Tokens of an item. */
export function countTokens(item: Item): number {
  return item.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
}

/** SHA-256 of all tokens and masks: equal for equal data, tokenizer, template and packing. */
export function fingerprint(items: readonly Item[]): string {
  const hash = createHash('sha256');
  for (const item of items) {
    hash.update(`${item.map(({ inputIds }) => inputIds.length).join(',')};`);
    for (const { inputIds, lossMask } of item) hash.update(bytesOf(inputIds)).update(bytesOf(lossMask));
  }
  return hash.digest('hex');
}

function bytesOf(array: Int32Array | Uint8Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
