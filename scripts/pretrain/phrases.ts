/**
 * How a relation is spoken of. `say` are whole sentences. `ask` are questions with the short answer that a person gives.
 * `rows` are instructions with an optional input and the output, as the instruction set asks for them.
 * Slots are those of facts.ts; the notation is that of template.ts.
 */

export interface Phrases {
  /** The kind under which the instruction set counts it. */
  kind: string;
  say: readonly string[];
  ask: readonly (readonly [question: string, answer: string])[];
  rows: readonly (readonly [instruction: string, input: string, output: string])[];
}

const COUNTRY_PHRASES: Record<string, Phrases> = {
  capital: {
    kind: 'countries',
    say: [
      'The capital of {s} is {o}.',
      '{O} is the capital [|city ]of {s}.',
      '{S} has a [fine|large|busy|beautiful] capital[ city|], and [its name is|it is called] {o}.',
      'The [king|president|leader|government] of {s} [lives|works|sits] in {o}, the capital.',
      'If you [go|travel|fly] to {s}, [see|visit] {o}, [its|the] capital.',
    ],
    ask: [
      ['What is the capital of {s}?', '{o}'],
      ['[Do you know|Can you name] the capital of {s}?', '{o}'],
      ['Which city is the capital of {s}?', '{o}'],
      ['{O} is the capital of which country?', '{s}'],
    ],
    rows: [
      ['What is the capital of {s}?', '', '{o}'],
      ['Name the capital city of {s}.', '', '{o}'],
      ['Name the capital of the country.', '{s}', '{o}'],
      ['Which city is the capital of {s}?', '', '{o}'],
      ['Complete the sentence.', 'The capital of {s} is', '{o}'],
      ['Which country has the capital {o}?', '', '{s}'],
      ['Answer in a full sentence: what is the capital of {s}?', '', 'The capital of {s} is {o}.'],
    ],
  },
  language: {
    kind: 'countries',
    say: [
      '[The|Most] people of {s} speak {o}.',
      'In {s}[,| most] people speak {o}.',
      'The language of {s} is {o}.',
      '{O} is spoken in {s}.',
      'Children in {s} learn {o} at [school|home].',
    ],
    ask: [
      ['[What|Which] language do people speak in {s}?', '{o}'],
      ['What is the language of {s}?', '{o}'],
      ['What do they speak in {s}?', '{o}'],
    ],
    rows: [
      ['Which language do people speak in {s}?', '', '{o}'],
      ['What is the main language of {s}?', '', '{o}'],
      ['Name the language that is spoken in the country.', '{s}', '{o}'],
      ['Complete the sentence.', 'The language of {s} is', '{o}'],
      ['Answer in a full sentence: which language do people speak in {s}?', '', 'People in {s} speak {o}.'],
    ],
  },
  continent: {
    kind: 'countries',
    say: [
      '{S} is [a country |]in {o}.',
      '{S} [lies|is found] [in|on the continent of] {o}.',
      '[On the map, |]{S} is a part of {o}.',
      'The continent of {s} is {o}.',
    ],
    ask: [
      ['[On|In] which continent is {s}?', '{o}'],
      ['Where [is|do you find] {s}?', 'In {o}'],
      ['Which continent is {s} a part of?', '{o}'],
    ],
    rows: [
      ['On which continent is {s}?', '', '{o}'],
      ['Name the continent of the country.', '{s}', '{o}'],
      ['Which continent is {s} a part of?', '', '{o}'],
      ['Complete the sentence.', 'The continent of {s} is', '{o}'],
    ],
  },
  currency: {
    kind: 'countries',
    say: [
      'In {s}[,|] people pay with the {o}.',
      'The money of {s} is [called |]the {o}.',
      'The currency of {s} is the {o}.',
      'When you [buy bread|shop|pay] in {s}, you [need|use] the {o}.',
    ],
    ask: [
      ['What is the [money|currency] of {s}?', 'The {o}'],
      ['[What|Which] money do people use in {s}?', 'The {o}'],
      ['How do you pay in {s}?', 'With the {o}'],
      ['What is the name of the money [of|in] {s}?', '{O}'],
    ],
    rows: [
      ['What is the currency of {s}?', '', '{o}'],
      ['Which money do people use in {s}?', '', '{o}'],
      ['Name the currency of the country.', '{s}', '{o}'],
      ['Complete the sentence.', 'The currency of {s} is the', '{o}'],
    ],
  },
  river: {
    kind: 'countries',
    say: [
      'The [long |great |wide |]river {o} [flows|runs] through {s}.',
      'A [famous|great|big] river in {s} is the {o}.',
      'In {s}[,|] boats sail on the river {o}.',
      'The {o} is a river in {s}.',
    ],
    ask: [
      ['Which [great |famous |]river flows through {s}?', 'The {o}'],
      ['What is a [famous|great] river in {s}?', 'The {o}'],
      ['What is the name of a [great |famous |]river in {s}?', '{o}'],
    ],
    rows: [
      ['Which famous river flows through {s}?', '', '{o}'],
      ['Name a river of the country.', '{s}', '{o}'],
      ['Name a great river in {s}.', '', '{o}'],
    ],
  },
  food: {
    kind: 'countries',
    say: [
      'A [famous|favourite|well-known] food [of|from|in] {s} is {o}.',
      'People in {s} [like|love] to eat {o}.',
      '{S} is famous for {o}.',
      '[At dinner|In the evening|For lunch], [families|people|children] in {s} eat {o}.',
    ],
    ask: [
      ['What do people [like|love] to eat in {s}?', '{O}'],
      ['Which food is {s} famous for?', '{O}'],
    ],
    rows: [
      ['Which food is {s} famous for?', '', '{o}'],
      ['What do people love to eat in {s}?', '', '{o}'],
      ['Name a famous food from the country.', '{s}', '{o}'],
    ],
  },
};

