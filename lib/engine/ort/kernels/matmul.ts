/** Matrix products. */
import { broadcast_util, util } from '@tensorflow/tfjs-core';
import { plus } from '../blocked-products';
import type { Emission, OrtKernel } from '../kernel';
import { matrixProduct } from '../products';
import { quantizedProducts } from '../quantized-products';

function product(emission: Emission, addend: { base?: string; bias?: string } = {}): string {
  const { graph, inputs, attrs, concrete, outputs } = emission;
  // Over nothing, or of nothing, ONNX Runtime's products leave their result as the memory was, or fail.
  if (concrete.flat().includes(0)) {
    const zeros = graph.op('Expand', [graph.scalar('float32', 0), graph.shape(outputs[0].shape)]);
    return plus(graph, zeros, addend.base ?? addend.bias);
  }
  const [a, b] = inputs;
  const ranks = [a.shape.length, b.shape.length] as const;
  const { transposeA: transA, transposeB: transB } = attrs;
  const sizes = { rows: a.shape[transA ? 1 : 0], inner: b.shape[transB ? 1 : 0], columns: b.shape[transB ? 0 : 1] };
  const isPlain = ranks[0] === 2 && ranks[1] === 2;
  return matrixProduct(graph, a.name, b.name, { ranks, transA, transB, ...addend, ...(isPlain && { sizes }) });
}

function quantized(calls: Emission[]): string[] {
  const [{ graph, inputs }] = calls;
  const weights = calls.map(({ attrs: { weight } }) => weight);
  return quantizedProducts(graph, inputs[0].name, weights);
}

/** Products of matrices (the last two axes), batched over the axes before. A sum with a product is one operation (emitOnto). */
export const matmulKernels: OrtKernel[] = [
  {
    name: 'BatchMatMul',
    inputs: ['a', 'b'],
    infer: ([a, b], { transposeA, transposeB }) => {
      const batch = broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
      const rows = a.shape[a.shape.length - (transposeA ? 1 : 2)];
      const columns = b.shape[b.shape.length - (transposeB ? 2 : 1)];
      const inner = a.shape[a.shape.length - (transposeA ? 2 : 1)];
      const other = b.shape[b.shape.length - (transposeB ? 1 : 2)];
      util.assert(
        a.shape.length >= 2 && b.shape.length >= 2 && inner === other,
        () =>
          `Error in matMul: inner shapes (${inner}) and (${other}) of tensors with shapes ${a.shape} and ${b.shape} ` +
          `and transposeA=${transposeA} and transposeB=${transposeB} must match.`,
      );
      return { shape: [...batch, rows, columns], dtype: 'float32' };
    },
    key: ({ transposeA, transposeB }) => `${transposeA ? 1 : 0}${transposeB ? 1 : 0}`,
    inputInBlocks: ({ transposeA, transposeB }, [a]) => (a?.length === 2 && a[0] > 0 && transposeB && !transposeA ? 1 : undefined),
    emit: (emission) => product(emission),
    emitOnto: (emission, base) => product(emission, { base }),
    emitBiased: (emission, bias) => product(emission, { bias }),
    supports: ([a, b]) => a.dtype === 'float32' && b.dtype === 'float32',
  },
  {
    name: 'QuantizedMatMul',
    inputs: ['x'],
    infer: ([x], { weight }) => ({ shape: [x.shape[0], weight.shape[0]], dtype: 'float32' }),
    key: ({ weight }) => `${weight.version}`,
    constant: ({ weight }) => weight,
    emit: (emission) => quantized([emission])[0],
    emitTogether: quantized,
  },
];
