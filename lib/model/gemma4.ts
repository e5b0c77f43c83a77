/**
 * Gemma 4 (Gemma team 2026), its language model without experts: layers as in Gemma 3, of which those that see everything have wider heads, turn only
 * a part of each, and may have keys for values. The last layers may read the keys and values of earlier ones. In the small models each layer reads of
 * each token a vector of its own, too (per-layer embeddings).
 */
import * as tf from '@tensorflow/tfjs-core';
import { activation, rotary, type Shelf } from '../engine';
import type { Origin } from './decoder';
import type { Gemma4Config, Gemma4Layer } from './gemma4-config';
import { type Embedding, type Linear, type Parameter, type ParameterList, RmsNorm, times } from './layers';
import type { RotaryAngles } from './rope';
import { RotaryDecoder } from './rotary-decoder';
import { SandwichBlock } from './sandwich-block';
import type { Attend, ForwardPass, Stages } from './types';

/** Keys that have been normalized and turned, and normalized values, [tokens, kvHeads·headDim] each. */
interface KeysValues {
  k: tf.Tensor2D;
  v: tf.Tensor2D;
}

/** What makes a layer's keys and values. */
class KeysAndValues {
  private readonly kNorm: RmsNorm;
  private readonly vNorm: RmsNorm;
  private readonly kProj: Linear;
  private readonly vProj?: Linear;

  constructor(
    { hiddenSize, attentionBias: bias, rmsNormEps }: Gemma4Config,
    private readonly layer: Gemma4Layer,
    parameters: ParameterList,
    name: string,
  ) {
    const { headDim, kvHeads, valuesAreKeys } = layer;
    const features = { in: hiddenSize, out: kvHeads * headDim, bias };
    this.kProj = parameters.linear(`${name}.k_proj`, features);
    if (!valuesAreKeys) this.vProj = parameters.linear(`${name}.v_proj`, features);
    this.kNorm = parameters.rmsNorm(`${name}.k_norm`, headDim, rmsNormEps);
    this.vNorm = new RmsNorm(undefined, rmsNormEps);
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles): KeysValues {
    const { kvHeads } = this.layer;
    const keys = this.kProj.apply(x);
    const values = this.vProj?.apply(x) ?? keys;
    return {
      k: rotary(this.kNorm.applyToHeads(keys, kvHeads), cos, sin, kvHeads),
      v: this.vNorm.applyToHeads(values, kvHeads),
    };
  }
}

/** Of a layer that reads those of another one checkpoints may hold these all the same. */
const UNREAD = ['k_proj.weight', 'k_proj.bias', 'v_proj.weight', 'v_proj.bias', 'k_norm.weight'];

class Attention {
  private readonly own: Gemma4Layer;
  private readonly qProj: Linear;
  private readonly qNorm: RmsNorm;
  private readonly keysAndValues?: KeysAndValues;
  private readonly oProj: Linear;
  /** Whether a later layer reads its keys and values. */
  private readonly isShared: boolean;

  constructor(
    private readonly config: Gemma4Config,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { hiddenSize, numAttentionHeads: heads, attentionBias: bias, rmsNormEps, layers } = config;
    this.own = layers[layer];
    this.isShared = layers.some(({ keysOf }) => keysOf === layer);
    const queries = heads * this.own.headDim;
    this.qProj = parameters.linear(`${name}.q_proj`, { in: hiddenSize, out: queries, bias });
    this.qNorm = parameters.rmsNorm(`${name}.q_norm`, this.own.headDim, rmsNormEps);
    if (this.own.keysOf === undefined) this.keysAndValues = new KeysAndValues(config, this.own, parameters, name);
    else parameters.leaveAside(UNREAD.map((unread) => `${name}.${unread}`));
    this.oProj = parameters.linear(`${name}.o_proj`, { in: queries, out: hiddenSize, bias });
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, attend: Attend, shelf: Shelf): tf.Tensor2D {
    const { numAttentionHeads: heads, windows, attentionDropout: dropout } = this.config;
    const { kvHeads, keysOf } = this.own;
    const q = rotary(this.qNorm.applyToHeads(this.qProj.apply(x), heads), angles.cos, angles.sin, heads);
    const { k, v } = this.keysAndValues?.apply(x, angles) ?? keysOnShelf(keysOf ?? this.layer, shelf);
    if (this.isShared) leaveKeys(this.layer, { k, v }, shelf);
    // norms of queries and keys have learned the scale of the scores
    return this.oProj.apply(attend(this.layer, q, k, v, { heads, kvHeads, scale: 1, window: windows[this.layer], keysOf, dropout }));
  }
}

function leaveKeys(layer: number, { k, v }: KeysValues, shelf: Shelf): void {
  shelf.put(`keys of layer ${layer}`, k);
  shelf.put(`values of layer ${layer}`, v);
}