const ANIMAL_PHRASES: Record<string, Phrases> = {
  young: {
    kind: 'animals',
    say: [
      'A [young|baby] {s} is called {ao}.',
      'The [young|baby] of {as} is called {ao}.',
      '{Ao} is a [young|baby] {s}.',
      'A mother {s} [loves|feeds|guards|looks after] her {o}.',
    ],
    ask: [
      ['What [is|do you call] a [baby|young] {s}[ called|]?', '{Ao}'],
      ['What is the young of {as}?', '{Ao}'],
      ['What is the [word|name] for a [baby|young] {s}?', '{O}'],
    ],
    rows: [
      ['What is a baby {s} called?', '', '{o}'],
      ['Name the young of the animal.', '{s}', '{o}'],
      ['What do you call the young of {as}?', '', '{o}'],
      ['Complete the sentence.', 'A young {s} is called {article}', '{o}'],
    ],
  },
  sound: {
    kind: 'animals',
    say: [
      '{As} {o}.',
      'The {s} {o} [loudly|all day|in the morning|when it is hungry|at night].',
      'When {as} wants to say something, it {o}.',
      '"Listen, the {s} {o}," said [Tom|Ann|Mia|Ben].',
    ],
    ask: [
      ['What does {as} do when it makes a sound?', 'It {o}'],
      ['[What|Which] sound does {as} make?', 'It {o}'],
      ['Which animal {o}?', '{As}'],
    ],
    rows: [
      ['What sound does {as} make?', '', 'It {o}.'],
      ['Say what sound the animal makes.', '{s}', 'It {o}.'],
      ['Which animal {o}?', '', '{s}'],
    ],
  },
  home: {
    kind: 'animals',
    say: [
      '{As} lives in {home}.',
      'The home of {as} is {home}.',
      'At night the {s} [sleeps|rests|lies down] in {home}.',
      '[You find|Look for] {as} in {home}.',
    ],
    ask: [
      ['Where does {as} live?', 'In {home}'],
      ['Where do you find {as}?', 'In {home}'],
      ['What is the home of {as}?', '{Home}'],
    ],
    rows: [
      ['Where does {as} live?', '', 'In {home}.'],
      ['Name the home of the animal.', '{s}', '{home}'],
      ['What is the home of {as}?', '', '{home}'],
    ],
  },
  legs: {
    kind: 'animals',
    say: ['{As} has {o} legs.', '{Ps} have {o} legs.', 'Count the legs of {as}: it has {o}.', 'There are {o} legs on {as}.'],
    ask: [
      ['How many legs does {as} have?', '{O}'],
      ['How many legs do {ps} have?', '{O}'],
    ],
    rows: [
      ['How many legs does {as} have?', '', '{o}'],
      ['Say how many legs the animal has.', '{s}', '{o}'],
      ['Complete the sentence with a number word.', '{As} has this many legs:', '{o}'],
    ],
  },
  cover: {
    kind: 'animals',
    say: [
      'The body of {as} is covered with {o}.',
      '{As} has {o} [on its body|all over|to keep it warm or safe].',
      '{Ps} are covered with {o}.',
      'Touch {as} and you feel its {o}.',
    ],
    ask: [
      ['What is {as} covered with?', 'With {o}'],
      ['What covers the body of {as}?', '{O}'],
    ],
    rows: [
      ['What is {as} covered with?', '', '{o}'],
      ['Name what covers the body of the animal.', '{s}', '{o}'],
      ['What covers the body of {as}?', '', '{o}'],
    ],
  },
  eats: {
    kind: 'animals',
    say: [
      '{As} [likes|loves] to eat {o}.',
      '{Ps} eat {o}.',
      'The [hungry |little |]{s} [found|wanted|ate] some {o}.',
      'Give {o} to {as} and it will be happy.',
    ],
    ask: [
      ['What does {as} [like to |]eat?', '{O}'],
      ['What do {ps} eat?', '{O}'],
    ],
    rows: [
      ['What does {as} like to eat?', '', '{o}'],
      ['Name a food of the animal.', '{s}', '{o}'],
      ['What do {ps} eat?', '', '{o}'],
    ],
  },
};

