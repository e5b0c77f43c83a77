/**
 * `npm run notebooks`: executes all notebooks, or those named, and saves their outputs in place.
 * With `--output FOLDER` the executed copies go there and the notebooks stay as they are.
 */
import { existsSync, readdirSync } from 'node:fs';
import * as path from 'node:path';
import { entry, executeNotebook, findJupyter, readWords, root, SetupError, say, setUp } from './setup.mjs';

const HELP = `npm run notebooks [-- NAME ... --output FOLDER --no-setup]
  Executes all notebooks, or those named, and saves their outputs in place.
  --output FOLDER  write the executed copies there, and leave the notebooks as they are
  --no-setup       everything is installed and built already`;

await entry(() => {
  const { values, positionals } = readWords(HELP, {
    options: { output: { type: 'string' }, 'no-setup': { type: 'boolean', default: false } },
    allowPositionals: true,
  });
  const chosen = notebooks(positionals);
  const python = values['no-setup'] ? findJupyter() : setUp();
  const failed = chosen.filter((notebook) => {
    say(`Running ${notebook} ...`);
    const output = values.output ? path.resolve(values.output, path.basename(notebook)) : notebook;
    return executeNotebook(python, notebook, output) !== 0;
  });
  if (failed.length > 0) throw new SetupError(`Failed: ${failed.join(', ')}.`);
});

/** By path, or by the name that README's table has. */
function notebooks(named) {
  const names = readdirSync(path.join(root, 'notebooks')).filter((name) => name.endsWith('.ipynb'));
  const all = names.sort().map((name) => `notebooks/${name}`);
  if (named.length === 0) return all;
  return named.map((name) => {
    const found = [name, `notebooks/${name}`, `notebooks/${name}.ipynb`].find((place) => existsSync(place) && place.endsWith('.ipynb'));
    if (!found) throw new SetupError(`There is no notebook ${name}; there are ${names.map((each) => path.parse(each).name).join(', ')}.`);
    return found;
  });
}
