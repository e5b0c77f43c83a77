/** Chooses the device that tfjs computes on. */
import * as os from 'node:os';
import * as tf from '@tensorflow/tfjs-core';
import { UserError } from '../errors';
import { type EngineStatistics, OrtBackend } from './ort/backend';
import { registerOrtBackend } from './ort/register';
import { probe } from './ort/session';

/** Devices a user may ask for; `auto` takes the fastest that works here. */
export type DeviceName = 'auto' | 'cpu' | 'webgpu' | 'tfjs-node-gpu' | 'tfjs-node';

/** The device in use. */
export interface DeviceInfo {
  name: Exclude<DeviceName, 'auto'>;
  /** Name of the tfjs backend behind it. */
  backend: string;
  /** One line for people: processor or adapter, threads, versions. */
  description: string;
}

const NAMES: readonly DeviceName[] = ['auto', 'cpu', 'webgpu', 'tfjs-node-gpu', 'tfjs-node'];

let current: DeviceInfo | undefined;

/**
 * Makes a device the one that everything runs on from now on, and describes it. `auto` is the CPU.
 * Tensors made before stay usable: tfjs moves them over when they are next used.
 * @throws a sentence that says what is missing, if the device does not work here
 */
export async function useDevice(name: DeviceName = 'auto'): Promise<DeviceInfo> {
  if (!NAMES.includes(name)) throw new UserError(`There is no device '${name}'; choose one of ${NAMES.join(', ')}.`);
  current = await (name === 'auto' || name === 'cpu'
    ? useOnnxRuntime('cpu')
    : name === 'webgpu'
      ? useOnnxRuntime('webgpu')
      : useTfjsNode(name));
  return current;
}

/** The device chosen by `useDevice`, or `auto`'s choice when nobody chose. */
export async function currentDevice(): Promise<DeviceInfo> {
  return current ?? useDevice('auto');
}

async function useOnnxRuntime(name: 'cpu' | 'webgpu'): Promise<DeviceInfo> {
  const settings = { threads: os.availableParallelism(), executionProviders: [name] };
  if (name === 'webgpu') checkWebGpu(settings);
  const backend = name === 'cpu' ? 'onnxruntime' : 'onnxruntime-webgpu';
  registerOrtBackend(backend, settings);
  await tf.setBackend(backend);
  await tf.ready();
  const { version } = require('onnxruntime-node/package.json') as { version: string };
  const processor = os.cpus()[0]?.model.trim() ?? process.arch;
  const threads = settings.threads === 1 ? '1 thread' : `${settings.threads} threads`;
  const place = name === 'cpu' ? `${processor}, ${threads}` : 'GPU through WebGPU';
  return { name, backend, description: `${place}, ONNX Runtime ${version}` };
}

function checkWebGpu(settings: { threads: number; executionProviders: string[] }): void {
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

async function useTfjsNode(name: 'tfjs-node' | 'tfjs-node-gpu'): Promise<DeviceInfo> {
  const packageName = `@tensorflow/${name}`;
  let reason = 'it is not the one with libtensorflow';
  try {
    require(packageName);
  } catch (error) {
    reason = (error as Error).message.split('\n')[0].trim();
  }
  if (!tf.engine().registryFactory.tensorflow) {
    throw new UserError(`The device '${name}' needs the package ${packageName}, which does not load here (${reason}); use 'cpu'.`);
  }
  await tf.setBackend('tensorflow');
  await tf.ready();
  return { name, backend: 'tensorflow', description: `libtensorflow through ${packageName}` };
}

/** The ONNX Runtime backend, if it is the one in use. */
export function ortBackend(): OrtBackend | undefined {
  const backend = tf.getBackend()?.startsWith('onnxruntime') ? tf.backend() : undefined;
  return backend instanceof OrtBackend ? backend : undefined;
}

/**
 * Tells the engine which tensor sizes vary from call to call (tokens of a row, targets, …), so that one compiled graph
 * serves them all. A hint: results never depend on it.
 */
export function varyingSizes(sizes: Record<string, number>): void {
  ortBackend()?.setVaryingSizes(sizes);
}

/** Counters of the ONNX Runtime backend, if it is in use. */
export function engineStatistics(): EngineStatistics | undefined {
  return ortBackend()?.statistics;
}

/** Lets go of compiled graphs and idle buffers. */
export function releaseMemory(): void {
  ortBackend()?.releaseMemory();
}
