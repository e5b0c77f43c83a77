import assert from 'node:assert/strict';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, test } from 'node:test';
import { UserError } from '../../lib/errors';
import { projectRoot } from '../../lib/project';
import { loadTokenizer } from '../../lib/text';
import { families } from '../golden-families';

const golden = path.join(projectRoot, 'test/golden/llama/model');
const sentencepiece = path.join(projectRoot, 'test/text/sentencepiece');
const readFixture = (name: string) => JSON.parse(fs.readFileSync(path.join(projectRoot, 'test/text', name), 'utf8'));

const scratch = fs.mkdtempSync(path.join(tmpdir(), 'tunebook-tokenizer-'));
after(() => fs.rmSync(scratch, { recursive: true }));

/** A copy of a tokenizer's folder whose files can be changed. */
function copyOf(folder: string, change: (copy: string) => void): string {
  const copy = fs.mkdtempSync(path.join(scratch, 'folder-'));
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) fs.copyFileSync(path.join(folder, name), path.join(copy, name));
  change(copy);
  return copy;
}

function writeJson(folder: string, name: string, value: unknown): void {
  fs.writeFileSync(path.join(folder, name), JSON.stringify(value));
}

for (const [name, folder] of [
  ['golden', golden],
  ['sentencepiece', sentencepiece],
] as const) {
  test(`a ${name} tokenizer encodes and decodes as in Python`, async () => {
    const { strings, [name]: expected } = readFixture('encodings.json');
    const tokenizer = await loadTokenizer(folder);
    for (const [index, text] of strings.entries()) {
      assert.deepEqual(tokenizer.encode(text, { addSpecialTokens: true }), expected.ids[index], JSON.stringify(text));
      assert.equal(tokenizer.decode(expected.ids[index]), expected.decoded[index], JSON.stringify(text));
    }
  });
}

test('digits and whitespace of every script cut a text as in Python, whatever is cut by them', async () => {
  const { strings, cases } = readFixture('pre-tokenizers.json');
  const json = JSON.parse(fs.readFileSync(path.join(golden, 'tokenizer.json'), 'utf8'));
  for (const { pre_tokenizer, ids } of cases) {
    const tokenizer = await loadTokenizer(copyOf(golden, (copy) => writeJson(copy, 'tokenizer.json', { ...json, pre_tokenizer })));
    for (const [index, text] of strings.entries()) {
      assert.deepEqual(tokenizer.encode(text), ids[index], `${JSON.stringify(text)} by ${JSON.stringify(pre_tokenizer)}`);
    }
  }
});

test('Metaspace cuts a text before each space, unless it is told not to, as in Python', async () => {
  const json = JSON.parse(fs.readFileSync(path.join(sentencepiece, 'tokenizer.json'), 'utf8'));
  // the vocabulary has merges over spaces; tokenized by the tokenizers library in Rust
  const cut = [
    [318, 292, 318, 318, 293, 318, 480],
    [318, 318, 480, 2, 318, 480],
  ];
  const whole = [
    [318, 333, 318, 293, 318, 480],
    [335, 480, 2, 318, 480],
  ];
  for (const [settings, ids] of [
    [{ prepend_scheme: 'always' }, cut],
    [{ prepend_scheme: 'first', split: true }, cut],
    [{ prepend_scheme: 'first', split: false }, whole],
  ] as const) {
    const pre_tokenizer = { type: 'Metaspace', replacement: '▁', ...settings };
    const folder = copyOf(sentencepiece, (copy) => writeJson(copy, 'tokenizer.json', { ...json, normalizer: null, pre_tokenizer }));
    const tokenizer = await loadTokenizer(folder);
    assert.deepEqual(
      ['a  b the', '  the</s> the'].map((text) => tokenizer.encode(text)),
      ids,
      JSON.stringify(settings),
    );
  }
});

test('every golden model settles the same special tokens as its configuration', async () => {
  for (const family of families) {
    const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden', family, 'model'));
    assert.deepEqual([tokenizer.eosId, tokenizer.bosId, tokenizer.padId, tokenizer.vocabSize], [0, 0, 1, 1024]);
    assert.deepEqual(tokenizer.stopIds, [0]);
    assert.deepEqual(tokenizer.notes, []);
  }
});

test('where no PAD is named, EOS stands in and it is said', async () => {
  const tokenizer = await loadTokenizer(sentencepiece);
  assert.equal(tokenizer.padId, tokenizer.eosId);
  assert.match(tokenizer.notes.join(), /No PAD token is named; EOS <\/s> \(id 2\) stands in/);
});

