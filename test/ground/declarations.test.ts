import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';

/** The part of TypeScript's interface that is used here; tslab brings a TypeScript of its own, without declarations. */
interface TypeScript {
  version: string;
  createProgram(files: string[], options: object): { getSemanticDiagnostics(): Diagnostic[]; getSyntacticDiagnostics(): Diagnostic[] };
  createCompilerHost(options: object): object;
  flattenDiagnosticMessageText(text: unknown, newLine: string): string;
}

interface Diagnostic {
  file?: { fileName: string; getLineAndCharacterOfPosition(at: number): { line: number } };
  start?: number;
  messageText: unknown;
}

test("the library's declarations suit the TypeScript of the notebooks", () => {
  const ts = require(path.join(projectRoot, 'node_modules/@tslab/typescript-for-tslab')) as TypeScript;
  assert.match(ts.version, /^5\.0/);
  const index = path.join(projectRoot, 'build/lib/index.d.ts');
  assert.ok(existsSync(index), 'build first');
  // as tslab compiles cells
  const options = {
    module: 1,
    target: 9,
    moduleResolution: 2,
    esModuleInterop: true,
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    types: ['node'],
  };
  const program = ts.createProgram([index], options);
  const own = path.join(projectRoot, 'build') + path.sep;
  const faults = [...program.getSyntacticDiagnostics(), ...program.getSemanticDiagnostics()]
    .filter((fault) => fault.file && path.normalize(fault.file.fileName).startsWith(own))
    .map((fault) => {
      const line = fault.file?.getLineAndCharacterOfPosition(fault.start ?? 0).line ?? 0;
      return `${path.relative(own, fault.file?.fileName ?? '')}:${line + 1} ${ts.flattenDiagnosticMessageText(fault.messageText, ' ')}`;
    });
  assert.deepEqual(faults, []);
});

test("notebooks reach the build through lib's own package.json", () => {
  const pointer = JSON.parse(readFileSync(path.join(projectRoot, 'lib/package.json'), 'utf8')) as { main: string; types: string };
  for (const target of [pointer.main, pointer.types]) assert.ok(existsSync(path.join(projectRoot, 'lib', target)), target);
});
