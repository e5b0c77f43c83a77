/** Draws on a thread of its own: a step's random numbers are ready by the time that the step before it is computed. */
import { availableParallelism } from 'node:os';
import * as path from 'node:path';
import { Worker } from 'node:worker_threads';
import { type DrawJob, type Drawn, drawing } from './drawing';

/** The owner calls `dispose`. */
export class Drawer {
  /**
   * Whether it draws beside other work. Where two processors compute, a third thread makes both wait, for longer than drawing takes; there, and when
   * the thread has ended, everything is drawn here.
   */
  hasThread = availableParallelism() > 2;
  private thread?: Worker;
  /** The thread's answers come in the order of the questions. */
  private lastAnswer: Promise<unknown> = Promise.resolve();

  /**
   * @param breathe called now and then while it is drawn here
   * @throws what `breathe` throws
   */
  async draw(job: DrawJob, breathe: () => Promise<void>): Promise<Drawn> {
    const isLittle = !job.noise && job.draws.every((draw) => 'words' in draw);
    const answer = isLittle ? undefined : await this.askThread(job);
    if (answer) return answer;
    const work = drawing(job);
    for (;;) {
      const { done, value } = work.next();
      if (done) return value;
      await breathe();
    }
  }

  dispose(): void {
    void this.thread?.terminate();
  }

  /** @returns undefined where there is no thread, or none any more */
  private askThread(job: DrawJob): Promise<Drawn | undefined> {
    const answer = this.lastAnswer.then(() => {
      if (this.hasThread) this.thread ??= this.startThread();
      return this.thread && answerOf(this.thread, job);
    });
    this.lastAnswer = answer;
    return answer;
  }

  private startThread(): Worker {
    const thread = new Worker(path.join(__dirname, 'draw-thread.js'));
    // that it ends is all that matters
    thread.on('error', () => {});
    thread.on('exit', () => {
      this.hasThread = false;
      this.thread = undefined;
    });
    return thread;
  }
}

/** @returns undefined when the thread ends instead */
function answerOf(thread: Worker, job: DrawJob): Promise<Drawn | undefined> {
  return new Promise((resolve) => {
    const settle = (drawn?: Drawn): void => {
      thread.off('message', settle).off('exit', onExit);
      // nobody waits for it now, and it shall not keep the process
      thread.unref();
      resolve(drawn);
    };
    const onExit = (): void => settle();
    thread.on('message', settle).on('exit', onExit);
    thread.ref();
    thread.postMessage(job);
  });
}