test('where no PAD is named but the vocabulary has one, that is taken and it is said', async () => {
  const folder = copyOf(golden, (copy) => writeJson(copy, 'tokenizer_config.json', { eos_token: '<|endoftext|>' }));
  const tokenizer = await loadTokenizer(folder);
  assert.equal(tokenizer.padId, 1);
  assert.match(tokenizer.notes.join(), /No PAD token is named; <\|pad\|> \(id 1\)/);
});

test('EOS is found in special_tokens_map.json, generation_config.json or config.json where tokenizer_config.json is silent', async () => {
  for (const [file, content] of [
    ['special_tokens_map.json', { eos_token: { content: '<|im_end|>' } }],
    ['generation_config.json', { eos_token_id: [3, 0] }],
    ['config.json', { eos_token_id: 3 }],
  ] as const) {
    const folder = copyOf(golden, (copy) => {
      writeJson(copy, 'tokenizer_config.json', {});
      writeJson(copy, file, content);
    });
    assert.equal((await loadTokenizer(folder)).eosToken, '<|im_end|>', file);
  }
});

test('generation stops at every EOS id that generation_config.json names', async () => {
  const folder = copyOf(golden, (copy) => writeJson(copy, 'generation_config.json', { eos_token_id: [3, 0] }));
  assert.deepEqual((await loadTokenizer(folder)).stopIds, [0, 3]);
});

test('a tokenizer without any EOS is refused with the remedy', async () => {
  const folder = copyOf(golden, (copy) => writeJson(copy, 'tokenizer_config.json', {}));
  await assert.rejects(
    loadTokenizer(folder),
    (error) => error instanceof UserError && /names no EOS token.*"eos_token"/.test(error.message),
  );
});

test('a broken tokenizer.json is reported with line and column', async () => {
  const folder = copyOf(golden, (copy) => fs.writeFileSync(path.join(copy, 'tokenizer.json'), '{\n "model": {,}\n}'));
  await assert.rejects(
    loadTokenizer(folder),
    (error) => error instanceof UserError && /tokenizer\.json is not valid JSON: line 2, column 12/.test(error.message),
  );
});

test('a folder without a tokenizer is refused by name', async () => {
  const folder = fs.mkdtempSync(path.join(scratch, 'folder-'));
  await assert.rejects(loadTokenizer(folder), (error) => error instanceof UserError && /has no tokenizer\.json/.test(error.message));
});

test('byte-level vocab.json and merges.txt are read like the tokenizer.json they belong to', async () => {
  const { model } = JSON.parse(fs.readFileSync(path.join(golden, 'tokenizer.json'), 'utf8'));
  const folder = copyOf(golden, (copy) => {
    fs.rmSync(path.join(copy, 'tokenizer.json'));
    writeJson(copy, 'vocab.json', model.vocab);
    const merges = model.merges.map((merge: string | string[]) => (typeof merge === 'string' ? merge : merge.join(' ')));
    fs.writeFileSync(path.join(copy, 'merges.txt'), `#version: 0.2\n${merges.join('\n')}\n`);
    writeJson(copy, 'tokenizer_config.json', { eos_token: '<|endoftext|>', bos_token: '<|endoftext|>', add_bos_token: true });
  });
  const [whole, parts] = [await loadTokenizer(golden), await loadTokenizer(folder)];
  const text = 'Two words, 3 numbers\n\nand a <|endoftext|> marker';
  assert.deepEqual(parts.encode(text), whole.encode(text));
  assert.deepEqual(parts.encode(text, { addSpecialTokens: true }), [0, ...whole.encode(text)]);
});

test('what added_tokens.json adds to a vocab.json is found whole, and may be the end of texts', async () => {
  const { model } = JSON.parse(fs.readFileSync(path.join(golden, 'tokenizer.json'), 'utf8'));
  const count = Object.keys(model.vocab).length;
  const make = (added: unknown) =>
    copyOf(golden, (copy) => {
      fs.rmSync(path.join(copy, 'tokenizer.json'));
      writeJson(copy, 'vocab.json', model.vocab);
      fs.writeFileSync(path.join(copy, 'merges.txt'), model.merges.map((merge: string | string[]) => [merge].flat().join(' ')).join('\n'));
      writeJson(copy, 'tokenizer_config.json', { eos_token: '<|im_end|>' });
      writeJson(copy, 'added_tokens.json', added);
    });
  const tokenizer = await loadTokenizer(make({ '<|im_start|>': count, '<|im_end|>': count + 1 }));
  assert.equal(tokenizer.eosId, count + 1);
  const ids = tokenizer.encode('<|im_start|>user hi<|im_end|>');
  assert.deepEqual([ids[0], ids.at(-1)], [count, count + 1]);
  assert.equal(tokenizer.decode(ids), '<|im_start|>user hi', 'only the end is special');
  await assert.rejects(loadTokenizer(make({ '<|im_end|>': 'x' })), { name: 'UserError', message: /the id of "<\|im_end\|>" is "x"/ });
});

