/** Which file of this folder reads which architecture. */
import { UserError } from '../errors';
import { Bloom, readBloomConfig } from './bloom';
import { CodeGen, readCodeGenConfig } from './codegen';
import { Cohere, readCohere2Config, readCohereConfig } from './cohere';
import type { ConfigReader } from './config';
import type { Decoder, Origin } from './decoder';
import { readErnie45Config } from './ernie4-5';
import { Exaone4, readExaone4Config } from './exaone4';
import { FalconH1, readFalconH1Config } from './falcon-h1';
import { Gemma } from './gemma';
import { readGemma1Config } from './gemma1';
import { readGemma2Config } from './gemma2';
import { readGemma3Config } from './gemma3';
import { Gemma4 } from './gemma4';
import { readGemma4Config } from './gemma4-config';
import { Glm, readGlmConfig } from './glm';
import { GptBigCode, readGptBigCodeConfig } from './gpt-bigcode';
import { GptNeo, readGptNeoConfig } from './gpt-neo';
import { GptNeoX, readGptNeoXConfig } from './gpt-neox';
import { GptOss, readGptOssConfig } from './gpt-oss';
import { Gpt2, readGpt2Config } from './gpt2';
import { GptJ, readGptJConfig } from './gptj';
import { Granite, readGraniteConfig, readGraniteMoeConfig } from './granite';
import { readGraniteMoeHybridConfig } from './granite-moe-hybrid';
import { HunYuan, readHunYuanConfig } from './hunyuan';
import { Lfm2, readLfm2Config } from './lfm2';
import { readLfm2MoeConfig } from './lfm2-moe';
import { Llama, readLlamaConfig } from './llama';
import { readMinistral3Config } from './ministral3';
import { readMixtralConfig } from './mixtral';
import { multimodalArchitectures } from './multimodal';
import { NanoChat, readNanoChatConfig } from './nanochat';
import { readOlmoConfig } from './olmo';
import { Olmo2, readOlmo2Config } from './olmo2';
import { Olmoe, readOlmoeConfig } from './olmoe';
import { Opt, readOptConfig } from './opt';
import { Phi, readPhiConfig } from './phi';
import { Phi3, readPhi3Config } from './phi3';
import { readQwen2MoeConfig } from './qwen2-moe';
import { Qwen3, readQwen3Config, readQwen3MoeConfig } from './qwen3';
import { Qwen35, readQwen35Config } from './qwen3-5';
import { readSmolLm3Config } from './smollm3';
import { readStableLmConfig, StableLm } from './stablelm';
import { readStarcoder2Config, Starcoder2 } from './starcoder2';

export interface Architecture {
  /** Its class in transformers, as `architectures` of config.json names it. */
  readonly name: string;
  /** What else published checkpoints call it; transformers goes by their `model_type`. */
  readonly otherNames?: readonly string[];
  build(reader: ConfigReader, origin: Origin): Decoder;
  /** Prefix of all names but the head's; checkpoints saved from the bare model leave it out. */
  readonly prefix: string;
  /** transformers.js 4 has no class for it. */
  readonly withoutJsClass?: true;
  /** Other names that checkpoints use for a tensor. */
  readonly aliases?: Readonly<Record<string, string>>;
}

const llama = (reader: ConfigReader, origin: Origin) => new Llama(readLlamaConfig(reader), origin);
const olmo2 = (reader: ConfigReader, origin: Origin) => new Olmo2(readOlmo2Config(reader), origin);

