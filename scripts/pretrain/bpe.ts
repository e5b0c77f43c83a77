/**
 * Trains a byte-level BPE tokenizer (Sennrich et al. 2016; bytes as in GPT-2): words are cut by GPT-2's pattern, their bytes written
 * as printable characters, and the most frequent pair of neighbours is joined, again and again, until the vocabulary is full.
 */

/** GPT-2's pre-tokenizer pattern. */
export const GPT2_PATTERN = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

export interface Bpe {
  /** Token text (in byte characters) by id. */
  vocabulary: string[];
  merges: [string, string][];
}

/** GPT-2's table from a byte to a printable character. */
export function byteCharacters(): string[] {
  const table: string[] = [];
  let spare = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
    table.push(String.fromCharCode(printable ? byte : spare++));
  }
  return table;
}

/** Trains on texts until the vocabulary has `size` entries, special tokens first. Ties fall to the pair that sorts first. */
export function trainBpe(texts: Iterable<string>, size: number, specialTokens: readonly string[]): Bpe {
  const words = countWords(texts);
  const characters = byteCharacters();
  const vocabulary = [...specialTokens, ...[...characters].sort()];
  const merges: [string, string][] = [];
  const pairs = new PairCounts(words);
  while (vocabulary.length < size) {
    const best = pairs.mostFrequent();
    if (!best) break;
    merges.push(best);
    vocabulary.push(best[0] + best[1]);
    pairs.join(best);
  }
  return { vocabulary, merges };
}

interface Word {
  pieces: string[];
  count: number;
}

function countWords(texts: Iterable<string>): Word[] {
  const characters = byteCharacters();
  const encoder = new TextEncoder();
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const [word] of text.matchAll(GPT2_PATTERN)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return [...counts].map(([word, count]) => ({ pieces: Array.from(encoder.encode(word), (byte) => characters[byte]), count }));
}

/** How often each pair of neighbours occurs, kept up to date while pairs are joined. */
class PairCounts {
  private readonly counts = new Map<string, number>();
  private readonly where = new Map<string, Set<Word>>();

  constructor(words: readonly Word[]) {
    for (const word of words) this.add(word, 1);
  }

  private add(word: Word, sign: 1 | -1): void {
    for (let i = 0; i + 1 < word.pieces.length; i++) {
      const key = `${word.pieces[i]} ${word.pieces[i + 1]}`;
      this.counts.set(key, (this.counts.get(key) ?? 0) + sign * word.count);
      if (sign === 1) this.where.set(key, (this.where.get(key) ?? new Set()).add(word));
    }
  }

  /** The pair to join next; a pair that occurs only once is not worth an entry. */
  mostFrequent(): [string, string] | undefined {
    let bestKey = '';
    let bestCount = 1;
    for (const [key, count] of this.counts) {
      if (count > bestCount || (count === bestCount && count > 1 && key < bestKey)) {
        bestKey = key;
        bestCount = count;
      }
    }
    return bestKey ? (bestKey.split(' ') as [string, string]) : undefined;
  }

  join([left, right]: [string, string]): void {
    const key = `${left} ${right}`;
    for (const word of this.where.get(key) ?? []) {
      this.add(word, -1);
      word.pieces = joined(word.pieces, left, right);
      this.add(word, 1);
    }
    this.counts.delete(key);
    this.where.delete(key);
  }
}

function joined(pieces: readonly string[], left: string, right: string): string[] {
  const result: string[] = [];
  for (let i = 0; i < pieces.length; i++) {
    if (pieces[i] === left && pieces[i + 1] === right) {
      result.push(left + right);
      i++;
    } else result.push(pieces[i]);
  }
  return result;
}