const WORD_PHRASES: Record<string, Phrases> = {
  opposite: {
    kind: 'opposites',
    say: [
      'The opposite of [{s}|"{s}"] is [{o}|"{o}"].',
      '{S} is the opposite of {o}.',
      '{S} and {o} are opposites.',
      'Something that is not {s} may be {o}.',
      'The opposite of {o} is {s}.',
    ],
    ask: [
      ['What is the opposite of [{s}|"{s}"]?', '{O}'],
      ['What is the opposite of [{o}|"{o}"]?', '{S}'],
      ['Which word means the opposite of {s}?', '{O}'],
    ],
    rows: [
      ['What is the opposite of "{s}"?', '', '{o}'],
      ['Give the opposite of the word.', '{s}', '{o}'],
      ['Give the opposite of the word.', '{o}', '{s}'],
      ['Write the word that means the opposite of {o}.', '', '{s}'],
      ['Complete the sentence.', 'The opposite of {s} is', '{o}'],
    ],
  },
  synonym: {
    kind: 'same meaning',
    say: [
      'Another word for [{s}|"{s}"] is [{o}|"{o}"].',
      '{S} means [nearly |almost |]the same as {o}.',
      '{S} and {o} mean [nearly |almost |]the same.',
      'You can say {o} instead of {s}.',
    ],
    ask: [
      ['What is another word for [{s}|"{s}"]?', '{O}'],
      ['Which word means the same as {s}?', '{O}'],
      ['Which word means the same as {o}?', '{S}'],
    ],
    rows: [
      ['What is another word for "{s}"?', '', '{o}'],
      ['Give a word that means the same.', '{s}', '{o}'],
      ['Which word means the same as {s}?', '', '{o}'],
    ],
  },
  rhyme: {
    kind: 'word play',
    say: [
      '{S} rhymes with {o}.',
      'The word [{o}|"{o}"] rhymes with [{s}|"{s}"].',
      '{S} and {o} rhyme.',
      '{O} rhymes with {s}.',
      'A rhyme for {s} is {o}.',
    ],
    ask: [
      ['What rhymes with {s}?', '{O}'],
      ['Which word rhymes with [{s}|"{s}"]?', '{O}'],
      ['What rhymes with {o}?', '{S}'],
    ],
    rows: [
      ['Which word rhymes with "{s}"?', '', '{o}'],
      ['Find a rhyme for the word.', '{s}', '{o}'],
      ['Find a rhyme for the word.', '{o}', '{s}'],
      ['Give a word that rhymes with {s}.', '', '{o}'],
    ],
  },
  plural: {
    kind: 'plurals and tenses',
    say: [
      'The plural of [{s}|"{s}"] is [{o}|"{o}"].',
      'One {s}, [two|three|many] {o}.',
      'We say one {s}, but [two|many|some] {o}.',
      '[I have|She saw|He found] one {s} and [you have|Tom saw|Ann found] [two|three|many] {o}.',
    ],
    ask: [
      ['What is the plural of [{s}|"{s}"]?', '{O}'],
      ['One {s}, two what?', '{O}'],
      ['What do you call more than one {s}?', '{O}'],
    ],
    rows: [
      ['What is the plural of "{s}"?', '', '{o}'],
      ['Write the plural of the noun.', '{s}', '{o}'],
      ['Give the plural of {s}.', '', '{o}'],
      ['Complete the sentence.', 'One {s}, two', '{o}'],
    ],
  },
  past: {
    kind: 'plurals and tenses',
    say: [
      'The past tense of [{s}|"{s}"] is [{o}|"{o}"].',
      'Today I {s}, yesterday I {o}.',
      'Today they {s}. Yesterday they {o}.',
      'We say {s} for today and {o} for yesterday.',
    ],
    ask: [
      ['What is the past tense of [{s}|"{s}"]?', '{O}'],
      ['Today I {s}. What did I do yesterday?', 'Yesterday you {o}'],
    ],
    rows: [
      ['What is the past tense of "{s}"?', '', '{o}'],
      ['Write the past tense of the verb.', '{s}', '{o}'],
      ['Give the past tense of {s}.', '', '{o}'],
      ['Complete the sentence.', 'Today I {s}, yesterday I', '{o}'],
    ],
  },
  kind: {
    kind: 'kinds and colours',
    say: [
      '{As} is a kind of {o}.',
      '{As} is {ao}.',
      'One kind of {o} is {as}.',
      '[Every child knows that|We all know that|Remember that] {as} is {ao}.',
    ],
    ask: [
      ['What [kind of thing |]is {as}?', '{Ao}'],
      ['What kind of thing is {as}?', 'A kind of {o}'],
      ['To which group does {as} belong?', '{O}'],
    ],
    rows: [
      ['What kind of thing is {as}?', '', '{o}'],
      ['Name the group that the thing belongs to.', '{s}', '{o}'],
      ['Complete the sentence.', '{As} is a kind of', '{o}'],
    ],
  },
  colour: {
    kind: 'kinds and colours',
    say: ['{As} is {o}.', 'The colour of {as} is {o}.', '{O} is the colour of {as}.', '{As} has {ao} colour.', 'Look at {as}: it is {o}.'],
    ask: [
      ['What colour is {as}?', '{O}'],
      ['What is the colour of {as}?', '{O}'],
    ],
    rows: [
      ['What colour is {as}?', '', '{o}'],
      ['Name the colour of the thing.', '{s}', '{o}'],
      ['What is the colour of {as}?', '', '{o}'],
      ['Complete the sentence.', 'The colour of {as} is', '{o}'],
    ],
  },
  job: {
    kind: 'jobs',
    say: [
      '{As} {o}.',
      'The {s} {o} [every day|all week|with care|for the whole town].',
      'A person who {o} is {as}.',
      'Someone who {o} is called {as}.',
    ],
    ask: [
      ['Who {o}?', '{As}'],
      ['What do you call a person who {o}?', '{As}'],
      ['What does {as} do?', '{As} {o}'],
    ],
    rows: [
      ['Who {o}?', '', '{as}'],
      ['What do you call a person who {o}?', '', '{as}'],
      ['Name the worker.', 'This person {o}.', '{as}'],
      ['Answer in a full sentence: what does {as} do?', '', '{As} {o}.'],
    ],
  },
};

