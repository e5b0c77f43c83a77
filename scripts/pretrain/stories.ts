/** Short stories: a frame of scenes, each with several tellings, and now and then a fact on the way. */
import { factsOf } from './facts';
import { exchange, statement } from './lessons';
import { ANIMALS } from './lexicon/animals';
import { COUNTRIES } from './lexicon/countries';
import { ELDERS, MOODS, PEOPLE, PLACES, SIZES, SNACKS, TOY_COLOURS, TOYS, WEATHERS } from './lexicon/people';
import type { Random } from './random';
import type { Slots } from './template';
import { capital, expand, withArticle } from './template';

type Scene = readonly string[];

const ENDINGS: Scene = [
  '{name} was very {mood}.',
  'It was a good day.',
  '"Thank you," said {name}.',
  'That night {name} slept well.',
  '{name} and {other} were {mood}, and they [went home|laughed|sang a song].',
  'From that day on, {name} and {other} were good friends.',
  'In the evening {name} told {elder} all about it.',
];

const STORIES: readonly (readonly Scene[])[] = [
  [
    ['[One|It was a] {weather} [day|morning][, |. ]{name} lost {his} {colour} {toy}.', '{name} had {a_size} {toy}. One day it was gone.'],
    ['{He} looked [under the bed|behind the door|in the garden|in every room], but it was not there.', '"Where is my {toy}?" {he} asked.'],
    ['{other} came to help.', '"I will help you," said {other}.', '{elder} said, "Let us look together."'],
    ['They looked [in|near] the {place}.', 'They [walked|ran] to the {place} and looked again.'],
    [
      'There it was, under {a_size} [tree|chair|table|box].',
      '{A_animal} was sitting on it!',
      'At last {other} found it [in the grass|behind a wall|in a bag].',
    ],
  ],
  [
    ['{name} went to the {place} with {elder}.', 'One {weather} day {name} and {elder} walked to the {place}.'],
    ['There {he} saw {a_size} {animal}.', '{A_animal} was [sitting|sleeping|waiting] there.'],
    ['{animalFact}', '{animalFact} {animalFact2}', '{animalTalk}'],
    ['{name} gave it some {snack}.', '{name} wanted to take it home.', 'The {animal} looked at {name} and was not afraid.'],
    [
      '"Can we keep it?" asked {name}. "No," said {elder}, "it has its own home."',
      'Then the {animal} went away.',
      '{name} waved and the {animal} [ran|walked|went] home.',
    ],
  ],
  [
    ['{name} lives in {country}.', '{name} comes from {country}.', 'Far away, in {country}, lived a child called {name}.'],
    ['{countryFact}', '{countryFact} {countryFact2}'],
    ['One day {name} wrote a letter to {other}.', '{His} friend {other} came to visit.', 'In the summer {name} showed {other} the town.'],
    ['{countryTalk}', '"Tell me about your country," said {other}. "{countryFact}" said {name}.'],
    [
      'They [ate|cooked|had dinner] together and [talked|laughed] [all evening|for hours].',
      'They walked [along the street|through the market] and bought some {snack}.',
    ],
  ],
  [
    ['{name} had {n} {snack}.', 'On the table there were {n} {snack}. They were for {name}.'],
    ['{elder} gave {him} {m} more.', 'Then {other} came and gave {him} {m} {snack}.'],
    ['{n} + {m} = {sum}.', '{n} plus {m} is {sum}.', '"How many are there now?" asked {elder}. "{sum}," said {name}.'],
    ['Now {he} had {sum} {snack}.', 'So there were {sum} {snack} [in all|on the table|in the bag].'],
    ['{name} gave some to {other}.', 'They ate the {snack} in the {place}.', '"Let us share," said {name}.'],
  ],
  [
    ['{name} was [sad|afraid|angry|tired] [today|that day].', 'It was a {weather} day and {name} was [sad|bored].'],
    ['"What is the matter?" asked {elder}.', '{other} asked, "Why are you not happy?"'],
    [
      '"I broke my {toy}," said {name}.',
      '"I cannot sleep," said {name}. "It is so dark."',
      '"Nobody wants to play with me," said {name}.',
      '"I have lost my {colour} {toy}," {he} said.',
    ],
    [
      '"Do not be sad," said {elder}. "We will [mend it|find a way|play together]."',
      '{other} sat down beside {name} and told {him} a story.',
    ],
    [
      '"{wordFact}" said {elder}, and {name} laughed.',
      'They [painted|drew] {a_colour} {toy} and hung it on the wall.',
      'They made a cake with {snack}.',
    ],
  ],
  [
    ["It was {name}'s birthday.", 'Today {name} is {n} years old.', 'On {day} {name} had a party.'],
    ['{other} brought {a_colour} {toy}.', '{elder} gave {him} {a_size} {toy}.', 'There was {a_size} box on the table.'],
    ['The children [danced|sang|played] and ate {snack}.', 'They had {snack}, milk and bread.'],
    ['Then they played a game with questions. {quiz}', 'Then they told rhymes. {rhyme} {rhyme2}', '{quiz}'],
    ['"This is the best day," said {name}.', 'When it was dark, the children went home.'],
  ],
  [
    ['{name} goes to school every day.', 'On {day} {name} went to school.', 'The school was near the {place}.'],
    ['{wordTalk}', '{wordTalk} {wordTalk2}', '{quiz} {wordTalk}'],
    ['{other} did not know the answer, so {name} helped.', '"Very good," said the teacher.', 'The teacher smiled.'],
    ['After school they went to the {place}.', '{name} and {other} walked home together.'],
    ['{elder} asked what {he} had learned. "{wordFact}" said {name}.', 'At home {name} told {elder} about the lesson.'],
  ],
  [
    ['Once there was {a_size} {animal} and {a_size} {animal2}.', '{A_animal} and {a_animal2} lived near the {place}.'],
    ['They were [good friends|not friends|neighbours].', 'Every day they met in the {place}.'],
    [
      'One {weather} day the {animal} was hungry.',
      'One day the {animal} could not find its home.',
      'The {animal} was afraid of the {animal2}.',
    ],
    ['"I will help you," said the {animal2}.', '"Come with me," said the {animal2}, "I know a good place."'],
    [
      'They shared some {snack} and sat in the sun.',
      'So they walked together until it was dark.',
      'The {animal} said thank you and went to sleep.',
    ],
  ],
  [
    [
      '{name} and {other} wanted to build a house [for the {animal}|of wood|of stone].',
      '{name} planted a tree in the garden.',
      '{name} wanted to paint {a_colour} picture.',
    ],
    ['First they looked for [wood|paper|tools].', '{elder} brought [water|a hammer|some paint].'],
    ['It was [hard|slow] work, but they did not stop.', 'The day was {weather}, and they worked until noon.'],
    ['{colourFact}', '{jobFact}', '{colourFact} {jobFact}'],
    ['At last it was ready. It was {colour} and {colour2}.', '"Look what we have made!" said {name}.'],
  ],
  [
    ['{name} got up early on {day}.', 'Yesterday was {day0}, so today is {day}. {name} got up early.'],
    [
      '{He} washed {his} face and put on {his} {colour} [coat|shirt|hat].',
      '{He} ate bread with [butter|honey|cheese] and drank [milk|water|tea].',
    ],
    [
      'Then {he} took the bus to the {place}.',
      'Then {he} went out with {other}.',
      'It was {weather}, so {he} stayed at home and read a book.',
    ],
    ['{kindFact} {calendarFact}', '{calendarFact}', '{kindFact}'],
    ['In the evening {he} was tired.', 'When the moon rose, {he} went to bed.', '"Tomorrow is {day1}," said {elder}.'],
  ],
];

