/** Models that are being trained: meanwhile nobody else trains them, and nobody but a callback saves them. */
import { UserError } from '../errors';
import type { CausalLM } from '../model';
import type { TrainerCallback } from './callbacks';

const inTraining = new WeakSet<CausalLM>();

/** A call of one of a callback's functions. */
export type Telling = (callback: TrainerCallback) => void | Promise<void> | undefined;

/** Tells callbacks one after the other. @param training the run that they are told of, if there is one */
export async function tell(callbacks: readonly TrainerCallback[], call: Telling, training?: Training): Promise<void> {
  const end = training?.beginTelling();
  try {
    for (const callback of callbacks) await call(callback);
  } finally {
    end?.();
  }
}

/** One run's claim to a model. */
export class Training {
  private telling = 0;

  /** @throws UserError when the model is being trained already */
  constructor(private readonly model: CausalLM) {
    if (inTraining.has(model))
      throw new UserError('The model is being trained already; await the train() of its trainer first, or stop it (trainer.stop()).');
    inTraining.add(model);
  }

  /** Until the returned function is called, callbacks are told something. */
  beginTelling(): () => void {
    this.telling++;
    return () => {
      this.telling--;
    };
  }

  /** @throws UserError when it is no callback that wants to save the model */
  checkSaving(): void {
    if (this.telling > 0) return;
    throw new UserError('The model is still being trained; await trainer.train() before it is saved, or save it in a callback.');
  }

  end(): void {
    inTraining.delete(this.model);
  }
}