const SPELLING_PHRASES: Record<string, Phrases> = {
  first: {
    kind: 'word play',
    say: [
      'The word [{s}|"{s}"] [begins|starts] with the letter {o}.',
      'The first letter of [{s}|"{s}"] is [{o}|"{o}"].',
      '{O} is the first letter of {s}.',
      'Say {s}: it starts with {o}.',
    ],
    ask: [
      ['What is the first letter of [{s}|"{s}"]?', '{O}'],
      ['[Which|What] letter does {s} [begin|start] with?', '{O}'],
    ],
    rows: [
      ['What is the first letter of "{s}"?', '', '{o}'],
      ['Write the first letter of the word.', '{s}', '{o}'],
      ['Which letter does {s} start with?', '', '{o}'],
    ],
  },
  last: {
    kind: 'word play',
    say: [
      'The word [{s}|"{s}"] [ends|stops] with the letter {o}.',
      'The last letter of [{s}|"{s}"] is [{o}|"{o}"].',
      '{O} is the last letter of {s}.',
      'Say {s}: it ends with {o}.',
    ],
    ask: [
      ['What is the last letter of [{s}|"{s}"]?', '{O}'],
      ['[Which|What] letter does {s} end with?', '{O}'],
    ],
    rows: [
      ['What is the last letter of "{s}"?', '', '{o}'],
      ['Write the last letter of the word.', '{s}', '{o}'],
      ['Which letter does {s} end with?', '', '{o}'],
    ],
  },
  count: {
    kind: 'word play',
    say: [
      'The word [{s}|"{s}"] has {o} letters.',
      'There are {o} letters in {s}.',
      'Count the letters of {s}: there are {o}.',
      '{S} is a word of {word} letters.',
    ],
    ask: [
      ['How many letters are [there |]in [{s}|the word "{s}"]?', '{o}'],
      ['How many letters does {s} have?', '{o}'],
    ],
    rows: [
      ['How many letters are in the word "{s}"?', '', '{o}'],
      ['Count the letters of the word.', '{s}', '{o}'],
      ['How many letters does {s} have?', '', '{o}'],
    ],
  },
  spell: {
    kind: 'word play',
    say: [
      '{S} is spelled {o}.',
      'You spell {s} like this: {o}.',
      'The word {s} is written {o}.',
      '[To spell "{s}" letter by letter, write "{o}".|Spell {s} letter by letter: {o}.]',
    ],
    ask: [
      ['How do you spell [{s}|"{s}"]?', '{o}'],
      ['Can you spell {s}?', '{o}'],
    ],
    rows: [
      ['Spell the word "{s}".', '', '{o}'],
      ['Spell the word letter by letter.', '{s}', '{o}'],
      ['How do you spell {s}?', '', '{o}'],
    ],
  },
};

