/** What transformers and PEFT draw while a model computes in training, in the order in which they draw it. */
import * as tf from '@tensorflow/tfjs-core';
import { type Dropping, type DroppingWeights, linear } from '../engine';
import { carryAll, carryOnly, disposeBatch, makeBatch, packedPass } from './batch';
import type { CausalLM } from './types';

/** Some of a matrix is dropped. */
export interface DropDraw {
  /** Of the hidden states, or of what an adapter's layer reads. */
  of: 'hidden' | 'adapter';
  place: number;
  /** Columns of the matrix. */
  features: number;
  /** The probability with which a number is dropped. */
  share: number;
  /** Whether only those tokens are computed there whose final states are read (`Carry`). */
  onlyRead: boolean;
}

/** Some of the weights of a layer's attention is dropped. */
export interface WeightDraw {
  of: 'attention';
  /** The layer. */
  place: number;
  heads: number;
  share: number;
}

/** Words of the stream that change nothing here. */
export interface UnusedDraw {
  words: number;
}

export type Draw = DropDraw | WeightDraw | UnusedDraw;

/**
 * The draws of one pass, which are those of every pass: they are found by following one.
 * @param options `carriesAll`: whether all tokens go through all of the last layer
 */
export function drawsOf(model: CausalLM, { carriesAll = false } = {}): Draw[] {
  const { config, adapter } = model;
  adapter?.prepare();
  const draws: Draw[] = [];
  // three tokens, of which the last layer carries on two: by their number one sees which a place has
  const read = tf.tensor1d([0, 1], 'int32');
  const batch = makeBatch([[0, 0, 0]]);
  const listenTo = (of: DropDraw['of']) =>
    listener((place, share, { shape: [tokens, features] }) => draws.push({ of, place, features, share, onlyRead: tokens === read.size }));
  try {
    batch.dropout = listenTo('hidden');
    batch.attentionDropout = weightListener((place, share) =>
      draws.push({ of: 'attention', place, heads: config.numAttentionHeads, share }),
    );
    if (adapter) adapter.dropout = listenTo('adapter');
    tf.tidy(() => {
      const { embed, layers, finish } = model.stages(packedPass(batch, carriesAll ? carryAll : carryOnly(read, config)));
      let x = embed();
      for (const layer of layers) {
        if (config.wordsPerLayer > 0) draws.push({ words: config.wordsPerLayer });
        x = layer(x);
      }
      finish(x);
    });
  } finally {
    if (adapter) adapter.dropout = undefined;
    disposeBatch(batch);
    read.dispose();
  }
  return draws;
}

/** Drops nothing, and tells of each place where some is to be dropped how much of what, once. */
function listener(tell: (place: number, share: number, x: tf.Tensor2D) => void): Dropping {
  const told = new Set<number>();
  const apply = (x: tf.Tensor2D, place: number, share: number): tf.Tensor2D => {
    if (share > 0 && !told.has(place)) tell(place, share, x);
    told.add(place);
    return x;
  };
  return { apply, linear: (x, weight, place, share) => linear(apply(x, place, share), weight) };
}

function weightListener(tell: (place: number, share: number) => void): DroppingWeights {
  return {
    weightsAt: (place, share) => {
      if (share > 0) tell(place, share);
      return undefined;
    },
  };
}