/** By `model_type` of config.json. */
const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  llama: { name: 'LlamaForCausalLM', build: llama, prefix: 'model.' },
  mistral: { name: 'MistralForCausalLM', build: llama, prefix: 'model.' },
  ministral3: {
    name: 'Ministral3ForCausalLM',
    build: (reader, origin) => new Llama(readMinistral3Config(reader), origin),
    prefix: 'model.',
  },
  mixtral: {
    name: 'MixtralForCausalLM',
    build: (reader, origin) => new Llama(readMixtralConfig(reader), origin),
    prefix: 'model.',
    withoutJsClass: true,
  },
  qwen2: { name: 'Qwen2ForCausalLM', build: llama, prefix: 'model.' },
  qwen2_moe: { name: 'Qwen2MoeForCausalLM', build: (reader, origin) => new Llama(readQwen2MoeConfig(reader), origin), prefix: 'model.' },
  smollm3: { name: 'SmolLM3ForCausalLM', build: (reader, origin) => new Llama(readSmolLm3Config(reader), origin), prefix: 'model.' },
  ernie4_5: { name: 'Ernie4_5ForCausalLM', build: (reader, origin) => new Llama(readErnie45Config(reader), origin), prefix: 'model.' },
  qwen3: { name: 'Qwen3ForCausalLM', build: (reader, origin) => new Qwen3(readQwen3Config(reader), origin), prefix: 'model.' },
  qwen3_moe: { name: 'Qwen3MoeForCausalLM', build: (reader, origin) => new Qwen3(readQwen3MoeConfig(reader), origin), prefix: 'model.' },
  qwen3_5_text: { name: 'Qwen3_5ForCausalLM', build: (reader, origin) => new Qwen35(readQwen35Config(reader), origin), prefix: 'model.' },
  gpt2: { name: 'GPT2LMHeadModel', build: (reader, origin) => new Gpt2(readGpt2Config(reader), origin), prefix: 'transformer.' },
  gpt_neo: { name: 'GPTNeoForCausalLM', build: (reader, origin) => new GptNeo(readGptNeoConfig(reader), origin), prefix: 'transformer.' },
  gptj: { name: 'GPTJForCausalLM', build: (reader, origin) => new GptJ(readGptJConfig(reader), origin), prefix: 'transformer.' },
  codegen: {
    name: 'CodeGenForCausalLM',
    build: (reader, origin) => new CodeGen(readCodeGenConfig(reader), origin),
    prefix: 'transformer.',
  },
  gpt_bigcode: {
    name: 'GPTBigCodeForCausalLM',
    otherNames: ['GPTBigCodeLMHeadModel'],
    build: (reader, origin) => new GptBigCode(readGptBigCodeConfig(reader), origin),
    prefix: 'transformer.',
  },
  gpt_neox: {
    name: 'GPTNeoXForCausalLM',
    build: (reader, origin) => new GptNeoX(readGptNeoXConfig(reader), origin),
    prefix: 'gpt_neox.',
    aliases: { 'embed_out.weight': 'lm_head.weight' },
  },
  gpt_oss: { name: 'GptOssForCausalLM', build: (reader, origin) => new GptOss(readGptOssConfig(reader), origin), prefix: 'model.' },
  gemma: { name: 'GemmaForCausalLM', build: (reader, origin) => new Llama(readGemma1Config(reader), origin), prefix: 'model.' },
  gemma2: { name: 'Gemma2ForCausalLM', build: (reader, origin) => new Gemma(readGemma2Config(reader), origin), prefix: 'model.' },
  gemma3_text: { name: 'Gemma3ForCausalLM', build: (reader, origin) => new Gemma(readGemma3Config(reader), origin), prefix: 'model.' },
  gemma4_text: {
    name: 'Gemma4ForCausalLM',
    build: (reader, origin) => new Gemma4(readGemma4Config(reader), origin),
    prefix: 'model.',
    withoutJsClass: true,
  },
  gemma4_unified_text: {
    name: 'Gemma4UnifiedForCausalLM',
    build: (reader, origin) => new Gemma4(readGemma4Config(reader), origin),
    prefix: 'model.',
    withoutJsClass: true,
  },
  exaone4: {
    name: 'Exaone4ForCausalLM',
    build: (reader, origin) => new Exaone4(readExaone4Config(reader), origin),
    prefix: 'model.',
    withoutJsClass: true,
  },
  cohere: { name: 'CohereForCausalLM', build: (reader, origin) => new Cohere(readCohereConfig(reader), origin), prefix: 'model.' },
  cohere2: { name: 'Cohere2ForCausalLM', build: (reader, origin) => new Cohere(readCohere2Config(reader), origin), prefix: 'model.' },
  olmo: { name: 'OlmoForCausalLM', build: (reader, origin) => new Llama(readOlmoConfig(reader), origin), prefix: 'model.' },
  olmo2: { name: 'Olmo2ForCausalLM', build: olmo2, prefix: 'model.' },
  olmo3: { name: 'Olmo3ForCausalLM', build: olmo2, prefix: 'model.' },
  olmoe: {
    name: 'OlmoeForCausalLM',
    build: (reader, origin) => new Olmoe(readOlmoeConfig(reader), origin),
    prefix: 'model.',
    withoutJsClass: true,
  },
  granite: { name: 'GraniteForCausalLM', build: (reader, origin) => new Granite(readGraniteConfig(reader), origin), prefix: 'model.' },
  granitemoe: {
    name: 'GraniteMoeForCausalLM',
    build: (reader, origin) => new Granite(readGraniteMoeConfig(reader), origin),
    prefix: 'model.',
    withoutJsClass: true,
  },
  granitemoehybrid: {
    name: 'GraniteMoeHybridForCausalLM',
    build: (reader, origin) => new Granite(readGraniteMoeHybridConfig(reader), origin),
    prefix: 'model.',
  },
  hunyuan_v1_dense: {
    name: 'HunYuanDenseV1ForCausalLM',
    build: (reader, origin) => new HunYuan(readHunYuanConfig(reader), origin),
    prefix: 'model.',
  },
  falcon_h1: { name: 'FalconH1ForCausalLM', build: (reader, origin) => new FalconH1(readFalconH1Config(reader), origin), prefix: 'model.' },
  glm: { name: 'GlmForCausalLM', build: (reader, origin) => new Glm(readGlmConfig(reader, 'glm'), origin), prefix: 'model.' },
  glm4: {
    name: 'Glm4ForCausalLM',
    build: (reader, origin) => new Glm(readGlmConfig(reader, 'glm4'), origin),
    prefix: 'model.',
    withoutJsClass: true,
  },
  phi: { name: 'PhiForCausalLM', build: (reader, origin) => new Phi(readPhiConfig(reader), origin), prefix: 'model.' },
  phi3: { name: 'Phi3ForCausalLM', build: (reader, origin) => new Phi3(readPhi3Config(reader), origin), prefix: 'model.' },
  stablelm: { name: 'StableLmForCausalLM', build: (reader, origin) => new StableLm(readStableLmConfig(reader), origin), prefix: 'model.' },
  lfm2: { name: 'Lfm2ForCausalLM', build: (reader, origin) => new Lfm2(readLfm2Config(reader), origin), prefix: 'model.' },
  lfm2_moe: { name: 'Lfm2MoeForCausalLM', build: (reader, origin) => new Lfm2(readLfm2MoeConfig(reader), origin), prefix: 'model.' },
  nanochat: { name: 'NanoChatForCausalLM', build: (reader, origin) => new NanoChat(readNanoChatConfig(reader), origin), prefix: 'model.' },
  starcoder2: {
    name: 'Starcoder2ForCausalLM',
    build: (reader, origin) => new Starcoder2(readStarcoder2Config(reader), origin),
    prefix: 'model.',
  },
  bloom: {
    name: 'BloomForCausalLM',
    otherNames: ['BloomModel'],
    build: (reader, origin) => new Bloom(readBloomConfig(reader), origin),
    prefix: 'transformer.',
  },
  opt: { name: 'OPTForCausalLM', build: (reader, origin) => new Opt(readOptConfig(reader), origin), prefix: 'model.' },
};

