/**
 * Compiles the native part of @tensorflow/tfjs-node (or -gpu) against the libtensorflow of a TensorFlow wheel for Python, on Linux:
 * node scripts/build-tfjs-node.mjs WHEEL PACKAGE
 * WHEEL is the folder that the wheel was unzipped to, PACKAGE the npm package's folder. The result finds libtensorflow in WHEEL.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';

const [wheel, target] = process.argv.slice(2).map((folder) => path.resolve(folder));
if (!target) fail('Usage: node scripts/build-tfjs-node.mjs WHEEL PACKAGE');

const tensorflow = path.join(wheel, 'tensorflow');
const libraries = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'];
for (const library of libraries) {
  if (!existsSync(path.join(tensorflow, library)))
    fail(`${tensorflow} has no ${library}; unzip a TensorFlow wheel for Linux into ${wheel}.`);
}
const sources = ['tfjs_backend.cc', 'tfjs_binding.cc'].map((name) => path.join(target, 'binding', name));
if (!sources.every(existsSync)) fail(`${target} has no binding/*.cc; give the folder of the package @tensorflow/tfjs-node.`);
const headers = path.resolve(process.execPath, '../../include/node');
if (!existsSync(path.join(headers, 'node_api.h'))) fail(`${headers} has no node_api.h; install Node's headers beside ${process.execPath}.`);

const output = path.join(target, 'lib', 'napi-v8');
mkdirSync(output, { recursive: true });
const compiler = ['-shared', '-fPIC', '-O2', '-std=c++17', '-DNAPI_VERSION=8', `-I${headers}`, `-I${path.join(tensorflow, 'include')}`];
const linker = [`-L${tensorflow}`, `-Wl,-rpath,${tensorflow}`, ...libraries.map((library) => `-l:${library}`)];
execFileSync('c++', [...compiler, ...sources, '-o', path.join(output, 'tfjs_binding.node'), ...linker], { stdio: 'inherit' });
console.log(`Compiled ${path.join(output, 'tfjs_binding.node')}.`);

function fail(sentence) {
  console.error(sentence);
  process.exit(1);
}
