/** Where the data of values lies, and how compiled graphs read and write it there. */
import { Tensor } from 'onnxruntime-common';
import type { Cut } from './program';
import { type OutputPlace, ortTensor, type Session } from './session';
import type { BitElement, HostArray, Value } from './value';

/** Main memory (host-memory.ts) or that of a GPU (device-memory.ts). */
export interface Memory {
  /** Whether results lie in main memory, where JavaScript can work on them. */
  readonly isHost: boolean;
  /** Where a session compiled for the cut is to leave each result; undefined: where the run says. */
  places(cut: Cut): OutputPlace[] | undefined;
  /**
   * Runs a session on the data of a cut's feeds; its fetches have data afterwards. What is fed and fetched changes in its place, where
   * results lie in main memory.
   */
  run(session: Session, cut: Cut): void;
  /** The data of a value that has any, in main memory. May be the value's own: not to be changed or kept. */
  read(value: Value): HostArray;
  /** The same in an array of the caller's own. */
  readCopy(value: Value): HostArray;
  /** Gives a value that has no data a copy of the given data. */
  fill(value: Value, data: HostArray): void;
  /** Whether the value's data is ours to free or use again when nobody needs the value any more. */
  owns(value: Value): boolean;
  /** Takes the data of a value that nobody needs any more. */
  recycle(value: Value): void;
  /** Buffers that wait for their next use, and their bytes. */
  readonly idle: { buffers: number; bytes: number };
  /** Lets go of idle memory. */
  clear(): void;
}

/** The shape that a graph sees: of a matrix in blocks, that of a convolution's filter. */
function shapeInMemory({ shape, layout }: Value): readonly number[] {
  return layout === 'blocks' ? [...shape, 1, 1] : shape;
}

/** A value's data as ONNX Runtime sees it, wherever it lies. */
export function tensorOf(value: Value): Tensor {
  if (!value.isKnown) throw new Error('A computation failed before this one, and its operands are gone.');
  value.tensor ??= value.element
    ? tensorOfBits(value.element, value.data as HostArray)
    : ortTensor(value.dtype, value.data as HostArray, shapeInMemory(value));
  return value.tensor;
}

function tensorOfBits(element: BitElement, data: HostArray): Tensor {
  const [array, size] = element === 'uint8' ? ([Uint8Array, 1] as const) : ([Uint16Array, 2] as const);
  const numbers = new array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength / size);
  if (element !== 'float16') return new Tensor(element, numbers as Uint8Array, [numbers.length]);
  // As float16, where JavaScript has a Float16Array (Node 24), it would be made one, whose length Node's binding to ONNX Runtime takes for 0.
  return Object.assign(new Tensor('uint16', numbers as Uint16Array, [numbers.length]), { type: element });
}

/** Takes a value's data away from it. */
export function forget(value: Value): void {
  value.pooled = false;
  value.data = undefined;
  value.tensor = undefined;
}
