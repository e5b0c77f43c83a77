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

/** "{O}" -> "{o}": the answer as it is written down, without a capital letter of its own. */
const bare = (answer: string): string =>
  answer
    .replace(/\{([SOA])(s|o)?\}/g, (_, head: string, tail = '') => `{${head.toLowerCase()}${tail}}`)
    .replace('{Home}', '{home}')
    .replace(/^(The|In|It|With|A) /, (word) => word.toLowerCase());

/** A question and its answer in speech, between an elder and a child. */
export function exchange(fact: Fact, random: Random): string {
  const [question, answer] = random.pick(PHRASES[fact.relation].ask);
  const q = expand(question, fact.slots, random);
  const spoken = expand(answer, fact.slots, random);
  const written = expand(bare(answer), fact.slots, random);
  const elder = random.pick(ELDERS);
  const child = random.pick(PEOPLE);
  const say = statement(fact, random);
  const slots = { q, qq: inner(q), spoken: inner(spoken), written, elder, Elder: capital(elder), name: child.name, he: child.he, say };
  return expand(random.pick(EXCHANGES), slots, random).trim();
}

/** Quotation marks inside speech are single ones. */
const inner = (text: string): string => text.replaceAll('"', "'");

const EXCHANGES = [
  '"{qq}" asked {elder}. "{spoken}," said {name}.',
  '{Elder} asked, "{qq}" "{spoken}," [said|answered] {name}.',
  '"{qq}" asked {name}. "{spoken}," said {elder}.',
  '{Elder} asked: "{qq}" {name} wrote "{written}" [on the board|on the paper|in the book].',
  '"{qq}" asked {elder}. {name} wrote "{written}".',
  '"{qq}" {name} wrote "{written}", and that was right.',
  '"{qq}" {name} did not know. "{spoken}," said {elder}. [{say}|]',
  '"{name}, [please tell me|do you know|listen]: {qq}" "{spoken}!" [said {name}|{he} said|{he} answered].',
  '{q} {say}',
  '{q} The answer is "{written}".',
  '{name} asked {elder}, "{qq}" The answer was "{written}".',
];

/** A page about one subject: all that is known of it, some of it as questions. */
export function subjectPage(subject: string, facts: readonly Fact[], random: Random): string {
  const chosen = random.shuffle(facts).slice(0, 9);
  const sentences = chosen.map((fact) => (random.chance(0.25) ? exchange(fact, random) : statement(fact, random)));
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
  const facts = random.shuffle(factsOf(relation)).slice(0, random.between(6, 12));
  const slots = { name: random.pick(PEOPLE).name, elder: random.pick(ELDERS), topic: TOPICS[relation] };
  const opening = expand(random.pick(LESSON_OPENINGS), slots, random);
  const body = facts.map((fact) => (random.chance(0.45) ? exchange(fact, random) : statement(fact, random)));
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
  const slots = { name: random.pick(PEOPLE).name, other: random.pick(PEOPLE).name, elder: random.pick(ELDERS) };
  const opening = expand(random.pick(QUIZ_OPENINGS), slots, random);
  return [opening, ...facts.map((fact) => (random.chance(0.75) ? exchange(fact, random) : statement(fact, random)))].join(' ').trim();
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
