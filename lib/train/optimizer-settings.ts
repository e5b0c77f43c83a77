/** The settings of the optimizer: `optim` by the names that transformers has, and `optim_args` as far as Trainer reads them for it. */
import type { SFTConfig } from './config';
import { choice, type Field, optional, text } from './fields';

/** AdamW by the names that transformers has or had for it: they differ by where and in how many calls it is computed. */
const ADAMW = [
  ...(['adamw_torch_fused', 'adamw_torch', 'adamw_torch_xla', 'adamw_torch_npu_fused', 'adamw_apex_fused', 'adamw_hf', 'adamw'] as const),
  ...(['adamw_anyprecision', 'paged_adamw_32bit'] as const),
] as const;

/** AdamW whose moments are rounded, to save memory. */
const ROUNDED_ADAMW = ['adamw_bnb_8bit', 'adamw_8bit', 'paged_adamw_8bit', 'adamw_torch_8bit', 'adamw_torch_4bit'] as const;

const HELP = 'What updates the weights: AdamW, or adafactor or sgd, which need 8 bytes less for each that is trained.';

export const optimField = {
  ...choice('adamw_torch_fused', [...ADAMW, ...ROUNDED_ADAMW, 'adafactor', 'sgd'], HELP),
  range: `one of ${ADAMW[0]} (or another name of AdamW), adafactor, sgd`,
};

/** What Trainer hands from `optim_args` to torch.optim.SGD. (It reads weight_decay too, which is then that of the setting.) */
export interface SgdArguments {
  momentum: number;
  dampening: number;
  nesterov: boolean;
}

/** As Trainer reads it: `momentum=0.9,nesterov=true`; null also where it says nothing. */
export const optimArgsField: Field<string | null> = {
  ...optional(text('', 'Of sgd its momentum, dampening and nesterov.')),
  range: 'a text such as "momentum=0.9,nesterov=true", or null',
  parse: (value) => {
    if (value === null || value === '' || value === 'null' || value === 'none' || value === 'None') return { value: null };
    const read = typeof value === 'string' ? parseArguments(value) : undefined;
    return read && { value: written(read) };
  },
};

const NONE: SgdArguments = { momentum: 0, dampening: 0, nesterov: false };

function parseArguments(given: string): SgdArguments | undefined {
  const read = { ...NONE };
  for (const part of given.replaceAll(' ', '').split(',')) {
    const [, key, value] = /^(momentum|dampening|nesterov)=(.+)$/.exec(part) ?? [];
    if (key === 'nesterov') read.nesterov = ['true', '1', 'yes'].includes(value.toLowerCase());
    else if (key === 'momentum' || key === 'dampening') read[key] = Number(value);
    else return undefined;
  }
  return Number.isFinite(read.momentum) && Number.isFinite(read.dampening) ? read : undefined;
}

/** One text for the same arguments, so that checkpoints fit. */
function written(read: SgdArguments): string | null {
  const told = (Object.keys(NONE) as Array<keyof SgdArguments>).filter((key) => read[key] !== NONE[key]);
  return told.length === 0 ? null : told.map((key) => `${key}=${read[key]}`).join(',');
}

/** What `optim_args` says. */
export function readOptimArgs(optimArgs: string | null): SgdArguments {
  return (optimArgs ? parseArguments(optimArgs) : undefined) ?? NONE;
}

/** What no single setting of the optimizer can know. */
export function checkOptimizer({ optim, optimArgs }: SFTConfig, fail: (sentence: string) => never): void {
  if (!optimArgs) return;
  if (optim !== 'sgd') {
    const how = optim === 'adafactor' ? 'remove it' : 'AdamW is set by adam_beta1, adam_beta2, adam_epsilon and weight_decay';
    fail(`optim_args is ${JSON.stringify(optimArgs)}, which only optim sgd takes here: ${how}.`);
  }
  const { momentum, dampening, nesterov } = readOptimArgs(optimArgs);
  if (momentum < 0) fail(`optim_args has momentum ${momentum}, but it must be at least 0.`);
  if (nesterov && (momentum === 0 || dampening !== 0))
    fail('optim_args has nesterov, which needs a momentum and a dampening of 0, as in torch.');
}

/** One name for one optimizer, so that checkpoints fit. */
export function settleOptimizer(config: SFTConfig, onNote?: (line: string) => void): void {
  const { optim } = config;
  if (optim === 'adafactor' || optim === 'sgd') return;
  if ((ROUNDED_ADAMW as readonly string[]).includes(optim)) onNote?.(`optim is ${optim}; here moments are kept in float32.`);
  config.optim = ADAMW[0];
}
