/**
 * A model as an ONNX graph that reads tokens and a cache of keys, values, what convolutions read, and states, and returns logits and the cache behind.
 * Inputs and outputs have the names that transformers.js and Optimum use, so that `pipeline('text-generation')` of transformers.js finds its way.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type AttentionOptions, type OnnxModel, OnnxProgram, openShelf, softCap } from '../engine';
import { UserError } from '../errors';
import { LARGEST_HALF } from '../number-formats';
import { carryAll, dropNothing, stretchesPositions } from './batch';
import { logitsOf } from './logits';
import { isHalf, type OnnxDtype } from './onnx-dtypes';
import { convolveBy } from './short-convolution';
import type { Attend, AttendOptions, Before, CausalLM, Family, Recur } from './types';

/** More than are taken: few sizes of a model are among them. */
const PRIMES = [10007, 10009, 10037, 10039, 10061, 10067, 10069, 10079, 10091, 10093, 10099, 10103, 10111, 10133, 10139, 10141];

type Sizes = ReturnType<typeof sizesFor>;

/** Numbers that stand for what is known only when the graph runs; no size of the model is one of them. */
function sizesFor({ parameters }: CausalLM) {
  const taken = new Set([...parameters.values()].flatMap(({ shape }) => shape));
  const free = PRIMES.filter((prime) => !taken.has(prime));
  while (taken.has(free[1] + free[2])) free.shift();
  const [batch, sequence, past, kept] = free;
  return {
    batch_size: batch,
    sequence_length: sequence,
    past_sequence_length: past,
    total_sequence_length: past + sequence,
    num_logits: kept,
    tokens: batch * sequence,
    tokens_with_logits: batch * kept,
  };
}

/** How the cache names the states of a layer that keeps one, of the tokens before and of those up to now. */
interface StateNames {
  past: string;
  present: string;
}

/** @param family as transformers.js, too, has a name of its own for those of Mamba */
const stateNames = (family: Family): StateNames =>
  family === 'qwen3_5' ? { past: 'past_recurrent.', present: 'present_recurrent.' } : { past: 'past_ssm.', present: 'present_ssm.' };

/**
 * Families whose graph counts positions off the mask. transformers.js 4 would give those of Qwen3.5 as for pictures, which their class reads too:
 * it looks for the model of the pictures first, and counts on from three times the prompt's length.
 */
const COUNTS_POSITIONS: ReadonlySet<Family> = new Set(['qwen3_5']);

/** Added to the score of a token that is not seen; finite, so that a row that sees nothing is no NaN. */
const HIDDEN = -1e30;

/**
 * @param file name of the file beside the graph that its weights will be in
 * @throws UserError when positions of the model stretch with the text (dynamic RoPE), no layer attends, a weight is beyond the number format's
 *   range, or the device has no main memory to read from
 */
export function onnxModelOf(model: CausalLM, dtype: OnnxDtype, file: string): OnnxModel {
  const { config, parameters } = model;
  if (stretchesPositions(config))
    throw new UserError(
      `${model.source} stretches its positions with the length of the text (dynamic RoPE), which an exported model cannot.`,
    );
  const sizes = sizesFor(model);
  // before the recording: what it finds is a constant of the graph
  model.adapter?.prepare();
  const program = new OnnxProgram(sizes);
  if (isHalf(dtype)) checkRange(model, dtype);
  const bits = FEW_BITS[dtype]?.(program);
  const record = (): Record<string, tf.Tensor> => outputsOf(model, program, sizes, bits);
  const outputs = tf.tidy(() => (bits ? inFewBits(model, bits, record) : record()));
  try {
    const names = new Map<tf.Tensor, string>([...parameters].map(([name, variable]) => [variable, name]));
    // logits in float32 can be read wherever the model runs; a state would be rounded with each token
    const { past, present } = stateNames(model.family);
    const states = Object.keys(outputs).filter((name) => name.startsWith(present));
    const inFloat32 = ['logits', ...states, ...states.map((name) => name.replace(present, past))];
    return program.finish(outputs, names, file, { precision: isHalf(dtype) ? 'float16' : 'float32', inFloat32 });
  } finally {
    tf.dispose(outputs);
  }
}

