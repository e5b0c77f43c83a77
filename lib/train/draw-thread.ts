/** The thread of drawer.ts: draws what it is asked for, one job after the other. */
import { type MessagePort, parentPort } from 'node:worker_threads';
import { type DrawJob, drawing } from './drawing';

const port = parentPort as MessagePort;

port.on('message', (job: DrawJob) => {
  const work = drawing(job);
  let step = work.next();
  while (!step.done) step = work.next();
  const arrays = step.value.rows.flatMap(({ kept, noise }) => [...kept, noise]).filter((array) => array !== undefined);
  port.postMessage(
    step.value,
    arrays.map(({ buffer }) => buffer as ArrayBuffer),
  );
});
