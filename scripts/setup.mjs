/**
 * What every command of this project needs before it can start: packages, the compiled library, Jupyter with the kernel.
 * Runs on a fresh checkout, so it uses Node's own modules only. `node scripts/setup.mjs` does all three and stops.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const windows = process.platform === 'win32';
const jupyterFolder = path.join(root, '.jupyter');
const venv = path.join(root, '.venv');
const venvPython = path.join(venv, windows ? 'Scripts/python.exe' : 'bin/python');

/** What a Python must have to execute notebooks, and to open them in the browser: module to import, package to install. */
const NEEDS = {
  execute: { modules: ['nbclient', 'nbformat', 'jupyter_client'], packages: ['nbclient', 'nbformat', 'jupyter-client'] },
  lab: { modules: ['jupyterlab', 'nbclient', 'nbformat'], packages: ['jupyterlab', 'nbclient', 'nbformat'] },
};

const HOW_TO_INSTALL_JUPYTER =
  'Jupyter was not found and could not be installed into .venv: install it with ' +
  '"sudo apt install python3-venv jupyter-notebook" (or "pipx install jupyterlab") on Linux, "brew install jupyterlab" on macOS, ' +
  'or "py -m pip install jupyterlab" on Windows, then run this command again.';

export const say = (text) => process.stdout.write(`${text}\n`);

/** A failure that needs no stack: its message is for the person at the keyboard. */
export class SetupError extends Error {}

/** Runs `main`, and turns a SetupError into one sentence and exit code 1. */
export async function entry(main) {
  try {
    process.exitCode = (await main()) ?? 0;
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}

/**
 * The words of the command line: `{ values, positionals }`. With `--help` it shows the help, and the command ends.
 * @throws SetupError for a flag that is none of the command's
 */
export function readWords(help, config = {}) {
  const options = { ...config.options, help: { type: 'boolean', short: 'h', default: false } };
  try {
    const found = parseArgs({ ...config, options });
    if (!found.values.help) return found;
  } catch (error) {
    if (!String(error.code).startsWith('ERR_PARSE_ARGS')) throw error;
    throw new SetupError(`${error.message.split('. ')[0].replace(/[.]$/, '')}; it is written ${help.split('\n', 1)[0]}.`);
  }
  say(help);
  process.exit(0);
}

/** Installs, builds and finds Jupyter; returns the Python that has it. */
export function setUp({ lab = false } = {}) {
  installPackages();
  build();
  return findJupyter({ lab });
}

// ── packages ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Runs `npm ci` unless node_modules already is what the lockfile says. */
export function installPackages() {
  if (installedAsLocked()) return;
  say('Installing packages (npm ci) ...');
  const npm = process.env.npm_execpath;
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const done = npm
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: 'inherit' })
    : spawnSync('npm', args, { cwd: root, stdio: 'inherit', shell: windows });
  if (done.status !== 0)
    throw new SetupError('npm ci failed (its message is above); check the connection to the npm registry and run this again.');
}

/** Compares the lockfile with npm's own record of what it installed. */
function installedAsLocked() {
  const record = path.join(root, 'node_modules/.package-lock.json');
  if (!existsSync(record)) return false;
  const wanted = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')).packages;
  const present = JSON.parse(readFileSync(record, 'utf8')).packages;
  const changed = Object.keys(present).some((name) => wanted[name]?.version !== present[name].version);
  // what is optional may be for another system, and then is rightly absent
  const missing = Object.keys(wanted).some((name) => name !== '' && !wanted[name].optional && !wanted[name].devOptional && !present[name]);
  return !changed && !missing;
}

/** Compiles lib, test and scripts into build/; quick when nothing changed. */
export function build() {
  const done = spawnSync(process.execPath, [path.join(root, 'node_modules/typescript/bin/tsc')], { cwd: root, stdio: 'inherit' });
  if (done.status !== 0) throw new SetupError('The TypeScript build failed (the errors are above); correct them and run this again.');
}

// ── Jupyter ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Finds a Python that has Jupyter, or makes one in .venv, and registers the kernel.
 * @returns the path of that Python
 */
