import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { projectRoot } from '../../lib/project';

interface Cell {
  cell_type: string;
  source: string | string[];
  outputs?: Array<Record<string, unknown>>;
}

const notebooks = path.join(projectRoot, 'notebooks');
const folder = mkdtempSync(path.join(os.tmpdir(), 'tunebook-notebooks-'));

/** The figures that come with the project: a notebook draws them again, and its curves differ a little from machine to machine. */
const plots = path.join(projectRoot, 'plots');
const figures = readdirSync(plots).map((name) => ({ file: path.join(plots, name), drawn: readFileSync(path.join(plots, name)) }));

after(() => {
  rmSync(folder, { recursive: true, force: true });
  for (const { file, drawn } of figures) writeFileSync(file, drawn);
});

/** Executes a notebook into the temporary folder; the notebook itself stays as it is. */
function execute(file: string): { status: number | null; report: string; cells: Cell[]; seconds: number } {
  const started = Date.now();
  const script = path.join(projectRoot, 'scripts/notebooks.mjs');
  const done = spawnSync(process.execPath, [script, '--no-setup', '--output', folder, file], { cwd: projectRoot, encoding: 'utf8' });
  const copy = path.join(folder, path.basename(file));
  const cells = existsSync(copy) ? (JSON.parse(readFileSync(copy, 'utf8')) as { cells: Cell[] }).cells : [];
  return { status: done.status, report: done.stdout + done.stderr, cells, seconds: (Date.now() - started) / 1000 };
}

/** Writes a notebook of these code cells; it stands beside the real ones for the time of the test, as '../lib' asks for. */
function withNotebook(name: string, cells: string[], body: (file: string) => void): void {
  const file = path.join(notebooks, `.${name}-${process.pid}.ipynb`);
  const code = (source: string, index: number) => ({
    cell_type: 'code',
    id: `c${index}`,
    metadata: {},
    source,
    outputs: [],
    execution_count: null,
  });
  const kernelspec = { name: 'tslab', display_name: 'TypeScript (tslab)', language: 'typescript' };
  writeFileSync(file, JSON.stringify({ cells: cells.map(code), metadata: { kernelspec }, nbformat: 4, nbformat_minor: 5 }));
  try {
    body(file);
  } finally {
    rmSync(file, { force: true });
  }
}

test('a failing cell fails the run and is shown with its source and error', () => {
  withNotebook('fails', ['const before = 1;', "throw new Error('deliberate ' + before);"], (file) => {
    const { status, report } = execute(file);
    assert.equal(status, 1);
    assert.match(report, /deliberate 1/);
    assert.match(report, /throw new Error/);
  });
});

test('a promise that nobody waits for and that fails, fails the run too', () => {
  withNotebook('lost', ["Promise.reject(new Error('unseen'));\nawait new Promise((done) => setTimeout(done, 200));"], (file) => {
    const { status, report } = execute(file);
    assert.equal(status, 1);
    assert.match(report, /unseen/);
  });
});

test('a cell may use variables of earlier cells in short form, and for await without another await', () => {
  const cells = [
    "const model = 5;\nasync function* words() { yield 'a'; yield 'b'; }",
    'const o = { model, other: { model } };\nlet found = 0;\n({ model: found } = o);\nconsole.log(JSON.stringify(o), found);',
    'for await (const word of words()) console.log(word);',
  ];
  withNotebook('short', cells, (file) => {
    const { status, report, cells: executed } = execute(file);
    assert.equal(status, 0, report);
    assert.deepEqual(
      executed.map((cell) => [cell.outputs?.[0]?.text ?? []].flat().join('')),
      ['', '{"model":5,"other":{"model":5}} 5\n', 'a\nb\n'],
    );
  });
});

