/**
 * Floating-point operations that a training step needs, whatever an engine really does: padding, products whose result
 * nobody reads, and recomputation do not count, and what examples share counts once. A multiplication and an addition are two
 * operations.
 *
 * - Linear layers: 2 for each weight and token forward, twice that backward (gradients of the input and of the weight),
 *   so 6 · weights · tokens.
 * - The output head the same, for targets only: 6 · head weights · targets. So with the linear layers behind the
 *   last attention, from where no token looks at another.
 * - Attention: query-key products and the mixing of values are each 2 · headDim for each head and each pair of a token with
 *   one that it sees. An example of n tokens has n(n+1)/2 such pairs. Forward and twice that backward: 6 · width · n(n+1)
 *   in a layer, where width is heads · headDim. Sliding windows are not considered.
 * - Where an adapter is trained (LoRA) in the place of the weights, these have no gradients of their own: 4 in the place of 6, for the head,
 *   too, and 6 for the numbers of the adapter. (Of the first layer's input nobody reads the gradient; it is counted.)
 * - Of an example whose first p tokens are computed with another example: n − p tokens, and n(n+1)/2 − p(p+1)/2 pairs.
 *
 * The same count without attention is the 6·N·D of Kaplan et al. 2020 (arXiv:2001.08361).
 */

/** The sizes of a model that the count depends on. */
export interface ModelSizes {
  /** Weights of all linear layers, without biases, embeddings and the output head. */
  linearParameters: number;
  headParameters: number;
  /** Of the linear layers' weights those behind the last layer's attention. */
  lastParameters: number;
  /** Numbers of the adapter that is trained in their place, and those beside the last parameters. */
  adapterParameters?: number;
  lastAdapterParameters?: number;
  layers: number;
  /** Query heads · headDim. */
  attentionWidth: number;
}

/** An example as far as the count needs it. */
export interface ExampleSizes {
  tokens: number;
  /** How many of them, at the beginning, another example has too, with which they are computed. */
  shared?: number;
  /** Tokens that carry loss. */
  targets: number;
}

/** Operations of forward and backward pass over some examples. */
export function trainingFlops(model: ModelSizes, examples: readonly ExampleSizes[]): number {
  const { linearParameters, lastParameters, headParameters, adapterParameters, lastAdapterParameters = 0 } = model;
  const each = adapterParameters === undefined ? 6 : 4;
  const perToken = each * (linearParameters - lastParameters) + 6 * ((adapterParameters ?? 0) - lastAdapterParameters);
  const perTarget = each * (lastParameters + headParameters) + 6 * lastAdapterParameters;
  return examples.reduce((sum, { tokens, shared = 0, targets }) => {
    const linear = perToken * (tokens - shared);
    const head = perTarget * targets;
    const attention = 6 * model.layers * model.attentionWidth * (tokens * (tokens + 1) - shared * (shared + 1));
    return sum + linear + head + attention;
  }, 0);
}
