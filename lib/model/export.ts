/** From a model to a folder that transformers.js opens, in Node.js or in a browser: its ONNX graphs, configuration and tokenizer. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { checkModel, checkOptions, checkPath } from '../arguments';
import { UserError } from '../errors';
import { namesIn, writeFileAtomic } from '../files';
import { describe, isObject, parseJson } from '../json';
import { refuseCompact } from './compact-weights';
import { GENERATION_CONFIG } from './config';
import { hasJsClass } from './families';
import type { GraniteConfig } from './granite';
import type { Lfm2Config } from './lfm2';
import { onnxModelOf } from './onnx';
import { DEFAULT_ONNX_DTYPES, isHalf, ONNX_DTYPES, type OnnxDtype } from './onnx-dtypes';
import type { Qwen35Config } from './qwen3-5';
import { checkOutputFolder, ONNX_FOLDER, saveInto, writeConfigs, writeTokenizer } from './save';
import type { CausalLM } from './types';

export interface ExportOptions {
  /**
   * Number formats, a pair of files for each. transformers.js takes fp32 in Node.js and on WebGPU, and q8, a quarter of its size, in a browser
   * without WebGPU; the others where it is told to: q4, a sixth of the size, and fp16, half of it, and q4f16, which compute in float16, for
   * WebGPU. Default: fp32 and q8.
   */
  dtypes?: readonly OnnxDtype[];
}

/** Names of the graphs, as transformers.js looks for them. */
const FILES: Readonly<Record<OnnxDtype, string>> = {
  fp32: 'model.onnx',
  fp16: 'model_fp16.onnx',
  q8: 'model_quantized.onnx',
  q4: 'model_q4.onnx',
  q4f16: 'model_q4f16.onnx',
};

/** What `config.json` has for transformers.js alone. */
const TRANSFORMERS_JS = 'transformers.js_config';

/**
 * Writes a model for transformers.js: `pipeline('text-generation', directory)` opens the folder. What an adapter adds is part of it.
 * All files are written beside their places first and moved in at the end.
 * @throws UserError when there is no such option; when the folder holds something else, or a model's own weights; when the model cannot be
 *   exported, as transformers.js knows no such model or for another reason; or when the system refuses to write
 */
export async function exportModel(model: CausalLM, directory: string, options: ExportOptions = {}): Promise<void> {
  checkModel('exportModel', model);
  checkPath('exportModel', 'folder', directory);
  checkOptions('exportModel', options, { dtypes: true });
  const { dtypes = DEFAULT_ONNX_DTYPES } = options;
  checkExport(directory, dtypes);
  refuseCompact(model, 'cannot be exported');
  refuseExperts(model, dtypes);
  refuseSharedKeys(model);
  await saveInto(directory, async (staging) => {
    const folder = path.join(staging, ONNX_FOLDER);
    fs.mkdirSync(folder);
    for (const dtype of dtypes) writeOnnx(model, dtype, folder);
    writeTokenizer(model, staging);
    for (const [name, content] of model.tokenizer.filesForTransformersJs()) fs.writeFileSync(path.join(staging, name), content);
    writeConfigs(model, staging, 'float32', { ...cachesOf(model), ...headsOf(model), [TRANSFORMERS_JS]: settingsOf(model, dtypes) });
    fs.writeFileSync(path.join(staging, GENERATION_CONFIG), generationConfigOf(model));
  });
}

/**
 * Makes sure that a model can be exported into a folder.
 * @throws UserError when it holds something else, or a model's own weights, which would go; or when a number format is none
 */
export function checkExport(directory: string, dtypes: readonly OnnxDtype[] = DEFAULT_ONNX_DTYPES): void {
  if (!Array.isArray(dtypes)) throw new UserError(`dtypes is ${describe(dtypes)}; give a list, such as ["q8"].`);
  for (const dtype of dtypes)
    if (!ONNX_DTYPES.includes(dtype))
      throw new UserError(
        `There is no dtype ${JSON.stringify(dtype)} to export; choose from ${new Intl.ListFormat('en').format(ONNX_DTYPES)}.`,
      );
  if (dtypes.length === 0)
    throw new UserError(`dtypes is empty, so nothing would be exported; leave it out for ${DEFAULT_ONNX_DTYPES.join(' and ')}.`);
  checkOutputFolder(directory);
  const weights = fs.existsSync(directory) ? namesIn(directory).find((name) => /\.(safetensors|bin)$/.test(name)) : undefined;
  if (weights !== undefined)
    throw new UserError(`${directory} holds the weights of a model (${weights}), which would be replaced; export into another folder.`);
}