export function findJupyter({ lab = false } = {}) {
  const need = lab ? NEEDS.lab : NEEDS.execute;
  const python = [venvPython, ...pythonsOnPath()].find((candidate) => has(candidate, need.modules)) ?? makeVenv(need);
  registerKernel();
  return python;
}

/** Pythons that may have Jupyter: the usual names, and the one behind a `jupyter` command (pipx, Homebrew). */
function pythonsOnPath() {
  const pythons = windows ? ['py', 'python', 'python3'] : ['python3', 'python'];
  for (const folder of (process.env.PATH ?? '').split(path.delimiter)) {
    const script = path.join(folder, 'jupyter');
    if (!folder || windows || !existsSync(script)) continue;
    const shebang = /^#!\s*(\S*python\S*)/.exec(readFileSync(script, 'latin1').slice(0, 300));
    if (shebang) pythons.push(shebang[1]);
  }
  return pythons;
}

function has(python, modules) {
  if (path.isAbsolute(python) && !existsSync(python)) return false;
  return quiet(python, ['-c', `import ${modules.join(', ')}`]);
}

/** Makes .venv with what is needed: first with little patience (a closed network), then with pip's own settings (a slow or local index). */
function makeVenv(need) {
  if (!quiet(venvPython, ['-m', 'pip', '--version'])) {
    say('Making a Python environment for Jupyter in .venv ...');
    const made = (windows ? ['py', 'python', 'python3'] : ['python3', 'python']).some((python) =>
      quiet(python, ['-m', 'venv', '--clear', venv]),
    );
    if (!made) throw new SetupError(HOW_TO_INSTALL_JUPYTER);
  }
  say(`Installing ${need.packages[0]} into .venv (pip) ...`);
  const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check'];
  const installed =
    quiet(venvPython, [...install, '--retries', '0', '--timeout', '5', ...need.packages]) ||
    quiet(venvPython, [...install, ...need.packages]);
  if (!installed || !has(venvPython, need.modules)) throw new SetupError(HOW_TO_INSTALL_JUPYTER);
  return venvPython;
}

function quiet(command, args) {
  return spawnSync(command, args, { stdio: 'ignore', env: { ...process.env, PIP_NO_INPUT: '1' } }).status === 0;
}

/** Describes the kernel to the project's own Jupyter: in .jupyter/, and in .venv for editors that look there. */
function registerKernel() {
  const folders = [jupyterFolder, ...(existsSync(venv) ? [path.join(venv, 'share/jupyter')] : [])];
  for (const folder of folders) writeKernel(path.join(folder, 'kernels/tslab'));
}

/** Writes the kernel's description into a folder: this Node runs this project's own tslab. */
export function writeKernel(folder) {
  const spec = {
    argv: [process.execPath, path.join(root, 'scripts/kernel.cjs'), '{connection_file}'],
    display_name: 'TypeScript (tslab)',
    language: 'typescript',
    // the stop button's signal does not exist there
    ...(windows && { interrupt_mode: 'message' }),
  };
  mkdirSync(folder, { recursive: true });
  const file = path.join(folder, 'kernel.json');
  writeFileSync(`${file}.tmp`, `${JSON.stringify(spec, null, 2)}\n`);
  renameSync(`${file}.tmp`, file);
}

/** The environment in which Jupyter finds the project's kernel before any other, and leaves the user's home alone. */
export function jupyterEnvironment() {
  return {
    ...process.env,
    JUPYTER_PATH: [jupyterFolder, process.env.JUPYTER_PATH].filter(Boolean).join(path.delimiter),
    JUPYTER_RUNTIME_DIR: path.join(jupyterFolder, 'runtime'),
    JUPYTER_PLATFORM_DIRS: '1',
    PYTHONUNBUFFERED: '1',
    PYTHONIOENCODING: 'utf-8',
  };
}

/**
 * Executes a notebook from first to last cell in its own folder and writes the executed copy.
 * @returns the exit code: 0, or 1 when a cell failed (its source and error have been printed)
 */
export function executeNotebook(python, notebook, output) {
  const script = path.join(root, 'scripts/execute_notebook.py');
  return spawnSync(python, [script, notebook, output], { cwd: root, stdio: 'inherit', env: jupyterEnvironment() }).status ?? 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await entry(() => {
    setUp();
    return 0;
  });
}
