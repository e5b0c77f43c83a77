import assert from 'node:assert/strict';
import * as path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { loadTokenizer, tokenizeExample, tokensHtml, tokensText } from '../../lib/text';

const tokenizer = () => loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));

test('tokens that carry loss stand out as text', async () => {
  const t = await tokenizer();
  const shown = tokensText(tokenizeExample({ prompt: 'Capital of France?\n', completion: 'Paris' }, t), t);
  assert.match(shown, /^\d+ tokens, \d+ of them carry loss\.\nCapital of France\?\n⟦Paris<\|endoftext\|>⟧$/);
});

test('tokens that carry loss are marked without the help of style attributes, and text is escaped', async () => {
  const t = await tokenizer();
  const html = tokensHtml(tokenizeExample({ prompt: '<script>alert(1)</script>\n', completion: 'a & b' }, t), t);
  assert.ok(!html.includes('<script>'));
  const bare = html.replace(/ (?:style|title)="[^"]*"/g, '');
  const marked = [...bare.matchAll(/<mark><b>(.*?)<\/b><\/mark>/g)].map((match) => match[1]).join('');
  assert.equal(marked, 'a &amp; b&lt;|endoftext|&gt;');
  assert.match(bare, /↵<br>/);
});

test('a character that takes several tokens is shown as one', async () => {
  const t = await tokenizer();
  const shown = tokensText(tokenizeExample({ prompt: 'Say 😀é: ', completion: '日本 😀' }, t), t);
  assert.ok(!shown.includes('\ufffd'), shown);
  assert.match(shown, /⟦日本 😀<\|endoftext\|>⟧/);
});

test('a word of a SentencePiece vocabulary is shown with its space', async () => {
  const t = await loadTokenizer(path.join(projectRoot, 'test/text/sentencepiece'));
  const shown = tokensText(tokenizeExample({ prompt: 'one two\n', completion: 'three é' }, t), t);
  assert.match(shown, / one two\n⟦three é<\/s>⟧/);
});