function checkRange({ parameters, adapter, source }: CausalLM, dtype: OnnxDtype): void {
  for (const [name, variable] of [...parameters, ...(adapter?.parameters ?? [])]) {
    const found = (variable.dataSync() as Float32Array).find((value) => Math.abs(value) > LARGEST_HALF);
    if (found !== undefined)
      throw new UserError(
        `The weight ${name} of ${source} holds ${found}, beyond the range of float16 (±${LARGEST_HALF}), so it cannot be exported as ${dtype}; ` +
          'choose fp32, q8 or q4.',
      );
  }
}

/** How matrices of few bits are read. */
interface FewBits {
  /** Whether a matrix can be so. */
  fits(weight: tf.Tensor2D): boolean;
  product<T extends tf.Tensor>(x: T, weight: tf.Tensor2D): T;
  rows(ids: tf.Tensor1D, weight: tf.Tensor2D): tf.Tensor2D;
}

const fourBits = (program: OnnxProgram): FewBits => ({
  fits: (weight) => program.fitsFourBits(weight),
  product: (x, weight) => program.fourBitProduct(x, weight),
  rows: (ids, weight) => program.fourBitEmbedding(ids, weight),
});

const FEW_BITS: Readonly<Partial<Record<OnnxDtype, (program: OnnxProgram) => FewBits>>> = {
  q8: (program) => ({
    fits: () => true,
    product: (x, weight) => program.byteProduct(x, weight),
    rows: (ids, weight) => program.byteEmbedding(ids, weight),
  }),
  q4: fourBits,
  q4f16: fourBits,
};

/** Records the pass with matrices in few bits; those that cannot be so stay as they are. */
function inFewBits<T>({ linears, embeddings }: CausalLM, { fits, product, rows }: FewBits, record: () => T): T {
  const layers = [...linears.values()].filter(({ weight }) => fits(weight.tensor));
  const tables = embeddings.filter(({ weight }) => fits(weight.tensor));
  for (const linear of layers) linear.approximation = product;
  for (const table of tables) table.approximation = rows;
  try {
    return record();
  } finally {
    for (const layer of [...layers, ...tables]) layer.approximation = undefined;
  }
}

