/** Memory for results, used again and again: the first touch of fresh memory costs more than most operations on it. */

/** Below this size fresh memory is as cheap as looking for used one. */
const SMALLEST = 1 << 16;

/** Idle memory beyond this goes back to the system: sizes that come once would otherwise pile up. */
const MOST_IDLE = 4e9;

export class BufferPool {
  private readonly free = new Map<number, ArrayBuffer[]>();
  /** Bytes that wait here for their next use. */
  idleBytes = 0;

  take(bytes: number): ArrayBuffer {
    const found = this.free.get(bytes)?.pop();
    if (!found) return new ArrayBuffer(bytes);
    this.idleBytes -= bytes;
    return found;
  }

  give(buffer: ArrayBuffer): void {
    const bytes = buffer.byteLength;
    if (bytes < SMALLEST || this.idleBytes + bytes > MOST_IDLE) return;
    const list = this.free.get(bytes);
    if (list) list.push(buffer);
    else this.free.set(bytes, [buffer]);
    this.idleBytes += bytes;
  }

  /** Lets go of everything that waits. */
  clear(): void {
    this.free.clear();
    this.idleBytes = 0;
  }
}
