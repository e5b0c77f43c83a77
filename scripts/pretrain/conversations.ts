/**
 * Conversations in which most questions cannot be understood alone: "And Italy?" takes up the question before, "Which language do
 * people speak there?" its subject. In half of them a system message says who answers, and the answers are in that person's words.
 */
import { FACTS, type Fact } from './facts';
import { INSTRUCTIONS, makeInstructions } from './instructions';
import { PHRASES } from './phrases';
import { makeRandom, type Random } from './random';
import { fill } from './template';

export interface Turn {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** A conversation with the facts that its answers tell, in order. */
export interface TracedConversation {
  messages: Turn[];
  facts: string[];
}

export interface ConversationSet {
  train: TracedConversation[];
  test: TracedConversation[];
}

export const CONVERSATIONS = { seed: 11, train: 1400, longest: 4 } as const;

export const PIRATE = 'You are a pirate.';

/** A question that differs from the one before by its subject alone. */
const AGAIN = ['And {x}?', 'What about {x}?'];

/** Questions about the subject of the question before, by relation: those of countries and of animals. */
const MORE: Readonly<Record<string, readonly string[]>> = {
  capital: ['What is its capital?', 'Which city is its capital?'],
  language: ['Which language do people speak there?', 'What is its language?'],
  continent: ['On which continent is it?', 'Which continent is it a part of?'],
  currency: ['Which money do people use there?', 'What is its money called?'],
  river: ['Which river flows through it?', 'What is a great river there?'],
  food: ['Which food is it famous for?', 'What do people love to eat there?'],
  young: ['What is its young called?', 'And what is its baby called?'],
  sound: ['What sound does it make?', 'What does it do when it is loud?'],
  home: ['Where does it live?', 'Where do you find it?'],
  legs: ['How many legs does it have?', 'And how many legs?'],
  cover: ['What is it covered with?', 'What covers its body?'],
  eats: ['What does it like to eat?', 'And what does it eat?'],
};

/** Relations whose subjects have no other. */
const ALONE = ['opposite', 'synonym', 'rhyme', 'plural', 'past', 'kind', 'colour', 'first', 'last'] as const;

/**
 * Makes the training conversations out of facts that the instructions' training rows tell, and one test conversation for each fact that they
 * hold out: it is the answer to the last question, which takes up what was said before.
 */
export function makeConversations({ seed, train: count, longest }: { seed: number; train: number; longest: number }): ConversationSet {
  const random = makeRandom(seed);
  const heldOut = new Set(makeInstructions(INSTRUCTIONS).test.map(({ fact }) => fact));
  const spoken = FACTS.filter(({ relation }) => relation in MORE || (ALONE as readonly string[]).includes(relation));
  const known = spoken.filter(({ id }) => !heldOut.has(id));
  const unknown = spoken.filter(({ id }) => heldOut.has(id));
  const beginnings = Array.from({ length: Math.ceil(count / known.length) }, () => random.shuffle(known)).flat();
  return {
    train: beginnings.slice(0, count).map((first) => {
      const facts = [first];
      for (let turns = random.between(2, longest); facts.length < turns; ) facts.push(nextFact(facts, known, random));
      return spell(facts, random);
    }),
    test: random.shuffle(unknown).map((last) => spell([...leadingTo(last, known, random), last], random)),
  };
}

/** A fact that has not come up, for the next question: mostly one that takes up the last, by its relation or by its subject. */
function nextFact(facts: readonly Fact[], known: readonly Fact[], random: Random): Fact {
  const fresh = known.filter((fact) => !facts.includes(fact));
  const about = takenUp(facts[facts.length - 1], fresh);
  return about.length === 0 || random.chance(0.15) ? random.pick(fresh) : random.pick(random.pick(about));
}

/** One or two facts before a last one, that it takes up. */
function leadingTo(last: Fact, known: readonly Fact[], random: Random): Fact[] {
  const before = random.pick(random.pick(takenUp(last, known)));
  return random.chance(0.5) ? [nextFact([before], known, random), before] : [before];
}

/** Facts of the same relation, and of the same subject, as far as there are some. */
function takenUp({ relation, subject }: Fact, known: readonly Fact[]): Fact[][] {
  const sameRelation = known.filter((other) => other.relation === relation && other.subject !== subject);
  const sameSubject = relation in MORE ? known.filter((other) => other.subject === subject && isMore(other, relation)) : [];
  return [sameRelation, sameSubject].filter(({ length }) => length > 0);
}

const isMore = (other: Fact, relation: string): boolean => other.relation !== relation && other.relation in MORE;

function spell(facts: readonly Fact[], random: Random): TracedConversation {
  const isPirate = random.chance(0.5);
  const messages: Turn[] = isPirate ? [{ role: 'system', content: PIRATE }] : [];
  for (const [index, fact] of facts.entries()) {
    const { question, answer } = ask(fact, facts[index - 1], random);
    messages.push({ role: 'user', content: question }, { role: 'assistant', content: isPirate ? `${answer}, arr!` : answer });
  }
  return { messages, facts: facts.map(({ id }) => id) };
}

/** A question for a fact, as short as what was said before allows. */
function ask(fact: Fact, before: Fact | undefined, random: Random): { question: string; answer: string } {
  const [question, answer] = random.pick(PHRASES[fact.relation].ask).map((phrase) => fill(phrase, fact.slots));
  if (before?.relation === fact.relation) {
    const usesArticle = PHRASES[fact.relation].ask[0][0].includes('{as}') || fact.relation === 'young';
    return { question: random.pick(AGAIN).replace('{x}', usesArticle ? fact.slots.as : fact.slots.s), answer };
  }
  if (before?.subject === fact.subject && before.relation in MORE) return { question: random.pick(MORE[fact.relation]), answer };
  return { question, answer };
}
