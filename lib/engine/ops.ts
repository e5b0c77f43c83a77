/**
 * The operations of a transformer, as differentiable functions of tfjs tensors.
 *
 * On the ONNX Runtime backend each is one fused kernel with a hand-written gradient; on every other tfjs
 * backend it is composed of plain tfjs operations, which differentiate by themselves.
 * Tokens come as a packed row: shape [tokens, features], no batch axis (see segments.ts).
 */
import * as tf from '@tensorflow/tfjs-core';
import * as composed from './composed';
import { ortBackend } from './device';
import type { KeptWeights } from './dropout';
import { SCALE_BLOCK } from './ort/quantized-products';
import type { Segments } from './segments';

/** How attention reads its operands. */
export interface AttentionOptions {
  /** Number of query heads. */
  heads: number;
  /** Number of key and value heads; divides `heads` (grouped-query attention). */
  kvHeads: number;
  /** Factor on the query-key products, usually 1/sqrt(headDim). */
  scale: number;
  /** Sliding window: a token sees itself and the `window - 1` tokens before it. Absent: all before it. */
  window?: number;
  /** By which scores, the scaled products, are soft-capped (`softCap`). Absent: they are as they are. */
  softcap?: number;
}

/** Keys and values of the tokens already read, for generation: [batch, kvHeads, capacity, headDim] each. */
export interface LayerCache {
  keys: tf.Tensor4D;
  values: tf.Tensor4D;
}

/** What `tokenLoss` returns, one number for each target. */
export interface TokenLoss {
  /** Negative log-likelihood of the target in nats, float32 [targets]; differentiable. */
  nll: tf.Tensor1D;
  /** Id of the likeliest token, int32 [targets]. */
  argmax: tf.Tensor1D;
  /** Entropy of the predicted distribution in nats, float32 [targets]. */
  entropy: tf.Tensor1D;
}

/** Names of the activation functions, as Hugging Face configs write them (`hidden_act`). */
export type Activation = 'relu' | 'relu2' | 'gelu' | 'gelu_new' | 'gelu_fast' | 'gelu_pytorch_tanh' | 'silu' | 'swish';

/**
 * y = x Wᵀ + b.
 * @param x [tokens, in]
 * @param weight [out, in], the layout of PyTorch's nn.Linear
 * @param bias [out]
 * @returns [tokens, out]
 */
export function linear(x: tf.Tensor2D, weight: tf.Tensor2D, bias?: tf.Tensor1D): tf.Tensor2D {
  const product = tf.matMul(x, weight, false, true) as tf.Tensor2D;
  return bias ? tf.add(product, bias) : product;
}

/**
 * About x Wᵀ, in a fraction of the time where x has a row or a few: with the weight, as it is at the moment, in 8 bits. Not
 * differentiable. Compiling a graph with it takes long, because all of the weight becomes part of it.
 * @param x [tokens, in]
 * @param weight [out, in]; `canQuantize`
 * @returns [tokens, out]
 */
export function quantizedProduct(x: tf.Tensor2D, weight: tf.Tensor2D): tf.Tensor2D {
  return fused('QuantizedMatMul', { x }, { weight: ortBackend()?.knownValue(weight.dataId) });
}

/** Whether the device multiplies in 8 bits, and the weight can be cut into the blocks for that. */
export function canQuantize(weight: tf.Tensor2D): boolean {
  return weight.shape[1] % SCALE_BLOCK === 0 && ortBackend()?.multipliesIn8Bits === true;
}

/** A text that is another one when any of the tensors has got other data, in place or as a variable; undefined where nobody counts. */
export function versionsOf(tensors: readonly tf.Tensor[]): string | undefined {
  const backend = ortBackend();
  return backend && tensors.map(({ dataId }) => backend.knownValue(dataId).version).join();
}

/**
 * Rows of a table.
 * @param weight [vocabulary, features]
 * @param ids int32 [tokens]
 * @param paddingIdx the id whose row learns nothing here, as `padding_idx` of PyTorch's nn.Embedding
 * @returns [tokens, features]
 */
export function embedding(weight: tf.Tensor2D, ids: tf.Tensor1D, paddingIdx?: number): tf.Tensor2D {
  const rows: tf.Tensor2D = ortBackend() ? fused('Embedding', { weight, ids }) : tf.gather(weight, ids);
  return paddingIdx === undefined ? rows : withoutGradientAt(paddingIdx, rows, ids);
}

/** The rows as they are; those with the id pass no gradient on. Which ones the graph finds, so it is the same for all ids. */
function withoutGradientAt(id: number, rows: tf.Tensor2D, ids: tf.Tensor1D): tf.Tensor2D {
  const same = tf.customGrad((x, save) => {
    (save as tf.GradSaveFunc)([ids]);
    return {
      value: tf.clone(x as tf.Tensor2D),
      gradFunc: (dy: tf.Tensor2D, [ids]: tf.Tensor[]) => {
        const learns = tf.cast(tf.notEqual(ids, tf.scalar(id, 'int32')), 'float32');
        return tf.mul(dy, tf.expandDims(learns, 1));
      },
    };
  });
  return same(rows);
}

