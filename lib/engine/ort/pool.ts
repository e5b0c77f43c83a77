/** Memory for results, used again and again: the first touch of fresh memory costs more than most operations on it. */

/** Below this size fresh memory is as cheap as looking for used one. */
const SMALLEST = 1 << 16;

/** A buffer may be so many times longer than asked for: rows of tokens vary in length, and their results with them. */
const MOST_SLACK = 2;

/**
 * Buffers that nobody uses wait here for their next use, but never more of them than fill up what was in use at once:
 * those that have waited longest go first.
 */
export class BufferPool {
  /** In order of arrival. */
  private readonly idle = new Set<ArrayBuffer>();
  /** Those that were handed out and may come back. */
  private readonly lent = new WeakSet<ArrayBuffer>();
  private lentBytes = 0;
  private mostLentBytes = 0;
  /** Bytes that wait. */
  idleBytes = 0;

  /** Buffers that wait. */
  get idleBuffers(): number {
    return this.idle.size;
  }

  /** A buffer of at least so many bytes, with anything in it. */
  take(bytes: number): ArrayBuffer {
    if (bytes < SMALLEST) return new ArrayBuffer(bytes);
    const found = this.shortest(bytes);
    if (found) this.drop(found);
    const buffer = found ?? new ArrayBuffer(bytes);
    this.lent.add(buffer);
    this.lentBytes += buffer.byteLength;
    this.mostLentBytes = Math.max(this.mostLentBytes, this.lentBytes);
    this.shrink();
    return buffer;
  }

  /** Takes a buffer back; one that is not from here is left to the garbage collector. */
  give(buffer: ArrayBuffer): void {
    if (!this.lent.delete(buffer)) return;
    this.lentBytes -= buffer.byteLength;
    this.idle.add(buffer);
    this.idleBytes += buffer.byteLength;
  }

  /** Lets go of everything that waits, and of the memory of what was once in use. */
  clear(): void {
    this.idle.clear();
    this.idleBytes = 0;
    this.mostLentBytes = this.lentBytes;
  }

  /** The shortest idle buffer that is long enough. */
  private shortest(bytes: number): ArrayBuffer | undefined {
    let best: ArrayBuffer | undefined;
    for (const buffer of this.idle) {
      const { byteLength } = buffer;
      if (byteLength < bytes || byteLength > MOST_SLACK * bytes) continue;
      if (!best || byteLength < best.byteLength) best = buffer;
      if (byteLength === bytes) break;
    }
    return best;
  }

  private shrink(): void {
    for (const buffer of this.idle) {
      if (this.lentBytes + this.idleBytes <= this.mostLentBytes) return;
      this.drop(buffer);
    }
  }

  private drop(buffer: ArrayBuffer): void {
    this.idle.delete(buffer);
    this.idleBytes -= buffer.byteLength;
  }
}
