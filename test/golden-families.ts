/** The families that test/golden has a folder of. */
import { readdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { projectRoot } from '../lib/project';

export const families: readonly string[] = readdirSync(path.join(projectRoot, 'test', 'golden'), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)
  .sort();

/** Whether a model of a folder has experts. */
export function hasExperts(folder: string): boolean {
  const { model_type, num_local_experts } = configOf(folder);
  const types = ['granitemoe', 'granitemoehybrid', 'qwen2_moe', 'qwen3_moe', 'olmoe', 'lfm2_moe', 'mixtral', 'gpt_oss'];
  return types.includes(String(model_type)) && num_local_experts !== 0;
}

const UNKNOWN_TO_TRANSFORMERS_JS: ReadonlySet<string> = new Set([
  ...['granitemoe', 'olmoe', 'mixtral', 'exaone4', 'glm4'],
  ...['gemma4', 'gemma4_text', 'gemma4_unified', 'gemma4_unified_text'],
]);

/** Whether transformers.js knows such models; of StableLM it does not know those whose heads share keys and values. */
export function isKnownToTransformersJs(folder: string): boolean {
  const { model_type: type, num_attention_heads: heads, num_key_value_heads: kvHeads } = configOf(folder);
  return !UNKNOWN_TO_TRANSFORMERS_JS.has(String(type)) && (type !== 'stablelm' || heads === kvHeads);
}

const configOf = (folder: string) => JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;
