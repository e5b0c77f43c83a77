import { existsSync } from 'node:fs';
import * as path from 'node:path';

/** The folder of this project's package.json: `TUNEBOOK_ROOT` where it is set, else found by walking up from this file. */
export const projectRoot: string = findRoot(process.env.TUNEBOOK_ROOT, __dirname);

function findRoot(named: string | undefined, from: string): string {
  if (named) return path.resolve(named);
  // lib/package.json and its like only point at the build; the root is the one that also holds the lib folder.
  for (let folder = from; ; folder = path.dirname(folder)) {
    if (existsSync(path.join(folder, 'package.json')) && existsSync(path.join(folder, 'lib', 'package.json'))) return folder;
    if (folder === path.dirname(folder)) return process.cwd();
  }
}
