/**
 * How a relation is spoken of. `say` are whole sentences; `ask` are questions with their answer; `tasks` are further
 * instructions with an optional input and the output. The instruction set is made of questions and tasks. An answer begins with
 * a capital letter wherever it stands, as people and instruction sets write it. Slots are those of facts.ts, the notation is
 * that of template.ts.
 */

export interface Phrases {
  /** The kind under which the instruction set counts it. */
  kind: string;
  say: readonly string[];
  ask: readonly (readonly [question: string, answer: string])[];
  tasks: readonly (readonly [instruction: string, input: string, output: string])[];
}

const COUNTRY_PHRASES: Record<string, Phrases> = {
  capital: {
    kind: 'countries',
    say: [
      'The capital of {s} is {o}.',
      '{S} has a [fine|large|busy|beautiful] capital, and it is called {o}.',
      'If you [go|travel|fly] to {s}, see {o}, the capital.',
    ],
    ask: [
      ['What is the capital of {s}?', '{O}'],
      ['Which city is the capital of {s}?', '{O}'],
    ],
    tasks: [
      ['Name the capital of the country.', 'Country: {s}', '{O}'],
      ['Complete the sentence.', 'The capital of {s} is', '{O}'],
      ['Answer in a full sentence: what is the capital of {s}?', '', 'The capital of {s} is {o}.'],
    ],
  },
  language: {
    kind: 'countries',
    say: ['[The|Most] people of {s} speak {o}.', 'In {s}, people speak {o}.', 'The language of {s} is {o}.'],
    ask: [
      ['Which language do people speak in {s}?', '{O}'],
      ['What is the language of {s}?', '{O}'],
    ],
    tasks: [
      ['Name the language of the country.', 'Country: {s}', '{O}'],
      ['Complete the sentence.', 'The language of {s} is', '{O}'],
      ['Answer in a full sentence: which language do people speak in {s}?', '', 'In {s}, people speak {o}.'],
    ],
  },
  continent: {
    kind: 'countries',
    say: ['{S} is [a country |]in {o}.', '{S} is a part of {o}.', 'The continent of {s} is {o}.'],
    ask: [
      ['On which continent is {s}?', '{O}'],
      ['Which continent is {s} a part of?', '{O}'],
    ],
    tasks: [
      ['Name the continent of the country.', 'Country: {s}', '{O}'],
      ['Complete the sentence.', 'The continent of {s} is', '{O}'],
    ],
  },
  currency: {
    kind: 'countries',
    say: ['In {s}, people pay with the {o}.', 'The money of {s} is the {o}.', 'When you [buy bread|shop|pay] in {s}, you use the {o}.'],
    ask: [
      ['What is the money of {s} called?', '{O}'],
      ['Which money do people use in {s}?', '{O}'],
    ],
    tasks: [['Name the money of the country.', 'Country: {s}', '{O}']],
  },
  river: {
    kind: 'countries',
    say: ['The [long |great |wide |]river {o} flows through {s}.', 'A great river in {s} is the {o}.'],
    ask: [
      ['Which river flows through {s}?', '{O}'],
      ['What is a great river in {s}?', '{O}'],
    ],
    tasks: [['Name a river of the country.', 'Country: {s}', '{O}']],
  },
  food: {
    kind: 'countries',
    say: ['A [famous|favourite] food in {s} is {o}.', 'People in {s} love to eat {o}.', '{S} is famous for {o}.'],
    ask: [
      ['Which food is {s} famous for?', '{O}'],
      ['What do people love to eat in {s}?', '{O}'],
    ],
    tasks: [['Name a famous food of the country.', 'Country: {s}', '{O}']],
  },
};

