/**
 * Programs of tensor operations as ONNX models, for others to run: onnxruntime-web in a browser, for example. A program is recorded as for
 * the ONNX Runtime backend, on tensors that have no data, and written instead of run.
 */
import * as tf from '@tensorflow/tfjs-core';
import { UserError } from '../errors';
import { ortBackend } from './device';
import type { OrtBackend } from './ort/backend';
import { toFloat16 } from './ort/float16-graph';
import { fitsFourBits } from './ort/four-bit-products';
import type { Attrs, OrtKernel } from './ort/kernel';
import {
  byteEmbedding,
  byteMatMul,
  fourBitEmbedding,
  fourBitMatMul,
  lastRows,
  modelInput,
  rowsBetween,
  rowsWhere,
} from './ort/kernels/exported';
import { exportedRecurrence } from './ort/kernels/exported-recurrence';
import { type Dim, GraphBuilder, type Precision } from './ort/onnx';
import { type Cut, Emitter } from './ort/program';
import { type Constant, type DataPlace, writeModel } from './ort/protobuf';
import type { Value } from './ort/value';
import { forEachValue, type RecurrenceHeads, type RecurrenceOperands } from './recurrence';

/** An ONNX model and the file of its weights. */
export interface OnnxModel {
  /** The protobuf; it names the file of the weights. */
  graph: Uint8Array;
  /** What that file holds, piece by piece. */
  data(): Iterable<Uint8Array>;
}

export interface FinishOptions {
  /** What the model computes in, and what its inputs, outputs and weights are. Default: float32. */
  precision?: Precision;
  /** Inputs and outputs that are float32 in any case. */
  inFloat32?: readonly string[];
}

/** Where in the file a constant begins is a multiple of this, so that it can be mapped into memory. */
const PAGE = 4096;

/** Constants of so many numbers at most are in the graph itself. */
const SMALL = 64;

/** Kernels that write what processors and WebGPU alike compute, in float32. */
const TARGET = { device: 'webgpu', precision: 'float32' } as const;

/** An ONNX model under construction. */
export class OnnxProgram {
  private readonly backend: OrtBackend;
  private readonly sizes: ReadonlyMap<number, string>;

  /**
   * @param standIns the numbers that stand for sizes known only when the model runs, by the names of those; nothing else in the program
   *   may have one of these sizes
   * @throws UserError when tfjs computes on something else than the processor through ONNX Runtime
   */
  constructor(private readonly standIns: Readonly<Record<string, number>>) {
    const backend = ortBackend();
    if (!backend?.worksOnHost) throw new UserError("Models are exported from main memory: call `await useDevice('cpu')` first.");
    this.backend = backend;
    this.sizes = new Map(Object.entries(standIns).map(([name, size]) => [size, name]));
    backend.flush();
  }

  /**
   * A tensor that the model is given when it runs.
   * @param type int64 is int32 in the program
   * @param shape sizes, or names of sizes
   */
  input<T extends tf.Tensor>(name: string, type: 'int64' | 'float32', shape: ReadonlyArray<number | string>): T {
    const sizes = shape.map((size) => (typeof size === 'string' ? this.standIns[size] : size));
    return this.record(modelInput, [], { name, type, shape: sizes }) as T;
  }

  /**
   * The last rows of each sequence.
   * @param x [batch, rows, features]
   * @param count int32 []: how many; 0 for all
   * @param size the name of how many
   * @returns [batch, count, features]
   */
  lastRows(x: tf.Tensor3D, count: tf.Scalar, size: string): tf.Tensor3D {
    return this.record(lastRows, [x, count], { count: this.standIns[size] }) as tf.Tensor3D;
  }

  /**
   * Some rows of each sequence, from one place up to, but without, another; a place below zero is counted from the end.
   * @param x [batch, rows, features]
   * @param behind default: the end
   * @param count how many those are, or the name of how many
   * @returns [batch, count, features]
   */
  rowsBetween(x: tf.Tensor3D, { first, behind, count }: { first: number; behind?: number; count: number | string }): tf.Tensor3D {
    const rows = typeof count === 'string' ? this.standIns[count] : count;
    return this.record(rowsBetween, [x], { first, behind, count: rows }) as tf.Tensor3D;
  }

  /**
   * The rows for which a condition is true, zeros in the place of the others.
   * @param condition bool [batch, rows, 1]
   * @param x [batch, rows, features]
   */
  rowsWhere(condition: tf.Tensor3D, x: tf.Tensor3D): tf.Tensor3D {
    return this.record(rowsWhere, [condition, x], {}) as tf.Tensor3D;
  }

  /**
   * A recurrence (recurrence.ts) along each sequence.
   * @param operands [batch · tokens, …]: a row for each token, the first sequence's first
   * @param state before the first tokens: [batch, valueHeads, keyDim, valueDim]
   * @returns what the tokens have read, [batch · tokens, valueHeads·valueDim], and the state behind the last ones
   */
  recurrence(
    { q, k, v, g, beta }: RecurrenceOperands,
    state: tf.Tensor4D,
    heads: RecurrenceHeads,
  ): { output: tf.Tensor2D; state: tf.Tensor4D } {
    const [batch, valueHeads, keyDim, valueDim] = state.shape;
    const tokens = v.shape[0] / batch;
    // under the gated delta rule each head of values gets a key of its own
    const keyHeads = beta ? valueHeads : heads.keyHeads;
    const keys = (x: tf.Tensor2D): tf.Tensor => tf.reshape(beta ? forEachValue(x, heads) : x, [batch, tokens, keyHeads, keyDim]);
    const values = tf.reshape(v, [batch, tokens, valueHeads, valueDim]);
    const perHead = [g, ...(beta ? [beta] : [])].map((x) => tf.reshape(x, [batch, tokens, valueHeads, 1]));
    const [output, behind] = this.recordAll(exportedRecurrence, [state, keys(q), keys(k), values, ...perHead], {});
    return { output: tf.reshape(output, v.shape), state: behind as tf.Tensor4D };
  }

