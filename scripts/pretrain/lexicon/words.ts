/** Word lists: pairs, forms and kinds. A word stands in one pair of a list only, so every question has one answer. */

const pairs = (text: string): [string, string][] =>
  text
    .trim()
    .split(/\s*,\s*/)
    .map((pair) => pair.split(':') as [string, string]);

export const OPPOSITES = pairs(`
hot:cold, big:small, tall:short, fast:slow, old:young, happy:sad, good:bad, light:dark, up:down, left:right, open:closed, full:empty,
wet:dry, hard:soft, rich:poor, clean:dirty, day:night, early:late, near:far, high:low, strong:weak, loud:quiet, thick:thin, wide:narrow,
deep:shallow, first:last, before:after, inside:outside, above:below, front:back, top:bottom, begin:end, win:lose, buy:sell,
give:take, push:pull, come:go, laugh:cry, love:hate, remember:forget, ask:answer, arrive:leave, float:sink, rise:fall, build:destroy,
always:never, everything:nothing, many:few, more:less, same:different, true:false, easy:difficult, simple:complex,
sweet:sour, sharp:blunt, smooth:rough, tight:loose, safe:dangerous, brave:afraid, kind:cruel, polite:rude, lazy:busy, awake:asleep, alive:dead,
fresh:stale, noisy:silent, cheap:expensive, beautiful:ugly, healthy:sick, lucky:unlucky, north:south, east:west, summer:winter,
spring:autumn, sunrise:sunset, friend:enemy, war:peace, question:reply, giant:dwarf, teacher:student, entrance:exit, success:failure,
joy:sorrow, floor:ceiling, heaven:hell, yes:no, with:without, over:under, on:off, in:out, start:stop, save:waste, find:miss,
catch:throw, whisper:shout, freeze:melt, straight:crooked, public:private, wild:tame, ripe:unripe, visible:hidden, modern:old-fashioned
`);

export const SYNONYMS = pairs(`
large:huge, little:tiny, quick:rapid, glad:cheerful, angry:mad, smart:clever, pretty:lovely, scared:frightened, tired:sleepy, hungry:starving,
shut:close, speak:talk, look:watch, jump:leap, rock:stone, road:street, house:home,
present:gift, trip:journey, boat:ship, woods:forest, sea:ocean, automobile:car, couch:sofa, bag:sack, cap:hat,
pal:mate, infant:baby, child:kid, error:mistake, task:job, story:tale, picture:image, physician:doctor, film:movie, shop:store, soil:earth,
fix:repair, choose:select, collect:gather, hurry:rush, weep:sob, smell:scent, gleam:shine, odd:strange, correct:accurate, calm:peaceful
`);

export const RHYMES = pairs(`
cat:hat, dog:log, mouse:house, bee:tree, bear:chair, fox:box, goat:boat, snake:cake, fish:dish, hen:pen, frog:fog, sheep:jeep, pig:wig,
duck:truck, whale:tail, moon:spoon, star:car, sun:bun, rain:train, snow:crow, sky:pie, light:kite, night:knight, king:ring, queen:bean, bed:bread,
book:hook, ball:wall, bell:shell, door:floor, wood:hood, clock:sock, cup:pup, hand:sand, nose:rose, eye:fly, head:shed, hair:pear,
lake:rake, sea:key, road:toad, stone:bone, hill:mill, field:shield, town:crown, street:feet, day:hay, week:beak, year:deer, nine:line, ten:men,
four:shore, eight:gate, two:shoe, three:knee, red:sled, blue:glue, green:screen, brown:gown, pink:sink, cold:gold, big:twig, tall:mall, small:shawl,
slow:hoe, fast:mast, sad:dad, mad:lad, jam:ham, milk:silk, nut:hut, rice:mice, soup:hoop, lamp:stamp, rug:mug, pan:fan, jar:guitar, plane:crane
`);

