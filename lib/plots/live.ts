/** Curves and a progress line that grow in the cell while the model trains. */
import { inNotebook, LiveDisplay } from './display';
import { renderSvg, svgToPng, svgWidth } from './render';
import type { CurveRecord } from './series';
import { type CurveName, type CurveOptions, dashboardSpec, hasCurve } from './specs';

/** What the progress line says; the trainer's state has all of it. */
export interface Progress {
  readonly step: number;
  readonly maxSteps: number;
  readonly epoch: number;
  readonly tokensPerSecond: number;
  /** Undefined while nothing is known about the pace. */
  readonly secondsLeft: number | undefined;
}

export interface LiveOptions extends CurveOptions {
  readonly curves?: readonly CurveName[];
  /** Least time between two drawings of the curves; a slow machine waits longer (drawing takes at most a twentieth of the time). */
  readonly everySeconds?: number;
}

/**
 * A trainer callback that shows progress and live curves in a tslab notebook, and does nothing anywhere else.
 * The last drawing is a PNG, so that the saved notebook shows it everywhere.
 */
export class LiveTrainingPlot {
  private readonly progress = new LiveDisplay();
  private readonly picture = new LiveDisplay();
  private readonly records: CurveRecord[] = [];
  private readonly active = inNotebook();
  private began = Date.now();
  private nextLine = 0;
  private nextDrawing = 0;

  constructor(private readonly options: LiveOptions = {}) {}

  onTrainBegin(): void {
    this.began = Date.now();
  }

  /** Updates the progress line. */
  onStepEnd(state: Progress): void {
    if (!this.active || Date.now() < this.nextLine) return;
    this.nextLine = Date.now() + 250;
    this.showProgress(progressLine(state, this.records), state.step / state.maxSteps);
  }

  /** Takes a record, and redraws the curves where it is time to. */
  async onLog(_state: unknown, record: CurveRecord): Promise<void> {
    if (!this.active) return;
    // a copy: the trainer may go on writing into its own record
    this.records.push({ ...record });
    if (Date.now() < this.nextDrawing) return;
    const started = Date.now();
    await this.draw(false);
    const now = Date.now();
    this.nextDrawing = now + Math.max(1000 * (this.options.everySeconds ?? 1), 20 * (now - started));
  }

  /** Draws the final state. */
  async onTrainEnd(state: Progress): Promise<void> {
    if (!this.active) return;
    const seconds = (Date.now() - this.began) / 1000;
    this.showProgress(
      `${state.step} steps · ${round(state.epoch)} epochs · ${duration(seconds)} · ${thousands(state.tokensPerSecond)} tokens/s`,
      1,
    );
    await this.draw(true);
  }

  /** Leaves what was reached on the screen when the run ended with an error. */
  async onTrainError(): Promise<void> {
    if (this.active) await this.draw(true);
  }

  private showProgress(line: string, share: number): void {
    const filled = Math.round(24 * Math.min(1, share));
    const bar = '█'.repeat(filled) + '░'.repeat(24 - filled);
    this.progress.show({ 'text/html': `<code>${bar}</code> ${line}`, 'text/plain': `${bar} ${line}` });
  }

  private async draw(final: boolean): Promise<void> {
    const wanted = this.options.curves ?? ['loss', 'accuracy', 'gradNorm', 'learningRate'];
    const curves = wanted.filter((name) => hasCurve(this.records, name));
    if (curves.length === 0) return;
    const svg = await renderSvg(dashboardSpec(this.records, curves, this.options));
    if (final) this.picture.show({ 'image/png': await svgToPng(svg) }, { 'image/png': { width: Math.round(svgWidth(svg) ?? 900) } });
    else this.picture.show({ 'image/svg+xml': svg });
  }
}

/** One line about a run: `step 120/300 · epoch 1.2 · loss 0.532 · accuracy 71.0% · 5,210 tokens/s · 0:41 left`. */
export function progressLine(state: Progress, records: readonly CurveRecord[] = []): string {
  const parts = [`step ${state.step}/${state.maxSteps}`, `epoch ${round(state.epoch)}`];
  const last = records.findLast((record) => record.loss !== undefined);
  if (last?.loss !== undefined) parts.push(`loss ${last.loss.toPrecision(3)}`);
  if (last?.mean_token_accuracy !== undefined) parts.push(`accuracy ${(100 * last.mean_token_accuracy).toFixed(1)}%`);
  if (state.tokensPerSecond > 0) parts.push(`${thousands(state.tokensPerSecond)} tokens/s`);
  if (state.secondsLeft !== undefined) parts.push(`${duration(state.secondsLeft)} left`);
  return parts.join(' · ');
}

function round(epoch: number): string {
  return String(Number(epoch.toFixed(2)));
}

function thousands(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** Seconds as `m:ss`, or `h:mm:ss`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (value: number) => String(value).padStart(2, '0');
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