for (const [added, pattern] of [
  [{}, /added_tokens must be a list/],
  [[null], /entry 1 of added_tokens is null/],
  [[{ id: -1, content: 'x' }], /entry 1 of added_tokens is \{"id":-1/],
] as const) {
  test(`added tokens that are none are refused: ${JSON.stringify(added)}`, async () => {
    const folder = copyOf(golden, (copy) => {
      const json = JSON.parse(fs.readFileSync(path.join(copy, 'tokenizer.json'), 'utf8'));
      writeJson(copy, 'tokenizer.json', { ...json, added_tokens: added });
    });
    await assert.rejects(loadTokenizer(folder), { name: 'UserError', message: pattern });
  });
}

test('what is put around a text is decided by tokenizer.json and the class of the tokenizer, as in transformers', async () => {
  const { tokenizer_class: _, ...config } = JSON.parse(fs.readFileSync(path.join(golden, 'tokenizer_config.json'), 'utf8'));
  const json = JSON.parse(fs.readFileSync(path.join(golden, 'tokenizer.json'), 'utf8'));
  const bosFirst = {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<|endoftext|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: { '<|endoftext|>': { id: '<|endoftext|>', ids: [0], tokens: ['<|endoftext|>'] } },
  };
  // model type, tokenizer_class, and whether transformers 5.18 puts BOS first: without a post-processor and both flags true, with one and add_bos_token false
  const cases: Array<[string | undefined, string | undefined, boolean, boolean]> = [
    [undefined, undefined, false, true],
    ...['PreTrainedTokenizerFast', 'LlamaTokenizer', 'LlamaTokenizerFast', 'GPT2Tokenizer', 'Qwen2Tokenizer'].map(
      (name): [string, string, boolean, boolean] => ['llama', name, false, true],
    ),
    ['llama', 'CodeLlamaTokenizerFast', true, true],
    ['qwen2', 'CodeLlamaTokenizer', false, true],
    ['gpt_neox', undefined, false, false],
    ['olmo', undefined, false, false],
    ['gpt_neox', 'GPTNeoXTokenizerFast', false, false],
    ['gpt_neox', 'PreTrainedTokenizerFast', false, true],
    ['mistral', 'GPTNeoXTokenizer', false, true],
    ['opt', 'GPT2Tokenizer', false, true],
  ];
  for (const [modelType, name, flagged, processed] of cases) {
    for (const [post, flags, first] of [
      [null, { add_bos_token: true, add_eos_token: true }, flagged],
      [bosFirst, { add_bos_token: false }, processed],
    ] as const) {
      const folder = copyOf(golden, (copy) => {
        writeJson(copy, 'tokenizer.json', { ...json, post_processor: post });
        writeJson(copy, 'tokenizer_config.json', { ...config, ...flags, tokenizer_class: name });
        if (modelType) writeJson(copy, 'config.json', { model_type: modelType });
      });
      const tokenizer = await loadTokenizer(folder);
      const plain = tokenizer.encode('a b');
      assert.deepEqual(tokenizer.encode('a b', { addSpecialTokens: true }), first ? [0, ...plain] : plain, `${modelType} ${name}`);
    }
  }
});

test('ids beyond the vocabulary decode to nothing', async () => {
  const tokenizer = await loadTokenizer(golden);
  assert.equal(tokenizer.decode([...tokenizer.encode('abc'), 5000]), 'abc');
  assert.equal(tokenizer.decode([]), '');
});

test('a token is shown as the text that it stands for, an added one as it is written', async () => {
  const added = {
    id: 1024,
    content: '<｜end▁of▁sentence｜>',
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  };
  const folder = copyOf(golden, (copy) => {
    const json = JSON.parse(fs.readFileSync(path.join(copy, 'tokenizer.json'), 'utf8'));
    writeJson(copy, 'tokenizer.json', { ...json, added_tokens: [...json.added_tokens, added] });
  });
  const [byteLevel, pieces] = [await loadTokenizer(folder), await loadTokenizer(sentencepiece)];
  assert.equal(byteLevel.tokenText(1024), added.content);
  assert.equal(byteLevel.encode('an the').map(byteLevel.tokenText).join(''), 'an the');
  assert.equal(pieces.encode('an the\n').map(pieces.tokenText).join(''), ' an the\n');
  assert.equal(pieces.tokenText(pieces.eosId), pieces.eosToken);
});

test('special tokens are left out of decoded text unless asked for', async () => {
  const tokenizer = await loadTokenizer(golden);
  const ids = [...tokenizer.encode('Yes'), tokenizer.eosId];
  assert.equal(tokenizer.decode(ids), 'Yes');
  assert.equal(tokenizer.decode(ids, { skipSpecialTokens: false }), 'Yes<|endoftext|>');
});

test('tokens that the configuration gives a part are special, whatever tokenizer.json says, and those that it lists are not, as in Python', async () => {
  const flags = { lstrip: false, rstrip: false, normalized: false, single_word: false };
  // decoded by transformers 5.18
  for (const [config, expected] of [
    [{ eos_token: '<|im_end|>', pad_token: { content: '<|pad|>' }, turn_token: '<|im_start|>' }, 'Yes<|endoftext|>'],
    [{ eos_token: '<|im_end|>', extra_special_tokens: { turn_token: '<|im_start|>' } }, 'Yes<|endoftext|><|pad|>'],
    [{ eos_token: '<|im_end|>', additional_special_tokens: ['<|im_start|>'] }, '<|im_start|>Yes<|endoftext|><|pad|>'],
    [
      {
        eos_token: '<|im_end|>',
        added_tokens_decoder: {
          2: { content: '<|im_start|>', ...flags, special: true },
          3: { content: '<|im_end|>', ...flags, special: false },
        },
      },
      'Yes<|endoftext|><|pad|>',
    ],
  ] as const) {
    const folder = copyOf(golden, (copy) => {
      const json = JSON.parse(fs.readFileSync(path.join(copy, 'tokenizer.json'), 'utf8'));
      const added_tokens = json.added_tokens.map((token: object) => ({ ...token, special: false }));
      writeJson(copy, 'tokenizer.json', { ...json, added_tokens });
      writeJson(copy, 'tokenizer_config.json', config);
    });
    const tokenizer = await loadTokenizer(folder);
    const ids = tokenizer.encode('<|im_start|>Yes<|endoftext|><|im_end|><|pad|>');
    assert.equal(tokenizer.decode(ids), expected, JSON.stringify(config));
  }
});

test('a chat template comes from chat_template.jinja or tokenizer_config.json, and its refusal is passed on', async () => {
  const template =
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}{{ bos_token }}[{{ m.role }}]{{ m.content }}{% endfor %}";
  const config = JSON.parse(fs.readFileSync(path.join(golden, 'tokenizer_config.json'), 'utf8'));
  for (const write of [
    (copy: string) => fs.writeFileSync(path.join(copy, 'chat_template.jinja'), template),
    (copy: string) => writeJson(copy, 'tokenizer_config.json', { ...config, chat_template: template }),
  ]) {
    const tokenizer = await loadTokenizer(copyOf(golden, write));
    assert.ok(tokenizer.hasChatTemplate);
    assert.equal(tokenizer.applyChatTemplate([{ role: 'user', content: 'hi' }]), '<|endoftext|>[user]hi');
    assert.throws(
      () => tokenizer.applyChatTemplate([{ role: 'system', content: 'x' }]),
      (error) => error instanceof UserError && /no system turn/.test(error.message),
    );
  }
});