function outputsOf(model: CausalLM, program: OnnxProgram, sizes: Sizes, bits: FewBits | undefined): Record<string, tf.Tensor> {
  const { config, family, outputHead, source } = model;
  const { batch_size: batch, sequence_length: sequence, total_sequence_length: total, num_logits: kept } = sizes;
  const input = (name: string, shape: string[]): tf.Tensor => program.input(name, 'int64', shape);
  const ids = input('input_ids', ['batch_size', 'sequence_length']);
  const mask = input('attention_mask', ['batch_size', 'total_sequence_length']) as tf.Tensor2D;
  const given = COUNTS_POSITIONS.has(family) ? undefined : input('position_ids', ['batch_size', 'sequence_length']);
  const count = input('num_logits_to_keep', []) as tf.Scalar;
  const cache: Record<string, tf.Tensor> = {};
  // counted, because the sequence's length is known only when the graph runs
  const length = tf.max(tf.sum(tf.cast(tf.equal(ids, ids), 'int32'), 1)) as tf.Scalar;
  /** Of numbers of all tokens, those of the new ones; [batch, sequence, 1]. */
  const newOnes = (x: tf.Tensor): tf.Tensor3D => program.lastRows(tf.reshape(x, [batch, total, 1]), length, 'sequence_length');
  const places = placesIn(mask);
  const hiddenBehind = maskOf(mask, places, newOnes, sizes);

  /** Of each layer that has attended: of all tokens up to now. */
  const held = new Map<number, { keys: tf.Tensor4D; values: tf.Tensor4D }>();
  const attend: Attend = (layer, q, k, v, options) => {
    const withPast = (name: 'key' | 'value', x: tf.Tensor2D): tf.Tensor4D => {
      const { kvHeads } = options;
      const headDim = x.shape[1] / kvHeads;
      const shape = ['batch_size', kvHeads, 'past_sequence_length', headDim];
      const before = program.input<tf.Tensor4D>(`past_key_values.${layer}.${name}`, 'float32', shape);
      const now = tf.transpose(tf.reshape(x, [batch, sequence, kvHeads, headDim]), [0, 2, 1, 3]) as tf.Tensor4D;
      const all = tf.concat([before, now], 2);
      cache[`present.${layer}.${name}`] = all;
      return all;
    };
    const { keys, values } = held.get(options.keysOf ?? layer) ?? { keys: withPast('key', k), values: withPast('value', v) };
    held.set(layer, { keys, values });
    return mixed(q, keys, values, hiddenBehind(options.window), sizes, options);
  };

  const before = beforeIn(cache, newOnes(mask), program, sizes);
  const flat = (x: tf.Tensor): tf.Tensor1D => tf.reshape(x, [sizes.tokens]);
  // a token of the padding has no place; any will do
  const positions = flat(given ?? tf.maximum(newOnes(places), tf.scalar(0, 'int32')));
  const tokens = { ids: flat(ids), positions, length: config.positionLimit };
  const recur = recurIn(cache, newOnes(mask), { program, sizes, names: stateNames(family) });
  const beside = { carry: carryAll, drop: dropNothing, shelf: openShelf() };
  const states = model.forward({ ...tokens, attend, convolve: convolveBy(before), recur, ...beside });
  if (!Object.keys(cache).some((name) => name.endsWith('.key')))
    throw new UserError(`No layer of ${source} attends, so that transformers.js would not know how long a text is; it cannot be exported.`);
  const features = states.shape[1];
  const read = program.lastRows(tf.reshape(states, [batch, sequence, features]), count, 'num_logits');
  const rows = tf.reshape(read, [sizes.tokens_with_logits, features]) as tf.Tensor2D;
  const logits = logitsOf(model, rows, bits?.fits(outputHead) ? bits.product : undefined);
  return { logits: tf.reshape(logits, [batch, kept, outputHead.shape[0]]), ...cache };
}

/**
 * How convolutions read: of the last tokens, as many as one reads, their rows are kept, [batch, features, tokens], the oldest first. Padding has
 * zeros.
 * @param cache gets what they return of it
 * @param mask of the new tokens, [batch, sequence, 1]
 */
function beforeIn(cache: Record<string, tf.Tensor>, mask: tf.Tensor3D, program: OnnxProgram, sizes: Sizes): Before {
  const { batch_size: batch, sequence_length: sequence, tokens } = sizes;
  const isShown = tf.equal<tf.Tensor3D>(mask, tf.scalar(1, 'int32'));
  return (layer, x, count) => {
    const features = x.shape[1];
    const past = program.input<tf.Tensor3D>(`past_conv.${layer}`, 'float32', ['batch_size', features, count + 1]);
    const now = program.rowsWhere(isShown, tf.reshape(x, [batch, sequence, features]));
    const all = tf.concat([tf.transpose(past, [0, 2, 1]), now], 1);
    cache[`present_conv.${layer}`] = tf.transpose(program.rowsBetween(all, { first: -count - 1, count: count + 1 }), [0, 2, 1]);
    const earlier = (by: number) => program.rowsBetween(all, { first: count + 1 - by, behind: -by, count: 'sequence_length' });
    return Array.from({ length: count }, (_, i) => tf.reshape(earlier(i + 1), [tokens, features]));
  };
}

/**
 * How layers change the state of their text. A token of the padding adds nothing to it, and lets it decay from the zeros with which it begins.
 * @param cache gets the states behind the last tokens
 * @param mask of the new tokens, [batch, sequence, 1]
 */
