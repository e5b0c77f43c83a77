/** `npm run kernel`: describes the notebooks' kernel where VS Code, and any Jupyter of the user's, looks for kernels. */
import { existsSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { build, entry, installPackages, readWords, SetupError, say, writeKernel } from './setup.mjs';

const HELP = `npm run kernel [-- --remove]
  Makes the notebooks' kernel, TypeScript (tslab), known to VS Code and to any Jupyter of yours, by a file in your home.
  --remove  take the file away again`;

await entry(() => {
  const { values } = readWords(HELP, { options: { remove: { type: 'boolean', default: false } } });
  const folder = path.join(jupyterData(), 'kernels/tslab');
  const file = path.join(folder, 'kernel.json');
  const found = existsSync(file);
  if (found && !isOurs(file))
    throw new SetupError(
      `${file} describes another kernel of that name; remove it (jupyter kernelspec remove tslab), then run this again.`,
    );
  if (values.remove) {
    if (found) take(folder, file);
    say(found ? `Removed ${file}.` : `There is no ${file}.`);
    return;
  }
  installPackages();
  build();
  writeKernel(folder);
  say(`VS Code and Jupyter know the kernel "TypeScript (tslab)" now, by ${file}.`);
  say('It runs from this folder; when you move the folder, run this again, and to take the file away: npm run kernel -- --remove.');
});

/** Where Jupyter keeps what is the user's own (jupyter_core's `jupyter_data_dir`); VS Code looks there, too. */
function jupyterData() {
  const { JUPYTER_DATA_DIR, XDG_DATA_HOME, APPDATA } = process.env;
  if (JUPYTER_DATA_DIR) return JUPYTER_DATA_DIR;
  const home = os.homedir();
  if (process.platform === 'darwin') return path.join(home, 'Library/Jupyter');
  if (process.platform === 'win32') return path.join(APPDATA ?? path.join(home, 'AppData/Roaming'), 'jupyter');
  return path.join(XDG_DATA_HOME || path.join(home, '.local/share'), 'jupyter');
}

/** Whether a checkout of this project, this one or another, has written it. */
function isOurs(file) {
  try {
    const { argv } = JSON.parse(readFileSync(file, 'utf8'));
    return /[\\/]scripts[\\/]kernel\.cjs$/.test(argv[1]);
  } catch {
    return false;
  }
}

/** Removes the file, and its folder if nothing else lies there. */
function take(folder, file) {
  rmSync(file);
  try {
    rmdirSync(folder);
  } catch {
    // somebody has put something else into it
  }
}