const ANIMAL_PHRASES: Record<string, Phrases> = {
  young: {
    kind: 'animals',
    say: ['A baby {s} is called {ao}.', 'The young of {as} is called {ao}.', 'A mother {s} [loves|feeds|guards|looks after] her {o}.'],
    ask: [
      ['What is a baby {s} called?', '{O}'],
      ['What is the young of {as} called?', '{O}'],
    ],
    tasks: [['Name the young of the animal.', 'Animal: {s}', '{O}']],
  },
  sound: {
    kind: 'animals',
    say: [
      '{As} {o}.',
      'The {s} {o} [loudly|all day|in the morning|when it is hungry|at night].',
      'When {as} wants to say something, it {o}.',
    ],
    ask: [
      ['What sound does {as} make?', 'It {o}'],
      ['What does {as} do when it is loud?', 'It {o}'],
    ],
    tasks: [['Say what sound the animal makes.', 'Animal: {s}', 'It {o}']],
  },
  home: {
    kind: 'animals',
    say: ['{As} lives in {home}.', 'The home of {as} is {home}.', 'At night the {s} [sleeps|rests|lies down] in {home}.'],
    ask: [
      ['Where does {as} live?', 'In {home}'],
      ['Where do you find {as}?', 'In {home}'],
    ],
    tasks: [['Say where the animal lives.', 'Animal: {s}', 'In {home}']],
  },
  legs: {
    kind: 'animals',
    say: ['{As} has {o} legs.', '{Ps} have {o} legs.'],
    ask: [
      ['How many legs does {as} have?', '{O}'],
      ['How many legs do {ps} have?', '{O}'],
    ],
    tasks: [['Say how many legs the animal has.', 'Animal: {s}', '{O}']],
  },
  cover: {
    kind: 'animals',
    say: ['The body of {as} is covered with {o}.', '{As} has {o} all over its body.'],
    ask: [
      ['What is {as} covered with?', '{O}'],
      ['What covers the body of {as}?', '{O}'],
    ],
    tasks: [['Name what covers the body of the animal.', 'Animal: {s}', '{O}']],
  },
  eats: {
    kind: 'animals',
    say: ['{As} [likes|loves] to eat {o}.', '{Ps} eat {o}.', 'The [hungry |little |]{s} ate some {o}.'],
    ask: [
      ['What does {as} like to eat?', '{O}'],
      ['What do {ps} eat?', '{O}'],
    ],
    tasks: [['Name a food of the animal.', 'Animal: {s}', '{O}']],
  },
};

