/**
 * EXAONE 4 (LG AI Research 2025, "EXAONE 4.0: Unified Large Language Models Integrating Non-reasoning and Reasoning Modes"): norms behind the
 * sublayers, as in OLMo 2, and an attention as in Qwen3, which normalizes each head's queries and keys. Of the large model most layers see a sliding
 * window, every fourth everything, without turning by positions; of the small one all layers see everything, and turn.
 */
import { ConfigReader, readModelConfig, readPaddingIdx, readTypedWindows } from './config';
import type { Origin } from './decoder';
import type { ParameterList } from './layers';
import { PostNormBlock } from './post-norm-block';
import { Attention, type Qwen3Config } from './qwen3';
import { readRope, ropePositionLimit } from './rope';
import { RotaryDecoder } from './rotary-decoder';

export function readExaone4Config(reader: ConfigReader): Qwen3Config {
  const raw = { num_key_value_heads: 32, eos_token_id: 2, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'exaone4', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 2048,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings);
  const windows = readWindows(reader, common.numHiddenLayers);
  // a window without a layer that has it counts, too
  const allTurn = reader.raw.sliding_window === null;
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-5),
    rope,
    rotaryLayers: windows.map((window) => allTurn || window !== undefined),
    attentionBias: false,
    windows,
  };
}

function readWindows(reader: ConfigReader, layers: number): Array<number | undefined> {
  const settled = new ConfigReader({ sliding_window: 4096, ...reader.raw }, reader.place);
  return readTypedWindows(reader, layers, usuallySlides(reader), () => settled.count('sliding_window'));
}

/** Whether a layer has a window, where the configuration does not say of each. */
function usuallySlides(reader: ConfigReader): (layer: number) => boolean {
  const { sliding_window, sliding_window_pattern: pattern = 4, layer_types } = reader.raw;
  if (sliding_window === null || (layer_types ?? undefined) !== undefined) return () => false;
  if (typeof pattern !== 'number' || !Number.isInteger(pattern) || pattern < 1)
    throw reader.wrong('sliding_window_pattern', pattern, 'a whole number of at least 1, where there are no "layer_types"');
  return (layer) => (layer + 1) % pattern !== 0;
}

class Block extends PostNormBlock<Qwen3Config> {
  constructor(config: Qwen3Config, layer: number, parameters: ParameterList) {
    super(config, layer, parameters, Attention);
  }
}

export class Exaone4 extends RotaryDecoder<Qwen3Config> {
  constructor(config: Qwen3Config, origin: Origin) {
    super(config, origin, Block);
  }
}
