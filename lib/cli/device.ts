/** Loads models as every verb does: on the asked-for device, with progress on standard error. */
import { existsSync } from 'node:fs';
import { resolveModel } from '../data';
import { type DeviceName, useDevice } from '../engine';
import { messageOf, UserError } from '../errors';
import type { CausalLM, LoadOptions } from '../model';
import { loadFolder } from '../model/load';

/** What every verb computes with. */
export interface DeviceFlags {
  device: string;
  threads: number | null;
}

/** @throws UserError when the device does not work here */
async function chooseDevice({ device, threads }: DeviceFlags): Promise<void> {
  try {
    await useDevice(device as DeviceName, { threads: threads ?? undefined });
  } catch (error) {
    throw new UserError(messageOf(error), { cause: error });
  }
}

/** Loads a model. @param flags those that all verbs share */
export async function loadModelOn(
  flags: DeviceFlags & { model: string; model_revision?: string; eos_token?: string | null },
  options: Pick<LoadOptions, 'chatTemplateFrom' | 'loadIn4bit' | 'dtype'> = {},
): Promise<CausalLM> {
  const { model, model_revision: revision, eos_token: eosToken } = flags;
  await chooseDevice(flags);
  const directory = existsSync(model) ? await resolveModel(model) : await findOnHub(model, revision);
  return loadFolder(directory, model, { revision, eosToken: eosToken ?? undefined, ...options });
}

/** A name that is no folder may be a model on the Hub, or a path that was mistyped: an error must speak of both. */
async function findOnHub(model: string, revision: string | undefined): Promise<string> {
  try {
    return await resolveModel(model, { revision });
  } catch (error) {
    if (!(error instanceof UserError) || error.message.startsWith('There is no folder')) throw error;
    throw new UserError(`There is no folder ${model} in ${process.cwd()}, and on the Hugging Face Hub: ${error.message}`, { cause: error });
  }
}
