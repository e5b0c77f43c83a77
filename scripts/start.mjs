/** `npm start`: sets everything up, runs the main notebook for real, and says where the results are. `--inplace` saves its outputs into the notebook. */
import { existsSync, readdirSync } from 'node:fs';
import * as path from 'node:path';
import { entry, executeNotebook, readWords, root, SetupError, say, setUp } from './setup.mjs';

const MAIN_NOTEBOOK = 'notebooks/01-sft-alpaca.ipynb';

const HELP = `npm start [-- --inplace]
  Sets everything up, runs ${MAIN_NOTEBOOK} and says where the results are: the executed copy goes to runs/.
  --inplace  save the outputs into the notebook itself`;

await entry(() => {
  const { inplace } = readWords(HELP, { options: { inplace: { type: 'boolean', default: false } } }).values;
  const started = Date.now();
  const python = setUp();
  if (!existsSync(path.join(root, MAIN_NOTEBOOK)))
    throw new SetupError(`${MAIN_NOTEBOOK} is missing; restore it with "git checkout ${MAIN_NOTEBOOK}".`);
  const output = inplace ? MAIN_NOTEBOOK : path.join('runs', path.basename(MAIN_NOTEBOOK));
  say(`Running ${MAIN_NOTEBOOK} ...`);
  const code = executeNotebook(python, MAIN_NOTEBOOK, output);
  if (code !== 0) throw new SetupError(`${MAIN_NOTEBOOK} stopped at the cell above; what it computed so far is in ${output}.`);
  tellResults(output, Math.round((Date.now() - started) / 1000));
});

function tellResults(output, seconds) {
  const figures = readdirSync(path.join(root, 'plots')).filter((name) => name.endsWith('.png'));
  say(`\nDone in ${Math.floor(seconds / 60)} min ${seconds % 60} s.`);
  say(`  executed notebook   ${output}`);
  if (figures.length > 0) say(`  figures             plots/ (${figures.join(', ')})`);
  say('  open it and the other notebooks in the browser: npm run lab');
}