  /** About x Wᵀ, with the weight [out, in] in 8 bits. x: [..., in] */
  byteProduct<T extends tf.Tensor>(x: T, weight: tf.Tensor2D): T {
    return this.record(byteMatMul, [x], { weight: this.backend.knownValue(weight.dataId) }) as T;
  }

  /** About the rows of a table, which is kept in 8 bits. */
  byteEmbedding(ids: tf.Tensor1D, weight: tf.Tensor2D): tf.Tensor2D {
    return this.record(byteEmbedding, [ids], { weight: this.backend.knownValue(weight.dataId) }) as tf.Tensor2D;
  }

  /** Whether a weight [out, in] can be in 4 bits: its rows fall into whole blocks. */
  fitsFourBits(weight: tf.Tensor2D): boolean {
    return fitsFourBits(weight.shape);
  }

  /** x Wᵀ, with the weight [out, in] in 4 bits. x: [..., in] */
  fourBitProduct<T extends tf.Tensor>(x: T, weight: tf.Tensor2D): T {
    return this.record(fourBitMatMul, [x], { weight: this.backend.knownValue(weight.dataId) }) as T;
  }

  /** Rows of a table, which is kept in 4 bits. */
  fourBitEmbedding(ids: tf.Tensor1D, weight: tf.Tensor2D): tf.Tensor2D {
    return this.record(fourBitEmbedding, [ids], { weight: this.backend.knownValue(weight.dataId) }) as tf.Tensor2D;
  }

  /**
   * The model that computes tensors from the inputs.
   * @param outputs by the names that they get
   * @param names of constants, by their tensors
   * @param file the name of the file that the weights will be in, beside the model
   */
  finish(
    outputs: Readonly<Record<string, tf.Tensor>>,
    names: ReadonlyMap<tf.Tensor, string>,
    file: string,
    { precision = 'float32', inFloat32 = [] }: FinishOptions = {},
  ): OnnxModel {
    const cut = this.backend.cutFor(Object.values(outputs));
    const nameOf = new Map([...names].map(([tensor, name]) => [this.backend.knownValue(tensor.dataId), name]));
    const graph = emitModel(cut, Object.keys(outputs), this.sizes, nameOf);
    const parts = precision === 'float16' ? toFloat16(graph.parts, inFloat32) : graph.parts;
    const places = placesOf(parts.outside);
    return { graph: writeModel(parts, graph.opsets, { file, of: places }), data: () => pieces(parts.outside, places) };
  }

  private record(kernel: OrtKernel, inputs: tf.Tensor[], attrs: Attrs): tf.Tensor {
    return this.recordAll(kernel, inputs, attrs)[0];
  }

  private recordAll(kernel: OrtKernel, inputs: tf.Tensor[], attrs: Attrs): tf.Tensor[] {
    return this.backend.record(kernel, inputs, attrs).map((output) => tf.engine().makeTensorFromTensorInfo(output));
  }
}

function emitModel(cut: Cut, outputs: string[], sizes: ReadonlyMap<number, string>, names: ReadonlyMap<Value, string>): GraphBuilder {
  const graph = new GraphBuilder(TARGET);
  const dimsOf = ({ shape }: Value): Dim[] => shape.map((size) => sizes.get(size) ?? size);
  const operands = new Map(
    cut.feeds.map((feed) => [feed, { name: constant(graph, feed, names.get(feed)), shape: dimsOf(feed), dtype: feed.dtype }]),
  );
  new Emitter(graph, cut, sizes, operands).run();
  for (const [index, fetch] of cut.fetches.entries()) {
    const { name } = operands.get(fetch) as { name: string };
    graph.outputAs(outputs[index], name, fetch.dtype, dimsOf(fetch));
  }
  return graph;
}

function constant(graph: GraphBuilder, { data, dtype, shape, size }: Value, name?: string): string {
  if (!data) throw new Error('A constant of the model has no data.');
  return size <= SMALL ? graph.constant(dtype, [...data], [...shape]) : graph.data(dtype, data, shape, name);
}

/** Where each constant goes: one after the other, each at the beginning of a page; those over the same memory, in the same place. */
function placesOf(constants: ReadonlyMap<string, Constant>): Map<string, DataPlace> {
  const places = new Map<string, DataPlace>();
  const known = new Map<ArrayBufferLike, Map<number, DataPlace>>();
  let offset = 0;
  for (const [name, { data }] of constants) {
    const inBuffer = known.get(data.buffer) ?? new Map<number, DataPlace>();
    known.set(data.buffer, inBuffer);
    const found = inBuffer.get(data.byteOffset);
    const place = found?.length === data.byteLength ? found : { offset, length: data.byteLength };
    places.set(name, place);
    inBuffer.set(data.byteOffset, place);
    if (place !== found) offset += Math.ceil(data.byteLength / PAGE) * PAGE;
  }
  return places;
}

function* pieces(constants: ReadonlyMap<string, Constant>, places: ReadonlyMap<string, DataPlace>): Generator<Uint8Array, void, void> {
  let written = 0;
  for (const [name, { data }] of constants) {
    const { offset, length } = places.get(name) as DataPlace;
    // lies there already
    if (offset < written) continue;
    if (offset > written) yield new Uint8Array(offset - written);
    yield data;
    written = offset + length;
  }
}
