/** Attention of new tokens to a generation's cache. */
import type { AttentionOptions } from '../../ops';
import type { Emission, OrtKernel } from '../kernel';
import { ELEMENT_TYPES, float, type GraphBuilder } from '../onnx';
import { attentionKey, like } from './attention';

/** ONNX Runtime's kernel turns heads of a multiple of so many features, by so many columns of cosines. */
const HEAD_MULTIPLE = 16;
const HALF_MULTIPLE = 8;

/**
 * One new token of each sequence, or several of the only one, against the cache, by ONNX Runtime's own kernel, which writes
 * their keys and values into the cache's memory when it may, and does their rotary embedding where it can.
 */
export const cachedAttention: OrtKernel = {
  name: 'CachedAttention',
  inputs: ['q', 'k', 'v', 'keys', 'values', 'lengths', 'sinks'],
  infer: ([q, , , keys, values]) => [like(q), like(keys), like(values)],
  key: (attrs, [, , , keys]) => `${attentionKey(attrs)},${keys.shape[0] === 1 ? 'alone' : 'together'},${keys.shape[3]}`,
  inPlace: [
    [3, 1],
    [4, 2],
  ],
  emit: (emission) => {
    const { graph, inputs, concrete, attrs } = emission;
    const [, , , keys, values, lengths, sinks] = inputs;
    const { heads, kvHeads, scale, window, softcap } = attrs as AttentionOptions;
    // [1, tokens, …], or [batch, 1, …]
    const isAlone = concrete[3][0] === 1;
    const axis = graph.ints([1]);
    const inSequences = (x: string): string => (isAlone ? graph.batched(x) : graph.op('Unsqueeze', [x, axis]));
    const turning = turningOf(emission);
    const tokens = (turning?.tokens ?? inputs.slice(0, 3).map(({ name }) => name)).map((x) => (x === '' ? '' : inSequences(x)));
    // of values whose shape it does not know ONNX Runtime concludes that they lie beside the queries
    const [count, features] = inputs[2].shape;
    if (tokens[2] !== '') graph.describe(tokens[2], isAlone ? [1, count, features] : [count, 1, features]);
    // All layers have the same.
    const shared = (what: string, make: () => string): string => graph.once(`${what} of ${inputs[0].shape[0]} after ${lengths.name}`, make);
    const added = shared('tokens', () =>
      graph.op('Cast', [graph.op('Squeeze', [graph.sizeOf(tokens[0], 1)])], { to: ELEMENT_TYPES.int32 }),
    );
    const total = shared('total', () => graph.op('Add', [graph.op('ReduceMax', [lengths.name], { keepdims: 0 }), added]));
    const last = shared('last', () => graph.op('Add', [lengths.name, graph.op('Sub', [added, graph.scalar('int32', 1)])]));
    const tables = turning ? [turning.cos, turning.sin, inSequences(asInt64(graph, turning.positions))] : [];
    // the place of what is added to scores stays empty
    const behind = sinks?.name ? [...tables, ...new Array<string>(4 - tables.length).fill(''), sinks.name] : tables;
    const outputs = graph.ops('GroupQueryAttention', [...tokens, keys.name, values.name, last, total, ...behind], 3, {
      num_heads: heads,
      kv_num_heads: kvHeads,
      scale: float(scale),
      local_window_size: window ?? -1,
      do_rotary: turning ? 1 : 0,
      ...(turning?.interleaved && { rotary_interleaved: 1 }),
      ...(softcap !== undefined && { softcap: float(softcap) }),
    });
    return [isAlone ? graph.unbatched(outputs[0]) : graph.op('Squeeze', [outputs[0], axis]), outputs[1], outputs[2]];
  },
};

/** Queries, keys and values before the rotary embedding, and its tables. */
interface Turning {
  /** All three side by side in the first, or three. */
  tokens: readonly [string, string, string];
  cos: string;
  sin: string;
  /** int32 [tokens] */
  positions: string;
  interleaved: 0 | 1;
}

/** How queries and keys were turned, where the kernel can turn them likewise. */
function turningOf({ graph, inputs: [q, k, v], concrete: [, , , { 3: headDim }] }: Emission): Turning | undefined {
  const [turnedQ, turnedK] = [graph.originOf(q.name), graph.originOf(k.name)];
  if (graph.target.device !== 'cpu' || turnedQ?.kind !== 'turned' || turnedK?.kind !== 'turned') return undefined;
  if (turnedQ.cos !== turnedK.cos || turnedQ.sin !== turnedK.sin || turnedQ.interleaved !== turnedK.interleaved) return undefined;
  const [cos, sin] = [graph.originOf(turnedQ.cos), graph.originOf(turnedQ.sin)];
  if (cos?.kind !== 'rows' || sin?.kind !== 'rows' || cos.ids !== sin.ids) return undefined;
  if (headDim % HEAD_MULTIPLE !== 0 || turnedQ.half % HALF_MULTIPLE !== 0) return undefined;
  const origin = graph.originOf(turnedQ.x);
  const apart = [turnedQ.x, turnedK.x, v.name] as const;
  const arePacked = origin?.kind === 'part' && origin.parts.join() === apart.join();
  return {
    tokens: arePacked ? [origin.whole, '', ''] : apart,
    cos: cos.matrix,
    sin: sin.matrix,
    positions: cos.ids,
    interleaved: turnedQ.interleaved,
  };
}

const asInt64 = (graph: GraphBuilder, x: string): string => graph.op('Cast', [x], { to: ELEMENT_TYPES.int64 });
