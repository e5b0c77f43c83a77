/** Who and what the stories are about. */

export interface Person {
  name: string;
  he: string;
  his: string;
  him: string;
}

const boys = 'Tom Ben Sam Max Leo Jack Omar Paul Finn Hugo Adam Luke Ravi Karl Noah'.split(' ');
const girls = 'Ann Mia Lily Zoe Eva Rosa Nina Kate Ruby Ella Sara Jane Maya Anna Lucy'.split(' ');

export const PEOPLE: readonly Person[] = [
  ...boys.map((name) => ({ name, he: 'he', his: 'his', him: 'him' })),
  ...girls.map((name) => ({ name, he: 'she', his: 'her', him: 'her' })),
];

export const ELDERS = [
  'the teacher',
  'Mother',
  'Father',
  'Grandma',
  'Grandpa',
  'Uncle Joe',
  'Aunt May',
  'Mrs. Green',
  'Mr. Hill',
  'Miss Lane',
] as const;
export const PLACES = [
  'park',
  'garden',
  'forest',
  'market',
  'school',
  'farm',
  'village',
  'library',
  'kitchen',
  'beach',
  'zoo',
  'museum',
] as const;
export const TOYS = [
  'ball',
  'kite',
  'doll',
  'toy car',
  'toy train',
  'drum',
  'puzzle',
  'teddy bear',
  'toy boat',
  'scarf',
  'book',
  'hat',
  'cup',
  'box',
] as const;
export const TOY_COLOURS = ['red', 'blue', 'green', 'yellow', 'white', 'black', 'brown', 'pink', 'purple', 'orange', 'grey'] as const;
export const SIZES = ['big', 'small', 'little', 'tiny', 'huge', 'long', 'round', 'soft', 'old', 'new'] as const;
export const MOODS = ['happy', 'glad', 'proud', 'calm', 'cheerful'] as const;
export const SNACKS = [
  'apples',
  'pears',
  'plums',
  'cakes',
  'nuts',
  'eggs',
  'lemons',
  'cookies',
  'carrots',
  'cherries',
  'buns',
  'grapes',
] as const;
export const WEATHERS = ['sunny', 'rainy', 'windy', 'cold', 'warm', 'cloudy', 'snowy', 'hot', 'foggy'] as const;
