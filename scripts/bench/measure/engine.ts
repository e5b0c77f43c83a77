/** Puts this project's code on one of the engines that it can run on. */
import * as tf from '@tensorflow/tfjs-core';
import { messageOf, UserError } from '../../../lib/errors';
import { useDevice } from '../../../lib/index';
import type { EngineName } from '../jobs';

const WASM_PACKAGE = '@tensorflow/tfjs-backend-wasm';

/**
 * Chooses the engine; call it before a model is loaded.
 * @throws UserError when its package does not load
 */
export async function useEngine(engine: EngineName): Promise<void> {
  // the library's own choice comes first, so that it makes none later
  await useDevice(engine === 'tfjs-node' || engine === 'webgpu' ? engine : 'cpu');
  if (engine === 'tfjs-wasm') await useWasm();
}

async function useWasm(): Promise<void> {
  try {
    require(WASM_PACKAGE);
  } catch (error) {
    const reason = messageOf(error).split('\n')[0];
    throw new UserError(
      `The package ${WASM_PACKAGE}, which is no dependency of this project, does not load (${reason}); install it with npm install --no-save to measure it.`,
    );
  }
  if (!(await tf.setBackend('wasm'))) throw new UserError(`${WASM_PACKAGE} is there, but its backend does not start.`);
  await tf.ready();
}
