/** Word lists: pairs, forms and kinds. A word stands in one pair of a list only, so every question has one answer. */

const pairs = (text: string): [string, string][] =>
  text
    .trim()
    .split(/\s*,\s*/)
    .map((pair) => pair.split(':') as [string, string]);

export const OPPOSITES = pairs(`
hot:cold, big:small, tall:short, fast:slow, old:young, happy:sad, good:bad, light:dark, up:down, left:right, open:closed, full:empty,
wet:dry, hard:soft, rich:poor, clean:dirty, day:night, early:late, near:far, high:low, strong:weak, loud:quiet, first:last,
inside:outside, above:below, front:back, top:bottom, begin:end, win:lose, buy:sell, give:take, push:pull, come:go, laugh:cry, love:hate,
remember:forget, ask:answer, arrive:leave, float:sink, rise:fall, build:destroy, more:less, same:different, true:false, easy:difficult,
sweet:sour, sharp:blunt, brave:afraid, alive:dead, cheap:expensive, beautiful:ugly, north:south, east:west, summer:winter, friend:enemy,
war:peace, teacher:student, floor:ceiling, yes:no, on:off, in:out, start:stop, save:waste, find:miss, straight:crooked
`);

export const SYNONYMS = pairs(`
large:huge, little:tiny, quick:rapid, glad:cheerful, angry:mad, smart:clever, pretty:lovely, tired:sleepy, speak:talk, look:watch,
jump:leap, road:street, house:home, present:gift, trip:journey, woods:forest, bag:sack, infant:baby, error:mistake, task:job, story:tale,
physician:doctor, film:movie, shop:store, fix:repair, collect:gather, hurry:rush, smell:scent, calm:peaceful
`);

export const RHYMES = pairs(`
cat:hat, dog:log, mouse:house, bee:tree, bear:chair, fox:box, goat:boat, snake:cake, fish:dish, frog:fog, sheep:jeep, pig:wig,
duck:truck, whale:tail, moon:spoon, star:car, sun:bun, rain:train, snow:crow, light:kite, night:knight, king:ring, bed:bread, book:hook,
ball:wall, bell:shell, door:floor, wood:hood, clock:sock, cup:pup, hand:sand, nose:rose, eye:fly, lake:rake, sea:key, stone:bone,
town:crown, day:hay, nine:line, ten:men, red:sled, blue:glue, brown:gown, cold:gold, sad:dad, jam:ham, milk:silk, nut:hut, rice:mice,
soup:hoop, lamp:stamp, pan:fan
`);

export const COLOURS = pairs(`
grass:green, snow:white, blood:red, coal:black, a lemon:yellow, a carrot:orange, the sky:blue, a banana:yellow, a strawberry:red,
milk:white, chocolate:brown, a tomato:red, the sea:blue, a frog:green, a crow:black, a swan:white, a pumpkin:orange, a plum:purple,
an elephant:grey, a flamingo:pink, gold:yellow, silver:grey, mud:brown, a cucumber:green, a fire engine:red, a polar bear:white,
a leaf:green, salt:white, a cherry:red, corn:yellow, a sunflower:yellow, tea:brown, rice:white, a pea:green, a pig:pink, flour:white,
spinach:green, a brick:red, butter:yellow, a tyre:black, broccoli:green
`);

/** Nouns with their plurals, regular and not. */
export const PLURALS = pairs(`
apple:apples, book:books, chair:chairs, river:rivers, car:cars, boat:boats, flower:flowers, school:schools, spoon:spoons, box:boxes,
fox:foxes, bus:buses, dress:dresses, brush:brushes, watch:watches, peach:peaches, sandwich:sandwiches, city:cities, baby:babies,
party:parties, story:stories, cherry:cherries, berry:berries, puppy:puppies, butterfly:butterflies, family:families, boy:boys, toy:toys,
key:keys, day:days, monkey:monkeys, child:children, man:men, woman:women, foot:feet, tooth:teeth, goose:geese, mouse:mice, ox:oxen,
sheep:sheep, fish:fish, leaf:leaves, wolf:wolves, knife:knives, wife:wives, life:lives, loaf:loaves, shelf:shelves, potato:potatoes,
tomato:tomatoes, hero:heroes, person:people, king:kings, queen:queens, star:stars, cloud:clouds, hill:hills, shoe:shoes, cup:cups
`);

/** Verbs with their past tense. */
export const PASTS = pairs(`
go:went, see:saw, eat:ate, run:ran, sing:sang, swim:swam, drink:drank, give:gave, take:took, make:made, come:came, write:wrote,
drive:drove, ride:rode, break:broke, sleep:slept, keep:kept, find:found, buy:bought, think:thought, teach:taught, catch:caught,
tell:told, sell:sold, begin:began, fly:flew, know:knew, throw:threw, fall:fell, forget:forgot, lose:lost, send:sent, build:built,
hear:heard, say:said, win:won, walk:walked, jump:jumped, play:played, help:helped, open:opened, cook:cooked, wash:washed, laugh:laughed,
smile:smiled, dance:danced, cry:cried, try:tried, carry:carried, stop:stopped
`);

/** Things and the kind of thing that they are. */
export const KINDS = pairs(`
apple:fruit, banana:fruit, pear:fruit, cherry:fruit, peach:fruit, plum:fruit, carrot:vegetable, onion:vegetable, potato:vegetable,
spinach:vegetable, hammer:tool, spade:tool, rake:tool, car:vehicle, bus:vehicle, truck:vehicle, train:vehicle, bicycle:vehicle,
violin:instrument, piano:instrument, drum:instrument, guitar:instrument, shirt:garment, coat:garment, sweater:garment, dress:garment,
sock:garment, rose:flower, tulip:flower, lily:flower, oak:tree, pine:tree, willow:tree, eagle:bird, parrot:bird, swan:bird, owl:bird,
pigeon:bird, ant:insect, bee:insect, beetle:insect, fly:insect, trout:fish, salmon:fish, shark:fish, iron:metal, gold:metal,
silver:metal, football:sport, tennis:sport, hockey:sport, golf:sport, milk:drink, coffee:drink, tea:drink, juice:drink, chess:game,
ruby:gem, diamond:gem, sapphire:gem, July:month, Monday:day
`);

/** Things that take no article in "X is a kind of ...". */
export const MASS_NOUNS = new Set(
  `iron gold silver football tennis hockey golf milk coffee tea juice chess spinach July Monday`.split(/\s+/),
);

/** Who does what: the work, then the worker. */
export const JOBS = pairs(`
bakes bread:baker, teaches children:teacher, grows crops:farmer, puts out fires:firefighter, flies planes:pilot, drives a bus:driver,
cuts hair:barber, paints pictures:painter, writes books:author, sings songs:singer, catches fish:fisherman, sells meat:butcher,
treats sick people:doctor, looks after teeth:dentist, makes clothes:tailor, builds with wood:carpenter, cooks in a restaurant:chef,
serves food:waiter, delivers letters:postman, catches thieves:policeman, sails ships:sailor, digs for coal:miner,
plays the piano:pianist, takes photos:photographer, looks after sheep:shepherd, looks after gardens:gardener,
studies the stars:astronomer, fixes cars:mechanic, sells flowers:florist, makes people laugh:clown, dances on stage:dancer
`);

/** Words for spelling, first and last letters and counting. */
export const SPELLING_WORDS =
  `cat dog sun moon star tree fish bird milk bread apple lemon table chair house garden river flower horse tiger monkey
rabbit pencil window green brown summer winter school friend doctor farmer bridge castle silver spoon knife butter lamp queen train clock`.split(
    /\s+/,
  );
