/** Tokens that stand for single bytes, in what is decoded. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { test } from 'node:test';
import { TextStream } from '../../lib/model/text-stream';
import { projectRoot } from '../../lib/project';
import { loadTokenizer } from '../../lib/text';

/** `<0x00>` is token 3 of this one. */
const folder = path.join(projectRoot, 'test/text/sentencepiece');
const idsOf = (bytes: readonly number[]): number[] => bytes.map((byte) => byte + 3);

test('bytes that are no UTF-8 become as many replacement characters, and a byte order mark stays, as in Python', async () => {
  const tokenizer = await loadTokenizer(folder);
  const [the] = tokenizer.encode('the').slice(-1);
  // decoded by the tokenizers library in Rust
  const cases: Array<[number[], string]> = [
    [[0xf0, 0x9f], '\ufffd\ufffd'],
    [[0x0a, 0xf0, 0x9f], '\ufffd\ufffd\ufffd'],
    [[0xc3, 0xa9, 0x41], 'éA'],
    [[0xef, 0xbb, 0xbf, 0x41], '\ufeffA'],
    [[0x41, 0xc3], '\ufffd\ufffd'],
    [[0xf0, 0x9f, 0x99, 0x82], '🙂'],
  ];
  for (const [bytes, text] of cases) {
    assert.equal(tokenizer.decode(idsOf(bytes)), text);
    assert.equal(tokenizer.decode([the, ...idsOf(bytes), the]), `the${text}the`);
  }
});

test('whole characters come out of a stream one after the other, though a row of bytes without its last is no text', async () => {
  const tokenizer = await loadTokenizer(folder);
  const stream = new TextStream(tokenizer, [], []);
  const pieces = idsOf([...Buffer.from('é🙂\n')]).map((id) => stream.push(id));
  assert.deepEqual(pieces, ['', 'é', '', '', '', '🙂', '\n']);
  assert.equal(stream.finish(), '');
});

test('a stream goes on from a prompt that ends with bytes, wherever its last tokens begin', async () => {
  const tokenizer = await loadTokenizer(folder);
  for (const prompt of ['ཀཁ', 'ཀཁག', '🙂🙂', 'é🙂'])
    for (let cut = 0; cut < 4; cut++) {
      const bytes = [...Buffer.from(`${prompt}${'a'.repeat(cut)}`)];
      const stream = new TextStream(tokenizer, idsOf(bytes), []);
      const pieces = idsOf([...Buffer.from('ང🙃!')]).map((id) => stream.push(id));
      assert.deepEqual(
        pieces.filter((piece) => piece !== ''),
        ['ང', '🙃', '!'],
        `${prompt} ${cut}`,
      );
    }
});
