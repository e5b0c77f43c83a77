/** Which versions are installed. */
import { existsSync } from 'node:fs';
import * as path from 'node:path';
import { readJson } from './files';
import { projectRoot } from './project';

interface PackageFile {
  version: string;
  dependencies?: Record<string, string>;
}

/** Versions of Node, of Tunebook, and of the packages it depends on, by name; a package that is not installed is left out. */
export function installedVersions(): Record<string, string> {
  const { version, dependencies = {} } = readPackage(projectRoot);
  const versions: Record<string, string> = { node: process.versions.node, tunebook: version };
  for (const name of Object.keys(dependencies)) {
    const folder = path.join(projectRoot, 'node_modules', name);
    if (existsSync(path.join(folder, 'package.json'))) versions[name] = readPackage(folder).version;
  }
  return versions;
}

function readPackage(folder: string): PackageFile {
  return readJson(path.join(folder, 'package.json')) as PackageFile;
}
