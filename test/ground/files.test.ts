import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs, {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { UserError } from '../../lib/errors';
import { checkWritable, parseJson, readJson, readLines, readText, rename, writeFileAtomic, writePiecesAtomic } from '../../lib/files';
import { projectRoot } from '../../lib/project';

let folder = '';

beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'tunebook-files-'));
});
afterEach(() => {
  mock.restoreAll();
  rmSync(folder, { recursive: true, force: true });
});

function file(name: string, content: string | Uint8Array): string {
  writeFileSync(path.join(folder, name), content);
  return path.join(folder, name);
}

/** The message of the UserError that the call must throw. */
function refusal(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    return error.message;
  }
  return assert.fail('nothing was thrown');
}

function systemError(code: string): Error {
  return Object.assign(new Error(code), { code });
}

test('a written file holds all pieces, makes its folder and leaves no temporary file', () => {
  const target = path.join(folder, 'a/b/out.txt');
  writeFileAtomic(target, ['one ', new Uint8Array([116, 119, 111])]);
  assert.equal(readFileSync(target, 'utf8'), 'one two');
  assert.deepEqual(readdirSync(path.dirname(target)), ['out.txt']);
});

test('a full disk is said in one sentence, the old file stays and the temporary one goes', () => {
  const target = file('model.bin', 'old');
  mock.method(fs, 'writeSync', () => {
    throw systemError('ENOSPC');
  });
  const message = refusal(() => writeFileAtomic(target, 'new'));
  assert.match(message, /disk is full/i);
  assert.match(message, /model\.bin/);
  assert.match(message, /nothing was lost/);
  assert.equal(readFileSync(target, 'utf8'), 'old');
  assert.deepEqual(readdirSync(folder), ['model.bin']);
});

test('a folder that cannot be made is said', () => {
  mock.method(fs, 'mkdirSync', () => {
    throw systemError('ENOENT');
  });
  const target = path.join(folder, 'new/out.txt');
  assert.equal(
    refusal(() => writeFileAtomic(target, 'new')),
    `${target} could not be saved: no folder can be made there; choose another folder.`,
  );
});

async function* asPieces(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield Buffer.from(text);
}

describe('what is no regular file stays what it is', { skip: process.platform === 'win32' && 'Windows has no such files' }, () => {
  test('a link, and its target is written, also if it did not exist', async () => {
    mkdirSync(path.join(folder, 'real'));
    symlinkSync('real', path.join(folder, 'inside'));
    symlinkSync('../target.md', path.join(folder, 'real/link.md'));
    const link = path.join(folder, 'inside/link.md');
    for (const content of ['first', 'second']) {
      writeFileAtomic(link, content);
      assert.ok(lstatSync(link).isSymbolicLink());
      assert.equal(readFileSync(path.join(folder, 'target.md'), 'utf8'), content);
      await writePiecesAtomic(link, asPieces('piece by ', content));
      assert.ok(lstatSync(link).isSymbolicLink());
      assert.equal(readFileSync(path.join(folder, 'target.md'), 'utf8'), `piece by ${content}`);
    }
    assert.deepEqual(readdirSync(folder).sort(), ['inside', 'real', 'target.md']);
  });

  test('a pipe, which gets the content', async () => {
    const pipe = path.join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    checkWritable(pipe);
    writeFileAtomic(pipe, ['one ', 'two']);
    assert.equal(readFileSync(reader, 'utf8'), 'one two');
    await writePiecesAtomic(pipe, asPieces('three ', 'four'));
    assert.equal(readFileSync(reader, 'utf8'), 'three four');
    closeSync(reader);
    assert.deepEqual(readdirSync(folder), ['pipe']);
    assert.ok(lstatSync(pipe).isFIFO());
  });
});

for (const [platform, calls] of [
  ['win32', 3],
  ['linux', 1],
] as const) {
  test(`a name that another program keeps busy is ${calls > 1 ? 'tried again' : 'an error at once'} on ${platform}`, (t) => {
    const [from, to] = [file('new.bin', 'new'), file('model.bin', 'old')];
    const actual = Object.getOwnPropertyDescriptor(process, 'platform') as PropertyDescriptor;
    Object.defineProperty(process, 'platform', { ...actual, value: platform });
    t.after(() => Object.defineProperty(process, 'platform', actual));
    const { renameSync } = fs;
    const renames = t.mock.method(fs, 'renameSync', (...names: [string, string]) => {
      if (renames.mock.callCount() < 2) throw systemError('EPERM');
      renameSync(...names);
    });
    if (calls > 1) rename(from, to);
    else assert.throws(() => rename(from, to), { code: 'EPERM' });
    assert.equal(renames.mock.callCount(), calls);
    assert.equal(readFileSync(to, 'utf8'), calls > 1 ? 'new' : 'old');
  });
}

test('a writer that fails half-way leaves the old file', () => {
  const target = file('model.bin', 'old');
  const pieces = function* () {
    yield 'half';
    throw new Error('no more');
  };
  assert.throws(() => writeFileAtomic(target, pieces()), /no more/);
  assert.equal(readFileSync(target, 'utf8'), 'old');
  assert.deepEqual(readdirSync(folder), ['model.bin']);
});

test('a path that leads through a file, or that is a folder, is refused by name', () => {
  const plain = file('plain', '');
  assert.match(
    refusal(() => writeFileAtomic(path.join(plain, 'x'), 'y')),
    /plain/,
  );
  mkdirSync(path.join(folder, 'sub'));
  assert.match(
    refusal(() => writeFileAtomic(path.join(folder, 'sub'), 'y')),
    /folder/,
  );
});

