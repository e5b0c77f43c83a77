/** libtensorflow as a device: finds the npm package tfjs-node or tfjs-node-gpu and loads it on our copy of tfjs. */
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { messageOf, UserError } from '../errors';
import { readJson } from '../files';

/** Devices that libtensorflow drives; each is a package `@tensorflow/NAME` with a native part. */
export type TfjsNodeName = 'tfjs-node' | 'tfjs-node-gpu';

/** An installed package. */
interface Installation {
  folder: string;
  version: string;
}

/** The part of tfjs-node's backend that is read here. */
interface TfjsNodeBackend {
  binding: { TF_Version: string };
  isUsingGpuDevice: boolean;
}

/** What computes once libtensorflow is loaded. */
export interface Libtensorflow {
  /** Version of libtensorflow itself, which may be newer than the package. */
  version: string;
  /** Package and version, as npm writes it. */
  package: string;
  onGpu: boolean;
}

/** The package in use; libtensorflow and its kernels register themselves once in a process. */
let loaded: { name: TfjsNodeName; package: string } | undefined;

/**
 * Makes libtensorflow tfjs's backend, under the name `tensorflow`.
 * @throws a sentence that says what is missing, if the package is not there or does not load
 */
export async function useLibtensorflow(name: TfjsNodeName): Promise<Libtensorflow> {
  if (loaded && loaded.name !== name) {
    throw new UserError(
      `The device '${name}' needs a process of its own, because '${loaded.name}' is loaded in this one; restart it, or use 'cpu'.`,
    );
  }
  loaded ??= load(name, findTfjsNode(name));
  await tf.setBackend('tensorflow');
  await tf.ready();
  const { binding, isUsingGpuDevice } = tf.backend() as unknown as TfjsNodeBackend;
  return { version: binding.TF_Version, package: loaded.package, onGpu: isUsingGpuDevice };
}

/**
 * Finds an installation with its native part in the folders that Node searches for packages of this project, then of the
 * working directory; `NODE_PATH` names others.
 * @throws a sentence that says what is missing
 */
export function findTfjsNode(name: TfjsNodeName): Installation {
  const packageName = `@tensorflow/${name}`;
  const installations = installationsOf(packageName);
  const found = installations.find(({ folder, version }) => version === tf.version_core && hasBinding(folder));
  if (found) return found;
  throw new UserError(
    `The device '${name}' needs the package ${packageName}@${tf.version_core} with libtensorflow, and ${lacking(packageName, installations)}, or use 'cpu'.`,
  );
}

/** What is wrong with the installations that there are, and the remedy. */
function lacking(packageName: string, installations: readonly Installation[]): string {
  const elsewhere = 'install it in a folder outside of the project and set NODE_PATH to the node_modules there';
  const other = installations.find(({ folder }) => hasBinding(folder));
  if (other) return `${other.folder} has version ${other.version}; ${elsewhere}`;
  if (installations.length === 0) return `it is not installed; ${elsewhere}`;
  const [{ folder }] = installations;
  return `${folder} lacks its native part; run 'npm rebuild ${packageName} --ignore-scripts=false' in ${path.resolve(folder, '../../..')}`;
}

/** Folders that hold a package of this name; one that only bears the name of its folder (npm's alias) is another package. */
function installationsOf(packageName: string): Installation[] {
  const working = createRequire(path.join(process.cwd(), 'package.json'));
  const searched = [require, working].flatMap(({ resolve }) => resolve.paths(packageName) ?? []);
  return [...new Set(searched)].flatMap((modules) => {
    const folder = path.join(modules, packageName);
    const manifest = path.join(folder, 'package.json');
    if (!existsSync(manifest)) return [];
    const { name, version } = readJson(manifest) as { name?: string; version?: string };
    return name === packageName && version ? [{ folder, version }] : [];
  });
}

/** Whether the native part was downloaded or compiled: `lib/napi-vN/tfjs_binding.node`. */
function hasBinding(folder: string): boolean {
  const lib = path.join(folder, 'lib');
  return existsSync(lib) && readdirSync(lib).some((version) => existsSync(path.join(lib, version, 'tfjs_binding.node')));
}

function load(name: TfjsNodeName, { folder, version }: Installation): { name: TfjsNodeName; package: string } {
  try {
    restoreUtil();
    shareTfjs(folder);
    require(folder);
  } catch (error) {
    const reason = messageOf(error).split('\n')[0].trim();
    throw new UserError(`The device '${name}' needs the package ${folder}, which does not load here (${reason}); use 'cpu'.`, {
      cause: error,
    });
  }
  return { name, package: `@tensorflow/${name} ${version}` };
}

/** tfjs-node 4.22 calls these two functions; Node 23 took the first out of `util`, and newer versions warn about the second. */
function restoreUtil(): void {
  Object.assign(require('node:util'), {
    isNullOrUndefined: (value: unknown) => value === null || value === undefined,
    isArray: Array.isArray,
  });
}

/** Hands an installation elsewhere our copy of tfjs instead of its own, which would register every kernel a second time. */
function shareTfjs(folder: string): void {
  const theirs = createRequire(path.join(folder, 'package.json'));
  for (const name of ['@tensorflow/tfjs-core', '@tensorflow/tfjs']) {
    require(name);
    require.cache[theirs.resolve(name)] = require.cache[require.resolve(name)];
  }
}
