/** Attention of new tokens to a generation's cache. */
import type { AttentionOptions } from '../../ops';
import type { OrtKernel } from '../kernel';
import { ELEMENT_TYPES, float } from '../onnx';
import { attentionKey, like } from './attention';

/**
 * One new token of each sequence, or several of the only one, against the cache, by ONNX Runtime's own kernel, which writes
 * their keys and values into the cache's memory when it may.
 */
export const cachedAttention: OrtKernel = {
  name: 'CachedAttention',
  inputs: ['q', 'k', 'v', 'keys', 'values', 'lengths'],
  infer: ([q, , , keys, values]) => [like(q), like(keys), like(values)],
  key: (attrs, [, , , keys]) => `${attentionKey(attrs)},${keys.shape[0] === 1 ? 'alone' : 'together'}`,
  inPlace: [
    [3, 1],
    [4, 2],
  ],
  emit: ({ graph, inputs: [q, k, v, keys, values, lengths], concrete: [{ 0: rows }, , , { 0: batch }], attrs }) => {
    const { heads, kvHeads, scale, window } = attrs as AttentionOptions;
    // [1, tokens, …], or [batch, 1, …]
    const isAlone = batch === 1;
    const axis = graph.ints([1]);
    const [query, key, value] = [q, k, v].map((x) => (isAlone ? graph.batched(x.name) : graph.op('Unsqueeze', [x.name, axis])));
    // All layers have the same.
    const shared = (what: string, make: () => string): string => graph.once(`${what} of ${rows} after ${lengths.name}`, make);
    const tokens = shared('tokens', () => graph.op('Cast', [graph.op('Squeeze', [graph.sizeOf(query, 1)])], { to: ELEMENT_TYPES.int32 }));
    const total = shared('total', () => graph.op('Add', [graph.op('ReduceMax', [lengths.name], { keepdims: 0 }), tokens]));
    const last = shared('last', () => graph.op('Add', [lengths.name, graph.op('Sub', [tokens, graph.scalar('int32', 1)])]));
    const outputs = graph.ops('GroupQueryAttention', [query, key, value, keys.name, values.name, last, total], 3, {
      num_heads: heads,
      kv_num_heads: kvHeads,
      scale: float(scale),
      local_window_size: window ?? -1,
    });
    return [isAlone ? graph.unbatched(outputs[0]) : graph.op('Squeeze', [outputs[0], axis]), outputs[1], outputs[2]];
  },
};