test('missing paths, folders and empty files are named', () => {
  assert.match(
    refusal(() => readText(path.join(folder, 'none.json'))),
    /none\.json does not exist/,
  );
  assert.match(
    refusal(() => readText(folder)),
    /is a folder/,
  );
  assert.match(
    refusal(() => readJson(file('empty.json', ' \n'))),
    /empty\.json is empty/,
  );
});

test('a byte-order mark does not disturb', () => {
  assert.deepEqual(readJson(file('bom.json', '\ufeff{"a":1}')), { a: 1 });
});

test('a file that is not UTF-8 is refused with line, column and remedy, read as a whole or by lines', () => {
  const latin1 = file('latin1.jsonl', Buffer.from('{"text": "Tee"}\n\n{"text": "Im Café über"}\n', 'latin1'));
  const cut = file('cut.txt', Buffer.from('one\ntwo \u20ac').subarray(0, -1));
  for (const read of [readText, (name: string) => [...readLines(name)]]) {
    assert.match(
      refusal(() => read(latin1)),
      /latin1\.jsonl is not UTF-8 text: line 3, column 17 has a byte that stands for no character \(at \ufffd in .*Im Caf\ufffd.*\); save it as UTF-8\.$/,
    );
    assert.match(
      refusal(() => read(cut)),
      /cut\.txt is not UTF-8 text: line 2, column 5 /,
    );
    for (const [mark, swap] of [
      ['\xff\xfe', (text: Buffer) => text],
      ['\xfe\xff', (text: Buffer) => text.swap16()],
    ] as const) {
      const utf16 = file('utf16.json', Buffer.concat([Buffer.from(mark, 'latin1'), swap(Buffer.from('{}\n', 'utf16le'))]));
      assert.match(
        refusal(() => read(utf16)),
        /utf16\.json is written in UTF-16, but UTF-8 is read here; save it as UTF-8\.$/,
      );
    }
  }
  const own = file('own.txt', 'a \ufffd of its own');
  assert.equal(readText(own), 'a \ufffd of its own');
});

const BROKEN: ReadonlyArray<[string, number, number]> = [
  ['{"a": 1,\n  "b": }', 2, 8],
  ['[1, 2', 1, 6],
  ['[1,\n2,\n]', 3, 1],
  ['{"a" 1}', 1, 6],
  ["{'a': 1}", 1, 2],
  ['{"a": 1,}', 1, 9],
  ['"a\nb"', 1, 3],
  ['"\\x"', 1, 2],
  ['[NaN]', 1, 2],
  ['{"a": 1} x', 1, 10],
  ['[01]', 1, 3],
  ['[1.]', 1, 3],
  ['[{"a": "b" "c": 1}]', 1, 12],
];

test('broken JSON is located by line and column', () => {
  for (const [text, line, column] of BROKEN) {
    assert.match(
      refusal(() => parseJson(text, 'data.json')),
      new RegExp(`^data\\.json .*line ${line}, column ${column}:`),
      JSON.stringify(text),
    );
  }
  assert.match(
    refusal(() => parseJson('{"a":', 'rows.jsonl', 12)),
    /rows\.jsonl .*line 12, column 6/,
  );
});

test('every JSON text that is cut short is located at its end', () => {
  const text = '{"a": [1, {"b": "c\\n"}, null, -1.5e3], "d": {}}';
  for (let length = 1; length < text.length; length++) {
    assert.match(
      refusal(() => parseJson(text.slice(0, length), 'x')),
      /line 1, column \d+/,
    );
  }
});

test('broken JSON behind a very long text is located, too', () => {
  for (const text of ['a'.repeat(2e7), 'é\\n'.repeat(3e6)]) {
    assert.match(
      refusal(() => parseJson(`{"text": "${text}", }`, 'long.json')),
      new RegExp(`^long\\.json .*line 1, column ${text.length + 14}: expected a key`),
    );
  }
});

test('deeply nested broken JSON does not exhaust the stack', () => {
  assert.match(
    refusal(() => parseJson('['.repeat(200_000), 'deep.json')),
    /column 200001/,
  );
});

test('a piece of more than 2 GB is written', { skip: process.platform === 'win32' }, () => {
  // zeros that nobody touches take no memory, and nothing keeps them
  writeFileAtomic('/dev/null', new Uint8Array(2 ** 31 + 8));
});

test('what is half-written goes when the process ends, also by Ctrl-C; what is whole stays', { skip: process.platform === 'win32' }, () => {
  const program = `
    const fs = require('node:fs'), path = require('node:path');
    const { rename, temporaryName, whileUnfinished } = require(${JSON.stringify(path.join(projectRoot, 'build/lib/files.js'))});
    const [folder, end] = process.argv.slice(1);
    require(${JSON.stringify(path.join(projectRoot, 'build/lib/cli/signals.js'))}).endOnSignals();
    for (const name of ['half', 'whole']) {
      const temporary = temporaryName(path.join(folder, name));
      fs.writeFileSync(temporary, name);
      if (name === 'whole') rename(temporary, path.join(folder, name));
    }
    fs.writeFileSync(path.join(whileUnfinished(fs.mkdtempSync(path.join(folder, 'staging-'))), 'file'), '');
    if (end === 'exit') process.exit(130);
    process.kill(process.pid, end);
    setTimeout(() => {}, 10_000);
  `;
  for (const end of ['exit', 'SIGINT']) {
    const { status } = spawnSync(process.execPath, ['-e', program, folder, end]);
    assert.equal(status, 130, end);
    assert.deepEqual(readdirSync(folder), ['whole'], end);
  }
});
