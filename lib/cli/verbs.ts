/** The verbs of the command line and their flags. Only tables: nothing heavy is imported here, so that help is instant. */
import type { SavedDtype } from '../model';
import { GGUF_DTYPES, type GgufDtype } from '../model/gguf-dtypes';
import { ONNX_DTYPES, type OnnxDtype } from '../model/onnx-dtypes';
import { TOKENS_PER_MICRO_BATCH } from '../train/config';
import { choice, folder, integer, number, flag as onOff, optional, text } from '../train/fields';
import { anyText, type Flags, flag, needed, someOf, texts, tokenIds } from './flags';
import type { Output } from './output';

/** What a verb gives back: the one JSON object of `--json`, and the same for people. */
export interface VerbResult {
  json: object;
  /** For standard output without `--json`; empty where everything has been said already. */
  text: string;
  /** Default 0. */
  exitCode?: number;
}

const device = flag('DEVICE', choice('auto', ['auto', 'cpu', 'webgpu', 'tfjs-node-gpu', 'tfjs-node'], 'What to compute on.'));
const threads = flag('N', optional(integer(8, { min: 1 }, 'Threads to compute with on the CPU. Default: one for each processor.')));
const revision = flag('REVISION', text('main', 'Branch, tag or commit of a model on the Hub.'));
const json = flag('', onOff(false, 'Standard output is one JSON object and nothing else.'));
const help = flag('', onOff(false, 'Show this help.'));
const model = needed('DIR_OR_ID', text('', 'Folder of a checkpoint, or the name of a model on the Hugging Face Hub.'));

/** Flags that every verb has. */
export const commonFlags = { device, threads, json, help } satisfies Flags;

export const sftFlags = {
  config: flag('FILE', optional(text('', "Recipe in YAML with TRL's keys; flags win over it."))),
  model: flag('DIR_OR_ID', optional(text('', 'Short for --model_name_or_path.'))),
  data: flag('FILE', optional(text('', 'Short for --dataset_name.'))),
  ...commonFlags,
} satisfies Flags;

export const evaluateFlags = {
  model,
  data: needed('FILE_OR_ID', text('', 'Dataset: a file in JSON, JSONL, Parquet or CSV, a folder, or a name on the Hugging Face Hub.')),
  split: flag('SPLIT', text('train', 'Split of a folder or a dataset on the Hub; test[:100] takes a part.')),
  max_length: flag('N', optional(integer(1024, { min: 2 }, 'Longest example in tokens; longer ones lose their end. Default: no limit.'))),
  completion_only_loss: flag(
    'BOOL',
    optional(
      onOff(
        true,
        'Score completions only (true; of a conversation the last assistant turn), or all tokens (false). Default: completions where rows have a prompt.',
      ),
    ),
  ),
  assistant_only_loss: flag(
    '',
    onOff(false, 'Score what the assistant says in all turns of conversations, as a run with assistant_only_loss learns it.'),
  ),
  tokens_per_micro_batch: flag(
    'N',
    integer(TOKENS_PER_MICRO_BATCH, { min: 1 }, 'Tokens computed at once; bounds memory, changes no result.'),
  ),
  model_revision: revision,
  ...commonFlags,
} satisfies Flags;

export const scoreFlags = {
  model,
  text: flag('TEXT', anyText('Text to score, with the special tokens that the tokenizer puts around it.')),
  input_ids: flag('IDS', tokenIds('Token ids to score as they are.')),
  model_revision: revision,
  ...commonFlags,
} satisfies Flags;

export const generateFlags = {
  model,
  prompt: texts('PROMPT', 'Text to continue; repeat the flag to continue several together.'),
  input_ids: flag('IDS', tokenIds('Token ids to continue, in place of a prompt.')),
  template: flag(
    'NAME',
    choice(
      'none',
      ['none', 'alpaca', 'chat'],
      "What is put around the prompt: nothing, the Alpaca template, or the model's own chat template.",
    ),
  ),
  max_new_tokens: flag(
    'N',
    optional(integer(128, { min: 1 }, 'Most tokens to add. Default: 128, or fewer where the model cannot read more.')),
  ),
  temperature: flag(
    'T',
    number(0, { min: 0 }, '0 takes the likeliest token each time; above, tokens are drawn, the hotter the more varied.'),
  ),
  top_k: flag('K', optional(integer(50, { min: 1 }, 'Draw among the K likeliest tokens only.'))),
  top_p: flag('P', optional(number(1, { above: 0, max: 1 }, 'Draw among the fewest tokens that together have this probability.'))),
  repetition_penalty: flag('X', number(1, { above: 0 }, 'Above 1: tokens that already occurred become less likely.')),
  stop: texts('TEXT', 'The answer ends before this text; may be repeated.'),
  seed: flag('S', optional(integer(0, { min: 0 }, 'Same seed, same text. Default: every run differs.'))),
  ignore_eos: flag('', onOff(false, 'Go on after the end-of-text token.')),
  model_revision: revision,
  ...commonFlags,
} satisfies Flags;

