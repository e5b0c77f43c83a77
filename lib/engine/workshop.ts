/**
 * Where arrays in main memory are changed in one go, four numbers at a time.
 *
 * WebAssembly computes only in memory of its own. So the arrays visit it in pieces that fit the processor's cache together: what takes the
 * time is reading and writing main memory.
 */
import { openWasm } from '../wasm';

/** Elements of the longest piece; a multiple of four. */
export const PIECE = 1 << 14;

/**
 * Where the first piece begins in WebAssembly's memory, in bytes: half a page behind the start of one. Large arrays begin right behind the
 * start of a page, and some processors (AMD's Zen 3) copy to a place that is a few bytes further in its page than the source is in
 * its own at a twelfth of the speed.
 */
const FIRST_PLACE = 2048;

/** A WebAssembly module and places for pieces in its memory. */
export interface Workshop<Functions> {
  functions: Functions;
  /** As many as were asked for, each for a piece; a function is told where they begin by `byteOffset`. */
  places: readonly Float32Array[];
}

/**
 * @param base64 a module that exports `Functions`
 * @param count places that it needs
 */
export function openWorkshop<Functions>(base64: string, count: number): Workshop<Functions> {
  const { functions, memory } = openWasm<Functions>(base64, FIRST_PLACE + 4 * PIECE * count);
  const places = Array.from({ length: count }, (_, index) => new Float32Array(memory, FIRST_PLACE + 4 * PIECE * index, PIECE));
  return { functions, places };
}

/**
 * Lets pieces of arrays of one length visit the first places, and brings back all but the gradients, which are used up: zero afterwards.
 * @param arrays weights, gradients, and what else there is
 * @param work is told the bytes to go over, a multiple of 16
 */
export function visit(places: readonly Float32Array[], arrays: readonly Float32Array[], work: (bytes: number) => void): void {
  const [{ length }] = arrays;
  for (let start = 0; start < length; start += PIECE) {
    const count = Math.min(PIECE, length - start);
    const pieces = arrays.map((array) => array.subarray(start, start + count));
    for (const [index, piece] of pieces.entries()) places[index].set(piece);
    work(16 * Math.ceil(count / 4));
    for (const [index, piece] of pieces.entries()) if (index !== 1) piece.set(places[index].subarray(0, count));
    // Here, while the cache has them: a pass of its own would read them again.
    pieces[1].fill(0);
  }
}