test('cells import the library with its types, wait at top level, and show curves that were updated in place', () => {
  const cells = [
    "import { LiveTrainingPlot, plotTraining } from '../lib';\nconsole.log(typeof plotTraining);",
    'const live = new LiveTrainingPlot({ everySeconds: 0 });\nconst log: { step: number; loss: number }[] = [];',
    `await live.onTrainBegin();
    for (let step = 1; step <= 4; step++) { log.push({ step, loss: 1 / step }); await live.onLog({ log }); }
    await live.onTrainEnd({ log });`,
    'await plotTraining(log);',
  ];
  withNotebook('works', cells, (file) => {
    const { status, report, cells: executed } = execute(file);
    assert.equal(status, 0, report);
    assert.match(String(executed[0].outputs?.[0]?.text), /function/);
    for (const cell of executed.slice(2)) {
      assert.equal(cell.outputs?.length, 1, 'one picture, however often it was redrawn');
      assert.match(JSON.stringify(cell.outputs?.[0]?.data), /"image\/png"/);
    }
  });
});

test('a model tuned on other data is saved elsewhere, and where one notebook saves, the other looks', () => {
  const folders = ['01-sft-alpaca.ipynb', '02-before-after.ipynb'].map((name) => {
    const { cells } = JSON.parse(readFileSync(path.join(notebooks, name), 'utf8')) as { cells: Cell[] };
    const source = cells.map((cell) => [cell.source].flat().join('')).join('\n');
    return /^const SAVED?(?:_TO)? = (.*);$/m.exec(source)?.[1];
  });
  assert.match(folders[0] ?? '', /MODEL.*DATA/);
  assert.equal(folders[0], folders[1]);
});

/** Runs the Python that has Jupyter, in the environment in which it finds the kernel; it ends as that does. */
function withJupyter(words: string[], input = ''): SpawnSyncReturns<string> {
  const setup = pathToFileURL(path.join(projectRoot, 'scripts/setup.mjs')).href;
  const program = `
    import { spawnSync } from 'node:child_process';
    import { findJupyter, jupyterEnvironment } from ${JSON.stringify(setup)};
    const done = spawnSync(findJupyter(), ${JSON.stringify(words)}, { stdio: 'inherit', env: jupyterEnvironment() });
    if (done.signal) process.kill(process.pid, done.signal);
    process.exit(done.status ?? 1);`;
  return spawnSync(process.execPath, ['--input-type=module', '-e', program], { input, encoding: 'utf8' });
}

/**
 * Runs cells in one kernel, the later ones also where an earlier one failed; one is interrupted when its output has the given text.
 * Others are documented (`inspect`) or sent all at once (`together`): test/notebooks/run_cells.py says what they answer.
 */
function runCells(
  cells: Array<{ code: string; interrupt?: string } | { inspect: string } | { together: string[] }>,
  interruptMode: 'signal' | 'message' = 'message',
): Array<{ status: string; text: string }> {
  const script = path.join(projectRoot, 'test/notebooks/run_cells.py');
  const done = withJupyter([script, notebooks, interruptMode], JSON.stringify(cells));
  assert.equal(done.status, 0, done.stderr);
  return JSON.parse(done.stdout.trim().split('\n').at(-1) as string);
}

test('what a failed cell had declared until then is known to later cells, the rest is not', () => {
  const results = runCells([
    { code: 'let reached: number | undefined;\nconst before = { deep: [1] };' },
    {
      code: "const made = before.deep.length, other = 'x';\ninterface Later { y: number }\nthrow new Error('deliberate');\nconst missed = 3;",
    },
    { code: 'const y: Later = { y: made };\nconsole.log(y.y, other, before.deep, reached);' },
    { code: 'console.log(missed);' },
    { code: 'console.log(made + 1);' },
  ]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['ok', 'error', 'ok', 'error', 'ok'],
  );
  assert.match(results[1].text, /deliberate/);
  assert.equal(results[2].text, '1 x [ 1 ] undefined\n');
  assert.match(results[3].text, /Cannot find name 'missed'/);
  assert.equal(results[4].text, '2\n');
});