test('line ends of a chat template are read as Jinja2 reads them, whichever system wrote it', async () => {
  // transformers 5.18 writes the same for each of them
  const template =
    "{%- for m in messages %}\n    {%- if m.role == 'user' %}\n        {{- 'U:\n' + m.content }}\n    {% endif %}\n[{{ m.role }}]\n{% endfor %}\nend\n";
  const config = JSON.parse(fs.readFileSync(path.join(golden, 'tokenizer_config.json'), 'utf8'));
  const messages = [{ role: 'user', content: 'a\r\nb' }];
  for (const end of ['\n', '\r\n', '\r']) {
    const chatTemplate = template.replaceAll('\n', end);
    const given = (await loadTokenizer(golden)).applyChatTemplate(messages, { chatTemplate });
    const own = await loadTokenizer(
      copyOf(golden, (copy) => writeJson(copy, 'tokenizer_config.json', { ...config, chat_template: chatTemplate })),
    );
    assert.equal(given, 'U:\na\r\nb\n[user]\nend', JSON.stringify(end));
    assert.equal(own.applyChatTemplate(messages), given, JSON.stringify(end));
  }
});

test('a conversation for a tokenizer without chat template is refused with the remedy', async () => {
  const tokenizer = await loadTokenizer(golden);
  assert.equal(tokenizer.hasChatTemplate, false);
  assert.throws(
    () => tokenizer.applyChatTemplate([{ role: 'user', content: 'hi' }]),
    (error) =>
      error instanceof UserError &&
      /has no chat template.*chatTemplatePath.*--chat_template_path.*chatTemplate\).*"chat_template"/.test(error.message),
  );
});
