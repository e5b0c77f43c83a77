/**
 * The grammar's notation. `[a|b|c]` is a choice (may nest, an option may be empty), `{name}` is a slot.
 * `expand('[The|This] {s} is {o}.', { s: 'grass', o: 'green' }, random)`.
 */
import type { Random } from './random';

/** Values of the slots by name. */
export type Slots = Readonly<Record<string, string>>;

const CHOICE = /\[([^[\]]*)\]/;

/** Makes every choice, then fills every slot. Throws when a template names a slot that is not given. */
export function expand(template: string, slots: Slots, random: Random): string {
  let text = template;
  for (let match = CHOICE.exec(text); match; match = CHOICE.exec(text)) {
    text = text.slice(0, match.index) + random.pick(match[1].split('|')) + text.slice(match.index + match[0].length);
  }
  return fill(text, slots);
}

/** Fills the slots of a template without choices. */
export function fill(template: string, slots: Slots): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = slots[name];
    if (value === undefined) throw new Error(`Template "${template}" needs the slot "${name}"; give it in the fact's slots.`);
    return value;
  });
}

/** First letter in upper case. */
export const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** "a cat", "an owl". Words that sound like "you" at their start take "a". */
export const withArticle = (word: string): string => (/^(?!uni|use|euro)[aeiou]|^hour|^honest/i.test(word) ? `an ${word}` : `a ${word}`);
