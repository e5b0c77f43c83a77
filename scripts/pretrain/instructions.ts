/** The instruction set in Alpaca's format: a training part and a test part that share no fact. */
import type { Fact } from './facts';
import { FACTS } from './facts';
import { PHRASES } from './phrases';
import type { Random } from './random';
import { makeRandom } from './random';
import { fill } from './template';

/** One row in Alpaca's format. */
export interface InstructionRow {
  instruction: string;
  input: string;
  output: string;
}

/** A row with what it is made from. */
export interface TracedRow {
  row: InstructionRow;
  fact: string;
  kind: string;
}

export interface InstructionSet {
  train: TracedRow[];
  test: TracedRow[];
}

export const INSTRUCTIONS = { seed: 7, testShare: 0.18, rowsPerFact: 2.4 } as const;

/**
 * Holds out a share of the facts of every relation. A held-out fact gives one test row and no training row; every other
 * fact gives about `rowsPerFact` training rows in different words.
 */
export function makeInstructions({
  seed,
  testShare,
  rowsPerFact,
}: {
  seed: number;
  testShare: number;
  rowsPerFact: number;
}): InstructionSet {
  const random = makeRandom(seed);
  const train: TracedRow[] = [];
  const test: TracedRow[] = [];
  for (const facts of groupByRelation().values()) {
    const shuffled = random.shuffle(facts);
    const heldOut = Math.max(1, Math.round(shuffled.length * testShare));
    test.push(...shuffled.slice(0, heldOut).flatMap((fact) => rowsOf(fact, 1, random)));
    // A relation with few facts needs more rows for each, or its phrases would hardly be met.
    const wanted = shuffled.length < 20 ? 6 : rowsPerFact;
    const rows = (): number => Math.floor(wanted) + (random.chance(wanted % 1) ? 1 : 0);
    train.push(...shuffled.slice(heldOut).flatMap((fact) => rowsOf(fact, rows(), random)));
  }
  return { train: distinct(random.shuffle(train)), test: distinct(random.shuffle(test)) };
}

function groupByRelation(): Map<string, Fact[]> {
  const groups = new Map<string, Fact[]>();
  for (const fact of FACTS) groups.set(fact.relation, [...(groups.get(fact.relation) ?? []), fact]);
  return groups;
}

function rowsOf(fact: Fact, count: number, random: Random): TracedRow[] {
  const { kind, ask, tasks } = PHRASES[fact.relation];
  const questions = ask.map(([question, answer]) => [question, '', answer] as const);
  return random
    .shuffle([...questions, ...tasks])
    .slice(0, count)
    .map(([instruction, input, output]) => ({
      row: { instruction: fill(instruction, fact.slots), input: fill(input, fact.slots), output: fill(output, fact.slots) },
      fact: fact.id,
      kind,
    }));
}

/** Two facts may lead to the same question (5 + 5 either way round); it is kept once. */
function distinct(rows: TracedRow[]): TracedRow[] {
  const seen = new Set<string>();
  return rows.filter(({ row }) => {
    const key = `${row.instruction}\n${row.input}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
