/** Loads models as every verb does: on the asked-for device, with progress on standard error. */
import { useDevice } from '../engine';
import { messageOf, UserError } from '../errors';
import { type CausalLM, loadModel } from '../model';

/** @throws UserError when the device does not work here */
export async function chooseDevice(name: string): Promise<void> {
  try {
    await useDevice(name as Parameters<typeof useDevice>[0]);
  } catch (error) {
    throw new UserError(messageOf(error), { cause: error });
  }
}

/** Loads a model; `options` are those that all verbs read. */
export async function loadModelOn({
  device,
  model,
  model_revision: revision,
}: {
  device: string;
  model: string;
  model_revision?: string;
}): Promise<CausalLM> {
  await chooseDevice(device);
  return loadModel(model, { revision });
}
