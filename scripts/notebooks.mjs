/**
 * `npm run notebooks`: executes all notebooks, or those named, and saves their outputs in place.
 * With `--output FOLDER` the executed copies go there and the notebooks stay as they are.
 */
import { readdirSync } from 'node:fs';
import * as path from 'node:path';
import { parseArgs } from 'node:util';
import { entry, executeNotebook, findJupyter, root, SetupError, say, setUp } from './setup.mjs';

await entry(() => {
  const { values, positionals } = parseArgs({
    options: { output: { type: 'string' }, 'no-setup': { type: 'boolean', default: false } },
    allowPositionals: true,
  });
  const python = values['no-setup'] ? findJupyter() : setUp();
  const failed = notebooks(positionals).filter((notebook) => {
    say(`Running ${notebook} ...`);
    const output = values.output ? path.resolve(values.output, path.basename(notebook)) : notebook;
    return executeNotebook(python, notebook, output) !== 0;
  });
  if (failed.length > 0) throw new SetupError(`Failed: ${failed.join(', ')}.`);
});

function notebooks(named) {
  if (named.length > 0) return named;
  const all = readdirSync(path.join(root, 'notebooks')).filter((name) => name.endsWith('.ipynb'));
  return all.sort().map((name) => `notebooks/${name}`);
}