test('what a later cell assigns to a variable is seen by the functions of its own cell, what it declares anew is another variable', () => {
  const results = runCells([
    { code: 'let a = 1, [b] = [1], { c: { d } } = { c: { d: 1 } };\nconst f = () => [a, b, d].join();\nconst bump = () => { a += 10; };' },
    { code: 'a = 2; console.log(f(), a);' },
    { code: 'await null;\nbump(); b++; ({ d } = { d: 3 }); console.log(f(), a);' },
    { code: 'let a = 7; console.log(f(), a);' },
    { code: 'a = 8; console.log(f(), a);' },
    { code: 'async function later() { await null; return a; }\nconst b = 5; console.log(f(), b, await later());' },
    { code: "let kept = 1;\nconst get = () => kept;\nthrow new Error('deliberate');" },
    { code: 'kept = 2; console.log(get());' },
  ]);
  assert.deepEqual(
    results.filter(({ status }) => status === 'ok').map(({ text }) => text),
    ['', '2,1,1 2\n', '12,2,3 12\n', '12,2,3 7\n', '12,2,3 8\n', '12,2,3 5 8\n', '2\n'],
  );
});

test('a name that no cell has declared yet comes with the remedy, a slip with the name that was meant', () => {
  const results = runCells([{ code: 'const model = 1;\nconsole.log(data, trainer);' }, { code: 'const model = 1;' }, { code: 'modle;' }]);
  const remedy = 'If a cell above declares or imports what is missing, run that cell first.';
  assert.equal(results[0].text, `2:13 - Cannot find name 'data'.\n2:19 - Cannot find name 'trainer'.\n${remedy}\n`);
  assert.equal(results[2].text, "1:1 - Cannot find name 'modle'. Did you mean 'model'?\n");
});

test("errors are shown without the kernel's own code, and of what the user can mend the sentence alone", () => {
  const results = runCells([
    { code: "import { loadModel } from '../lib';\nawait loadModel('../data/nope');" },
    { code: 'const own = () => JSON.parse("{");\nown();' },
    { code: 'await (async () => { await null; throw new RangeError("late"); })();' },
    { code: 'const sum = await (async () => 1)();\nconsole.log(sum);' },
  ]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['error', 'error', 'error', 'ok'],
  );
  assert.match(results[0].text, /^There is no folder \.\.\/data\/nope; check the path .*\.\n$/);
  assert.match(results[1].text, /SyntaxError: .*\n {4}at JSON\.parse(?:.*\n)* +at own /);
  assert.match(results[2].text, /RangeError: late\n/);
  for (const { text } of results) assert.doesNotMatch(text, /tslab|node:vm|kernel\.cjs/);
  assert.equal(results[3].text, '1\n');
});

test('all that a cell prints arrives, however much it is, and that the cell has ended', () => {
  const lines = Array.from({ length: 3000 }, (_, i) => `line ${i}\n`).join('');
  const [burst, streamed] = runCells([
    { code: "for (let i = 0; i < 3000; i++) console.log('line', i);" },
    { code: "for (let i = 0; i < 3000; i++) {\n  process.stdout.write('line ' + i + '\\n');\n  await null;\n}" },
  ]);
  assert.deepEqual([burst, streamed], Array(2).fill({ status: 'ok', text: lines }));
});

test('the kernel is said to be busy until the last of the cells that wait is done', () => {
  const slow = (word: string) => `await new Promise((done) => setTimeout(done, 300));\nconsole.log('${word}');`;
  const [three, failing] = runCells([
    { together: [slow('one'), slow('two'), slow('three')] },
    { together: [slow('four'), "throw 'five';", slow('six')] },
  ]);
  const states = three.text.split(' ');
  const stateAt = (word: string) => states.slice(0, states.indexOf(word)).findLast((state) => /^(busy|idle)$/.test(state));
  for (const word of ['one', 'two', 'three']) assert.equal(stateAt(word), 'busy', three.text);
  assert.equal(states.at(-1), 'idle', three.text);
  assert.equal(failing.text.split(' ').at(-1), 'idle', failing.text);
  assert.doesNotMatch(failing.text, /six/);
});

