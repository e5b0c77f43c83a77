/**
 * The notebooks' kernel: tslab, with two of its faults (1.0.22) mended by spelling a cell out before tslab compiles it.
 *
 * - `{ model }`, where `model` comes from an earlier cell, ended in "model is not defined": it becomes `{ model: model }`.
 * - `for await` as a cell's only top-level await was a syntax error: an `await` is put before it.
 *
 * usage: kernel.cjs CONNECTION_FILE
 */
const { createRequire } = require('node:module');

const fromTslab = createRequire(require.resolve('tslab/package.json'));
const ts = fromTslab('@tslab/typescript-for-tslab');
const converter = fromTslab('./dist/converter.js');

/** The same program in words that tslab understands. */
function spellOut(source) {
  const file = ts.createSourceFile('cell.ts', source, ts.ScriptTarget.Latest, true);
  const insertions = [];
  let awaits = false;
  let loopAwaits = false;
  const visit = (node, topLevel) => {
    if (ts.isShorthandPropertyAssignment(node)) insertions.push({ at: node.name.end, text: `: ${node.name.text}` });
    if (topLevel && ts.isAwaitExpression(node)) awaits = true;
    if (topLevel && ts.isForOfStatement(node) && node.awaitModifier) loopAwaits = true;
    const inside = topLevel && !ts.isFunctionLike(node) && !ts.isClassLike(node);
    ts.forEachChild(node, (child) => visit(child, inside));
  };
  visit(file, true);
  if (loopAwaits && !awaits) insertions.push({ at: 0, text: 'await undefined; ' });
  return insertions
    .sort((a, b) => b.at - a.at)
    .reduce((text, { at, text: inserted }) => text.slice(0, at) + inserted + text.slice(at), source);
}

module.exports = { spellOut };

if (require.main === module) {
  const { createConverter } = converter;
  converter.createConverter = (options) => {
    const made = createConverter(options);
    return { ...made, convert: (previous, source) => made.convert(previous, spellOut(source)) };
  };
  const { version } = fromTslab('./package.json');
  fromTslab('./dist/main.js').startKernel({ configPath: process.argv[2], enableFindLocal: false, globalVersion: version });
}