const keysOnShelf = (layer: number, shelf: Shelf): KeysValues => ({
  k: shelf.get(`keys of layer ${layer}`),
  v: shelf.get(`values of layer ${layer}`),
});

/** Where a layer finds what it reads of each token beside the hidden states. */
const ownInput = (layer: number): string => `tokens' vectors for layer ${layer}`;

/**
 * How a layer reads it: what the hidden states choose of its features is added to them, h + norm(projection(act(gate h) · own)).
 */
class OwnInput {
  private readonly gate: Linear;
  private readonly projection: Linear;
  private readonly norm: RmsNorm;

  constructor(
    private readonly config: Gemma4Config,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { hiddenSize, perLayerSize, rmsNormEps } = config;
    this.gate = parameters.linear(`${name}.per_layer_input_gate`, { in: hiddenSize, out: perLayerSize, bias: false });
    this.projection = parameters.linear(`${name}.per_layer_projection`, { in: perLayerSize, out: hiddenSize, bias: false });
    this.norm = parameters.rmsNorm(`${name}.post_per_layer_input_norm`, hiddenSize, rmsNormEps);
  }

  apply(x: tf.Tensor2D, { shelf, carry }: ForwardPass): tf.Tensor2D {
    const own = carry(this.layer, shelf.get(ownInput(this.layer)));
    const chosen = tf.mul<tf.Tensor2D>(activation(this.config.hiddenAct, this.gate.apply(x)), own);
    return tf.add(x, this.norm.apply(this.projection.apply(chosen)));
  }
}

class Block extends SandwichBlock<Gemma4Config> {
  private readonly ownInput?: OwnInput;
  private readonly scalar: Parameter<tf.Rank.R1>;

  constructor(config: Gemma4Config, layer: number, parameters: ParameterList) {
    super({ ...config, intermediateSize: config.layers[layer].intermediateSize }, layer, parameters, Attention);
    const name = `model.layers.${layer}`;
    if (config.perLayerSize > 0) this.ownInput = new OwnInput(config, layer, parameters, name);
    this.scalar = parameters.buffer(`${name}.layer_scalar`, 1, 'ones');
  }

  override apply(x: tf.Tensor2D, angles: RotaryAngles, pass: ForwardPass): tf.Tensor2D {
    const computed = super.apply(x, angles, pass);
    return tf.mul(this.ownInput?.apply(computed, pass) ?? computed, this.scalar.tensor);
  }
}

/**
 * What layers read of each token beside the hidden states, of all layers side by side: (norm(projection(x) / √features) + row of the table) / √2, where
 * x are the embeddings.
 */
class PerLayerInputs {
  private readonly table: Embedding;
  private readonly projection: Linear;
  private readonly norm: RmsNorm;

  constructor(
    private readonly config: Gemma4Config,
    parameters: ParameterList,
  ) {
    const { vocabSize, hiddenSize, numHiddenLayers, perLayerSize, paddingIdx, rmsNormEps } = config;
    const features = numHiddenLayers * perLayerSize;
    const options = { paddingIdx, scale: Math.sqrt(perLayerSize), mayBeCompact: true };
    this.table = parameters.embedding('model.embed_tokens_per_layer', vocabSize, features, options);
    this.projection = parameters.linear('model.per_layer_model_projection', { in: hiddenSize, out: features, bias: false });
    this.norm = parameters.rmsNorm('model.per_layer_projection_norm', perLayerSize, rmsNormEps);
  }

  /** Leaves each layer its own. @param x the embeddings, [tokens, features] */
  leave(x: tf.Tensor2D, { ids, shelf }: ForwardPass): void {
    const { hiddenSize, numHiddenLayers: layers } = this.config;
    const ofText = this.norm.applyToHeads(times(this.projection.apply(x), hiddenSize ** -0.5), layers);
    const inputs = times(tf.add<tf.Tensor2D>(ofText, this.table.apply(ids)), Math.SQRT1_2);
    for (const [layer, own] of tf.split<tf.Tensor2D>(inputs, layers, 1).entries()) shelf.put(ownInput(layer), own);
  }
}

export class Gemma4 extends RotaryDecoder<Gemma4Config> {
  private readonly perLayerInputs?: PerLayerInputs;

  constructor(config: Gemma4Config, origin: Origin) {
    super(config, origin, Block);
    if (config.perLayerSize > 0) this.perLayerInputs = new PerLayerInputs(config, this.declared);
  }

  override stages(pass: ForwardPass): Stages {
    const { embed, ...others } = super.stages(pass);
    const withInputs = (): tf.Tensor2D => {
      const x = embed();
      this.perLayerInputs?.leave(x, pass);
      return x;
    };
    return { embed: withInputs, ...others };
  }
}