const NUMBER_PHRASES: Record<string, Phrases> = {
  add: {
    kind: 'arithmetic',
    say: [
      '{a} + {b} = {o}.',
      '{a} plus {b} is {o}.',
      '{b} plus {a} is {o}.',
      '{b} + {a} = {o}.',
      'If you add {a} and {b}, you get {o}.',
      'The sum of {a} and {b} is {o}.',
    ],
    ask: [
      ['What is {a} plus {b}?', '{o}'],
      ['What is {a} + {b}?', '{o}'],
      ['What is {b} + {a}?', '{o}'],
      ['How much is {b} plus {a}?', '{o}'],
    ],
    rows: [
      ['What is {a} + {b}?', '', '{o}'],
      ['What is {b} plus {a}?', '', '{o}'],
      ['Add the numbers.', '{a} and {b}', '{o}'],
      ['Work out the sum.', '{b} + {a}', '{o}'],
      ['Complete the sentence.', 'The sum of {a} and {b} is', '{o}'],
    ],
  },
  subtract: {
    kind: 'arithmetic',
    say: ['{a} - {b} = {o}.', '{a} minus {b} is {o}.', 'If you take {b} from {a}, {o} is left.', 'Take {b} away from {a} and you get {o}.'],
    ask: [
      ['What is {a} minus {b}?', '{o}'],
      ['What is {a} - {b}?', '{o}'],
      ['How much is {a} - {b}?', '{o}'],
    ],
    rows: [
      ['What is {a} - {b}?', '', '{o}'],
      ['What is {a} minus {b}?', '', '{o}'],
      ['Work out the difference.', '{a} - {b}', '{o}'],
      ['Take {b} away from {a}.', '', '{o}'],
    ],
  },
  next: {
    kind: 'arithmetic',
    say: ['After {a} comes {b}.', 'The number after {a} is {b}.', '{a} comes [just |]before {b}.', 'The number before {b} is {a}.'],
    ask: [
      ['[What|Which] number comes after {a}?', '{b}'],
      ['[What|Which] number comes before {b}?', '{a}'],
    ],
    rows: [
      ['Which number comes after {a}?', '', '{b}'],
      ['Which number comes before {b}?', '', '{a}'],
      ['Write the number that comes next.', '{a}', '{b}'],
    ],
  },
  numeral: {
    kind: 'arithmetic',
    say: ['The number {s} is written {o}.', '{s} in words is {o}.', 'We write {s} or {o}.', 'The word for {s} is {o}.'],
    ask: [
      ['How do you write {s} in words?', '{O}'],
      ['What is the word for {s}?', '{O}'],
    ],
    rows: [
      ['Write the number {s} in words.', '', '{o}'],
      ['Write the number as a word.', '{s}', '{o}'],
      ['What is the word for the number {s}?', '', '{o}'],
    ],
  },
};

