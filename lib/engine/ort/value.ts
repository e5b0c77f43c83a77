/** The record: values that are in memory or still to be computed, and the nodes that compute them. */

import { type BackendValues, util } from '@tensorflow/tfjs-core';
import type { Tensor } from 'onnxruntime-common';
import type { Attrs, NumericType, OrtKernel } from './kernel';

export type HostArray = Float32Array | Int32Array | Uint8Array;

/** Smaller numbers that may lie side by side in whole numbers of 32 bits. */
export type BitElement = 'uint8' | 'uint16' | 'float16';

/** How the data of a matrix lies (resting-layout.ts). */
export type Layout = 'rows' | 'blocks';

let nextVersion = 0;

/** One tensor: data in memory, or an output of a recorded node, or both nothing when it was let go. */
export class Value {
  /** The data, where it lies in main memory. */
  data?: HostArray;
  /** The data as ONNX Runtime sees it: the same, made at the first use, or data that lies on a GPU. */
  tensor?: Tensor;
  /** How many tfjs tensors' data this is. At 0 the program has let go of it. */
  handles = 0;
  /** Whether `data` came from our pool and may go back there. */
  pooled = false;
  /** Whether somebody waits for the data in main memory. */
  wanted = false;
  /** Whether a run has read the data. */
  fed = false;
  /** Whether its rows or, for a matrix that lies so between runs, the blocks of the processor's own layout follow each other. */
  layout: Layout = 'rows';
  /** Whether every axis may vary without a new graph (segment lengths). */
  varies = false;
  /** What ONNX Runtime takes the bits of int32 data for, as one axis of smaller numbers (bits.ts); absent: for what they are. */
  element?: BitElement;
  /** Another number whenever the data is other data: they are counted over all values. */
  version = nextVersion++;
  /** Reshaped versions of this value, by shape. */
  private views?: Map<string, Value>;

  constructor(
    readonly shape: readonly number[],
    readonly dtype: NumericType,
    /** The node that computes it; undefined once the data is in memory. */
    public node?: Node,
    readonly index = 0,
  ) {}

  get size(): number {
    return sizeOf(this.shape);
  }

  /** Whether the data exists, in main memory or on a GPU. */
  get isKnown(): boolean {
    return this.data !== undefined || this.tensor !== undefined;
  }

  /** This value with another shape of the same size. */
  view(shape: readonly number[], make: () => Value): Value {
    const key = shape.join();
    this.views ??= new Map();
    let found = this.views.get(key);
    if (!found || (!found.node && !found.isKnown)) {
      found = make();
      this.views.set(key, found);
    }
    return found;
  }

  /** To be called when the data changes in place. */
  change(): void {
    this.version = nextVersion++;
  }

  /** Forgets reshaped versions, which point into the graph that has run. */
  dropViews(): void {
    this.views = undefined;
  }
}

let nextId = 0;

/** One recorded call of a kernel. */
export class Node {
  readonly id = nextId++;
  readonly outputs: Value[];
  /** Whether a run may fail at it, because it reads indices that nobody has seen yet. */
  mayFail = false;

  constructor(
    readonly kernel: OrtKernel,
    readonly inputs: (Value | undefined)[],
    readonly attrs: Attrs,
    readonly key: string,
    outputs: { shape: number[]; dtype: NumericType }[],
  ) {
    this.outputs = outputs.map(({ shape, dtype }, index) => new Value(shape, dtype, this, index));
  }
}

/** A tensor of another shape than its data was computed in. */
const VIEW: OrtKernel = {
  name: 'View',
  infer: () => [],
  emit: ({ graph, inputs, outputs }) => graph.reshape(inputs[0].name, outputs[0].shape),
};

/** A value in a shape of the same size. */
export function inShape(value: Value, shape: number[]): Value {
  if (sameShape(value.shape, shape)) return value;
  return value.view(shape, () => new Node(VIEW, [value], {}, '', [{ shape, dtype: value.dtype }]).outputs[0]);
}

export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

export const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((size, axis) => size === b[axis]);

export const bytesPerElement = (dtype: NumericType): number => (dtype === 'bool' ? 1 : 4);

/** So many elements from the beginning of a buffer; by default all. */
export function arrayOver(buffer: ArrayBuffer, dtype: NumericType, size = buffer.byteLength / bytesPerElement(dtype)): HostArray {
  if (dtype === 'bool') return new Uint8Array(buffer, 0, size);
  return dtype === 'float32' ? new Float32Array(buffer, 0, size) : new Int32Array(buffer, 0, size);
}

/** A value in memory, held by one tensor. Absent values are zeros. */
export function valueOver(values: BackendValues | null, shape: readonly number[], dtype: NumericType): Value {
  const value = new Value(shape, dtype);
  value.data = hostArray(values, sizeOf(shape), dtype);
  value.handles = 1;
  return value;
}

function hostArray(values: BackendValues | null, size: number, dtype: NumericType): HostArray {
  if (values === null) return arrayOver(new ArrayBuffer(size * bytesPerElement(dtype)), dtype);
  if (dtype === 'float32') return values instanceof Float32Array ? values : Float32Array.from(values as unknown as number[]);
  if (dtype === 'int32') return values instanceof Int32Array ? values : Int32Array.from(values as unknown as number[]);
  if (values instanceof Uint8Array) return values;
  util.assert(dtype === 'bool', () => `Cannot store a tensor of type ${dtype}.`);
  return Uint8Array.from(values as unknown as number[]);
}