/**
 * Root mean square normalization: x / sqrt(mean(x²) + eps) · weight, over the last axis (Zhang & Sennrich 2019).
 * @param x [..., features]
 * @param weight [features]
 */
export function rmsNorm<T extends tf.Tensor>(x: T, weight: tf.Tensor1D, eps: number): T {
  return ortBackend() ? firstOf(fused<[T, tf.Tensor]>('RmsNorm', { x, weight }, { eps })) : composed.rmsNorm(x, weight, eps);
}

/**
 * Layer normalization over the last axis (Ba et al. 2016), with the biased variance.
 * @param x [..., features]
 * @param weight [features]
 * @param bias [features]
 */
export function layerNorm<T extends tf.Tensor>(x: T, weight: tf.Tensor1D, bias: tf.Tensor1D, eps: number): T {
  return ortBackend()
    ? firstOf(fused<[T, tf.Tensor, tf.Tensor]>('LayerNorm', { x, weight, bias }, { eps }))
    : composed.layerNorm(x, weight, bias, eps);
}

/**
 * Rotary position embedding in the half-split form of Hugging Face (`rotate_half`; Su et al. 2021).
 * The first 2·(width of cos) features of each head turn, the rest pass through.
 * @param x [tokens, heads·headDim]
 * @param cos [tokens, rotaryDim/2], cosines of position · frequency
 * @param sin [tokens, rotaryDim/2]
 * @param options `interleaved`: whether the two features of a pair that turns lie side by side, as in the paper, and not half of the turning
 *   ones apart
 */
export function rotary(x: tf.Tensor2D, cos: tf.Tensor2D, sin: tf.Tensor2D, heads: number, { interleaved = false } = {}): tf.Tensor2D {
  if (!ortBackend()) return composed.rotary(x, cos, sin, heads, interleaved);
  return fused('Rotary', { x, cos, sin }, { heads, ...(interleaved && { interleaved }) });
}

/**
 * Activation by its Hugging Face name. `gelu` is the exact one (erf); `gelu_new`, `gelu_fast` and `gelu_pytorch_tanh` the tanh form; `relu2` the
 * square of `relu` (So et al. 2021).
 */
export function activation<T extends tf.Tensor>(name: Activation, x: T): T {
  return ortBackend() ? fused('Activation', { x }, { name }) : composed.activation(name, x);
}

/** silu(gate) · up, the gated unit of Llama (Shazeer 2020). Both [tokens, features]. */
export function swiglu(gate: tf.Tensor2D, up: tf.Tensor2D): tf.Tensor2D {
  return ortBackend() ? fused('SwiGlu', { gate, up }) : composed.swiglu(gate, up);
}

/**
 * Causal self-attention inside each segment.
 * @param q [tokens, heads·headDim]
 * @param k [tokens, kvHeads·headDim]
 * @param v [tokens, kvHeads·headDim]
 * @param weights what is left of the weights in training, of segments that share nothing; default: all of them
 * @returns [tokens, heads·headDim]
 */
export function attention(
  q: tf.Tensor2D,
  k: tf.Tensor2D,
  v: tf.Tensor2D,
  segments: Segments,
  options: AttentionOptions,
  weights?: KeptWeights,
): tf.Tensor2D {
  if (!ortBackend()) return composed.attention(q, k, v, segments, options, weights);
  const inputs = { q, k, v, ...segments.tables };
  if (!weights) return fused('SegmentAttention', inputs, attributesOf(options));
  const { kept, factor } = weights;
  return fused('SegmentAttentionDropout', { ...inputs, kept }, { ...attributesOf(options), factor });
}

/**
 * The same where each head has a sink: one more score, of which nothing is read (Xiao et al. 2023, "Efficient Streaming Language Models with
 * Attention Sinks"; as in gpt-oss, OpenAI 2025). With l = log Σ exp(score) that takes the share exp(sink) / (exp(l) + exp(sink)) of all weights.
 * @param sinks [heads]; differentiable
 * @returns [tokens, heads·headDim]
 */
export function attentionWithSinks(
  q: tf.Tensor2D,
  k: tf.Tensor2D,
  v: tf.Tensor2D,
  segments: Segments,
  options: AttentionOptions,
  sinks: tf.Tensor1D,
): tf.Tensor2D {
  const [output, logSums] = ortBackend()
    ? fused<[tf.Tensor2D, tf.Tensor2D]>('SegmentAttentionSums', { q, k, v, ...segments.tables }, attributesOf(options))
    : composed.attentionWithSums(q, k, v, segments, options);
  const [tokens, features] = q.shape;
  const left = tf.reshape(tf.sigmoid(tf.sub(logSums, sinks)), [tokens, options.heads, 1]);
  return tf.reshape(tf.mul(tf.reshape(output, [tokens, options.heads, features / options.heads]), left), [tokens, features]);
}