/** @throws UserError when transformers.js has no class of such a model of experts, or those would have to compute in float16 */
function refuseExperts({ source, family, config: { experts, modelType } }: CausalLM, dtypes: readonly OnnxDtype[]): void {
  if (!hasJsClass(modelType))
    throw new UserError(
      `${source} is of the family ${family}, which transformers.js does not know; export it for llama.cpp instead (exportGguf, or tunebook export --gguf).`,
    );
  const half = experts && dtypes.find(isHalf);
  if (half)
    throw new UserError(
      `${source} has experts, which do not compute in float16, so it cannot be exported as ${half}; choose fp32, q8 or q4.`,
    );
}

/** @throws UserError when transformers.js would make a cache of other sizes: of StableLM it takes heads of keys to be as many as those of queries */
function refuseSharedKeys({ source, family, config: { numAttentionHeads, numKeyValueHeads } }: CausalLM): void {
  if (family !== 'stablelm' || numKeyValueHeads === numAttentionHeads) return;
  throw new UserError(
    `${source} has ${numKeyValueHeads} heads of keys and values for ${numAttentionHeads} of queries, which transformers.js does not expect of a ` +
      'StableLM; export it for llama.cpp instead (exportGguf, or tunebook export --gguf).',
  );
}

/**
 * A graph, and beside it the file of its weights. Nothing else runs meanwhile: a step of training would change the weights, and generation
 * lays them otherwise.
 */
function writeOnnx(model: CausalLM, dtype: OnnxDtype, folder: string): void {
  const name = FILES[dtype];
  const weights = dataFile(name);
  const { graph, data } = onnxModelOf(model, dtype, weights);
  writeFileAtomic(path.join(folder, name), graph);
  writeFileAtomic(path.join(folder, weights), data());
}

/** The name that transformers.js expects beside a graph. */
const dataFile = (graph: string): string => `${graph}_data`;

/** generation_config.json, without which transformers.js opens no folder, with all tokens that end a text here. */
function generationConfigOf({ generationConfig, tokenizer, config }: CausalLM): string {
  const given = generationConfig && parseJson(new TextDecoder().decode(generationConfig), GENERATION_CONFIG);
  const ends = new Set([...tokenizer.stopIds, ...config.eosTokenIds]);
  return `${JSON.stringify({ ...(isObject(given) && given), eos_token_id: [...ends] }, null, 2)}\n`;
}

/** Keys by which transformers.js looks for the caches of layers, where it would look for others: kinds of layers under its names. */
function cachesOf({ family, config }: CausalLM): Record<string, unknown> {
  if (family === 'lfm2' || family === 'qwen3_5') return { layer_types: (config as Lfm2Config | Qwen35Config).layerTypes };
  // of each layer it looks for both where no kinds are said
  if (family === 'falcon_h1') return { layer_types: undefined, layers_block_type: undefined };
  // and for keys and values as one where they have one head
  if (family === 'gpt_bigcode') return { multi_query: undefined };
  if (family !== 'granitemoehybrid') return {};
  const { numHiddenLayers, mamba } = config as GraniteConfig;
  return { layer_types: Array.from({ length: numHiddenLayers }, (_, layer) => (mamba?.layers[layer] ? 'mamba' : 'attention')) };
}

/** Heads of keys and values, which transformers.js does not conclude where a configuration leaves them to its class. */
function headsOf({ config: { raw, numKeyValueHeads } }: CausalLM): Record<string, unknown> {
  const isLeft = 'num_attention_heads' in raw && (raw.num_key_value_heads ?? undefined) === undefined;
  return isLeft ? { num_key_value_heads: numKeyValueHeads } : {};
}

function settingsOf({ config: { raw } }: CausalLM, dtypes: readonly OnnxDtype[]): Record<string, unknown> {
  const given = raw[TRANSFORMERS_JS];
  const { dtype: _, kv_cache_dtype: __, ...kept } = isObject(given) ? given : {};
  const inFiles = Object.fromEntries(dtypes.map((dtype) => [FILES[dtype], true]));
  const halves = dtypes.filter(isHalf).map((dtype) => [dtype, 'float16']);
  return {
    ...kept,
    // where there is but one, it is the one to take
    ...(dtypes.length === 1 && { dtype: dtypes[0] }),
    // transformers.js 3 asks for it; later ones see what the graph takes
    ...(halves.length > 0 && { kv_cache_dtype: Object.fromEntries(halves) }),
    use_external_data_format: inFiles,
  };
}
