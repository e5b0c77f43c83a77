/** Documents that tell facts: pages about one subject, lessons about one relation, quizzes and notes in any order. */
import type { Fact } from './facts';
import { FACTS, factsOf } from './facts';
import { ELDERS, PEOPLE } from './lexicon/people';
import { PHRASES } from './phrases';
import type { Random } from './random';
import { capital, expand } from './template';

/** One sentence that says the fact. */
export function statement(fact: Fact, random: Random): string {
  return expand(random.pick(PHRASES[fact.relation].say), fact.slots, random);
}

/** A question and its answer in speech: mostly bare, now and then with an elder and a child. */
export function exchange(fact: Fact, random: Random): string {
  const [question, answer] = random.pick(PHRASES[fact.relation].ask);
  const elder = random.pick(ELDERS);
  const slots = {
    q: expand(question, fact.slots, random),
    a: expand(answer, fact.slots, random),
    say: statement(fact, random),
    elder,
    Elder: capital(elder),
    name: random.pick(PEOPLE).name,
  };
  return expand(random.chance(0.6) ? '"{q}" "{a}."' : random.pick(EXCHANGES), slots, random).trim();
}

const EXCHANGES = [
  '"{q}" asked {elder}. "{a}," said {name}.',
  '{Elder} asked, "{q}" "{a}," [said|answered] {name}.',
  '"{q}" asked {name}. "{a}," said {elder}.',
  '"{q}" {name} did not know. "{a}," said {elder}.',
  '"{q}" asked {elder}. "{a}!" said {name}.',
  '{q} {say}',
  '{say} "{q}" "{a}."',
];

/** A page about one subject: all that is known of it, some of it as questions. */
export function subjectPage(subject: string, facts: readonly Fact[], random: Random): string {
  const chosen = random.shuffle(facts).slice(0, 9);
  const sentences = chosen.map((fact) => (random.chance(0.4) ? exchange(fact, random) : statement(fact, random)));
  if (random.chance(0.4)) sentences.push(statement(random.pick(facts), random));
  // Words are talked about in quotation marks, names are not.
  const title = capital(subject) === subject ? subject : `"${subject}"`;
  const opening = expand(random.pick(PAGE_OPENINGS), { title, name: random.pick(PEOPLE).name }, random);
  return [opening, ...sentences].filter(Boolean).join(' ');
}

const PAGE_OPENINGS = [
  '',
  '',
  'What do we know [about|of] {title}?',
  'Here is [a page|a short text|something] about {title}.',
  '{name} [wrote|read|learned] about {title} [today|at school|in a book].',
];

/** A lesson: many facts of one relation. */
export function lesson(relation: string, random: Random): string {
  const facts = random.shuffle(factsOf(relation)).slice(0, random.between(6, 14));
  const slots = { name: random.pick(PEOPLE).name, elder: random.pick(ELDERS), topic: TOPICS[relation] };
  const opening = expand(random.pick(LESSON_OPENINGS), slots, random);
  const body = facts.map((fact) => (random.chance(0.55) ? exchange(fact, random) : statement(fact, random)));
  return `${opening} ${body.join(' ')}`;
}

const LESSON_OPENINGS = [
  'Today we [learn|talk|read] about {topic}.',
  '{name} [has|had] a [lesson|book] about {topic}.',
  'This [page|text|lesson] is about {topic}.',
  '{name} sat with {elder} and learned about {topic}.',
  '[A few words|Some notes] about {topic}.',
];

const TOPICS: Readonly<Record<string, string>> = {
  capital: 'countries and their capitals',
  language: 'countries and their languages',
  continent: 'countries and continents',
  currency: 'countries and their money',
  river: 'rivers',
  food: 'food from many countries',
  young: 'baby animals',
  sound: 'the sounds of animals',
  home: 'the homes of animals',
  legs: 'the legs of animals',
  cover: 'fur, feathers and wool',
  eats: 'what animals eat',
  opposite: 'opposites',
  synonym: 'words that mean the same',
  rhyme: 'rhymes',
  plural: 'plurals',
  past: 'today and yesterday',
  kind: 'kinds of things',
  colour: 'colours',
  job: 'people and their jobs',
  first: 'first letters',
  last: 'last letters',
  count: 'counting letters',
  spell: 'spelling',
  add: 'adding numbers',
  subtract: 'taking away',
  next: 'counting',
  numeral: 'numbers and words',
  dayafter: 'the days of the week',
  monthafter: 'the months of the year',
  monthdays: 'the days of the months',
};

/** A quiz: facts of every kind, asked and answered. */
export function quiz(facts: readonly Fact[], random: Random): string {
  const [{ name }, { name: other }] = random.shuffle(PEOPLE);
  const slots = { name, other, elder: random.pick(ELDERS) };
  const opening = expand(random.pick(QUIZ_OPENINGS), slots, random);
  return [opening, ...facts.map((fact) => (random.chance(0.65) ? exchange(fact, random) : statement(fact, random)))].join(' ').trim();
}

const QUIZ_OPENINGS = [
  '',
  '{name} and {other} played a quiz.',
  'It was time for the [big |school |]quiz.',
  '{name} likes questions.',
  'The class had a test [today|in the morning|on Monday|on Friday].',
  '{name} and {other} asked [each other|{elder}] [many|some] questions.',
];

/** Facts gathered by what they are about. */
export const SUBJECTS: ReadonlyMap<string, readonly Fact[]> = gather();

function gather(): Map<string, Fact[]> {
  const bySubject = new Map<string, Fact[]>();
  for (const fact of FACTS) bySubject.set(fact.subject, [...(bySubject.get(fact.subject) ?? []), fact]);
  return new Map([...bySubject].filter(([, facts]) => facts.length > 1));
}
