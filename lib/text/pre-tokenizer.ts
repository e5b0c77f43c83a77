/**
 * How a text is cut before the vocabulary is asked, as the tokenizers library in Rust does it. @huggingface/tokenizers builds two of the
 * steps from JavaScript's own classes of characters: its digits are those of ASCII, and its whitespace has U+FEFF and lacks U+0085. The
 * patterns of `Split` it does read as Rust has them, so that these steps are written as such. Of what becomes of the matches it knows that they are
 * pieces by themselves or go; the other ways are patterns of whole pieces. Its `Metaspace` does not cut.
 */
import { isObject } from '../json';

type Step = Record<string, unknown>;

/** GPT-2's pattern, which is built into `ByteLevel`. */
const WORDS = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/**
 * The space before the first word, which must be there before the words are told apart. With `(?! )` in place of the class V8 finds the
 * beginning of a text inside of an emoji, too.
 */
const PREFIX: Step = { type: 'Replace', pattern: { Regex: '\\A(?=[^ ])' }, content: ' ' };

/** The pre-tokenizer of a tokenizer.json in steps that mean the same here and in Rust; what is no pre-tokenizer is left to its reader. */
export function asInRust(preTokenizer: unknown): unknown {
  if (!isObject(preTokenizer)) return preTokenizer;
  const steps = stepsOf(preTokenizer);
  return steps.length === 1 ? steps[0] : { type: 'Sequence', pretokenizers: steps };
}

function stepsOf(step: Step): unknown[] {
  switch (step.type) {
    case 'Sequence':
      return [Array.isArray(step.pretokenizers) ? { ...step, pretokenizers: step.pretokenizers.map(asInRust) } : step];
    case 'Digits':
      return [split(step.individual_digits === true ? '\\p{N}' : '\\p{N}+')];
    case 'ByteLevel':
      if (step.use_regex === false) return [step];
      return [
        ...(step.add_prefix_space === true ? [PREFIX] : []),
        // no text is between its matches; to keep only these takes less time than to cut at them
        { ...split(WORDS), behavior: 'Removed', invert: true },
        { ...step, add_prefix_space: false, use_regex: false },
      ];
    case 'Split':
      return [splitAt(step)];
    case 'Metaspace':
      // without being asked, too, each word is one by itself with the space before it
      return step.split === false
        ? [step]
        : [step, splitAt({ type: 'Split', pattern: { String: spaceOf(step) }, behavior: 'MergedWithNext' })];
    default:
      return [step];
  }
}

/** What a step writes for a space. */
function spaceOf({ replacement }: Step): string {
  return typeof replacement === 'string' ? replacement : '\u2581';
}

function split(pattern: string): Step {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
}

/** A `Split` whose matches join their neighbours, or each other, as one of whole pieces. */
function splitAt(step: Step): Step {
  const { behavior, invert, pattern } = step;
  if (invert === true || !isObject(pattern)) return step;
  const match = typeof pattern.String === 'string' ? pattern.String.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&') : pattern.Regex;
  const other = `(?:(?!${match})[\\s\\S])`;
  switch (behavior) {
    case 'MergedWithPrevious':
      return split(`${other}*(?:${match})|${other}+`);
    case 'MergedWithNext':
      return split(`(?:${match})${other}*|${other}+`);
    case 'Contiguous':
      return split(`(?:${match})+`);
    default:
      return step;
  }
}