const WORD_RELATIONS = ['opposite', 'synonym', 'plural', 'past', 'rhyme', 'spell', 'first', 'last', 'count', 'kind'] as const;

/** One story of five scenes and an ending. */
export function story(random: Random): string {
  const slots = storySlots(random);
  const scenes = random.pick(STORIES).map((scene) => expand(random.pick(scene), slots, random));
  const ending = random.chance(0.8) ? expand(random.pick(ENDINGS), slots, random) : '';
  return [...scenes, ending].filter(Boolean).map(capital).join(' ');
}

function storySlots(random: Random): Slots {
  const [hero, other] = random.shuffle(PEOPLE);
  const [animal, animal2] = random.shuffle(ANIMALS);
  const [colour, colour2] = random.shuffle(TOY_COLOURS);
  const size = random.pick(SIZES);
  const n = random.between(1, 12);
  const m = random.between(1, 12);
  const day = random.below(7);
  const days = factsOf('dayafter');
  return {
    ...people(hero, other, random),
    animal: animal.name,
    ...articles({ animal: animal.name, animal2: animal2.name, colour, size }),
    animal2: animal2.name,
    colour,
    colour2,
    toy: random.pick(TOYS),
    place: random.pick(PLACES),
    weather: random.pick(WEATHERS),
    snack: random.pick(SNACKS),
    mood: random.pick(MOODS),
    n: String(n),
    m: String(m),
    sum: String(n + m),
    day0: days[day].slots.s,
    day: days[(day + 1) % 7].slots.s,
    day1: days[(day + 2) % 7].slots.s,
    ...embedded(animal.name, random),
  };
}

