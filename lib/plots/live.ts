/** Curves that grow in the cell while the model trains. */
import { checkOptions, type OptionNames } from '../arguments';
import { inNotebook } from '../display';
import { messageOf } from '../errors';
import { CURVES, type CurveName, type CurveOptions, hasCurve, hasLine } from './curves';
import { LiveDisplay } from './display';
import { CURVE_OPTIONS, checkValues } from './options';
import { renderSvg, svgToPng, svgWidth } from './render';
import type { CurveRecord } from './series';
import { curveSpec, dashboardSpec } from './specs';

/** No drawing waits longer than this for the one before it, however slow they are. */
const LONGEST_WAIT_MS = 5000;

/** Options of live curves. */
export interface LiveOptions extends CurveOptions {
  /** Which curves; by default all that the log has values for. */
  readonly curves?: readonly CurveName[];
  /**
   * Least time between two drawings; default 1. While a drawing takes less than a quarter of a second, it is twenty times as long as
   * that took, so that drawing takes at most a twentieth of the time; slower ones come every five seconds.
   */
  readonly everySeconds?: number;
}

const OPTIONS: OptionNames<LiveOptions> = { ...CURVE_OPTIONS, curves: true, everySeconds: true };

/** What the curves need to know of a run. */
interface RunLog {
  readonly log: readonly CurveRecord[];
}

/**
 * A trainer callback that draws live curves in a tslab notebook, in the cell that begins a run, and does nothing anywhere else.
 * Drawings are PNGs: the last one stays in the saved notebook, which shows it everywhere, and those before it look the same.
 * A drawing that fails ends the drawing, not the training.
 */
export class LiveTrainingPlot {
  /** Of the run at work. */
  private picture?: LiveDisplay;
  private nextDrawing = 0;

  /** @throws UserError when there is no such option or curve, or nothing can be drawn in that size */
  constructor(private readonly options: LiveOptions = {}) {
    checkOptions('LiveTrainingPlot', options, OPTIONS);
    checkValues(options);
  }

  /** Loads what draws, which takes seconds: what the first drawing took decides when the next one comes. */
  async onTrainBegin(): Promise<void> {
    this.picture = inNotebook() ? new LiveDisplay() : undefined;
    this.nextDrawing = 0;
    if (this.picture) await warmUp();
  }

  /** Redraws the curves of everything logged, when it is time to and there is more than a point to see. */
  async onLog({ log }: RunLog): Promise<void> {
    const started = Date.now();
    if (!this.picture || started < this.nextDrawing || !this.curves.some((name) => hasLine(log, name))) return;
    await this.draw(log, false);
    const now = Date.now();
    this.nextDrawing = now + Math.max(1000 * (this.options.everySeconds ?? 1), Math.min(LONGEST_WAIT_MS, 20 * (now - started)));
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

  private get curves(): readonly CurveName[] {
    return this.options.curves ?? CURVES;
  }

  private async draw(log: readonly CurveRecord[], final: boolean): Promise<void> {
    const { picture } = this;
    if (!picture) return;
    const curves = this.curves.filter((name) => hasCurve(log, name));
    if (curves.length === 0) return;
    try {
      const svg = await renderSvg(dashboardSpec(log, curves, this.options));
      picture.show({ 'image/png': await svgToPng(svg, { quick: !final }) }, { 'image/png': { width: Math.round(svgWidth(svg) ?? 960) } });
    } catch (error) {
      this.picture = undefined;
      console.warn(`The curves could not be drawn (${messageOf(error)}); the run goes on without them.`);
    }
  }
}

/** Draws something that nobody sees. What fails here fails in the first drawing, too, which says so. */
async function warmUp(): Promise<void> {
  const log = [
    { step: 0, loss: 1 },
    { step: 1, loss: 0 },
  ];
  await renderSvg(curveSpec(log, 'loss'))
    .then((svg) => svgToPng(svg, { quick: true }))
    .catch(() => {});
}