export const COLOURS = pairs(`
grass:green, snow:white, blood:red, coal:black, a lemon:yellow, a carrot:orange, the sky:blue, a banana:yellow, a strawberry:red, milk:white,
chocolate:brown, a tomato:red, the sea:blue, a frog:green, a crow:black, a swan:white, a pumpkin:orange, a plum:purple, an elephant:grey,
a flamingo:pink, gold:yellow, silver:grey, mud:brown, a cucumber:green, a fire engine:red, charcoal:black, a polar bear:white, a leaf:green,
salt:white, a cherry:red, corn:yellow, a sunflower:yellow, tea:brown, rice:white, a pea:green, a raven:black, cotton:white, lavender:purple,
a pig:pink, ash:grey, flour:white, spinach:green, a ruby:red, an emerald:green, a sapphire:blue, tar:black, a brick:red, a violet:purple,
butter:yellow, a tyre:black, a rain cloud:grey, broccoli:green, a stop sign:red, ketchup:red, mustard:yellow, ivory:white
`);

/** Nouns with their plurals, regular and not. */
export const PLURALS = pairs(`
apple:apples, book:books, table:tables, chair:chairs, tree:trees, river:rivers, house:houses, car:cars, boat:boats, flower:flowers, garden:gardens,
window:windows, door:doors, school:schools, teacher:teachers, lemon:lemons, pencil:pencils, spoon:spoons, plate:plates, box:boxes, fox:foxes, bus:buses,
glass:glasses, dress:dresses, brush:brushes, dish:dishes, watch:watches, church:churches, peach:peaches, sandwich:sandwiches, class:classes, kiss:kisses,
city:cities, baby:babies, party:parties, story:stories, cherry:cherries, berry:berries, lady:ladies, puppy:puppies, country:countries, butterfly:butterflies,
family:families, penny:pennies, pony:ponies, boy:boys, toy:toys, key:keys, day:days, monkey:monkeys, donkey:donkeys, child:children, man:men, woman:women,
foot:feet, tooth:teeth, goose:geese, mouse:mice, ox:oxen, sheep:sheep, deer:deer, fish:fish, leaf:leaves, wolf:wolves, knife:knives, wife:wives,
life:lives, loaf:loaves, half:halves, shelf:shelves, thief:thieves, calf:calves, potato:potatoes, tomato:tomatoes, hero:heroes, piano:pianos, photo:photos,
roof:roofs, person:people, king:kings, queen:queens, star:stars, cloud:clouds, hill:hills, song:songs, letter:letters, coat:coats, shoe:shoes, ring:rings,
clock:clocks, cup:cups, doctor:doctors, farmer:farmers, island:islands, mountain:mountains, bridge:bridges, horse:horses
`);

/** Verbs with their past tense. */
export const PASTS = pairs(`
go:went, see:saw, eat:ate, run:ran, sing:sang, swim:swam, drink:drank, give:gave, take:took, make:made, come:came, write:wrote, drive:drove, ride:rode,
speak:spoke, break:broke, choose:chose, wake:woke, sleep:slept, keep:kept, feel:felt, leave:left, meet:met, find:found, buy:bought, bring:brought,
think:thought, teach:taught, catch:caught, fight:fought, tell:told, sell:sold, hold:held, stand:stood, sit:sat, begin:began, fly:flew, grow:grew,
know:knew, throw:threw, draw:drew, fall:fell, get:got, forget:forgot, lose:lost, send:sent, build:built, spend:spent, hear:heard, say:said, pay:paid,
win:won, dig:dug, hide:hid, bite:bit, light:lit, steal:stole, wear:wore, walk:walked, talk:talked, jump:jumped, play:played, look:looked, help:helped,
open:opened, cook:cooked, wash:washed, laugh:laughed, call:called, smile:smiled, dance:danced, love:loved, hope:hoped, cry:cried, try:tried, carry:carried,
hurry:hurried, stop:stopped, plan:planned, clap:clapped
`);

