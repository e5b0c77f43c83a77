/** Products of matrices: the last two axes of tensors of two or more, batched over the others. */
import { canCut } from './blocked-layout';
import { blockedProduct, type ProductSizes, plus } from './blocked-products';
import { type Dim, ELEMENT_TYPES, float, type GraphBuilder } from './onnx';

export interface ProductOptions {
  /** Number of axes of each operand. */
  ranks: readonly [number, number];
  /** Whether an operand's last two axes are swapped. */
  transA?: boolean;
  transB?: boolean;
  /** Factor on the product. */
  alpha?: number;
  /** Added to the product; of its shape. */
  base?: string;
  /** Added to each row of the product; not together with `base`. */
  bias?: string;
  /** Of a product of two axes, for which there may be a faster way. */
  sizes?: ProductSizes;
  /** Whether b is made for this product alone, of two axes whose `sizes` are known: then it is made last, so that it does not wait in memory. */
  makesLast?: boolean;
}

/**
 * Writes a product in the graph's precision. In float16 the operands and the product are of that type, and the result is
 * float32 again. The CPU computes in float32 between the two roundings: it has no float16 kernels, and ONNX Runtime would
 * leave the roundings out.
 */
export function matrixProduct(graph: GraphBuilder, a: string, b: string, options: ProductOptions): string {
  const { device, precision } = graph.target;
  if (precision === 'float32') return fullProduct(graph, a, b, options);
  const half = (x: string): string => graph.op('Cast', [x], { to: ELEMENT_TYPES.float16 });
  const single = (x: string): string => graph.op('Cast', [x], { to: ELEMENT_TYPES.float32 });
  const { base, bias, alpha, ...bare } = options;
  const scaled = device === 'webgpu' ? times(graph, a, alpha) : a;
  const product =
    device === 'webgpu'
      ? fullProduct(graph, half(scaled), half(b), bare)
      : half(fullProduct(graph, single(half(a)), single(half(b)), { ...bare, alpha }));
  return plus(graph, single(product), base ?? bias);
}

/** Writes a product in float32, whatever the graph's precision. */
export function fullProduct(graph: GraphBuilder, a: string, b: string, options: ProductOptions): string {
  const { ranks, transA = false, transB = false, alpha = 1, base, bias, sizes } = options;
  const attributes = { transA: transA ? 1 : 0, transB: transB ? 1 : 0 };
  const blocked = sizes && blockedProduct(graph, [a, b], sizes, { transA, transB, bias, base });
  if (blocked) return blocked;
  if (options.makesLast && sizes) return fullProduct(graph, ...beforeLast(graph, a, b, options, sizes));
  const addend = base ?? bias;
  const isGemm = ranks[0] === 2 && ranks[1] === 2 && (addend !== undefined || !isOfTraining(graph, sizes));
  if (isGemm) return graph.op('Gemm', addend ? [a, b, addend] : [a, b], attributes);
  const product =
    graph.target.device === 'webgpu'
      ? graph.op('MatMul', [turned(graph, times(graph, a, alpha), ranks[0], transA), turned(graph, b, ranks[1], transB)])
      : transA || transB || alpha !== 1
        ? graph.op('FusedMatMul', [a, b], { ...attributes, alpha: float(alpha) })
        : graph.op('MatMul', [a, b]);
  return plus(graph, product, addend);
}

/** The same product, whose other operands are written behind b (see `again` in onnx.ts). */
function beforeLast(
  graph: GraphBuilder,
  a: string,
  b: string,
  { base, ...options }: ProductOptions,
  { rows, inner, columns }: ProductSizes,
): [string, string, ProductOptions] {
  const again = (x: string, shape: Dim[]): string => graph.again(x, graph.newShape(shape));
  const addend = base === undefined ? undefined : again(base, [rows, columns]);
  return [again(a, [rows, inner]), b, { ...options, base: addend, makesLast: false }];
}

/**
 * Whether a product is over a row of training, whose tokens fill chunks; there it is `MatMul`, of whose result ONNX Runtime
 * knows no size. Of Gemm's it knows one, and looks in vain for others of its shape among all of a large graph (`openShapes` in onnx.ts).
 */
function isOfTraining({ target }: GraphBuilder, sizes: ProductSizes | undefined): boolean {
  const isRow = (dim: Dim): boolean => typeof dim === 'string' && canCut(dim);
  return target.device === 'cpu' && sizes !== undefined && (isRow(sizes.rows) || isRow(sizes.inner));
}

/** The operand that is smaller than the product, and in float32: a large product of unscaled operands could leave float16's range. */
function times(graph: GraphBuilder, x: string, alpha = 1): string {
  return alpha === 1 ? x : graph.op('Mul', [x, graph.scalar('float32', alpha)]);
}

/** With the last two axes swapped, for operators that cannot read them so. */
function turned(graph: GraphBuilder, x: string, rank: number, swap: boolean): string {
  if (!swap) return x;
  const perm = Array.from({ length: rank }, (_, axis) => (axis < rank - 2 ? axis : 2 * rank - 3 - axis));
  return graph.op('Transpose', [x], { perm });
}