const CALENDAR_PHRASES: Record<string, Phrases> = {
  dayafter: {
    kind: 'calendar',
    say: [
      '{O} comes [right |just |]after {s}.',
      'The day after {s} is {o}.',
      'The day before {o} is {s}.',
      'Today is {s}, so tomorrow is {o}.',
      'Today is {o}, so yesterday was {s}.',
    ],
    ask: [
      ['[Which|What] day comes after {s}?', '{o}'],
      ['[Which|What] day comes before {o}?', '{s}'],
      ['Today is {s}. What day is tomorrow?', '{o}'],
    ],
    rows: [
      ['Which day comes after {s}?', '', '{o}'],
      ['Which day comes before {o}?', '', '{s}'],
      ['Say what day tomorrow is.', 'Today is {s}.', '{o}'],
      ['Say what day yesterday was.', 'Today is {o}.', '{s}'],
      ['Complete the sentence.', 'The day after {s} is', '{o}'],
      ['Name the day that follows {s}.', '', '{o}'],
      ['Name the day just before {o}.', '', '{s}'],
      ['Answer in a full sentence: which day comes after {s}?', '', 'The day after {s} is {o}.'],
    ],
  },
  monthafter: {
    kind: 'calendar',
    say: [
      '{O} comes [right |just |]after {s}.',
      'The month after {s} is {o}.',
      'The month before {o} is {s}.',
      'When {s} is over, {o} begins.',
    ],
    ask: [
      ['[Which|What] month comes after {s}?', '{o}'],
      ['[Which|What] month comes before {o}?', '{s}'],
    ],
    rows: [
      ['Which month comes after {s}?', '', '{o}'],
      ['Which month comes before {o}?', '', '{s}'],
      ['Name the next month.', '{s}', '{o}'],
      ['Complete the sentence.', 'The month after {s} is', '{o}'],
      ['Name the month that follows {s}.', '', '{o}'],
      ['Name the month just before {o}.', '', '{s}'],
      ['Answer in a full sentence: which month comes after {s}?', '', 'The month after {s} is {o}.'],
    ],
  },
  monthdays: {
    kind: 'calendar',
    say: [
      '{S} has {o} days.',
      'There are {o} days in {s}.',
      'The month of {s} is {o} days long.',
      'Count the days of {s} and you get {o}.',
    ],
    ask: [
      ['How many days are [there |]in {s}?', '{o}'],
      ['How many days does {s} have?', '{o}'],
    ],
    rows: [
      ['How many days are in {s}?', '', '{o}'],
      ['How many days does {s} have?', '', '{o}'],
      ['Say how many days the month has.', '{s}', '{o}'],
    ],
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