test("documentation says of settings what the command line's help does, and names what is returned and thrown", () => {
  const [, setting, optional, call, trainer, made] = runCells([
    { code: "import { loadDataset, SFTTrainer, tokenNll } from '../lib';" },
    { inspect: 'new SFTTrainer({ config: { learningRate' },
    { inspect: 'new SFTTrainer({ config: { evalSteps' },
    { inspect: 'tokenNll' },
    { inspect: 'SFTTrainer' },
    { inspect: 'new SFTTrainer' },
  ]);
  assert.match(setting.text, /learningRate\?: number.*\n\nHighest learning rate\.$/);
  assert.match(optional.text, /Optimizer steps between two evaluations; null: logging_steps\.$/);
  assert.match(call.text, /\n@param ids .*\n@returns .*\n@throws UserError /s);
  assert.match(trainer.text, /fine-tuning/i);
  assert.match(made.text, /Makes the examples ready.*\n@throws UserError /s);
});

test('a kernel ends with its server, however that ended', { skip: process.platform === 'win32' && 'nothing kills so there' }, async () => {
  const started = withJupyter([
    '-c',
    `import os, subprocess
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="tslab")
manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
print(manager.provisioner.pid, flush=True)
os.kill(os.getpid(), 9)`,
  ]);
  assert.equal(started.signal ?? started.status, 'SIGKILL', started.stderr);
  const kernel = Number(started.stdout);
  assert.ok(kernel > 1, started.stdout);
  const isThere = (): boolean => {
    try {
      return process.kill(kernel, 0);
    } catch {
      return false;
    }
  };
  for (let waited = 0; isThere() && waited < 10_000; waited += 100) await new Promise((resolve) => setTimeout(resolve, 100));
  assert.ok(!isThere(), 'the kernel is still there');
});

function interruptsCells(interruptMode: 'signal' | 'message'): void {
  // as packages do that clean up at the end of a process
  const training = `process.on('SIGINT', () => {});
    const trainer = new SFTTrainer({ model: model, trainDataset: rows, config: { numTrainEpochs: 50, loggingSteps: 1 } });
    await trainer.train();
    console.log('went on');`;
  // Not before the first token: Node can lose a signal that comes in the moment when the synchronous beginning of a cell ends.
  const answering = `let tokens = 0;
    const onToken = () => void (++tokens === 50 && console.log('writes'));
    await exactMatch(model, rows, { maxNewTokens: 150, ignoreEos: true, onToken: onToken });
    console.log('went on');`;
  const results = runCells(
    [
      { code: "import { exactMatch, generate, loadDataset, loadModel, SFTTrainer } from '../lib';" },
      { code: "const model = await loadModel('../data/base');\nconst rows = (await loadDataset('../data/instructions.json')).take(200);" },
      { code: training, interrupt: 'loss' },
      { code: 'const steps = trainer.log.length;\nconsole.log(steps > 0 && steps < 600, steps === trainer.log.at(-1)?.step);' },
      {
        code: answering,
        interrupt: 'writes',
      },
      { code: "console.log(steps === trainer.log.length, (await generate(model, 'One', { maxNewTokens: 3 })).length > 0);" },
    ],
    interruptMode,
  );
  assert.deepEqual(
    results.map(({ status }) => status),
    ['ok', 'ok', 'error', 'ok', 'error', 'ok'],
    JSON.stringify(results),
  );
  for (const { text } of [results[2], results[4]]) {
    assert.match(text, /Interrupted\.\n$/);
    assert.doesNotMatch(text, /went on|executor/);
  }
  assert.equal(results[3].text, 'true true\n');
  assert.equal(results[5].text, 'true true\n');
}

for (const mode of ['signal', 'message'] as const) {
  const skip = mode === 'signal' && process.platform === 'win32' && 'there are no signals on Windows';
  test(`a cell that is interrupted by a ${mode} ends, training and generation stop, and model and log stay usable`, { skip }, () =>
    interruptsCells(mode),
  );
}

for (const name of readdirSync(notebooks).sort()) {
  if (!name.endsWith('.ipynb') || name.startsWith('.')) continue;
  test(`${name} runs from first to last cell without an error, in under three minutes`, (context) => {
    const { status, report, seconds } = execute(path.join('notebooks', name));
    assert.equal(status, 0, report);
    context.diagnostic(`${name}: ${seconds.toFixed(0)} s`);
    assert.ok(seconds < 180, `${seconds.toFixed(0)} s`);
  });
}
