/** The world in plain English: documents of stories, pages, lessons and quizzes, the same for the same seed. */
import type { Fact } from './facts';
import { FACTS } from './facts';
import { lesson, quiz, SUBJECTS, subjectPage } from './lessons';
import { PHRASES } from './phrases';
import type { Random } from './random';
import { makeRandom } from './random';
import { story } from './stories';

export interface WorldOptions {
  seed: number;
  /** How many documents to write. */
  documents: number;
}

/** What ships: about 3.4 million tokens of the shipped tokenizer. */
export const WORLD: WorldOptions = { seed: 2024, documents: 33000 };

/** Writes the documents. Each stands alone and is at most a page long. */
export function generateWorld({ seed, documents }: WorldOptions): string[] {
  const random = makeRandom(seed);
  // Sums and differences look alike and are learned last, so they come twice as often.
  const hard = FACTS.filter(({ relation }) => relation === 'add' || relation === 'subtract');
  const deck = dealer([...FACTS, ...hard], random);
  const subjects = dealer([...SUBJECTS.keys()], random);
  const relations = Object.keys(PHRASES);
  return Array.from({ length: documents }, () => {
    const draw = random.next();
    if (draw < 0.2) return story(random);
    if (draw < 0.33) {
      const [subject] = subjects(1);
      return subjectPage(subject, SUBJECTS.get(subject) as readonly Fact[], random);
    }
    if (draw < 0.5) return lesson(random.pick(relations), random);
    return quiz(deck(random.between(5, 12)), random);
  });
}

/** Deals from a shuffled deck and shuffles anew when it is used up, so that every entry comes equally often. */
function dealer<T>(entries: readonly T[], random: Random): (count: number) => T[] {
  let deck: T[] = [];
  return (count) => {
    const hand: T[] = [];
    while (hand.length < count) {
      if (deck.length === 0) deck = random.shuffle(entries);
      hand.push(deck.pop() as T);
    }
    return hand;
  };
}