/** The architectures that can be loaded, by their names in transformers. */
export const supportedArchitectures: readonly string[] = [
  ...Object.values(ARCHITECTURES).map(({ name }) => name),
  ...multimodalArchitectures,
];

/** Whether transformers.js has a class for models of a type. */
export const hasJsClass = (modelType: string): boolean => !ARCHITECTURES[modelType]?.withoutJsClass;

/**
 * Builds the modules of the model that a configuration describes, without weights.
 * @throws UserError when the architecture is not supported, by name and with the supported ones, or a value is out of place
 */
export function buildModel(reader: ConfigReader, origin: Origin): Decoder {
  return architectureOf(reader).build(reader, origin);
}

/** The architecture of a configuration. @throws UserError as `buildModel` */
export function architectureOf(reader: ConfigReader): Architecture {
  const modelType = reader.get('model_type');
  const named = reader.get('architectures');
  const name = Array.isArray(named) && typeof named[0] === 'string' ? named[0] : undefined;
  const known = typeof modelType === 'string' && Object.hasOwn(ARCHITECTURES, modelType) ? ARCHITECTURES[modelType] : undefined;
  if (known && (name === undefined || name === known.name || known.otherNames?.includes(name))) return known;
  const shown = name ?? (modelType === undefined ? 'without a model_type' : `with model_type ${JSON.stringify(modelType)}`);
  throw new UserError(`${reader.place}: the architecture ${shown} is not supported; supported are ${supportedArchitectures.join(', ')}.`);
}

/** Names under which a checkpoint may hold a tensor, the usual one first. */
export function namesOf(parameter: string, { prefix, aliases }: Architecture): string[] {
  const names = [parameter];
  if (aliases?.[parameter]) names.push(aliases[parameter]);
  if (parameter.startsWith(prefix)) names.push(parameter.slice(prefix.length));
  return names;
}