function people(hero: (typeof PEOPLE)[number], other: (typeof PEOPLE)[number], random: Random): Slots {
  return {
    name: hero.name,
    he: hero.he,
    He: capital(hero.he),
    his: hero.his,
    His: capital(hero.his),
    him: hero.him,
    other: other.name,
    elder: random.pick(ELDERS),
  };
}

function articles(words: Readonly<Record<string, string>>): Slots {
  const slots: Record<string, string> = {};
  for (const [name, word] of Object.entries(words)) {
    slots[`a_${name}`] = withArticle(word);
    slots[`A_${name}`] = capital(withArticle(word));
  }
  return slots;
}

/** Sentences of fact that a story may use. */
function embedded(animal: string, random: Random): Slots {
  const say = (...relations: string[]): string => statement(random.pick(factsOf(random.pick(relations))), random);
  const talk = (...relations: string[]): string => exchange(random.pick(factsOf(random.pick(relations))), random);
  const animalFacts = ['young', 'sound', 'home', 'legs', 'cover', 'eats'].flatMap((r) => factsOf(r).filter((f) => f.subject === animal));
  const country = random.pick(COUNTRIES).name;
  const relations = ['capital', 'language', 'continent', 'currency', 'river', 'food'];
  const countryFacts = random.shuffle(relations.flatMap((r) => factsOf(r).filter((f) => f.subject === country)));
  const [first, second, third] = countryFacts;
  return {
    country,
    countryFact: statement(first, random),
    countryFact2: statement(second, random),
    countryTalk: exchange(third ?? first, random),
    animalFact: statement(random.pick(animalFacts), random),
    animalFact2: statement(random.pick(animalFacts), random),
    animalTalk: exchange(random.pick(animalFacts), random),
    quiz: talk('capital', 'young', 'add', 'opposite', 'subtract', 'job', 'currency', 'language'),
    rhyme: say('rhyme'),
    rhyme2: say('rhyme'),
    wordFact: say(...WORD_RELATIONS),
    wordTalk: talk(...WORD_RELATIONS),
    wordTalk2: talk(...WORD_RELATIONS, 'add', 'subtract'),
    colourFact: say('colour'),
    jobFact: say('job'),
    kindFact: say('kind'),
    calendarFact: say('dayafter', 'monthafter', 'monthdays'),
  };
}
