/** What the backend needs to know of a tfjs kernel in order to run it in ONNX Runtime. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { Dim, GraphBuilder } from './onnx';
import type { HostArray, Value } from './value';

/** Element types that a recorded tensor can have; other tfjs types stay with the fallback. */
export type NumericType = 'float32' | 'int32' | 'bool';

export interface Output {
  shape: number[];
  dtype: NumericType;
}

/** A value of the ONNX graph, seen from a kernel that is being written into it. */
export interface Operand {
  name: string;
  shape: Dim[];
  dtype: NumericType;
}

/** All that a kernel sees when it writes itself into a graph. */
export interface Emission {
  graph: GraphBuilder;
  inputs: Operand[];
  outputs: { shape: Dim[]; dtype: NumericType }[];
  attrs: Attrs;
  /** The inputs' shapes in the call that is compiled; what a kernel does with them must be in its key. */
  concrete: (readonly number[])[];
  /** The pieces of an input, a matrix, by its position (pieces.ts). */
  pieces(input: number): string[];
  /** Whether the graph has a call of this kernel too. */
  isWith(kernel: string): boolean;
}

// The attributes of tfjs kernels have no common type; each kernel reads its own.
// biome-ignore lint/suspicious/noExplicitAny: see above
export type Attrs = Record<string, any>;

export interface OrtKernel {
  /** Name in tfjs. */
  name: string;
  /** Names of the kernel's inputs in tfjs, in order; absent: all of them as they come. Optional ones may be missing. */
  inputs?: string[];
  /** Shapes and types of the outputs, from the inputs. */
  infer(inputs: TensorInfo[], attrs: Attrs): Output | Output[];
  /** Whether tfjs expects a list of outputs, even of one. */
  list?: boolean;
  /** The attributes that change the graph, beyond the shapes of inputs and outputs, as a cache key. */
  key?(attrs: Attrs, inputs: TensorInfo[]): string;
  /** Writes the kernel as ONNX nodes and returns the names of its outputs. */
  emit(emission: Emission): string | string[];
  /** Writes base + output, where that is one operation. Only for kernels with one output. */
  emitOnto?(emission: Emission, base: string): string;
  /** Writes base + output where the base lies in pieces (pieces.ts), in main memory. Only for kernels with one output, a matrix. */
  emitOntoPieces?(emission: Emission, bases: string[]): string[];
  /** Whether the output comes in pieces, so that sums with it had better be written in pieces. */
  inPieces?: boolean;
  /** Writes the output, a matrix, with a vector added to each of its rows, where that is one operation. */
  emitBiased?(emission: Emission, bias: string): string;
  /** Writes several calls that read the same input; absent: each by itself. */
  emitTogether?(emissions: Emission[]): string[];
  /** A matrix that becomes a constant of the graph (quantized-products.ts). */
  constant?(attrs: Attrs): Value;
  /** Pairs [input, output] that may share memory when nobody else needs the input. */
  inPlace?: [number, number][];
  /** The position of the input that may lie in the processor's own layout (resting-layout.ts). */
  inputInBlocks?(attrs: Attrs, shapes: (readonly number[] | undefined)[]): number | undefined;
  /**
   * Throws if values that are in memory at the time of recording (undefined for the others) are out of range.
   * @returns whether that is certain to be all; if not, a run may fail for it
   */
  check?(inputs: TensorInfo[], attrs: Attrs, values: (HostArray | undefined)[]): boolean;
  /** Whether the kernel can run this call at all; if not, the fallback does. */
  supports?(inputs: TensorInfo[], attrs: Attrs): boolean;
}
