/**
 * ONNX's Attention as ONNX Runtime computes it on the CPU: its threads take head after head, whose scores stay in the cache from the
 * product through the softmax. Where its softmax is slow over hidden scores, or leaves something of them, `fusesFast` says so, and steps serve
 * instead.
 */
import { cpus } from 'node:os';
import type { AttentionOptions } from '../ops';
import { float, GraphBuilder } from './onnx';
import { ortTensor, Session, type SessionSettings } from './session';

/** Added to a score to hide it; finite, so that differences of hidden scores are numbers. */
export const HIDDEN = -1e30;

/** Which of its results Attention gives as the fourth: the probabilities. */
const PROBABILITIES = 3;

/** Operands of an attention, and what is added to scores, [queries, keys]. */
export interface AttentionOperands {
  queries: string;
  keys: string;
  mask: string;
}

/**
 * softmax(scale·q·kᵀ + mask)·v, scores soft-capped where they are, of whole tokens: queries [count, queries, heads·headDim], keys and values [count, keys, kvHeads·headDim]
 * give [count, queries, heads·headDim].
 */
export function fusedAttention(
  graph: GraphBuilder,
  { queries, keys, mask }: AttentionOperands,
  values: string,
  { heads, kvHeads, scale, softcap }: AttentionOptions,
): string {
  return graph.op('Attention', [queries, keys, values, mask], {
    scale: float(scale),
    q_num_heads: heads,
    kv_num_heads: kvHeads,
    ...(softcap !== undefined && { softcap: float(softcap) }),
  });
}

/** softmax(scale·q·kᵀ + mask) of operands head by head, [count, heads, queries, headDim] and [count, kvHeads, keys, headDim]: [count, heads, queries, keys]. */
export function fusedProbabilities(graph: GraphBuilder, { queries, keys, mask }: AttentionOperands, scale: number): string {
  // The operator always multiplies by values, so it gets the fewest that there can be.
  const shape = graph.op('Concat', [graph.op('Shape', [keys], { end: 3 }), graph.ints([1])], { axis: 0 });
  const values = graph.op('Expand', [graph.scalar('float32', 0), shape]);
  const [output, probabilities] = [graph.freshName(), graph.freshName()];
  // Its copies of keys and values are not asked for.
  graph.node('Attention', [queries, keys, values, mask], [output, '', '', probabilities], {
    scale: float(scale),
    qk_matmul_output_mode: PROBABILITIES,
  });
  return probabilities;
}

/** Channels in a block of the processor's own layout where it has AVX-512. */
const BLOCK_OF_AVX512 = 16;

/** One visible key, and hidden ones for every lane of a vector and some behind them. */
const KEYS = 71;

let hides: boolean | undefined;

/**
 * Whether Attention runs here, as fast over hidden scores as over others. With AVX-512 their exponentials are denormal on the way to 0. On
 * Intel's processors that takes many times as long: 128 tokens that see each other took half as long there as 128 of which each sees those
 * before it. On AMD's (Zen 5) both took as long. Which it is goes by the maker, as a measured time might differ from run to run, and results with it.
 * @param block channels in a block of the processor's own layout (blocked-products.ts)
 */
export function fusesFast(settings: SessionSettings, block: number | undefined): boolean {
  if (block === BLOCK_OF_AVX512 && !isByAmd()) return false;
  hides ??= hidesScores({ ...settings, threads: 1 });
  return hides;
}

const isByAmd = (): boolean => cpus()[0]?.model.includes('AMD') === true;

/** Whether Attention runs, and hidden scores get a probability of exactly 0, not the smallest number that there is. */
function hidesScores(settings: SessionSettings): boolean {
  const graph = new GraphBuilder();
  const operands = {
    queries: graph.input('queries', 'float32', [1, 1, 1, 1]),
    keys: graph.input('keys', 'float32', [1, 1, KEYS, 1]),
    mask: graph.input('mask', 'float32', [1, KEYS]),
  };
  graph.outputAs('y', fusedProbabilities(graph, operands, 1), 'float32', [1, 1, 1, KEYS]);
  const mask = new Float32Array(KEYS).fill(HIDDEN);
  mask[0] = 0;
  const y = new Float32Array(KEYS);
  const feeds = {
    queries: ortTensor('float32', Float32Array.of(1), [1, 1, 1, 1]),
    keys: ortTensor('float32', new Float32Array(KEYS).fill(1), [1, 1, KEYS, 1]),
    mask: ortTensor('float32', mask, [1, KEYS]),
  };
  try {
    const session = new Session(graph, settings);
    session.run(feeds, { y: ortTensor('float32', y, [1, 1, 1, KEYS]) });
    session.dispose();
  } catch {
    return false;
  }
  return y.every((probability, key) => probability === (key === 0 ? 1 : 0));
}
