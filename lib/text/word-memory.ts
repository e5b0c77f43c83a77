/**
 * Words come again and again in a dataset, and transformers.js computes each anew, or remembers it in a cache that takes longer than the work.
 * Here their bytes and tokens are remembered in plain maps. What is computed stays what the package computes.
 */

/** The parts of the package's tokenizer that are given a memory; what is missing, or of another kind, is left as it is. */
interface Inside {
  model?: Partial<BpeModel>;
  pre_tokenizer?: PreTokenizer | null;
}

interface BpeModel {
  cache: Partial<Memory<string[]>>;
  merges: ReadonlyArray<readonly [string, string]>;
  bpe(token: string): string[];
  end_of_word_suffix?: string | null;
  continuing_subword_suffix?: string | null;
}

interface PreTokenizer {
  /** Of a sequence. */
  tokenizers?: readonly PreTokenizer[];
  /** Of a byte-level one. */
  byte_encoder?: unknown;
  pattern?: RegExp;
  use_regex?: boolean;
  add_prefix_space?: boolean;
  pre_tokenize_text(text: string, options?: unknown): string[];
}

interface Memory<T> {
  get(word: string): T | undefined;
  put(word: string, value: T): void;
  clear(): void;
}

/** @param backend a PreTrainedTokenizer of transformers.js, which is changed */
export function rememberWords(backend: object): void {
  const { model, pre_tokenizer } = (backend as { _tokenizer?: Inside })._tokenizer ?? {};
  if (typeof model?.cache?.get === 'function' && typeof model.cache.put === 'function') model.cache = createMemory();
  if (typeof model?.bpe === 'function' && Array.isArray(model.merges)) mergeWordByWord(model as BpeModel);
  if (pre_tokenizer) rememberBytes(pre_tokenizer);
}

const MOST_WORDS = 100_000;

function createMemory<T>(): Memory<T> {
  const words = new Map<string, T>();
  return {
    get: (word) => words.get(word),
    put: (word, value) => {
      if (words.size >= MOST_WORDS) words.clear();
      words.set(copied(word), value);
    },
    clear: () => words.clear(),
  };
}

/** The same word in memory of its own: a part of a text keeps the whole text in memory. */
function copied(word: string): string {
  return word.split('').join('');
}

/** A word's bytes as the vocabulary writes them. */
function rememberBytes(step: PreTokenizer): void {
  for (const part of step.tokenizers ?? []) rememberBytes(part);
  if (!step.byte_encoder) return;
  // the same without what it does before it comes to words
  const ofWord: PreTokenizer = Object.assign(Object.create(step), { use_regex: false, add_prefix_space: false });
  const write = ofWord.pre_tokenize_text.bind(ofWord);
  const memory = createMemory<string[]>();
  const written = (word: string): string[] => {
    const known = memory.get(word);
    if (known) return known;
    const bytes = write(word);
    memory.put(word, bytes);
    return bytes;
  };
  step.pre_tokenize_text = (text) => {
    const whole = step.add_prefix_space && !text.startsWith(' ') ? ` ${text}` : text;
    const words = step.use_regex && step.pattern ? (whole.match(step.pattern) ?? []) : [whole];
    return words.flatMap(written);
  };
}

const SPACE = '▁';

/**
 * Where a vocabulary writes spaces as ▁, in the manner of SentencePiece, a whole text comes as one word. No merge goes over a ▁ that follows a
 * character which none of its tokens has before one; so the text is cut there, and its parts are remembered.
 */
function mergeWordByWord(model: BpeModel): void {
  // they would be added to every part
  if (model.end_of_word_suffix || model.continuing_subword_suffix) return;
  const merged = model.merges.map(([left, right]) => left + right).filter((token) => token.includes(SPACE));
  if (merged.length === 0) return;
  const before = new Set([SPACE, ...merged.flatMap(charactersBeforeSpaces)]);
  const mergeWord = model.bpe.bind(model);
  model.bpe = (token) => {
    const words: string[] = [];
    let start = 0;
    for (let at = token.indexOf(SPACE, 1); at > 0; at = token.indexOf(SPACE, at + 1)) {
      if (before.has(token[at - 1])) continue;
      words.push(token.slice(start, at));
      start = at;
    }
    return start === 0 ? mergeWord(token) : [...words, token.slice(start)].flatMap(mergeWord);
  };
}

function charactersBeforeSpaces(token: string): string[] {
  return [...token.matchAll(/(.)▁/gs)].map(([, character]) => character);
}
