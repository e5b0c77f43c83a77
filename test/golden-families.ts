/** The families that test/golden has a folder of. */
import { readdirSync } from 'node:fs';
import * as path from 'node:path';
import { projectRoot } from '../lib/project';

export const families: readonly string[] = readdirSync(path.join(projectRoot, 'test', 'golden'), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)
  .sort();
