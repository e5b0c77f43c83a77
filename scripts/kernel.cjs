/**
 * The notebooks' kernel: tslab, with twelve of its faults (1.0.22) mended.
 *
 * - `{ model }`, where `model` comes from an earlier cell, ended in "model is not defined": it becomes `{ model: model }`.
 * - `for await` or `await (...)` as a cell's only top-level await was a syntax error: an `await` is put before it.
 * - What a cell had declared before it failed or was interrupted was unknown to later cells: it is passed on as far as it got.
 * - Errors came with a stack of the kernel's own code: it is left out, and of what the user can mend the sentence alone is shown.
 * - A variable that a later cell gave another value kept its old one in the functions of its own cell.
 * - Of a name that a cell not yet run declares, as after a restart, nothing said how it becomes known.
 * - The documentation of a function said neither "@returns" nor "@throws" before what it says of them.
 * - While a cell ran that had waited for another, or that one looked up documentation beside, the kernel was said to be idle.
 * - Interrupted by a message, as on systems without signals, it went on.
 * - Interrupted after a cell, or a package that it imports, had begun to listen to the signal, it died.
 * - Of a server that was killed the kernel stayed behind, with all that it held in memory.
 * - Of a cell that printed some five hundred times in a row the rest was lost, and that the cell had ended: text is sent in few pieces.
 *
 * usage: kernel.cjs CONNECTION_FILE
 */
const { createHmac } = require('node:crypto');
const { createRequire } = require('node:module');
const vm = require('node:vm');

const fromTslab = createRequire(require.resolve('tslab/package.json'));
const ts = fromTslab('@tslab/typescript-for-tslab');
const converter = fromTslab('./dist/converter.js');
const executor = fromTslab('./dist/executor.js');
const inspect = fromTslab('./dist/inspect.js');
const jupyter = fromTslab('./dist/jupyter.js');

/** What parts a message's addresses from its contents. */
const DELIMITER = Buffer.from('<IDS|MSG>');

/** `await (...)`, which TypeScript reads as the call of a function where it knows of no other await. */
const isCallOfAwait = (node) => ts.isCallExpression(node) && ts.isIdentifier(node.expression) && node.expression.text === 'await';

/** The same program in words that tslab understands. */
function spellOut(source) {
  const file = ts.createSourceFile('cell.ts', source, ts.ScriptTarget.Latest, true);
  const insertions = [];
  let awaits = false;
  let hiddenAwaits = false;
  const visit = (node, topLevel) => {
    if (ts.isShorthandPropertyAssignment(node)) insertions.push({ at: node.name.end, text: `: ${node.name.text}` });
    if (topLevel && ts.isAwaitExpression(node)) awaits = true;
    if (topLevel && ((ts.isForOfStatement(node) && node.awaitModifier) || isCallOfAwait(node))) hiddenAwaits = true;
    const inside = topLevel && !ts.isFunctionLike(node) && !ts.isClassLike(node);
    ts.forEachChild(node, (child) => visit(child, inside));
  };
  visit(file, true);
  if (hiddenAwaits && !awaits) insertions.push({ at: 0, text: 'await undefined; ' });
  return insertions
    .sort((a, b) => b.at - a.at)
    .reduce((text, { at, text: inserted }) => text.slice(0, at) + inserted + text.slice(at), source);
}

/**
 * Declarations of all cells up to one that did not come to its end, without its variables that have got no value.
 * @param before the declarations of the cells before it
 * @param after the same with its own
 * @param values of everything that cells have declared, by name
 */
function reached(before, after, values) {
  const parse = (text) => ts.createSourceFile('cells.d.ts', text, ts.ScriptTarget.Latest, true);
  const variables = ({ statements }) =>
    statements.filter(ts.isVariableStatement).flatMap(({ declarationList: list }) => {
      const keyword = list.flags & ts.NodeFlags.Const ? 'const' : 'let';
      return list.declarations.map((variable) => ({ name: variable.name.text, text: `declare ${keyword} ${variable.getText()};` }));
    });
  const earlier = new Set(variables(parse(before)).map(({ name }) => name));
  const file = parse(after);
  const others = file.statements.filter((statement) => !ts.isVariableStatement(statement)).map((statement) => statement.getText());
  const kept = variables(file).filter(({ name }) => earlier.has(name) || values[name] !== undefined);
  return [...others, ...kept.map(({ text }) => text)].join('\n');
}

