/** Curves that grow in the cell while the model trains. */
import { inNotebook } from '../display';
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

/**
 * A trainer callback that draws live curves in a tslab notebook, and does nothing anywhere else.
 * The last drawing is a PNG, so that the saved notebook shows it everywhere.
 */
export class LiveTrainingPlot {
  private readonly picture = new LiveDisplay();
  private readonly records: CurveRecord[] = [];
  private nextDrawing = 0;

  constructor(private readonly options: LiveOptions = {}) {}

  /** Takes a record, and redraws the curves when it is time to. */
  async onLog(_state: unknown, record: CurveRecord): Promise<void> {
    if (!inNotebook()) return;
    // a copy: the trainer may go on writing into its own record
    this.records.push({ ...record });
    const started = Date.now();
    if (started < this.nextDrawing) return;
    await this.draw(false);
    const now = Date.now();
    this.nextDrawing = now + Math.max(1000 * (this.options.everySeconds ?? 1), 20 * (now - started));
  }

  /** Draws everything logged. */
  async onTrainEnd(): Promise<void> {
    await this.draw(true);
  }

  /** Leaves what was reached on the screen when the run ended with an error. */
  async onTrainError(): Promise<void> {
    await this.draw(true);
  }

  private async draw(final: boolean): Promise<void> {
    const curves = (this.options.curves ?? CURVES).filter((name) => hasCurve(this.records, name));
    if (curves.length === 0) return;
    const svg = await renderSvg(dashboardSpec(this.records, curves, this.options));
    if (final) this.picture.show({ 'image/png': await svgToPng(svg) }, { 'image/png': { width: Math.round(svgWidth(svg) ?? 960) } });
    else this.picture.show({ 'image/svg+xml': svg });
  }
}
