/** Finding what a misspelt name was meant to be. */

/**
 * The known name nearest to `name` (fewest inserted, deleted, changed or swapped letters), case and separators aside; undefined when each
 * would take more than half of the name's letters.
 */
export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let fewest = Math.floor(plain(name).length / 2) + 1;
  for (const candidate of known) {
    const distance = edits(plain(name), plain(candidate));
    if (distance < fewest) [best, fewest] = [candidate, distance];
  }
  return best;
}

/** The end of a sentence that refuses a name: the nearest known one, or where all of them are listed. */
export function orNearest(name: string, known: readonly string[], list: string): string {
  const found = nearest(name, known);
  return found === undefined ? list : `the nearest is ${found}`;
}

function plain(name: string): string {
  return name.toLowerCase().replace(/[-_\s]/g, '');
}

/** Damerau-Levenshtein distance (adjacent swaps count one). */
function edits(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = last[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row[j] = Math.min(change, last[j] + 1, row[j - 1] + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) row[j] = Math.min(row[j], beforeLast[j - 2] + 1);
    }
    [beforeLast, last] = [last, row];
  }
  return last[b.length];
}
