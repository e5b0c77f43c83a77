/** Showing the tokens of an example, so that one sees at a glance which of them the model is trained on. */
import { checkTokenizer, shown } from '../arguments';
import { displayHtml, escapeHtml } from '../display';
import { UserError } from '../errors';
import { isObject } from '../json';
import type { TokenizedExample, Tokenizer } from './types';

/** A stretch of text that one or more tokens make, all with or all without loss. */
interface Piece {
  text: string;
  ids: number[];
  loss: boolean;
}

/**
 * Shows an example's tokens in the notebook, those that carry loss coloured; as text in a terminal.
 * @throws UserError when it is no tokenized example, or no tokenizer is given
 */
export function showTokens(tokenized: TokenizedExample, tokenizer: Tokenizer): void {
  if (!isObject(tokenized) || !('inputIds' in tokenized && 'lossMask' in tokenized))
    throw new UserError(
      `The example of showTokens is ${shown(tokenized)}; give what tokenizeExample(dataset.rows[0], model.tokenizer) returns, or an item of a trainer.`,
    );
  checkTokenizer('showTokens', tokenizer);
  displayHtml(tokensHtml(tokenized, tokenizer), tokensText(tokenized, tokenizer));
}

/**
 * The view as HTML. Colour comes from <mark> and <b>, which stay where a page strips style attributes (GitHub does):
 * tokens that carry loss are marked and bold, the others plain; tokens are told apart by thin bars.
 */
export function tokensHtml(tokenized: TokenizedExample, tokenizer: Tokenizer): string {
  const body = pieces(tokenized, tokenizer).map(({ text, ids, loss }) => {
    const shown = escapeHtml(visible(text)).replaceAll('\n', '<br>');
    const title = `id ${ids.join(', ')}`;
    return loss
      ? `<mark title="${title}" style="background:#ffd54f;color:#1a1a1a;border-radius:3px;padding:1px 0;border-right:1px solid #fff"><b>${shown}</b></mark>`
      : `<span title="${title}" style="color:#78909c;border-right:1px solid rgba(128,128,128,.35)">${shown}</span>`;
  });
  return `<p>${summary(tokenized)}</p><p style="font-family:monospace;line-height:1.7;white-space:pre-wrap">${body.join('')}</p>`;
}

/** The view as plain text: stretches that carry loss stand between ⟦ and ⟧. */
export function tokensText(tokenized: TokenizedExample, tokenizer: Tokenizer): string {
  let text = '';
  let open = false;
  for (const piece of pieces(tokenized, tokenizer)) {
    if (piece.loss !== open) text += piece.loss ? '⟦' : '⟧';
    open = piece.loss;
    text += piece.text;
  }
  return `${summary(tokenized)}\n${text}${open ? '⟧' : ''}`;
}

function summary({ inputIds, lossMask, truncated, fullLength }: TokenizedExample): string {
  const targets = lossMask.reduce((sum, bit) => sum + bit, 0);
  const cut = truncated ? ` (cut from ${fullLength})` : '';
  return `${inputIds.length} tokens${cut}, ${targets} of them carry loss.`;
}

/** One piece a token, but tokens that only together make a character are one piece. */
function pieces({ inputIds, lossMask }: TokenizedExample, tokenizer: Tokenizer): Piece[] {
  const all: Piece[] = [];
  for (let at = 0; at < inputIds.length; ) {
    const loss = lossMask[at] === 1;
    let text = tokenizer.tokenText(inputIds[at]);
    let count = 1;
    // a character takes at most four bytes, so four tokens are enough to complete one
    for (let more = 2; text.includes('\ufffd') && more <= 4 && at + more <= inputIds.length; more++) {
      const joined = tokenizer.decode(inputIds.slice(at, at + more), { skipSpecialTokens: false });
      if (!joined.includes('\ufffd') && lossMask[at + more - 1] === lossMask[at]) [text, count] = [joined, more];
    }
    all.push({ text, ids: Array.from(inputIds.slice(at, at + count)), loss });
    at += count;
  }
  return all;
}

/** Shows what would otherwise be invisible: a line's end. */
function visible(text: string): string {
  return text.replaceAll('\n', '↵\n');
}
