/** Tokenizers in GGUF files. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, describe, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { ggufVocabulary } from '../../lib/model/gguf-vocabulary';
import { projectRoot } from '../../lib/project';
import { loadTokenizer, type Tokenizer } from '../../lib/text';
import { golden } from './gguf-files';

before(() => useDevice('cpu'));

describe('tokenizers', () => {
  /** A tokenizer whose tokenizer.json is another one. */
  function changed(tokenizer: Tokenizer, change: Record<string, unknown>, model: Record<string, unknown> = {}): Tokenizer {
    const with_ = (files: ReadonlyMap<string, Uint8Array>): Map<string, Uint8Array> => {
      const json = JSON.parse(new TextDecoder().decode(files.get('tokenizer.json')));
      return new Map([
        ...files,
        ['tokenizer.json', Buffer.from(JSON.stringify({ ...json, ...change, model: { ...json.model, ...model } }))],
      ]);
    };
    return {
      ...tokenizer,
      encode: tokenizer.encode,
      files: with_(tokenizer.files),
      filesForTransformersJs: () => with_(tokenizer.filesForTransformersJs()),
    };
  }
  const bytes = { type: 'ByteLevel', add_prefix_space: false, use_regex: true };
  const split = (Regex: string) => ({
    type: 'Sequence',
    pretokenizers: [
      { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false },
      { ...bytes, use_regex: false },
    ],
  });
  const digits = (individual_digits: boolean) => ({ type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits }, bytes] });
  const words = (numbers: string) =>
    `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

  test('are named by the way in which they cut a text into words', async () => {
    const tokenizer = await loadTokenizer(golden('llama'));
    const ruleOf = (pre_tokenizer: object, model?: object) =>
      ggufVocabulary(changed(tokenizer, { pre_tokenizer }, { ...model }), 1024)['tokenizer.ggml.pre'].value;
    assert.equal(ruleOf(bytes), 'gpt-2');
    assert.equal(ruleOf(digits(true)), 'smollm');
    assert.equal(ruleOf(split(words('\\p{N}{1,3}')), { ignore_merges: true }), 'llama-bpe');
    assert.equal(ruleOf(split(words('\\p{N}'))), 'qwen2');
    assert.equal(ruleOf(split(' ?[^(\\s|[.,!?…。，、।۔،])]+')), 'bloom');
    assert.throws(() => ruleOf(split(words('\\p{N}{1,3}'))), /looks up whole words in another way/);
    assert.throws(
      () => ruleOf(split('\\w+')),
      /cuts texts into words by Split and ByteLevel in a way of its own, for which llama\.cpp has no rule/,
    );
    assert.throws(() => ruleOf(digits(false)), /by Digits and ByteLevel/);
    assert.throws(() => ruleOf({ ...bytes, add_prefix_space: true }), /puts a space before a text/);
    assert.throws(() => ruleOf({ type: 'Whitespace' }), /without ByteLevel/);
    assert.throws(() => ggufVocabulary(changed(tokenizer, { normalizer: { type: 'Lowercase' } }), 1024), /normalizes texts by Lowercase/);
    assert.throws(() => ggufVocabulary(changed(tokenizer, {}, { type: 'WordPiece' }), 1024), /is of the type WordPiece/);
    assert.throws(() => ggufVocabulary(changed(tokenizer, {}, { end_of_word_suffix: '</w>' }), 1024), /marks the pieces of a word/);
  });

  const keyOf = (keys: ReturnType<typeof ggufVocabulary>, key: string): unknown => keys[`tokenizer.ggml.${key}`]?.value;

  test('whose added tokens take spaces along, or are found in texts as they are normalized, are refused', async () => {
    const [tokenizer, pieces] = await Promise.all([
      loadTokenizer(golden('llama')),
      loadTokenizer(path.join(projectRoot, 'test/text/sentencepiece')),
    ]);
    const token = { id: 5, content: '<mask>', special: false, lstrip: false, rstrip: false, single_word: false, normalized: false };
    const withToken = (of: Tokenizer, flags: object) => () => ggufVocabulary(changed(of, { added_tokens: [{ ...token, ...flags }] }), 1024);
    for (const flag of ['lstrip', 'rstrip', 'single_word'])
      assert.throws(withToken(tokenizer, { [flag]: true }), /takes spaces along with the token "<mask>", or finds it in whole words alone/);
    assert.equal((keyOf(withToken(tokenizer, { normalized: true })(), 'token_type') as number[])[5], 4);
    assert.throws(withToken(pieces, { normalized: true }), /finds the token "<mask>" in texts as they are normalized/);
    // what TRL fills a vocabulary up with is in no text
    const fillers = withToken(pieces, { normalized: true, content: '<extra_id_0>' })();
    assert.equal((keyOf(fillers, 'token_type') as number[])[5], 5);
  });

  test('say what is put around a text, whichever side it is on', async () => {
    const tokenizer = await loadTokenizer(golden('llama'));
    const around = (before: number[], behind: number[]) => {
      const encode: Tokenizer['encode'] = (text, options) =>
        options?.addSpecialTokens ? [...before, ...tokenizer.encode(text), ...behind] : tokenizer.encode(text);
      const keys = ggufVocabulary({ ...changed(tokenizer, {}), encode }, 1024);
      return [keyOf(keys, 'add_bos_token'), keyOf(keys, 'add_eos_token')];
    };
    const { eosId, bosId = eosId } = tokenizer;
    assert.deepEqual(around([], []), [false, false]);
    // the same token begins and ends a text here
    assert.deepEqual(around([bosId], []), [true, false]);
    assert.deepEqual(around([], [eosId]), [false, true]);
    assert.throws(() => around([7], []), /puts other tokens around a text than BOS and EOS/);
  });

  test('without a tokenizer.json keep the space before a text, which llama.cpp has no rule for', async () => {
    const tokenizer = await loadTokenizer(golden('llama'));
    const files = (add_prefix_space: boolean) => {
      const all = tokenizer.filesForTransformersJs();
      const config = JSON.parse(new TextDecoder().decode(all.get('tokenizer_config.json')));
      return new Map([...all, ['tokenizer_config.json', Buffer.from(JSON.stringify({ ...config, add_prefix_space }))]]);
    };
    const of = (space: boolean): Tokenizer => ({
      ...tokenizer,
      encode: tokenizer.encode,
      files: new Map(),
      filesForTransformersJs: () => files(space),
    });
    assert.equal(keyOf(ggufVocabulary(of(false), 1024), 'pre'), 'gpt-2');
    assert.throws(() => ggufVocabulary(of(true), 1024), /puts a space before a text/);
  });

  test('have a text of its own for each id, and none for ids that the embedding has no row for', async () => {
    const tokenizer = await loadTokenizer(golden('llama'));
    const token = { id: 1000, content: '[PAD1030]', special: false, normalized: false };
    const keys = ggufVocabulary(changed(tokenizer, { added_tokens: [token] }), 1040);
    const tokens = keyOf(keys, 'tokens') as string[];
    assert.deepEqual([tokens.length, tokens[1000], tokens[1030]], [1040, '[PAD1030]', '[[PAD1030]]']);
    assert.equal((keyOf(ggufVocabulary(tokenizer, 900), 'tokens') as string[]).length, 900);
    const twice = changed(tokenizer, { added_tokens: [{ ...token, content: 'Ġt' }] });
    assert.throws(() => ggufVocabulary(twice, 1024), /has two ids for the token "Ġt"/);
  });

  test('of several chat templates take the one for conversations', async () => {
    const tokenizer = await loadTokenizer(golden('llama'));
    const all = tokenizer.filesForTransformersJs();
    const config = JSON.parse(new TextDecoder().decode(all.get('tokenizer_config.json')));
    const templates = [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: 'talk' },
    ];
    const files = new Map([...all, ['tokenizer_config.json', Buffer.from(JSON.stringify({ ...config, chat_template: templates }))]]);
    const keys = ggufVocabulary({ ...changed(tokenizer, {}), filesForTransformersJs: () => files }, 1024);
    assert.equal(keys['tokenizer.chat_template'].value, 'talk');
  });

  /** As llama.cpp tokenizes with scores: of all neighbours that make a token the ones with the highest, the first of them, are joined. */
  function joined(text: string, tokens: readonly string[], scores: readonly number[]): string[] {
    const ids = new Map(tokens.map((token, id) => [token, id]));
    const pieces = [...text];
    for (;;) {
      let best = -1;
      const scoreAt = (i: number): number => scores[ids.get(pieces[i] + pieces[i + 1]) ?? -1] ?? Number.NEGATIVE_INFINITY;
      for (let i = 0; i + 1 < pieces.length; i++)
        if (ids.has(pieces[i] + pieces[i + 1]) && (best < 0 || scoreAt(i) > scoreAt(best))) best = i;
      if (best < 0) return pieces;
      pieces.splice(best, 2, pieces[best] + pieces[best + 1]);
    }
  }

  test("with SentencePiece's pieces get scores by which a text becomes the same tokens", async () => {
    const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/text/sentencepiece'));
    const keys = ggufVocabulary(tokenizer, tokenizer.vocabSize);
    const [tokens, scores, kinds] = ['tokens', 'scores', 'token_type'].map((key) => keys[`tokenizer.ggml.${key}`].value) as [
      string[],
      number[],
      number[],
    ];
    assert.equal(keys['tokenizer.ggml.model'].value, 'llama');
    assert.equal(keys['tokenizer.ggml.add_space_prefix'].value, true);
    assert.deepEqual([kinds[tokens.indexOf('<0x41>')], kinds[tokens.indexOf('<unk>')]], [6, 2]);
    for (const text of ['the rain in spain stays', 'these  things, then', 'nothing is sensible in the tent'])
      assert.deepEqual(
        joined(`\u2581${text.replaceAll(' ', '\u2581')}`, tokens, scores).filter((piece) => tokens.includes(piece)),
        tokenizer
          .encode(text)
          .map((id) => tokens[id])
          .filter((token) => !/^<0x/.test(token)),
      );
    const { model } = JSON.parse(new TextDecoder().decode(tokenizer.files.get('tokenizer.json'))) as { model: { merges: unknown[] } };
    const apart = [...model.merges.slice(1, 3), model.merges[0], ...model.merges.slice(3), ['t', 'h']];
    assert.throws(() => ggufVocabulary(changed(tokenizer, {}, { merges: apart }), 600), /merges "th" at several places of its order/);
    const refused = (change: object, pattern: RegExp) =>
      assert.throws(() => ggufVocabulary(changed(tokenizer, { ...change }), 600), pattern);
    refused({ pre_tokenizer: { type: 'Metaspace' } }, /cuts texts by Metaspace; if transformers 5 saved it, take the tokenizer\.json/);
    refused(
      { normalizer: { type: 'Replace', pattern: { String: '``' }, content: '"' } },
      /normalizes texts by Replace in a way of its own/,
    );
    refused({ normalizer: null }, /leaves spaces as they are/);
  });
});