/** Things and the kind of thing that they are. */
export const KINDS = pairs(`
apple:fruit, banana:fruit, pear:fruit, cherry:fruit, grape:fruit, mango:fruit, peach:fruit, plum:fruit, carrot:vegetable, onion:vegetable, potato:vegetable,
cabbage:vegetable, turnip:vegetable, leek:vegetable, spinach:vegetable, hammer:tool, saw:tool, drill:tool, spade:tool, wrench:tool, axe:tool, rake:tool,
car:vehicle, bus:vehicle, truck:vehicle, train:vehicle, tractor:vehicle, bicycle:vehicle, van:vehicle, taxi:vehicle, violin:instrument, piano:instrument,
drum:instrument, flute:instrument, guitar:instrument, trumpet:instrument, harp:instrument, shirt:garment, coat:garment, skirt:garment, sweater:garment,
jacket:garment, dress:garment, sock:garment, rose:flower, tulip:flower, daisy:flower, lily:flower, violet:flower, poppy:flower, orchid:flower, oak:tree,
pine:tree, maple:tree, birch:tree, willow:tree, beech:tree, elm:tree, eagle:bird, sparrow:bird, robin:bird, parrot:bird, swan:bird, owl:bird, pigeon:bird,
ant:insect, bee:insect, beetle:insect, fly:insect, moth:insect, wasp:insect, trout:fish, salmon:fish, shark:fish, tuna:fish, cod:fish, herring:fish,
iron:metal, gold:metal, copper:metal, silver:metal, tin:metal, lead:metal, football:sport, tennis:sport, hockey:sport, golf:sport, rugby:sport,
boxing:sport, milk:drink, coffee:drink, tea:drink, juice:drink, lemonade:drink, cocoa:drink, chess:game, poker:game, dominoes:game, draughts:game,
ruby:gem, diamond:gem, emerald:gem, sapphire:gem, opal:gem, July:month, August:month, March:month, Monday:day, Friday:day, Sunday:day
`);

/** Things that take no article in "X is a kind of ...". */
export const MASS_NOUNS = new Set(
  `iron gold copper silver tin lead football tennis hockey golf rugby boxing milk coffee tea juice lemonade cocoa chess poker dominoes draughts spinach
July August March Monday Friday Sunday`.split(/\s+/),
);

/** Who does what: the work, then the worker. */
export const JOBS = pairs(`
bakes bread:baker, teaches children:teacher, grows crops:farmer, puts out fires:firefighter, flies planes:pilot, drives a bus:driver, cuts hair:barber,
paints pictures:painter, writes books:author, sings songs:singer, catches fish:fisherman, sells meat:butcher, treats sick people:doctor,
looks after teeth:dentist, treats sick animals:vet, makes clothes:tailor, repairs shoes:cobbler, repairs pipes:plumber, builds with wood:carpenter,
builds walls:bricklayer, cooks in a restaurant:chef, serves food:waiter, delivers letters:postman, catches thieves:policeman, sails ships:sailor,
digs for coal:miner, plays the piano:pianist, takes photos:photographer, looks after books:librarian, looks after sheep:shepherd,
looks after gardens:gardener, studies the stars:astronomer, travels to space:astronaut, fixes cars:mechanic, sells flowers:florist, makes people laugh:clown,
does magic tricks:magician, judges in court:judge, fixes wires:electrician, draws plans for houses:architect, dances on stage:dancer, guards the goal:goalkeeper
`);

/** Words for spelling, first and last letters and counting. */
export const SPELLING_WORDS =
  `cat dog sun moon star tree fish bird milk bread apple lemon table chair house garden river flower horse tiger zebra monkey
rabbit pencil window orange yellow purple green brown black white summer winter spring school friend mother father sister doctor farmer cloud storm ocean island
bridge castle dragon magic silver copper guitar violin piano kitten puppy spoon plate knife pillow blanket candle butter cheese pepper sugar honey
lamp door king queen ship train wheel clock snow stone`.split(/\s+/);
