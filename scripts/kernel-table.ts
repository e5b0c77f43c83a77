/** `npm run docs:kernels`: writes the list of kernels in docs/engine.md anew, from the code. */
import { readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import '@tensorflow/tfjs';
import { getKernelsForBackend, type TensorInfo } from '@tensorflow/tfjs-core';
import { mappedKernels, sharingKernels } from '../lib/engine/ort/register';
import { projectRoot } from '../lib/project';

type Kernel = (typeof mappedKernels)[number];

const DOCUMENT = path.join(projectRoot, 'docs', 'engine.md');
const [BEGIN, END] = ['<!-- kernels: written by npm run docs:kernels -->', '<!-- end of kernels -->'];
const TYPES = ['float32', 'int32', 'bool'] as const;

/** The section of the document about kernels, in Markdown. */
function kernelTable(): string {
  const fromTfjs = new Set(getKernelsForBackend('cpu').map(({ kernelName }) => kernelName));
  const sharing = sharingKernels();
  const own = new Set([...mappedKernels.map(({ name }) => name), ...sharing]);
  const mapped = mappedKernels.filter(({ name }) => fromTfjs.has(name));
  const fused = mappedKernels.filter(({ name }) => !fromTfjs.has(name));
  const rest = [...fromTfjs].filter((name) => !own.has(name));
  const list = (names: string[]): string => [...names].sort().join(', ');
  return [
    `Of tfjs's ${fromTfjs.size} kernels, ${mapped.length} run in ONNX Runtime, for these types of their first operand (other types fall back):`,
    '',
    '| types | kernels |',
    '| --- | --- |',
    ...[...grouped(mapped)].map(([types, names]) => `| ${types} | ${list(names)} |`),
    '',
    `${sharing.length} compute nothing and share their operand's data: ${list(sharing)}.`,
    '',
    `${fused.length} are fused operations that tfjs does not have: ${list(fused.map(({ name }) => name))}.`,
    '',
    `The other ${rest.length} fall back: ${list(rest)}.`,
  ].join('\n');
}

/** Kernels by the types that they take. */
function grouped(kernels: Kernel[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const kernel of kernels) {
    const types = TYPES.filter((type) => takes(kernel, type)).join(', ') || 'none';
    groups.set(types, [...(groups.get(types) ?? []), kernel.name]);
  }
  return new Map([...groups].sort(([a], [b]) => b.length - a.length || a.localeCompare(b)));
}

/** Whether the kernel takes a first operand of this type, with some types of the others. */
function takes(kernel: Kernel, first: string): boolean {
  const count = kernel.inputs?.length ?? 2;
  if (count === 0) return kernel.supports?.([], { dtype: first }) ?? true;
  const info = (dtype: string): TensorInfo => ({ dataId: {}, shape: [2], dtype: dtype as TensorInfo['dtype'] });
  const some = (inputs: TensorInfo[]): boolean =>
    inputs.length < count
      ? TYPES.some((type) => some([...inputs, info(type)]))
      : (kernel.supports?.(inputs, { dtype: 'float32', numSegments: 2 }) ?? true);
  return some([info(first)]);
}

/** The document with the section written anew. */
export function withKernelTable(text: string): string {
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${DOCUMENT} lacks the lines "${BEGIN}" and "${END}" around its list of kernels.`);
  return `${text.slice(0, begin + BEGIN.length)}\n${kernelTable()}\n${text.slice(end)}`;
}

export const readDocument = (): string => readFileSync(DOCUMENT, 'utf8');

if (require.main === module) writeFileSync(DOCUMENT, withKernelTable(readDocument()));
