/** Tokenizers that transformers 5 opens by a class that cuts texts otherwise than tokenizer.json says. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { type TestContext, test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { loadTokenizer } from '../../lib/text';

type Json = Record<string, unknown>;

const read = (folder: string): Json => JSON.parse(readFileSync(path.join(projectRoot, folder, 'tokenizer.json'), 'utf8')) as Json;
const [bytes, pieces] = [read('test/golden/llama/model'), read('test/text/sentencepiece')];

/** A folder with a tokenizer, and the kind of its model. */
function folderWith(t: TestContext, json: Json, config: Json, modelType?: string): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'tunebook-class-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const files = { 'tokenizer.json': json, 'tokenizer_config.json': config, ...(modelType && { 'config.json': { model_type: modelType } }) };
  for (const [name, content] of Object.entries(files)) writeFileSync(path.join(folder, name), JSON.stringify(content));
  return folder;
}

const words = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const digits = { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }, words] };
const metaspace = (prepend_scheme: string): Json => ({ type: 'Metaspace', replacement: '▁', prepend_scheme, split: false });
const asMetaspace = (scheme: string): Json => ({ ...pieces, normalizer: null, pre_tokenizer: metaspace(scheme) });

test('what is saved names the class that reads tokenizer.json as it is, with what the other one would have added', async (t) => {
  const config = { eos_token: '<|endoftext|>', tokenizer_class: 'GPT2Tokenizer', model_max_length: 512 };
  const folder = folderWith(t, { ...bytes, normalizer: null, pre_tokenizer: digits }, config, 'llama');
  const tokenizer = await loadTokenizer(folder);
  assert.match(
    tokenizer.notes.join(),
    /The class GPT2Tokenizer of .* lets transformers 5 cut texts otherwise than its tokenizer\.json says/,
  );
  const saved = JSON.parse(Buffer.from(tokenizer.files.get('tokenizer_config.json') ?? []).toString()) as Json;
  assert.deepEqual(saved, {
    ...{ ...config, tokenizer_class: 'PreTrainedTokenizerFast', model_input_names: ['input_ids', 'attention_mask'] },
    ...{ bos_token: '<|endoftext|>', unk_token: '<|endoftext|>' },
  });
  assert.deepEqual(tokenizer.files.get('tokenizer.json'), readFileSync(path.join(folder, 'tokenizer.json')));
  const again = await loadTokenizer(folderWith(t, { ...bytes, normalizer: null, pre_tokenizer: digits }, saved, 'llama'));
  assert.deepEqual(again.encode('two  12 \n\n3'), tokenizer.encode('two  12 \n\n3'));
  assert.doesNotMatch(again.notes.join(), /class/);
});

test('the length of texts that a model has no bound for stays the whole number that it is', async (t) => {
  const config = { eos_token: '<|endoftext|>', tokenizer_class: 'GPT2Tokenizer', model_max_length: 1e30 };
  const { files } = await loadTokenizer(folderWith(t, { ...bytes, pre_tokenizer: digits }, config, 'llama'));
  const saved = Buffer.from(files.get('tokenizer_config.json') ?? []).toString();
  assert.match(saved, /^ {2}"model_max_length": 1000000000000000019884624838656,?$/m);
});

test('a class counts where it cuts otherwise, and its model believes in it', async (t) => {
  const gpt2 = { ...bytes, normalizer: null, pre_tokenizer: words };
  const cases: Array<[Json, Json, string | undefined, boolean]> = [
    [gpt2, { tokenizer_class: 'GPT2Tokenizer' }, 'llama', false],
    [{ ...gpt2, pre_tokenizer: { ...words, add_prefix_space: true } }, { tokenizer_class: 'GPT2TokenizerFast' }, 'llama', true],
    [
      { ...gpt2, pre_tokenizer: { ...words, add_prefix_space: true } },
      { tokenizer_class: 'GPT2Tokenizer', add_prefix_space: true },
      'opt',
      false,
    ],
    [{ ...gpt2, pre_tokenizer: digits }, {}, 'gpt2', true],
    [{ ...gpt2, pre_tokenizer: digits }, {}, 'starcoder2', true],
    [{ ...gpt2, pre_tokenizer: digits }, {}, 'gptj', true],
    [{ ...gpt2, pre_tokenizer: digits }, {}, 'codegen', true],
    [{ ...gpt2, pre_tokenizer: digits }, {}, 'llama', false],
    [{ ...gpt2, pre_tokenizer: digits }, { tokenizer_class: 'GPT2Tokenizer' }, undefined, true],
    [{ ...gpt2, pre_tokenizer: digits }, { tokenizer_class: 'PreTrainedTokenizerFast' }, 'llama', false],
    ...['olmo2', 'granite', 'granitemoe', 'phi3', 'gpt_bigcode', 'glm', 'glm4', 'stablelm'].map((type): [Json, Json, string, boolean] => [
      { ...gpt2, pre_tokenizer: digits },
      { tokenizer_class: 'GPT2Tokenizer' },
      type,
      false,
    ]),
    [pieces, { tokenizer_class: 'LlamaTokenizer', legacy: false }, 'llama', true],
    [pieces, { tokenizer_class: 'LlamaTokenizerFast', legacy: true }, 'llama', true],
    [pieces, { tokenizer_class: 'LlamaTokenizer' }, 'mistral', false],
    [pieces, { tokenizer_class: 'LlamaTokenizer' }, 'mixtral', false],
    [pieces, { tokenizer_class: 'CodeLlamaTokenizer' }, 'llama', true],
    [gpt2, { tokenizer_class: 'LlamaTokenizerFast' }, 'llama', true],
    // as transformers 5 saves them
    [asMetaspace('first'), { tokenizer_class: 'LlamaTokenizer' }, 'llama', false],
    [asMetaspace('always'), { tokenizer_class: 'LlamaTokenizer', legacy: true }, 'llama', false],
    [asMetaspace('never'), { tokenizer_class: 'LlamaTokenizer', add_prefix_space: false }, 'llama', false],
    [asMetaspace('always'), { tokenizer_class: 'LlamaTokenizer' }, 'llama', true],
  ];
  for (const [json, config, modelType, otherwise] of cases) {
    const eos = json.model === bytes.model ? '<|endoftext|>' : '</s>';
    const folder = folderWith(t, json, { eos_token: eos, ...config }, modelType);
    const { notes, files } = await loadTokenizer(folder);
    const message = JSON.stringify([json.pre_tokenizer, config, modelType]);
    assert.equal(/The class/.test(notes.join()), otherwise, message);
    // of an adapter's tokenizer transformers does not know the model
    const alone =
      (config.tokenizer_class === 'GPT2Tokenizer' && json.pre_tokenizer === digits) || (json === pieces && 'tokenizer_class' in config);
    const kept = Buffer.from(files.get('tokenizer_config.json') ?? []).equals(readFileSync(path.join(folder, 'tokenizer_config.json')));
    assert.equal(kept, !otherwise && !alone, message);
  }
});