/** After the last error what to do about names of other cells; a name that is near to a known one is a slip. */
function withRemedy(diagnostics) {
  if (!diagnostics.some(({ messageText }) => /^Cannot find name '\w+'\.$/.test(messageText))) return diagnostics;
  const last = diagnostics[diagnostics.length - 1];
  const remedy = 'If a cell above declares or imports what is missing, run that cell first.';
  return [...diagnostics.slice(0, -1), { ...last, messageText: `${last.messageText}\n${remedy}` }];
}

/** Names that a cell declares at its top, and those of its variables that later cells may change. */
function namesOf(source) {
  const { statements } = ts.createSourceFile('cell.ts', source, ts.ScriptTarget.Latest, true);
  const namesIn = (name) => (ts.isIdentifier(name) ? [name.text] : name.elements.flatMap((part) => (part.name ? namesIn(part.name) : [])));
  const inList = ({ declarations }) => declarations.flatMap(({ name }) => namesIn(name));
  const lists = statements.filter(ts.isVariableStatement).map(({ declarationList }) => declarationList);
  const others = statements.flatMap(({ name }) => (name && ts.isIdentifier(name) ? [name.text] : []));
  const changing = lists.filter(({ flags }) => !(flags & ts.NodeFlags.Const)).flatMap(inList);
  return { all: [...lists.flatMap(inList), ...others], changing };
}

/** A cell that first hands on how its variables are set; those of the same names before it are other variables. */
function handOn(output, source) {
  const { all, changing } = namesOf(source);
  if (all.length === 0) return output;
  const setters = changing.map((name) => `${name}: ($value__) => { ${name} = $value__; }`);
  return `__tslab__.follow(${JSON.stringify(all)}, { ${setters.join(', ')} });${output}`;
}

/** Lets variables follow what later cells assign: for tslab that is a property of its own, which functions beside the variable do not see. */
function followAssignments(kernel) {
  const setters = new Map();
  kernel.follow = (names, added) => {
    for (const name of names) setters.delete(name);
    for (const [name, set] of Object.entries(added)) setters.set(name, set);
  };
  kernel.exports = new Proxy(kernel.exports, {
    set(target, name, value) {
      target[name] = value;
      try {
        setters.get(name)?.(value);
      } catch {
        // the declaration is still to come
      }
      return true;
    },
  });
}

/** A converter of cells that knows what has been declared, also by cells that did not come to their end. */
function remember(converter, values) {
  let last = { before: '', after: '' };
  /** @param finished the declarations of all cells up to the last one that came to its end, as tslab keeps them */
  const declared = (finished) => (finished === last.after ? finished : reached(last.before, last.after, values()));
  return {
    ...converter,
    convert(finished, source) {
      const before = declared(finished);
      const made = converter.convert(before, spellOut(source));
      last = made.diagnostics.length > 0 ? { before, after: before } : { before, after: made.declOutput ?? '' };
      return { ...made, output: made.output && handOn(made.output, source), diagnostics: withRemedy(made.diagnostics) };
    },
    inspect: (finished, source, at) => converter.inspect(declared(finished), source, at),
    complete: (finished, source, at) => converter.complete(declared(finished), source, at),
  };
}

const KERNEL_FRAMES = /^ +at .*(?:node_modules[\\/]tslab[\\/]|node:vm)/;
const isKernels = (line) => KERNEL_FRAMES.test(line) || (/^ +at /.test(line) && line.includes(__filename));

/** What is printed of an error that ended a cell. TUNEBOOK_DEBUG shows the stack of all. */
function forPeople(error) {
  if (!(error instanceof Error)) return error;
  if (error.message === 'Interrupted asynchronously') return 'Interrupted.';
  if (process.env.TUNEBOOK_DEBUG) return error;
  if (error.name === 'UserError') return error.message;
  const lines = String(error.stack).split('\n');
  error.stack = lines.filter((line) => !isKernels(line)).join('\n');
  return error;
}

/** Where a cell prints its errors. */
const printing = ({ log, error }) => ({ log, error: (...what) => error(...what.map(forPeople)) });

/** Puts a tag's name before its text where documentation is printed, as tslab itself does for parameters alone. */
function nameTags(inspect) {
  const { printQuickInfo } = inspect;
  const probe = { tags: [{ name: 'returns', text: [{ text: 'a number' }] }] };
  if (typeof printQuickInfo !== 'function' || printQuickInfo(probe).includes('returns')) return;
  const named = (tag) => (tag.name === 'param' || !tag.text ? tag : { ...tag, text: [{ text: `@${tag.name} ` }, ...tag.text] });
  inspect.printQuickInfo = (info) => printQuickInfo({ ...info, tags: info.tags?.map(named) });
}

