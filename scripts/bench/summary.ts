/** From the records of a run to the figures of the tables. */
import type { StepRecord, TrainResult } from './jobs';
import { ratio } from './targets';

/** Relative difference up to which two float32 losses count as equal. */
export const LOSS_TOLERANCE = 1e-4;

const total = (steps: readonly StepRecord[], pick: (step: StepRecord) => number): number =>
  steps.reduce((sum, step) => sum + pick(step), 0);

/** Tokens of the examples a second over all steps, compilation counted. */
export function tokensPerSecond({ steps }: TrainResult): number {
  return tokensOf(steps) / secondsOf(steps);
}

/** Tokens of the examples of all steps together. */
export function tokensOf(steps: readonly StepRecord[]): number {
  return total(steps, ({ tokens }) => tokens);
}

/** Seconds of all steps together. */
export function secondsOf(steps: readonly StepRecord[]): number {
  return total(steps, ({ seconds }) => seconds);
}

/** Means over the steps after the first, in which nothing is compiled or warmed up any more. */
export interface SteadyStep {
  seconds: number;
  /** Operations that the step needs, in 10⁹ a second; absent for peers. */
  gflops?: number;
  /** What the product beside the steps would have reached in the same time, likewise. */
  besideGflops?: number;
  /** Share of the time outside of ONNX Runtime's runs and compilations: recording, the optimizer, and all other JavaScript. */
  javascript?: number;
}

/** A step's speed as a share of that of the product beside it; undefined where one of both was not measured. */
export function shareOfProduct({ seconds, flops, besideGflops }: StepRecord): number | undefined {
  return ratio(flops && flops / seconds / 1e9, besideGflops);
}

/** Undefined when there was one step only. */
export function steadyStep({ steps }: TrainResult): SteadyStep | undefined {
  const steady = steps.slice(1);
  if (steady.length === 0) return undefined;
  const seconds = secondsOf(steady);
  const hasFlops = steady.every(({ flops }) => flops !== undefined);
  const wasBeside = steady.every(({ besideGflops }) => besideGflops !== undefined);
  const hasCounters = steady.every(({ runSeconds }) => runSeconds !== undefined);
  const inside = total(steady, ({ runSeconds = 0, compileSeconds = 0 }) => runSeconds + compileSeconds);
  return {
    seconds: seconds / steady.length,
    gflops: hasFlops ? total(steady, ({ flops = 0 }) => flops) / seconds / 1e9 : undefined,
    besideGflops: wasBeside ? total(steady, (step) => step.seconds * (step.besideGflops ?? 0)) / seconds : undefined,
    javascript: hasCounters ? (seconds - inside) / seconds : undefined,
  };
}

/** Relative difference of two numbers. */
export function relativeDifference(a: number, b: number): number {
  return a === b ? 0 : Math.abs(a - b) / Math.max(Math.abs(a), Math.abs(b));
}

/** What is different in two runs that should be the same; steps that only one of them has are left out. */
export function disagreements(a: TrainResult, b: TrainResult): string[] {
  const found: string[] = [];
  for (const [i, step] of a.steps.entries()) {
    const other = b.steps[i];
    if (other === undefined) break;
    const difference = relativeDifference(step.loss, other.loss);
    if (step.tokens !== other.tokens) found.push(`step ${i + 1} has ${step.tokens} tokens in one and ${other.tokens} in the other`);
    // a loss that is no number agrees with nothing
    if (!(difference <= LOSS_TOLERANCE))
      found.push(`the losses of step ${i + 1} are ${step.loss} and ${other.loss} (relative difference ${difference.toExponential(1)})`);
  }
  return found;
}

/** The middle of a list of odd length. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[(values.length - 1) / 2];
}