const WORD_PHRASES: Record<string, Phrases> = {
  opposite: {
    kind: 'opposites',
    say: ['The opposite of {s} is {o}.', 'Something that is not {s} is {o}.', 'The words {s} and {o} are opposites.'],
    ask: [
      ['What is the opposite of {s}?', '{O}'],
      ['Which word means the opposite of {s}?', '{O}'],
    ],
    tasks: [
      ['Give the opposite of the word.', 'Word: {s}', '{O}'],
      ['Complete the sentence.', 'The opposite of {s} is', '{O}'],
    ],
  },
  synonym: {
    kind: 'same meaning',
    say: ['Another word for {s} is {o}.', 'The word {s} means the same as {o}.', 'You can say {o} instead of {s}.'],
    ask: [
      ['What is another word for {s}?', '{O}'],
      ['Which word means the same as {s}?', '{O}'],
    ],
    tasks: [['Give a word with the same meaning.', 'Word: {s}', '{O}']],
  },
  rhyme: {
    kind: 'word play',
    say: ['The word {s} rhymes with {o}.', 'A rhyme for {s} is {o}.', 'The words {s} and {o} rhyme.'],
    ask: [
      ['Which word rhymes with {s}?', '{O}'],
      ['What is a rhyme for {s}?', '{O}'],
    ],
    tasks: [['Find a rhyme for the word.', 'Word: {s}', '{O}']],
  },
  plural: {
    kind: 'plurals and tenses',
    say: [
      'The plural of {s} is {o}.',
      'One {s}, [two|three|many] {o}.',
      '[I have|She saw|He found] one {s} and [you have|Tom saw|Ann found] [two|three|many] {o}.',
    ],
    ask: [
      ['What is the plural of {s}?', '{O}'],
      ['What do you call more than one {s}?', '{O}'],
    ],
    tasks: [['Write the plural of the noun.', 'Word: {s}', '{O}']],
  },
  past: {
    kind: 'plurals and tenses',
    say: ['The past tense of {s} is {o}.', 'Today I {s}, yesterday I {o}.', 'Today they {s}. Yesterday they {o}.'],
    ask: [
      ['What is the past tense of {s}?', '{O}'],
      ['What is the word {s} when it was yesterday?', '{O}'],
    ],
    tasks: [['Write the past tense of the verb.', 'Word: {s}', '{O}']],
  },
  kind: {
    kind: 'kinds and colours',
    say: [
      '{As} is a kind of {o}.',
      'One kind of {o} is {as}.',
      '[Every child knows that|We all know that|Remember that] {as} is a kind of {o}.',
    ],
    ask: [
      ['What kind of thing is {as}?', '{O}'],
      ['To which group does {as} belong?', '{O}'],
    ],
    tasks: [
      ['Name the group that the thing belongs to.', 'Thing: {as}', '{O}'],
      ['Complete the sentence.', '{As} is a kind of', '{O}'],
    ],
  },
  colour: {
    kind: 'kinds and colours',
    say: ['{As} is {o}.', 'The colour of {as} is {o}.', 'Look at {as}: it is {o}.'],
    ask: [
      ['What colour is {as}?', '{O}'],
      ['What is the colour of {as}?', '{O}'],
    ],
    tasks: [
      ['Name the colour of the thing.', 'Thing: {as}', '{O}'],
      ['Complete the sentence.', 'The colour of {as} is', '{O}'],
    ],
  },
  job: {
    kind: 'jobs',
    say: ['{As} {o}.', 'The {s} {o} [every day|all week|with care|for the whole town].', 'A person who {o} is {as}.'],
    ask: [
      ['Who {o}?', '{As}'],
      ['What do you call a person who {o}?', '{As}'],
    ],
    tasks: [
      ['Name the worker.', 'This person {o}.', '{As}'],
      ['Answer in a full sentence: what does {as} do?', '', '{As} {o}.'],
    ],
  },
};

const SPELLING_PHRASES: Record<string, Phrases> = {
  first: {
    kind: 'word play',
    say: ['The word {s} starts with the letter {o}.', 'The first letter of {s} is {o}.'],
    ask: [
      ['What is the first letter of {s}?', '{O}'],
      ['Which letter does {s} start with?', '{O}'],
    ],
    tasks: [['Write the first letter of the word.', 'Word: {s}', '{O}']],
  },
  last: {
    kind: 'word play',
    say: ['The word {s} ends with the letter {o}.', 'The last letter of {s} is {o}.'],
    ask: [
      ['What is the last letter of {s}?', '{O}'],
      ['Which letter does {s} end with?', '{O}'],
    ],
    tasks: [['Write the last letter of the word.', 'Word: {s}', '{O}']],
  },
  count: {
    kind: 'word play',
    say: ['The word {s} has {o} letters.', 'There are {o} letters in {s}.'],
    ask: [
      ['How many letters are in {s}?', '{O}'],
      ['How many letters does {s} have?', '{O}'],
    ],
    tasks: [['Count the letters of the word.', 'Word: {s}', '{O}']],
  },
  spell: {
    kind: 'word play',
    say: ['You spell {s} like this: {o}.', 'The word {s} is spelled {o}.'],
    ask: [
      ['How do you spell {s}?', '{o}'],
      ['Can you spell {s}?', '{o}'],
    ],
    tasks: [['Spell the word letter by letter.', 'Word: {s}', '{o}']],
  },
};

