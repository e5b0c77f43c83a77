/** Tokens that a tokenizer takes over from another one: their ids are transformers', whatever form its files have, and so is what is saved. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { type TestContext, test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { loadTokenizer, type Tokenizer } from '../../lib/text';

const golden = path.join(projectRoot, 'test/golden/llama/model');
const fixtures = path.join(projectRoot, 'test/train/fixtures');
const chatTemplateFrom = path.join(fixtures, 'chat-tokens');

interface Cloned {
  rows: number;
  added: number[];
  eos_token_id: number;
  ids: number[][];
}

const read = <T>(...names: string[]): T => JSON.parse(readFileSync(path.join(...names), 'utf8')) as T;
/** What TRL's `clone_chat_template` makes: of the golden tokenizer, and where its configuration names a token that has no id. */
const reference = read<{ texts: string[]; cases: Cloned[]; named: Cloned & { mask_token: string } }>(fixtures, 'chat_tokens.json');
const [plain] = reference.cases;

const config = read<object>(golden, 'tokenizer_config.json');
const json = read<{ model: { vocab: object; merges: string[][] }; added_tokens: Array<{ id: number }> }>(golden, 'tokenizer.json');

function folderWith(t: TestContext, files: Record<string, unknown>): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'tunebook-added-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(files))
    writeFileSync(path.join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  return folder;
}

/** Of the tokenizer, and of the one that is loaded from the files that it is saved with. */
async function assertCloned(t: TestContext, tokenizer: Tokenizer, expected: Cloned): Promise<void> {
  assert.deepEqual(tokenizer.addedIds, [...new Set(expected.added)]);
  const saved = Object.fromEntries([...tokenizer.files].map(([name, bytes]) => [name, Buffer.from(bytes).toString()]));
  for (const each of [tokenizer, await loadTokenizer(folderWith(t, saved))]) {
    assert.deepEqual([each.vocabSize, each.eosId], [expected.rows, expected.eos_token_id]);
    for (const [i, text] of reference.texts.entries()) assert.deepEqual(each.encode(text), expected.ids[i], text);
  }
}

test('behind a token that the configuration names and the vocabulary lacks', async (t) => {
  const { named } = reference;
  const folder = folderWith(t, { 'tokenizer.json': json, 'tokenizer_config.json': { ...config, mask_token: named.mask_token } });
  await assertCloned(t, await loadTokenizer(folder, { chatTemplateFrom }), named);
});

test('beside a configuration that lists the added tokens again', async (t) => {
  const added_tokens_decoder = Object.fromEntries(json.added_tokens.map(({ id, ...token }) => [id, token]));
  const folder = folderWith(t, { 'tokenizer.json': json, 'tokenizer_config.json': { ...config, added_tokens_decoder } });
  const tokenizer = await loadTokenizer(folder, { chatTemplateFrom });
  await assertCloned(t, tokenizer, plain);
  const saved = JSON.parse(Buffer.from(tokenizer.files.get('tokenizer_config.json') ?? []).toString()) as {
    added_tokens_decoder: Record<string, unknown>;
  };
  const flags = { single_word: false, lstrip: true, rstrip: false, normalized: true, special: false };
  assert.deepEqual(saved.added_tokens_decoder[1027], { ...flags, content: '<left>' });
  assert.equal(Object.keys(saved.added_tokens_decoder).length, 4 + plain.rows - 1024);
});

test('in the older form of vocab.json and merges.txt', async (t) => {
  const merges = json.model.merges.map((pair) => pair.join(' ')).join('\n');
  const { pad_token: _, ...others } = config as Record<string, unknown>;
  const files = { 'vocab.json': json.model.vocab, 'merges.txt': merges, 'special_tokens_map.json': { pad_token: '<|pad|>' } };
  const folder = folderWith(t, { ...files, 'tokenizer_config.json': { ...others, tokenizer_class: 'GPT2Tokenizer' } });
  const tokenizer = await loadTokenizer(folder, { chatTemplateFrom });
  await assertCloned(t, tokenizer, plain);
  const saved = JSON.parse(Buffer.from(tokenizer.files.get('tokenizer_config.json') ?? []).toString()) as { pad_token?: unknown };
  assert.equal(saved.pad_token, '<|pad|>', 'special_tokens_map.json is not read beside a list of added tokens');
});

test('special where they are so there: a list of special tokens changes nothing of those that are there, as in Python', async (t) => {
  const flags = { special: false, single_word: false, lstrip: false, rstrip: false, normalized: false };
  const added_tokens = [...json.added_tokens, { ...flags, id: 1024, content: '<turn>' }];
  const from = folderWith(t, {
    'tokenizer.json': { ...json, added_tokens },
    'tokenizer_config.json': { ...config, additional_special_tokens: ['<turn>'] },
    'chat_template.jinja': '{{ messages }}',
  });
  const tokenizer = await loadTokenizer(golden, { chatTemplateFrom: from });
  assert.equal(tokenizer.decode(tokenizer.encode('a<turn>')), 'a<turn>');
});

test('only where the vocabulary lacks them; files that hold all stay as they are', async (t) => {
  const folder = folderWith(t, {});
  mkdirSync(path.join(folder, 'own'));
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) cpSync(path.join(golden, name), path.join(folder, 'own', name));
  writeFileSync(path.join(folder, 'own', 'chat_template.jinja'), '{{ messages }}');
  const tokenizer = await loadTokenizer(golden, { chatTemplateFrom: path.join(folder, 'own') });
  assert.deepEqual([tokenizer.addedIds, tokenizer.vocabSize, tokenizer.notes], [[], 1024, []]);
  assert.deepEqual(tokenizer.files.get('tokenizer.json'), readFileSync(path.join(golden, 'tokenizer.json')));
});