function recurIn(cache: Record<string, tf.Tensor>, mask: tf.Tensor3D, { program, sizes, names }: StatesIn): Recur {
  const { batch_size: batch, sequence_length: sequence } = sizes;
  const isShown = tf.equal<tf.Tensor3D>(mask, tf.scalar(1, 'int32'));
  const shown = (x: tf.Tensor2D): tf.Tensor2D =>
    tf.reshape(program.rowsWhere(isShown, tf.reshape(x, [batch, sequence, x.shape[1]])), x.shape);
  return (layer, operands, heads) => {
    const { k, v, beta } = operands;
    const shape = ['batch_size', heads.valueHeads, k.shape[1] / heads.keyHeads, v.shape[1] / heads.valueHeads];
    const past = program.input<tf.Tensor4D>(`${names.past}${layer}`, 'float32', shape);
    const ofShown = beta ? { beta: shown(beta) } : { v: shown(v) };
    const { output, state } = program.recurrence({ ...operands, ...ofShown }, past, heads);
    cache[`${names.present}${layer}`] = state;
    return output;
  };
}

/** Where states come from. */
interface StatesIn {
  program: OnnxProgram;
  sizes: Sizes;
  names: StateNames;
}

/**
 * A token's place is the number of tokens before it that the mask shows, as where a prompt is padded on the left; its position in the input
 * may be another: transformers.js counts those of Gemma 3 from 1.
 */
const placesIn = (mask: tf.Tensor2D): tf.Tensor2D => tf.sub(tf.cumsum(mask, 1), tf.scalar(1, 'int32'));

/** What is added to scores, by sliding window: nothing where a token sees another, HIDDEN elsewhere; [batch, 1, 1, sequence, total]. */
function maskOf(
  mask: tf.Tensor2D,
  places: tf.Tensor2D,
  newOnes: (x: tf.Tensor) => tf.Tensor3D,
  sizes: Sizes,
): (window?: number) => tf.Tensor {
  const { batch_size: batch, sequence_length: sequence, total_sequence_length: total } = sizes;
  const one = tf.scalar(1, 'int32');
  const keys = tf.reshape(places, [batch, 1, 1, 1, total]);
  const shown = tf.reshape(tf.equal(mask, one), keys.shape);
  const queries = tf.reshape(newOnes(places), [batch, 1, 1, sequence, 1]);
  const known = new Map<number | undefined, tf.Tensor>();
  const make = (window?: number): tf.Tensor => {
    const before = tf.logicalAnd(shown, tf.lessEqual(keys, queries));
    const inReach = window === undefined ? before : tf.logicalAnd(before, tf.greater(keys, tf.sub(queries, tf.scalar(window, 'int32'))));
    return tf.mul(tf.cast(tf.logicalNot(inReach), 'float32'), HIDDEN);
  };
  return (window) => {
    const found = known.get(window) ?? make(window);
    known.set(window, found);
    return found;
  };
}

/**
 * Attention of tokens to those in the cache.
 * @param q [batch·sequence, heads·headDim]
 * @param keys [batch, kvHeads, total, headDim]
 * @param hidden added to scores
 * @returns like q
 */
function mixed(
  q: tf.Tensor2D,
  keys: tf.Tensor4D,
  values: tf.Tensor4D,
  hidden: tf.Tensor,
  { batch_size: batch, sequence_length: sequence, tokens }: Sizes,
  { heads, kvHeads, scale, softcap, sinks }: AttentionOptions & Pick<AttendOptions, 'sinks'>,
): tf.Tensor2D {
  const headDim = keys.shape[3];
  const byHead = tf.reshape(tf.mul(q, scale), [batch, sequence, kvHeads, heads / kvHeads, headDim]);
  const queries = tf.transpose(byHead, [0, 2, 3, 1, 4]);
  const scores = softCap(tf.matMul(queries, tf.expandDims(keys, 2), false, true), softcap);
  const seen = tf.add(scores, hidden);
  const left = sinks && tf.sigmoid(tf.sub(tf.logSumExp(seen, 4, true), tf.reshape(sinks, [1, kvHeads, heads / kvHeads, 1, 1])));
  const mixed = tf.matMul(tf.softmax(seen), tf.expandDims(values, 2));
  const output = left ? tf.mul(mixed, left) : mixed;
  return tf.reshape(tf.transpose(output, [0, 3, 1, 2, 4]), [tokens, heads * headDim]);
}
