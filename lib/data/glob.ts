/**
 * Patterns of paths as Hugging Face's datasets has them: `*` and `?` in a name, `[a-c]` and `[!a]` for one character, `**` for folders.
 * Matching takes no longer than path times pattern, whatever pattern a stranger's dataset has.
 */

/** What one character of a name must be; 'any' for as many as there are. */
type Part = 'any' | ((character: string) => boolean);

/** @returns whether a path, with `/` between folders, fits the pattern */
export function glob(pattern: string): (path: string) => boolean {
  const last = pattern.split('/').length - 1;
  // behind the last folders there is a file
  const names = pattern
    .split('/')
    .flatMap((name, at) => (name !== '**' ? [partsOf(name)] : at < last ? ['any' as const] : ['any' as const, partsOf('*')]));
  return (path) => fits(path.split('/'), names, (name, parts) => fits([...name], parts, (character, is) => is(character)));
}

function partsOf(name: string): Part[] {
  return [...name.matchAll(/\*+|\[(!?)(\][^\]]*|[^\]]+)\]|./gsu)].map(([written, not, set]): Part => {
    if (written.startsWith('*')) return 'any';
    if (written === '?') return () => true;
    if (set === undefined) return (character) => character === written;
    return (character) => isIn([...set], character) !== (not === '!');
  });
}

/** Whether a character is one of these, among which `a-c` are three. */
function isIn(set: readonly string[], character: string): boolean {
  for (let at = 0; at < set.length; at++) {
    const isRange = set[at + 1] === '-' && at + 2 < set.length;
    if (isRange ? set[at] <= character && character <= set[at + 2] : set[at] === character) return true;
    if (isRange) at += 2;
  }
  return false;
}

/** Whether values fit parts one by one, where 'any' stands for any number of values: the last one that was met takes one more if need be. */
function fits<P>(values: readonly string[], parts: ReadonlyArray<P | 'any'>, fitsOne: (value: string, part: P) => boolean): boolean {
  let [value, part] = [0, 0];
  let open: { part: number; value: number } | undefined;
  while (value < values.length) {
    const wanted = parts[part];
    if (wanted === 'any') open = { part: ++part, value };
    else if (part < parts.length && fitsOne(values[value], wanted)) [value, part] = [value + 1, part + 1];
    else if (open) [value, part] = [++open.value, open.part];
    else return false;
  }
  return parts.slice(part).every((rest) => rest === 'any');
}
