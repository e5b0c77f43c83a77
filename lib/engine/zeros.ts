/**
 * Zeros for what a run keeps, made ready on a thread of its own.
 *
 * The first write to each page of fresh memory waits for the operating system to find it: less than a microsecond, but ten where a virtual
 * machine's host lends memory page by page. Sums of gradients and AdamW's moments are three times the size of what is trained. Another
 * thread touches their pages while graphs are compiled, and rests while one runs.
 */
import { availableParallelism } from 'node:os';
import * as path from 'node:path';
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';

/** Less than this is not worth a thread. */
const LEAST_BYTES = 256e6;

/** How long the thread may take for one array, in milliseconds, before it is given up. */
const PATIENCE = 60_000;

/** Who makes an array. */
export const CLAIM = { nobody: 0, caller: 1, thread: 2, ready: 3 } as const;

/** What the thread is given. */
export interface ZerosJob {
  /** Numbers in each array. */
  sizes: readonly number[];
  /** For each array one of CLAIM, in shared memory. */
  claims: Int32Array;
  /** In shared memory: 1 while the thread shall rest. */
  resting: Int32Array;
  port: MessagePort;
}

/** What it answers for each array that it has made. */
export interface ZerosAnswer {
  index: number;
  data: Float32Array;
}

const shared = (length: number): Int32Array => new Int32Array(new SharedArrayBuffer(4 * length));

/** Arrays that a thread makes ready. The owner calls `dispose`. */
class PreparedZeros {
  private readonly claims: Int32Array;
  readonly resting = shared(1);
  private readonly port: MessagePort;
  private readonly thread: Worker;
  private readonly ready = new Map<number, Float32Array>();
  /** Arrays that nobody took yet, by size. */
  private readonly left = new Map<number, number[]>();

  constructor(sizes: readonly number[]) {
    this.claims = shared(sizes.length);
    for (const [index, size] of sizes.entries()) this.left.set(size, [...(this.left.get(size) ?? []), index]);
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    const job: ZerosJob = { sizes, claims: this.claims, resting: this.resting, port: port2 };
    this.thread = new Worker(path.join(__dirname, 'zeros-thread.js'), { workerData: job, transferList: [port2] });
    this.thread.unref();
    // Without the thread everything is made here.
    this.thread.on('error', () => this.dispose());
  }

  /** Whether all have been taken. */
  get isSpent(): boolean {
    return [...this.left.values()].every((indices) => indices.length === 0);
  }

  /** One that is ready; undefined if the caller has to make it. */
  take(size: number): Float32Array | undefined {
    const indices = this.left.get(size) ?? [];
    const state = (index: number): number => Atomics.load(this.claims, index);
    const own = (index: number): boolean => Atomics.compareExchange(this.claims, index, CLAIM.nobody, CLAIM.caller) === CLAIM.nobody;
    const index = indices.find((i) => state(i) === CLAIM.ready) ?? indices.find(own) ?? indices[0];
    if (index === undefined) return undefined;
    indices.splice(indices.indexOf(index), 1);
    if (state(index) === CLAIM.caller) return undefined;
    Atomics.wait(this.claims, index, CLAIM.thread, PATIENCE);
    this.receive();
    const data = this.ready.get(index);
    this.ready.delete(index);
    return data;
  }

  private receive(): void {
    for (let message = receiveMessageOnPort(this.port); message; message = receiveMessageOnPort(this.port)) {
      const { index, data } = message.message as ZerosAnswer;
      this.ready.set(index, data);
    }
  }

  dispose(): void {
    this.left.clear();
    this.ready.clear();
    this.port.close();
    void this.thread.terminate();
  }
}

let prepared: PreparedZeros | undefined;

/**
 * Begins to make arrays of zeros ready that `zeros` will be asked for soon, instead of those of an earlier call.
 * @param sizes numbers in each, in about the order in which they will be asked for
 * @param leastBytes if all of them together are smaller, nothing is made ready
 * @returns lets go of what was not taken
 */
export function prepareZeros(sizes: readonly number[], leastBytes = LEAST_BYTES): () => void {
  if (prepared) forget(prepared);
  const bytes = sizes.reduce((sum, size) => sum + 4 * size, 0);
  const own = bytes >= leastBytes && availableParallelism() > 1 ? new PreparedZeros(sizes) : undefined;
  prepared = own;
  return () => own && forget(own);
}

function forget(zeros: PreparedZeros): void {
  zeros.dispose();
  if (prepared === zeros) prepared = undefined;
}

/** A new array of zeros whose memory is there. */
export function zeros(size: number): Float32Array {
  const ready = prepared?.take(size);
  if (prepared?.isSpent) forget(prepared);
  // Written once more: fresh memory that is read before it is written costs two page faults for each of its pages.
  return ready ?? new Float32Array(size).fill(0);
}

/** Computes while the other thread rests. */
export function undisturbed<T>(compute: () => T): T {
  const resting = prepared?.resting;
  if (!resting) return compute();
  Atomics.store(resting, 0, 1);
  try {
    return compute();
  } finally {
    Atomics.store(resting, 0, 0);
    Atomics.notify(resting, 0);
  }
}
