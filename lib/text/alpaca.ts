/**
 * The Alpaca prompt of Stanford's release (https://github.com/tatsu-lab/stanford_alpaca), as its published data set writes
 * it: the completion starts on a line of its own after `### Response:`.
 */
import type { AlpacaExample } from '../data/types';

const PREFACE = 'Below is an instruction that describes a task';
const REQUEST = 'Write a response that appropriately completes the request.';

/** The prompt of an instruction; `input` gets a section of its own where it is not empty. */
export function alpacaPrompt({ instruction, input }: Pick<AlpacaExample, 'instruction' | 'input'>): string {
  return input
    ? `${PREFACE}, paired with an input that provides further context. ${REQUEST}\n\n### Instruction:\n${instruction}\n\n### Input:\n${input}\n\n### Response:\n`
    : `${PREFACE}. ${REQUEST}\n\n### Instruction:\n${instruction}\n\n### Response:\n`;
}
