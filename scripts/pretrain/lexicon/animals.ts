/** Animals. An empty field is a fact that is not told. */

export interface Animal {
  name: string;
  plural: string;
  young: string;
  /** What it does with its voice, third person ("barks"). */
  sound: string;
  /** Where it lives, a place that "in a/the" suits. */
  home: string;
  legs: string;
  cover: string;
  /** What it likes to eat. */
  eats: string;
}

const TABLE = `
dog|dogs|puppy|barks|kennel|four|fur|bones
cat|cats|kitten|meows||four|fur|fish
cow|cows|calf|moos|barn|four|hair|grass
horse|horses|foal|neighs|stable|four|hair|hay
pig|pigs|piglet|oinks|sty|four||corn
sheep|sheep|lamb|baas|fold|four|wool|grass
goat|goats|kid|bleats|pen|four|hair|leaves
hen|hens|chick|clucks|coop|two|feathers|seeds
duck|ducks|duckling|quacks|pond|two|feathers|bread
goose|geese|gosling|honks||two|feathers|grass
swan|swans|cygnet||lake|two|feathers|
owl|owls|owlet|hoots|tree|two|feathers|mice
eagle|eagles|eaglet|screams|nest|two|feathers|fish
crow|crows||caws||two|feathers|
parrot|parrots||squawks|cage|two|feathers|nuts
penguin|penguins|chick|||two|feathers|fish
lion|lions|cub|roars|den|four|fur|meat
tiger|tigers|cub||jungle|four|fur|meat
bear|bears|cub|growls|cave|four|fur|honey
wolf|wolves|pup|howls|forest|four|fur|meat
fox|foxes|kit|||four|fur|berries
deer|deer|fawn||forest|four|hair|leaves
rabbit|rabbits|bunny||burrow|four|fur|carrots
mouse|mice|pup|squeaks|hole|four|fur|cheese
hedgehog|hedgehogs|hoglet|||four|spines|worms
bat|bats|pup||cave|||moths
frog|frogs|tadpole|croaks|pond|four||flies
snake|snakes||hisses||zero|scales|eggs
turtle|turtles|hatchling|||four||
bee|bees|larva|buzzes|hive|six||nectar
ant|ants|||anthill|six||crumbs
butterfly|butterflies|caterpillar|||six||nectar
spider|spiders|spiderling||web|eight||flies
fish|fish|fry||water|zero|scales|worms
whale|whales|calf|sings|ocean|zero||
dolphin|dolphins|calf|clicks|sea|zero||fish
elephant|elephants|calf|trumpets||four||leaves
giraffe|giraffes|calf|||four|fur|leaves
zebra|zebras|foal|||four|fur|grass
kangaroo|kangaroos|joey||||fur|grass
monkey|monkeys|infant|chatters|jungle||fur|bananas
donkey|donkeys|foal|brays|stable|four|hair|hay
`;

export const ANIMALS: readonly Animal[] = TABLE.trim()
  .split('\n')
  .map((line) => {
    const [name, plural, young, sound, home, legs, cover, eats] = line.split('|');
    return { name, plural, young, sound, home, legs, cover, eats };
  });
