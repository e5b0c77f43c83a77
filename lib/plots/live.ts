/** Curves that grow in the cell while the model trains. */
import { inNotebook } from '../display';
import { messageOf } from '../errors';
import { LiveDisplay } from './display';
import { renderSvg, svgToPng, svgWidth } from './render';
import type { CurveRecord } from './series';
import { CURVES, type CurveName, type CurveOptions, dashboardSpec, hasCurve } from './specs';

export interface LiveOptions extends CurveOptions {
  /** Which curves; by default all that the log has values for. */
  readonly curves?: readonly CurveName[];
  /** Least time between two drawings; a slow machine waits longer, so that drawing takes at most a twentieth of the time. */
  readonly everySeconds?: number;
}

/** What the curves need to know of a run. */
interface RunLog {
  readonly log: readonly CurveRecord[];
}

/**
 * A trainer callback that draws live curves in a tslab notebook, in the cell that begins a run, and does nothing anywhere else.
 * The last drawing is a PNG, so that the saved notebook shows it everywhere. A drawing that fails ends the drawing, not the training.
 */
export class LiveTrainingPlot {
  /** Of the run at work. */
  private picture?: LiveDisplay;
  private nextDrawing = 0;

  constructor(private readonly options: LiveOptions = {}) {}

  onTrainBegin(): void {
    this.picture = inNotebook() ? new LiveDisplay() : undefined;
    this.nextDrawing = 0;
  }

  /** Redraws the curves of everything logged, when it is time to. */
  async onLog({ log }: RunLog): Promise<void> {
    const started = Date.now();
    if (started < this.nextDrawing) return;
    await this.draw(log, false);
    const now = Date.now();
    this.nextDrawing = now + Math.max(1000 * (this.options.everySeconds ?? 1), 20 * (now - started));
  }

  /** Draws everything logged. */
  async onTrainEnd({ log }: RunLog): Promise<void> {
    await this.draw(log, true);
    this.picture = undefined;
  }

  /** Leaves what was reached on the screen when the run ended with an error. */
  async onTrainError({ log }: RunLog): Promise<void> {
    await this.onTrainEnd({ log });
  }

  private async draw(log: readonly CurveRecord[], final: boolean): Promise<void> {
    const { picture } = this;
    if (!picture) return;
    const curves = (this.options.curves ?? CURVES).filter((name) => hasCurve(log, name));
    if (curves.length === 0) return;
    try {
      const svg = await renderSvg(dashboardSpec(log, curves, this.options));
      if (final) picture.show({ 'image/png': await svgToPng(svg) }, { 'image/png': { width: Math.round(svgWidth(svg) ?? 960) } });
      else picture.show({ 'image/svg+xml': svg });
    } catch (error) {
      this.picture = undefined;
      console.warn(`The curves could not be drawn (${messageOf(error)}); the run goes on without them.`);
    }
  }
}