const NUMBER_PHRASES: Record<string, Phrases> = {
  add: {
    kind: 'arithmetic',
    say: ['{a} + {b} = {o}.', '{a} plus {b} is {o}.', '{b} plus {a} is {o}.', '{b} + {a} = {o}.'],
    ask: [
      ['What is {a} plus {b}?', '{o}'],
      ['What is {a} + {b}?', '{o}'],
      ['What is {b} + {a}?', '{o}'],
      ['What is {b} plus {a}?', '{o}'],
    ],
    tasks: [
      ['Add the numbers.', '{a} + {b}', '{o}'],
      ['Work out the sum.', '{b} + {a}', '{o}'],
    ],
  },
  subtract: {
    kind: 'arithmetic',
    say: ['{a} - {b} = {o}.', '{a} minus {b} is {o}.', 'If you take {b} from {a}, {o} is left.'],
    ask: [
      ['What is {a} minus {b}?', '{o}'],
      ['What is {a} - {b}?', '{o}'],
    ],
    tasks: [['Work out the difference.', '{a} - {b}', '{o}']],
  },
  next: {
    kind: 'arithmetic',
    say: ['After {a} comes {b}.', 'The number after {a} is {b}.', 'The number before {b} is {a}.'],
    ask: [
      ['Which number comes after {a}?', '{b}'],
      ['What number follows {a}?', '{b}'],
      ['Which number comes before {b}?', '{a}'],
    ],
    tasks: [['Write the number that comes next.', 'Number: {a}', '{b}']],
  },
  numeral: {
    kind: 'arithmetic',
    say: ['The number {s} is written {o}.', 'The word for {s} is {o}.'],
    ask: [
      ['How do you write {s} in words?', '{O}'],
      ['What is the word for {s}?', '{O}'],
    ],
    tasks: [['Write the number as a word.', 'Number: {s}', '{O}']],
  },
};

const CALENDAR_PHRASES: Record<string, Phrases> = {
  dayafter: {
    kind: 'calendar',
    say: [
      'The day after {s} is {o}.',
      'The day before {o} is {s}.',
      'Today is {s}, so tomorrow is {o}.',
      'Today is {o}, so yesterday was {s}.',
    ],
    ask: [
      ['Which day comes after {s}?', '{o}'],
      ['Which day comes before {o}?', '{s}'],
      ['What day follows {s}?', '{o}'],
    ],
    tasks: [
      ['Say what day tomorrow is.', 'Today is {s}.', '{o}'],
      ['Say what day yesterday was.', 'Today is {o}.', '{s}'],
      ['Complete the sentence.', 'The day after {s} is', '{o}'],
      ['Answer in a full sentence: which day comes after {s}?', '', 'The day after {s} is {o}.'],
    ],
  },
  monthafter: {
    kind: 'calendar',
    say: ['The month after {s} is {o}.', 'The month before {o} is {s}.', 'When {s} is over, {o} begins.'],
    ask: [
      ['Which month comes after {s}?', '{o}'],
      ['Which month comes before {o}?', '{s}'],
      ['What month follows {s}?', '{o}'],
    ],
    tasks: [
      ['Name the next month.', 'Month: {s}', '{o}'],
      ['Complete the sentence.', 'The month after {s} is', '{o}'],
      ['Answer in a full sentence: which month comes after {s}?', '', 'The month after {s} is {o}.'],
    ],
  },
  monthdays: {
    kind: 'calendar',
    say: ['{S} has {o} days.', 'There are {o} days in {s}.'],
    ask: [
      ['How many days are in {s}?', '{o}'],
      ['How many days does {s} have?', '{o}'],
    ],
    tasks: [['Say how many days the month has.', 'Month: {s}', '{o}']],
  },
};

/** Phrases by relation. */
export const PHRASES: Readonly<Record<string, Phrases>> = {
  ...COUNTRY_PHRASES,
  ...ANIMAL_PHRASES,
  ...WORD_PHRASES,
  ...SPELLING_PHRASES,
  ...NUMBER_PHRASES,
  ...CALENDAR_PHRASES,
};