export const chatFlags = {
  model,
  system: flag('TEXT', optional(text('', 'What the model is told before the conversation, where its chat template has a place for that.'))),
  template: flag(
    'NAME',
    choice(
      'auto',
      ['auto', 'chat', 'alpaca', 'none'],
      "How messages are written: the model's own chat template, with all messages before; the Alpaca template or nothing, each message by itself. auto is chat where the model has a template, else alpaca.",
    ),
  ),
  max_new_tokens: flag('N', integer(512, { min: 1 }, 'Most tokens of an answer.')),
  temperature: generateFlags.temperature,
  top_k: generateFlags.top_k,
  top_p: generateFlags.top_p,
  repetition_penalty: generateFlags.repetition_penalty,
  seed: flag('S', optional(integer(0, { min: 0 }, 'Same seed and messages, same answers. Default: every run differs.'))),
  model_revision: revision,
  ...commonFlags,
} satisfies Flags;

export const compareFlags = {
  base: needed('DIR_OR_ID', text('', 'The model before: folder or name on the Hub.')),
  tuned: needed('DIR_OR_ID', text('', 'The model after: folder or name on the Hub.')),
  questions: needed(
    'FILE',
    text(
      '',
      'Dataset whose prompts are asked and whose completions are the reference answers; or a JSON list of questions, or a text file with one a line.',
    ),
  ),
  output: flag('FILE', text('before_after.md', 'Where the comparison is written.')),
  max_new_tokens: flag('N', integer(128, { min: 1 }, 'Most tokens of an answer.')),
  ...commonFlags,
} satisfies Flags;

export const mergeFlags = {
  model: needed('DIR_OR_ID', text('', 'Folder of an adapter, or its name on the Hugging Face Hub.')),
  output_dir: needed('DIR', folder('Folder for the merged model.')),
  dtype: flag('TYPE', choice<SavedDtype>('float32', ['float32', 'bfloat16', 'float16'], 'Number format that the weights are saved in.')),
  model_revision: revision,
  ...commonFlags,
} satisfies Flags;

export const exportFlags = {
  model,
  output_dir: flag('DIR', optional(text('', 'Folder for the model as transformers.js opens it; an earlier export there goes.'))),
  gguf: flag('FILE', optional(text('', 'File for the model as llama.cpp, Ollama and LM Studio open it; its name ends in .gguf.'))),
  dtype: flag(
    'TYPES',
    someOf<OnnxDtype | GgufDtype | 'both'>(
      ['both', ...ONNX_DTYPES, ...GGUF_DTYPES],
      'Number formats of the weights. Of a folder both, the default, is fp32, which transformers.js takes in Node.js and on WebGPU, and q8, which it takes in a browser without; fp16, q4 and q4f16 it takes where it is told to. Of a GGUF file f16, the default, f32, bf16, or q8_0, half of f16.',
    ),
  ),
  model_revision: revision,
  ...{ json, help },
} satisfies Flags;

interface Verb {
  name: string;
  /** One line for the list of verbs. */
  summary: string;
  usage: string;
  flags: Flags;
  load(): Promise<{ run(words: readonly string[], output: Output): Promise<VerbResult> }>;
}

export const verbs: readonly Verb[] = [
  {
    name: 'sft',
    summary: 'fine-tune a model on examples',
    usage:
      'tunebook sft --config recipe.yaml [--learning_rate 1e-4 ...]\n  tunebook sft --model DIR_OR_ID --data FILE --output_dir DIR [--num_train_epochs 3 ...]',
    flags: sftFlags,
    load: () => import('./sft.js'),
  },
  {
    name: 'evaluate',
    summary: 'loss, perplexity and token accuracy of a model on a dataset',
    usage: 'tunebook evaluate --model DIR_OR_ID --data FILE_OR_ID [--split test]',
    flags: evaluateFlags,
    load: () => import('./evaluate.js'),
  },
  {
    name: 'score',
    summary: 'how likely a model finds a text, token by token',
    usage: 'tunebook score --model DIR_OR_ID (--text TEXT | --input_ids 1,2,3)',
    flags: scoreFlags,
    load: () => import('./score.js'),
  },
  {
    name: 'generate',
    summary: 'continue a text',
    usage: 'tunebook generate --model DIR_OR_ID --prompt PROMPT [--max_new_tokens N --temperature T --top_p P --seed S]',
    flags: generateFlags,
    load: () => import('./generate.js'),
  },
  {
    name: 'chat',
    summary: 'talk to a model, line by line',
    usage: 'tunebook chat --model DIR_OR_ID [--system TEXT --temperature T --top_p P --seed S]',
    flags: chatFlags,
    load: () => import('./chat.js'),
  },
  {
    name: 'compare',
    summary: 'answers of two models to the same questions, side by side',
    usage: 'tunebook compare --base DIR_OR_ID --tuned DIR_OR_ID --questions FILE --output before_after.md',
    flags: compareFlags,
    load: () => import('./compare.js'),
  },
  {
    name: 'merge',
    summary: 'make a whole model of an adapter and its base model',
    usage: 'tunebook merge --model DIR_OR_ID --output_dir DIR',
    flags: mergeFlags,
    load: () => import('./merge.js'),
  },
  {
    name: 'export',
    summary: 'write a model for transformers.js, or as a GGUF file for llama.cpp',
    usage: 'tunebook export --model DIR_OR_ID --output_dir DIR [--dtype q8] | --gguf FILE [--dtype q8_0]',
    flags: exportFlags,
    load: () => import('./export.js'),
  },
];