/** Says after each "idle" that the kernel is busy if it has still cells to run: who shows its state shows what was said last. */
function stayBusy({ prototype }) {
  const { publishStatus } = prototype;
  const waiting = new Set();
  prototype.publishStatus = function (status, request) {
    if (request.header.msg_type === 'execute_request') waiting[status === 'busy' ? 'add' : 'delete'](request);
    publishStatus.call(this, status, request);
    const [next] = waiting;
    if (status === 'idle' && next) publishStatus.call(this, 'busy', next);
  };
}

/** Takes a message to interrupt as the signal, if it is signed with the connection's key as Jupyter's protocol has it. */
function interruptByMessage({ prototype }) {
  const { handleShellMessage } = prototype;
  prototype.handleShellMessage = async function (socket, ...frames) {
    const [signature, ...parts] = frames.slice(frames.findIndex((frame) => frame.equals(DELIMITER)) + 1);
    if (JSON.parse(parts[0]).msg_type !== 'interrupt_request') return handleShellMessage.call(this, socket, ...frames);
    const expected = createHmac('sha256', this.connInfo.key).update(Buffer.concat(parts)).digest('hex');
    if (signature.toString() === expected) process.emit('SIGINT');
  };
}

/** How long printed text waits for more, in milliseconds: a server lets no more than some thousand messages of a kernel pass in a second. */
const GATHERED_FOR = 50;

/** Sends what a cell prints in few pieces, each as soon as the one before it is old enough; pictures come where they were shown. */
function gatherText({ prototype }) {
  const { handleExecute } = prototype;
  prototype.handleExecute = async function (request, writeStream, writeDisplayData) {
    let [stream, text, sent, timer] = ['', '', 0, undefined];
    const flush = () => {
      clearTimeout(timer);
      timer = undefined;
      if (text !== '') writeStream(stream, text);
      [text, sent] = ['', Date.now()];
    };
    const write = (name, piece) => {
      if (name !== stream) flush();
      stream = name;
      text += piece;
      const wait = sent + GATHERED_FOR - Date.now();
      if (wait <= 0) flush();
      else timer ??= setTimeout(flush, wait);
    };
    const display = (...shown) => {
      flush();
      writeDisplayData(...shown);
    };
    try {
      return await handleExecute.call(this, request, write, display);
    } finally {
      flush();
    }
  };
}

/**
 * Starts all listeners to the interrupt signal anew when the synchronous part of a cell is over. Node lays them aside for its time
 * (`breakOnSigint`) and then takes the signal's handler away from one that was added meanwhile: the next signal would end the process.
 */
function keepListening() {
  const { runInThisContext } = vm;
  vm.runInThisContext = (...args) => {
    try {
      return runInThisContext(...args);
    } finally {
      const listeners = process.rawListeners('SIGINT');
      process.removeAllListeners('SIGINT');
      for (const listener of listeners) process.on('SIGINT', listener);
    }
  };
}

/** How often the kernel looks for its server, in milliseconds. */
const LOOKS_EVERY = 1000;

/** Ends the kernel when the server that started it (`JPY_PARENT_PID`) is no longer there, as Python's kernels do. */
function endWithServer() {
  if (!(Number(process.env.JPY_PARENT_PID) > 1)) return;
  const server = process.ppid;
  const isThere = () => {
    try {
      // on Windows a process keeps the number of a parent that has ended
      return server !== 1 && process.ppid === server && process.kill(server, 0);
    } catch (error) {
      return error.code !== 'ESRCH';
    }
  };
  setInterval(() => isThere() || process.exit(1), LOOKS_EVERY).unref();
}

const { createConverter } = converter;
const { createExecutor } = executor;
converter.createConverter = (options) => remember(createConverter(options), () => globalThis.__tslab__.exports);
executor.createExecutor = (root, converters, output) => {
  const made = createExecutor(root, converters, printing(output));
  followAssignments(globalThis.__tslab__);
  return made;
};
nameTags(inspect);
stayBusy(jupyter.ZmqServer);
interruptByMessage(jupyter.ZmqServer);
gatherText(jupyter.JupyterHandlerImpl);
keepListening();
endWithServer();
const { version } = fromTslab('./package.json');
fromTslab('./dist/main.js').startKernel({ configPath: process.argv[2], enableFindLocal: false, globalVersion: version });
