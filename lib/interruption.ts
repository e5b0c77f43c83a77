/**
 * The stop button of a notebook. The kernel then ends the cell that waits, but not what the cell has begun: long work looks now and
 * then whether it was interrupted, and ends itself. Outside of notebooks a signal ends the process, or what it does is up to the
 * command (cli/signals.ts).
 */
import { inNotebook } from './display';
import { UserError } from './errors';

/** Thrown by work that was interrupted. */
export class Interrupted extends UserError {
  constructor() {
    super('Interrupted.');
    this.name = 'Interrupted';
  }
}

/** What the work gives; undefined if it was interrupted. */
export async function unlessInterrupted<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Interrupted) return undefined;
    throw error;
  }
}

let presses = 0;
let listens = false;

/** Watches over one piece of long work, from when it is made. */
export class Interruption {
  private readonly before = presses;
  private requested = false;

  constructor() {
    if (listens || !inNotebook()) return;
    listens = true;
    // Not at once: a listener that is added in the synchronous part of a cell, which runs in a `vm` with `breakOnSigint`, would never be
    // called, and the signal would end the kernel.
    queueMicrotask(() => process.on('SIGINT', () => presses++));
  }

  /** Interrupts this work alone. */
  request(): void {
    this.requested = true;
  }

  /** Whether the notebook's stop button was pressed. */
  get wasPressed(): boolean {
    return presses > this.before;
  }

  /** Whether the work shall end. */
  get came(): boolean {
    return this.requested || this.wasPressed;
  }

  /** @throws Interrupted if the work shall end */
  check(): void {
    if (this.came) throw new Interrupted();
  }

  /**
   * Lets timers, signals and output on its way have their turn.
   * @throws Interrupted if the work shall end
   */
  async breathe(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.check();
  }
}
