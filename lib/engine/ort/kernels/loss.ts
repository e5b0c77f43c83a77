/** Cross-entropy over a vocabulary. */
import type { OrtKernel } from '../kernel';
import { ELEMENT_TYPES, float } from '../onnx';

/**
 * Outputs nll, argmax and entropy of each target, and the probabilities for the gradient.
 * The log of the softmax's denominator comes from the largest logit and its probability, which loses no precision:
 * log Σ exp(logit) = logit_max − log p_max.
 */
const tokenLoss: OrtKernel = {
  name: 'TokenLoss',
  inputs: ['hidden', 'weight', 'targets'],
  infer: ([hidden, weight, targets]) => [
    { shape: targets.shape, dtype: 'float32' },
    { shape: targets.shape, dtype: 'int32' },
    { shape: targets.shape, dtype: 'float32' },
    { shape: [hidden.shape[0], weight.shape[0]], dtype: 'float32' },
  ],
  emit: ({ graph, inputs: [hidden, weight, targets] }) => {
    const last = graph.ints([-1]);
    const column = (ids: string): string => graph.op('Unsqueeze', [ids, last]);
    const pick = (from: string, ids: string): string => graph.op('Squeeze', [graph.op('GatherElements', [from, ids], { axis: 1 }), last]);
    const logits = graph.op('Gemm', [hidden.name, weight.name], { transB: 1 });
    const probabilities = graph.op('Softmax', [logits], { axis: -1 });
    const argmax = graph.op('ArgMax', [logits], { axis: 1, keepdims: 1 });
    const logDenominator = graph.op('Sub', [pick(logits, argmax), graph.op('Log', [pick(probabilities, argmax)])]);
    const nll = graph.op('Sub', [logDenominator, pick(logits, column(targets.name))]);
    // Σ p·logit as a product of a row and a column: one pass over both.
    const row = graph.op('Unsqueeze', [probabilities, graph.ints([1])]);
    const expected = graph.op('FusedMatMul', [row, graph.op('Unsqueeze', [logits, graph.ints([1])])], { transB: 1, alpha: float(1) });
    const entropy = graph.op('Sub', [logDenominator, graph.op('Squeeze', [expected, graph.ints([1, 2])])]);
    const ids = graph.op('Cast', [graph.op('Squeeze', [argmax, last])], { to: ELEMENT_TYPES.int32 });
    return [nll, ids, entropy, probabilities];
  },
};

export const lossKernels = [tokenLoss];
