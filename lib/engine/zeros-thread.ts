/** The thread of zeros.ts: makes arrays that nobody has claimed, and touches each of their pages. */
import { workerData } from 'node:worker_threads';
import { CLAIM, type ZerosAnswer, type ZerosJob } from './zeros';

/** No larger than any machine's pages. */
const PAGE = 4096;
/** Pages touched between two looks at whether to rest. */
const PAGES_AT_ONCE = 64;

const { sizes, claims, resting, port } = workerData as ZerosJob;

// Listening keeps this end open, and so what lies at the other, until that is closed.
port.on('message', () => {});

function touch(data: Float32Array): void {
  const bytes = new Uint8Array(data.buffer);
  for (let place = 0; place < bytes.length; place += PAGE) {
    if (place % (PAGE * PAGES_AT_ONCE) === 0) Atomics.wait(resting, 0, 1);
    bytes[place] = 0;
  }
}

for (const [index, size] of sizes.entries()) {
  if (Atomics.compareExchange(claims, index, CLAIM.nobody, CLAIM.thread) !== CLAIM.nobody) continue;
  const data = new Float32Array(size);
  touch(data);
  const answer: ZerosAnswer = { index, data };
  port.postMessage(answer, [data.buffer]);
  Atomics.store(claims, index, CLAIM.ready);
  Atomics.notify(claims, index);
}
