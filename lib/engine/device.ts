/** Chooses the device that tfjs computes on. */
import * as os from 'node:os';
import * as tf from '@tensorflow/tfjs-core';
import { checkOptions } from '../arguments';
import { UserError } from '../errors';
import { showValue } from '../json';
import { OrtBackend } from './ort/backend';
import { onnxRuntime } from './ort/native';
import type { Precision } from './ort/onnx';
import { piecesOf } from './ort/pieces';
import type { VaryingSize } from './ort/program';
import { registerOrtBackend } from './ort/register';
import { probe, type SessionSettings } from './ort/session';
import type { EngineMemory, EngineStatistics } from './ort/statistics';
import { type TfjsNodeName, useLibtensorflow } from './tfjs-node';

/** Devices a user may ask for; `auto` is the CPU. */
export type DeviceName = 'auto' | 'cpu' | 'webgpu' | 'tfjs-node-gpu' | 'tfjs-node';

/** How a device computes. */
export interface DeviceOptions {
  /**
   * Threads that ONNX Runtime computes with on the CPU; without it, one for each processor that the system offers. Fewer leave processors to other
   * programs. Sums may be taken apart differently with another number, so the last bits of results may differ.
   */
  threads?: number;
}

/** More is a mistake. */
const MOST_THREADS = 1024;

/** The device in use. */
export interface DeviceInfo {
  name: Exclude<DeviceName, 'auto'>;
  /** Name of the tfjs backend behind it. */
  backend: string;
  /** One line for people: processor or adapter, threads, versions. */
  description: string;
  /** Whether the processor itself computes in float16 (on WebGPU: the adapter has shader-f16). */
  float16: boolean;
}

const NAMES: readonly DeviceName[] = ['auto', 'cpu', 'webgpu', 'tfjs-node-gpu', 'tfjs-node'];

/** The choice made last; it may still be under way. */
let current: Promise<DeviceInfo> | undefined;

/**
 * Makes a device the one that everything runs on from now on, and describes it. `auto` is the CPU.
 * Tensors made before stay usable: tfjs moves them over when they are next used.
 * @throws a sentence that says what is missing, if the device does not work here, or there is no such option
 */
export function useDevice(name: DeviceName = 'auto', options: DeviceOptions = {}): Promise<DeviceInfo> {
  const before = current;
  const choice = choose(name, options).catch((error: unknown) => {
    // a device that does not work leaves the one in use as it was
    if (current === choice) current = before;
    throw error;
  });
  current = choice;
  return choice;
}

/** The device chosen by `useDevice`, or `auto`'s choice when nobody chose. */
export function currentDevice(): Promise<DeviceInfo> {
  return current ?? useDevice('auto');
}

async function choose(name: DeviceName, options: DeviceOptions): Promise<DeviceInfo> {
  const shown = typeof name === 'string' ? `'${name}'` : showValue(name);
  if (!NAMES.includes(name)) throw new UserError(`There is no device ${shown}; choose one of ${NAMES.join(', ')}.`);
  checkOptions('useDevice', options, { threads: true });
  const { threads = os.availableParallelism() } = options;
  if (!Number.isInteger(threads) || threads < 1 || threads > MOST_THREADS)
    throw new UserError(`threads is ${threads}; give a whole number from 1 to ${MOST_THREADS}, or leave it out for all processors.`);
  if (name === 'tfjs-node' || name === 'tfjs-node-gpu') return useTfjsNode(name);
  return useOnnxRuntime(name === 'webgpu' ? 'webgpu' : 'cpu', threads);
}

async function useOnnxRuntime(name: 'cpu' | 'webgpu', threads: number): Promise<DeviceInfo> {
  onnxRuntime();
  const settings = { threads, executionProviders: [name] };
  if (name === 'webgpu') checkWebGpu(settings);
  const backend = name === 'cpu' ? 'onnxruntime' : 'onnxruntime-webgpu';
  registerOrtBackend(backend, settings);
  await tf.setBackend(backend);
  await tf.ready();
  ortBackend()?.setThreads(threads);
  const { version } = require('onnxruntime-node/package.json') as { version: string };
  const place = name === 'cpu' ? `${processor()}, ${threads} ${threads === 1 ? 'thread' : 'threads'}` : 'GPU through WebGPU';
  return { name, backend, description: `${place}, ONNX Runtime ${version}`, float16: name === 'webgpu' && hasFloat16(settings) };
}

function checkWebGpu(settings: SessionSettings): void {
  try {
    probe(settings);
  } catch (error) {
    const reason = (error as Error).message
      .split('\n')[0]
      .replace(/^.*(?=Failed to)/, '')
      .trim();
    throw new UserError(
      `The device 'webgpu' needs a GPU with a Vulkan, Metal or Direct3D 12 driver, and none was found (${reason}); use 'cpu'.`,
    );
  }
}

function hasFloat16(settings: SessionSettings): boolean {
  try {
    probe(settings, 'float16');
    return true;
  } catch {
    return false;
  }
}

async function useTfjsNode(name: TfjsNodeName): Promise<DeviceInfo> {
  const { version, package: source, onGpu } = await useLibtensorflow(name);
  const place = onGpu ? 'GPU' : name === 'tfjs-node' ? processor() : `no GPU found, so ${processor()}`;
  return { name, backend: 'tensorflow', description: `${place}, libtensorflow ${version} through ${source}`, float16: false };
}

function processor(): string {
  return os.cpus()[0]?.model.trim() ?? process.arch;
}

/** The ONNX Runtime backend, if it is the one in use. */
export function ortBackend(): OrtBackend | undefined {
  const backend = tf.getBackend()?.startsWith('onnxruntime') ? tf.backend() : undefined;
  return backend instanceof OrtBackend ? backend : undefined;
}

/**
 * Tells the engine which tensor sizes vary from call to call (tokens of a row, targets, …), so that one compiled graph
 * serves them all. A hint: results never depend on it. Products over a size that is always a multiple of 16 are faster.
 */
export function varyingSizes(sizes: Record<string, VaryingSize>): void {
  ortBackend()?.setVaryingSizes(sizes);
}

/** Sizes that only the graphs of `tokenLoss` have, over a vocabulary of so many entries: of the pieces that it is gone through in. */
export function sizesOfVocabulary(entries: number): number[] {
  return piecesOf(entries).map(({ size }) => size);
}

/**
 * Computes everything recorded so far that is still alive, so that what is recorded next is a graph of its own.
 * Other backends than ours have computed it already.
 * @param options `frugal`: this graph runs seldom, so its working memory is better given back than kept for the next run
 */
export function computeRecorded({ frugal = false } = {}): void {
  ortBackend()?.flush({ frugal });
}

/**
 * The type that products of matrices are computed in from now on, 'float32' at first; all else stays float32. In 'float16'
 * the CPU rounds operands and products but gains nothing; WebGPU needs an adapter for it (`DeviceInfo.float16`). Other devices ignore it.
 */
export function usePrecision(precision: Precision): void {
  ortBackend()?.setPrecision(precision);
}

/** The precision in use. */
export function currentPrecision(): Precision {
  return ortBackend()?.precision ?? 'float32';
}

/** Counters of the ONNX Runtime backend, if it is in use. */
export function engineStatistics(): EngineStatistics | undefined {
  return ortBackend()?.statistics;
}

/** What the ONNX Runtime backend holds at the moment, if it is in use. */
export function engineMemory(): EngineMemory | undefined {
  return ortBackend()?.holdings;
}

/** Lets go of compiled graphs and idle buffers. */
export function releaseMemory(): void {
  ortBackend()?.releaseMemory();
}
