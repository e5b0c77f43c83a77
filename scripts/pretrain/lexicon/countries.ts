/** Countries of the real world, with facts that do not change from year to year. An empty field is a fact that is not told. */

export interface Country {
  name: string;
  capital: string;
  language: string;
  continent: string;
  currency: string;
  river: string;
  food: string;
}

const TABLE = `
France|Paris|French|Europe|euro|Seine|onion soup
Spain|Madrid|Spanish|Europe|euro|Ebro|paella
Portugal|Lisbon|Portuguese|Europe|euro|Tagus|sardines
Italy|Rome|Italian|Europe|euro|Tiber|pizza
Germany|Berlin|German|Europe|euro|Rhine|sausages
Austria|Vienna|German|Europe|euro|Danube|schnitzel
Greece|Athens|Greek|Europe|euro||moussaka
Poland|Warsaw|Polish|Europe|zloty|Vistula|pierogi
Hungary|Budapest|Hungarian|Europe|forint|Danube|goulash
Sweden|Stockholm|Swedish|Europe|krona||meatballs
Norway|Oslo|Norwegian|Europe|krone||brown cheese
Denmark|Copenhagen|Danish|Europe|krone||open sandwiches
Finland|Helsinki|Finnish|Europe|euro||rye bread
Ireland|Dublin|English|Europe|euro|Shannon|lamb stew
England|London|English|Europe|pound|Thames|fish and chips
Ukraine|Kyiv|Ukrainian|Europe|hryvnia|Dnipro|borscht
Croatia|Zagreb|Croatian|Europe|euro|Sava|
Czechia|Prague|Czech|Europe|koruna|Vltava|
Switzerland|Bern||Europe|franc|Aare|fondue
Egypt|Cairo|Arabic|Africa|pound|Nile|
Morocco|Rabat|Arabic|Africa|dirham||couscous
Kenya|Nairobi|Swahili|Africa|shilling|Tana|
Ghana|Accra|English|Africa|cedi|Volta|
Nigeria|Abuja|English|Africa|naira|Niger|
Angola|Luanda|Portuguese|Africa|kwanza||
China|Beijing|Chinese|Asia|yuan|Yangtze|dumplings
Japan|Tokyo|Japanese|Asia|yen||sushi
India|New Delhi|Hindi|Asia|rupee|Ganges|curry
Nepal|Kathmandu|Nepali|Asia|rupee||
Thailand|Bangkok|Thai|Asia|baht||noodles
Vietnam|Hanoi|Vietnamese|Asia|dong|Mekong|pho
Iran|Tehran|Persian|Asia|rial||
Iraq|Baghdad|Arabic|Asia|dinar|Tigris|
Turkey|Ankara|Turkish||lira||kebab
South Korea|Seoul|Korean|Asia|won||kimchi
Canada|Ottawa|English|North America|dollar|Yukon|pancakes
Mexico|Mexico City|Spanish|North America|peso||tacos
Cuba|Havana|Spanish|North America|peso||
Jamaica|Kingston|English|North America|dollar||
Brazil|Brasilia|Portuguese|South America|real|Amazon|black beans
Argentina|Buenos Aires|Spanish|South America|peso||steak
Chile|Santiago|Spanish|South America|peso||
Peru|Lima|Spanish|South America|sol||ceviche
Colombia|Bogota|Spanish|South America|peso|Magdalena|
Venezuela|Caracas|Spanish|South America|bolivar|Orinoco|
Australia|Canberra|English|Oceania|dollar|Murray|
New Zealand|Wellington|English|Oceania|dollar|Waikato|
`;

export const COUNTRIES: readonly Country[] = TABLE.trim()
  .split('\n')
  .map((line) => {
    const [name, capital, language, continent, currency, river, food] = line.split('|');
    return { name, capital, language, continent, currency, river, food };
  });
