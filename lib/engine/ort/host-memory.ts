/** Main memory: results are written into buffers that are used again and again. */
import type { Tensor } from 'onnxruntime-common';
import { forget, type Memory, tensorOf } from './memory';
import { tensorsOfPieces } from './pieces';
import { BufferPool } from './pool';
import type { Cut } from './program';
import { ortTensor, type Session } from './session';
import { arrayOver, bytesPerElement, type HostArray, type Node, sameShape, type Value } from './value';

export class HostMemory implements Memory {
  readonly isHost = true;
  private readonly pool = new BufferPool();

  places(): undefined {
    return undefined;
  }

  run(session: Session, cut: Cut): void {
    const feeds = feedsOf(cut, session);
    const donors = cut.keepsFeeds ? new Map<Value, Value>() : donorsOf(cut);
    const results = cut.fetches.map((value) => (value.isKnown ? tensorOf(value) : this.tensorFor(value, donors.get(value))));
    // Their memory belongs to the results from here on, also when the run fails half-way.
    for (const donor of donors.values()) forget(donor);
    try {
      session.run(feeds, fetchesOf(results, session));
    } catch (error) {
      for (const [index, value] of cut.fetches.entries()) {
        if (!value.isKnown) this.pool.give((results[index].data as HostArray).buffer as ArrayBuffer);
      }
      throw error;
    }
    for (const [index, value] of cut.fetches.entries()) {
      if (value.isKnown) value.change();
      else hold(value, results[index]);
    }
  }

  /** A tensor for a result, in the memory of one that is free or in the pool's. */
  private tensorFor({ size, dtype, shape }: Value, donor: Value | undefined): Tensor {
    const buffer = donor?.data?.buffer ?? this.pool.take(size * bytesPerElement(dtype));
    return ortTensor(dtype, arrayOver(buffer as ArrayBuffer, dtype, size), shape);
  }

  read(value: Value): HostArray {
    return value.data as HostArray;
  }

  readCopy(value: Value): HostArray {
    return this.read(value).slice();
  }

  fill(value: Value, data: HostArray): void {
    value.data = arrayOver(this.pool.take(data.byteLength), value.dtype, value.size);
    value.data.set(data);
    value.pooled = true;
  }

  owns(value: Value): boolean {
    return value.pooled && value.data !== undefined;
  }

  recycle(value: Value): void {
    if (this.owns(value) && value.handles === 0) this.pool.give(value.data?.buffer as ArrayBuffer);
    forget(value);
  }

  get idle(): { buffers: number; bytes: number } {
    return { buffers: this.pool.idleBuffers, bytes: this.pool.idleBytes };
  }

  clear(): void {
    this.pool.clear();
  }
}

/** Names of a graph's inputs and outputs (program.ts), made once. */
const inputName = namesOf('i');
const outputName = namesOf('o');

function namesOf(letter: string): (index: number) => string {
  const names: string[] = [];
  return (index) => (names[index] ??= `${letter}${index}`);
}

/** The results by name; what the session writes in pieces, as these. */
function fetchesOf(results: readonly Tensor[], { inPieces }: Session): Record<string, Tensor> {
  const fetches: Record<string, Tensor> = {};
  for (const [index, tensor] of results.entries()) {
    const name = outputName(index);
    if (inPieces.has(name)) Object.assign(fetches, tensorsOfPieces(name, tensor));
    else fetches[name] = tensor;
  }
  return fetches;
}

/** The operands by name; what the session reads in pieces, so too. */
function feedsOf({ feeds }: Cut, { inPieces }: Session): Record<string, Tensor> {
  const bound: Record<string, Tensor> = {};
  for (const [index, value] of feeds.entries()) {
    const name = inputName(index);
    bound[name] = tensorOf(value);
    if (inPieces.has(name)) Object.assign(bound, tensorsOfPieces(name, bound[name]));
  }
  return bound;
}

function hold(value: Value, tensor: Tensor): void {
  value.data = tensor.data as HostArray;
  value.tensor = tensor;
  value.pooled = true;
}

/** Whether nobody holds a value any more, and its memory is ours. */
const isFree = ({ handles, pooled }: Value): boolean => handles === 0 && pooled;

/**
 * Results that may take over the memory of a feed, each with that feed: only one node reads it, and the result comes out of that
 * node, which can work in place.
 * @param mayGive whether a feed's memory is to be had at all
 */
export function donorsOf(cut: Cut, mayGive: (feed: Value) => boolean = isFree): Map<Value, Value> {
  const readers = new Map<Value, Node[]>();
  for (const node of cut.nodes)
    for (const input of node.inputs) if (input) (readers.get(input) ?? readers.set(input, []).get(input))?.push(node);
  const wanted = new Set(cut.fetches);
  const donors = new Map<Value, Value>();
  for (const feed of cut.feeds) {
    const nodes = readers.get(feed) ?? [];
    if (!mayGive(feed) || nodes.length !== 1) continue;
    const input = nodes[0].inputs.indexOf(feed);
    const pair = nodes[0].kernel.inPlace?.find(([from]) => from === input);
    const result = pair && nodes[0].outputs[pair[1]];
    if (result && wanted.has(result) && result.dtype === feed.dtype && sameShape(result.shape, feed.shape) && !donors.has(result)) {
      donors.set(result, feed);
    }
  }
  return donors;
}
