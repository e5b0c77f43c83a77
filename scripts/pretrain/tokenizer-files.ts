/** Writes a trained tokenizer in Hugging Face's format, and encodes with it (to count tokens without loading the files). */
import path from 'node:path';
import { writeFileAtomic } from '../../lib/files';
import { alpacaPrompt } from '../../lib/text';
import type { Bpe } from './bpe';
import { byteCharacters, GPT2_PATTERN } from './bpe';

const END_OF_TEXT = '<|endoftext|>';
const PAD = '<|pad|>';
export const SPECIAL_TOKENS = [END_OF_TEXT, PAD] as const;
export const VOCABULARY_SIZE = 2048;
export const CONTEXT = 512;

/** tokenizer.json as the tokenizers library writes it for a byte-level BPE. */
export function tokenizerJson({ vocabulary, merges }: Bpe): object {
  const added = SPECIAL_TOKENS.map((content, id) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
      merges,
    },
  };
}

/**
 * Conversations in the words of the Alpaca template, so that one turn reads as the same row in Alpaca's format does. A system
 * message takes the place of the first sentences; generation blocks say what an assistant wrote.
 */
const CHAT_TEMPLATE = [
  "{%- if messages and messages[0]['role'] == 'system' -%}",
  "{{- messages[0]['content'] -}}",
  '{%- set turns = messages[1:] -%}',
  '{%- else -%}',
  `{{- '${alpacaPrompt({ instruction: '' }).split('\n')[0]}' -}}`,
  '{%- set turns = messages -%}',
  '{%- endif -%}',
  '{%- for message in turns -%}',
  "{%- if message['role'] == 'user' -%}",
  "{{- '\\n\\n### Instruction:\\n' + message['content'] -}}",
  "{%- elif message['role'] == 'assistant' -%}",
  "{{- '\\n\\n### Response:\\n' -}}",
  "{%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}",
  '{%- else -%}',
  "{{- raise_exception('a turn must be of system (the first one only), user or assistant, not of ' + message['role']) -}}",
  '{%- endif -%}',
  '{%- endfor -%}',
  "{%- if add_generation_prompt -%}{{- '\\n\\n### Response:\\n' -}}{%- endif -%}",
].join('\n');

const TOKENIZER_CONFIG = {
  tokenizer_class: 'PreTrainedTokenizerFast',
  bos_token: END_OF_TEXT,
  eos_token: END_OF_TEXT,
  pad_token: PAD,
  unk_token: END_OF_TEXT,
  model_max_length: CONTEXT,
  clean_up_tokenization_spaces: false,
  add_prefix_space: false,
  chat_template: CHAT_TEMPLATE,
};

/** tokenizer_config.json as it is written. */
export function tokenizerConfigFile(): string {
  return `${JSON.stringify(TOKENIZER_CONFIG, null, 2)}\n`;
}

/** Writes tokenizer.json and tokenizer_config.json. */
export function saveTokenizer(bpe: Bpe, directory: string): void {
  writeFileAtomic(path.join(directory, 'tokenizer.json'), `${JSON.stringify(tokenizerJson(bpe), null, 1)}\n`);
  writeFileAtomic(path.join(directory, 'tokenizer_config.json'), tokenizerConfigFile());
}

/** An encoder for plain text (no special tokens). */
export function makeEncoder({ vocabulary, merges }: Bpe): (text: string) => number[] {
  const ids = new Map(vocabulary.map((token, id) => [token, id]));
  const ranks = new Map(merges.map(([left, right], rank) => [`${left} ${right}`, rank]));
  const characters = byteCharacters();
  const bytes = new TextEncoder();
  const memory = new Map<string, number[]>();
  const encodeWord = (word: string): number[] => {
    let pieces = Array.from(bytes.encode(word), (byte) => characters[byte]);
    for (;;) {
      let at = -1;
      let rank = Number.POSITIVE_INFINITY;
      for (let i = 0; i + 1 < pieces.length; i++) {
        const found = ranks.get(`${pieces[i]} ${pieces[i + 1]}`);
        if (found !== undefined && found < rank) {
          at = i;
          rank = found;
        }
      }
      if (at < 0) return pieces.map((piece) => ids.get(piece) as number);
      pieces = [...pieces.slice(0, at), pieces[at] + pieces[at + 1], ...pieces.slice(at + 2)];
    }
  };
  return (text) => {
    const result: number[] = [];
    for (const [word] of text.matchAll(GPT2_PATTERN)) {
      let encoded = memory.get(word);
      if (!encoded) {
        encoded = encodeWord(word);
        memory.set(word, encoded);
      }
      for (const id of encoded) result.push(id);
    }
    return result;
  };
}
