/** Python's `strip`: of white space as Python knows it, or of any characters. */

/** What Python strips where it is not told what. U+FEFF is none to it, U+0085 and U+001C to U+001F are. */
export const WHITE_SPACE =
  '\t\n\v\f\r\u001c\u001d\u001e\u001f \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000';

/** @param side the left end, the right one, or both */
export function stripText(text: string, side: 'l' | 'r' | '' = '', characters: string = WHITE_SPACE): string {
  const set = new Set(characters);
  // only the characters at the ends are looked at: texts may be long
  let [start, end] = [0, text.length];
  while (side !== 'r' && start < end) {
    const letter = String.fromCodePoint(text.codePointAt(start) ?? 0);
    if (!set.has(letter)) break;
    start += letter.length;
  }
  while (side !== 'l' && start < end) {
    const letter = [...text.slice(Math.max(start, end - 2), end)].at(-1) ?? '';
    if (!set.has(letter)) break;
    end -= letter.length;
  }
  return text.slice(start, end);
}
