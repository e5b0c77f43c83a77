/** Every fact of the world. A fact belongs to one relation; whatever says it, asks it or turns it round carries the same id. */
import type { Animal } from './lexicon/animals';
import { ANIMALS } from './lexicon/animals';
import { COUNTRIES } from './lexicon/countries';
import { COLOURS, JOBS, KINDS, MASS_NOUNS, OPPOSITES, PASTS, PLURALS, RHYMES, SPELLING_WORDS, SYNONYMS } from './lexicon/words';
import type { Slots } from './template';
import { capital, withArticle } from './template';

export interface Fact {
  /** relation:subject, for example "capital:Peru". */
  id: string;
  relation: string;
  /** What the fact is about; documents about one subject gather its facts by this name. */
  subject: string;
  slots: Slots;
}

const DAYS = ['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'];
const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const UNITS = `zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen`.split(/\s+/);
const TENS = ['', '', 'twenty', 'thirty', 'forty', 'fifty'];

/** 23 -> "twenty-three"; for 0 to 59. */
function numberWord(n: number): string {
  if (n < 20) return UNITS[n];
  return n % 10 ? `${TENS[Math.floor(n / 10)]}-${UNITS[n % 10]}` : TENS[n / 10];
}

/** s, o and their forms: S and O begin a sentence, as and ao carry an article, As and Ao do both. */
function fact(relation: string, s: string, o: string, more: Slots = {}): Fact {
  const slots = {
    s,
    o,
    S: capital(s),
    O: capital(o),
    as: withArticle(s),
    ao: withArticle(o),
    As: capital(withArticle(s)),
    Ao: capital(withArticle(o)),
    ...more,
  };
  return { id: `${relation}:${s}`, relation, subject: s, slots };
}

function countryFacts(): Fact[] {
  const relations = ['capital', 'language', 'continent', 'currency', 'river', 'food'] as const;
  return COUNTRIES.flatMap((country) => relations.filter((r) => country[r]).map((r) => fact(r, country.name, country[r])));
}

function animalFacts(): Fact[] {
  const relations = ['young', 'sound', 'home', 'legs', 'cover', 'eats'] as const;
  return ANIMALS.flatMap((animal) =>
    relations.filter((r) => animal[r]).map((r) => fact(r, animal.name, animal[r], animalForms(animal, animal[r]))),
  );
}

function animalForms(animal: Animal, object: string): Slots {
  const home = /^(forest|jungle|sea|ocean|desert|water)$/.test(animal.home) ? `the ${animal.home}` : withArticle(animal.home);
  return { ps: animal.plural, Ps: capital(animal.plural), home, Home: capital(home), article: withArticle(object).split(' ')[0] };
}

function wordFacts(): Fact[] {
  const opposites = OPPOSITES.map(([a, b]) => fact('opposite', a, b));
  const synonyms = SYNONYMS.map(([a, b]) => fact('synonym', a, b));
  const rhymes = RHYMES.map(([a, b]) => fact('rhyme', a, b));
  const plurals = PLURALS.map(([a, b]) => fact('plural', a, b));
  const pasts = PASTS.map(([a, b]) => fact('past', a, b));
  const kinds = KINDS.map(([a, b]) => {
    const subject = MASS_NOUNS.has(a) ? a : withArticle(a);
    return fact('kind', a, b, { as: subject, As: capital(subject) });
  });
  const jobs = JOBS.map(([work, worker]) => fact('job', worker, work));
  // "a lemon" is spoken of as "a lemon is yellow", and called by the bare word in a list.
  const colours = COLOURS.map(([thing, colour]) => {
    const bare = thing.replace(/^(an?|the) /, '');
    return { ...fact('colour', bare, colour, { as: thing, As: capital(thing) }) };
  });
  return [...opposites, ...synonyms, ...rhymes, ...plurals, ...pasts, ...kinds, ...jobs, ...colours];
}

function spellingFacts(): Fact[] {
  return SPELLING_WORDS.flatMap((word) => [
    fact('first', word, word[0]),
    fact('last', word, word[word.length - 1]),
    fact('count', word, String(word.length), { word: numberWord(word.length) }),
    fact('spell', word, word.split('').join('-'), { spaced: word.split('').join(', ') }),
  ]);
}

function numberFacts(): Fact[] {
  const facts: Fact[] = [];
  for (let a = 1; a <= 9; a++) {
    for (let b = a; b <= 9; b++) facts.push(sum(a, b));
  }
  for (let a = 2; a <= 12; a++) {
    for (let b = 1; b < a && b <= 8; b++) facts.push(difference(a, b));
  }
  for (let n = 1; n <= 30; n++) facts.push(fact('next', String(n), String(n + 1), { a: String(n), b: String(n + 1) }));
  for (let n = 1; n <= 20; n++) facts.push(fact('numeral', String(n), numberWord(n), { S: String(n) }));
  return facts;
}

function sum(a: number, b: number): Fact {
  const slots = { a: String(a), b: String(b), wa: numberWord(a), wb: numberWord(b), wo: numberWord(a + b) };
  return fact('add', `${a} + ${b}`, String(a + b), slots);
}

function difference(a: number, b: number): Fact {
  const slots = { a: String(a), b: String(b), wa: numberWord(a), wb: numberWord(b), wo: numberWord(a - b) };
  return fact('subtract', `${a} - ${b}`, String(a - b), slots);
}

function calendarFacts(): Fact[] {
  const follow = (relation: string, names: readonly string[]): Fact[] =>
    names.map((name, i) => fact(relation, name, names[(i + 1) % names.length]));
  const lengths = MONTHS.map((month, i) => fact('monthdays', month, String(MONTH_DAYS[i]), { wo: numberWord(MONTH_DAYS[i]) }));
  return [...follow('dayafter', DAYS), ...follow('monthafter', MONTHS), ...lengths];
}

/** All facts, in a fixed order. */
export const FACTS: readonly Fact[] = [
  ...countryFacts(),
  ...animalFacts(),
  ...wordFacts(),
  ...spellingFacts(),
  ...numberFacts(),
  ...calendarFacts(),
];

/** The facts of one relation. */
export function factsOf(relation: string): readonly Fact[] {
  return byRelation.get(relation) ?? [];
}

const byRelation = new Map<string, Fact[]>();
for (const each of FACTS) byRelation.set(each.relation, [...(byRelation.get(each.relation) ?? []), each]);