/**
 * Attention of the new tokens of each sequence to the tokens in its cache, to themselves and to the new ones before them.
 * Not differentiable.
 * @param q [batch·tokens, heads·headDim], the new tokens of the first sequence first; as many for each
 * @param k [batch·tokens, kvHeads·headDim], their keys
 * @param v [batch·tokens, kvHeads·headDim]
 * @param cache tokens read so far; not disposed here
 * @param lengths int32 [batch]: how many places of each cache row are filled; the new tokens go to the places after them
 * @param sinks [heads], where heads have some (`attentionWithSinks`)
 * @returns the output [batch·tokens, heads·headDim] and the cache with the new tokens in it (new tensors)
 */
export function cachedAttention(
  q: tf.Tensor2D,
  k: tf.Tensor2D,
  v: tf.Tensor2D,
  cache: LayerCache,
  lengths: tf.Tensor1D,
  options: AttentionOptions,
  sinks?: tf.Tensor1D,
): { output: tf.Tensor2D; cache: LayerCache } {
  const [batch, , , headDim] = cache.keys.shape;
  // ONNX Runtime's kernel takes features in eights, and several new tokens of one sequence only; on WebGPU it leaves soft-capping out.
  const leavesCap = options.softcap !== undefined && ortBackend()?.worksOnHost === false;
  if (!ortBackend() || headDim % 8 !== 0 || (batch > 1 && q.shape[0] > batch) || leavesCap)
    return composed.cachedAttention(q, k, v, cache, lengths, options, sinks);
  const inputs = { q, k, v, keys: cache.keys, values: cache.values, lengths, ...(sinks && { sinks }) };
  const [output, keys, values] = fused<[tf.Tensor2D, tf.Tensor4D, tf.Tensor4D]>('CachedAttention', inputs, attributesOf(options));
  return { output, cache: { keys, values } };
}

/**
 * Cross-entropy of each target under softmax(hidden · weightᵀ + bias), without keeping the logits.
 * @param hidden [targets, features], the final hidden states at the positions that predict
 * @param weight [vocabulary, features], the output head
 * @param targets int32 [targets], the ids to predict
 * @param softcap by which logits are soft-capped (`softCap`), where they are
 * @param bias [vocabulary], of the output head, where it has one
 */
export function tokenLoss(hidden: tf.Tensor2D, weight: tf.Tensor2D, targets: tf.Tensor1D, softcap?: number, bias?: tf.Tensor1D): TokenLoss {
  if (!ortBackend() || targets.size === 0) return composed.tokenLoss(hidden, weight, targets, softcap, bias);
  const attributes = softcap === undefined ? {} : { softcap };
  const [kernel, inputs] = bias ? ['TokenLossWithBias', { hidden, weight, targets, bias }] : ['TokenLoss', { hidden, weight, targets }];
  const [nll, argmax, entropy] = fused<[tf.Tensor1D, tf.Tensor1D, tf.Tensor1D]>(kernel, inputs, attributes);
  return { nll, argmax, entropy };
}

/** cap·tanh(x / cap): x, but no further from 0 than the cap (Gemma 2; Gemma team 2024). Without a cap x itself. */
export function softCap<T extends tf.Tensor>(x: T, cap: number | undefined): T {
  return cap === undefined ? x : composed.softCap(x, cap);
}

/** Σ x² over all elements, a scalar. Not differentiable. */
export function sumOfSquares(x: tf.Tensor): tf.Scalar {
  return ortBackend() ? fused('SumOfSquares', { x }) : (tf.tidy(() => tf.sum(tf.square(x))) as tf.Scalar);
}

/**
 * Tells the engine that what is recorded by now only reads these weights, as more will after it: it may lay them as products of a row
 * or a few read them fastest. A hint: results differ by rounding only, and whatever else reads or changes the weights still can.
 */
export function onlyReads(weights: readonly tf.Tensor[]): void {
  ortBackend()?.onlyReads(weights.map(({ dataId }) => dataId));
}

function attributesOf({ heads, kvHeads, scale, window, softcap }: AttentionOptions): tf.NamedAttrMap {
  return { heads, kvHeads, scale, ...(window === undefined ? {} : { window }), ...(softcap === undefined ? {} : { softcap }) };
}

/** Runs a kernel of the ONNX Runtime backend. */
function fused<T>(kernel: string, inputs: Record<string, tf.Tensor>, attrs: object = {}): T {
  return tf.engine().runKernel(kernel, inputs, attrs as tf.NamedAttrMap) as unknown as T;
}

/** The first of several outputs; the others only serve the gradient. */
function firstOf<T extends tf.Tensor>([first, ...others]: [T, ...tf.Tensor[]]): T {
  for (const other of others) other.dispose();
  return first;
}
