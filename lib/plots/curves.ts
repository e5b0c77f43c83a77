/** The curves that there are, and the options of drawing them. */
import type { CurveKey, CurveRecord } from './series';
import type { VegaLiteSpec } from './theme';

/** What can be drawn against the steps. */
export type CurveName = 'loss' | 'accuracy' | 'gradNorm' | 'learningRate';

/** The names in the order in which they are shown. */
export const CURVES: readonly CurveName[] = ['loss', 'accuracy', 'gradNorm', 'learningRate'];

export interface Curve {
  readonly title: string;
  /** Where no training was logged; absent: the same. */
  readonly titleOfEvaluations?: string;
  readonly axis: string;
  readonly train: CurveKey;
  readonly evaluation?: CurveKey;
  /** d3 format of the axis, and of the figures in the subtitle. */
  readonly format: string;
  readonly show: (value: number) => string;
  readonly zero: boolean;
  /** May stand on a logarithmic axis: by itself where it spans much, or only if asked for. */
  readonly log?: 'automatic' | 'asked';
  readonly best?: 'lowest' | 'highest';
  /** Say the highest value of the training curve instead of its first and last. */
  readonly peak?: boolean;
  /** A curve without noise is never smoothed. */
  readonly exact?: boolean;
}

/** d3 format of four digits, without zeros at the end. */
export const FIGURES = '.4~g';

export const CURVE: Readonly<Record<CurveName, Curve>> = {
  loss: {
    title: 'Training loss',
    titleOfEvaluations: 'Evaluation loss',
    axis: 'loss (nats per target token)',
    train: 'loss',
    evaluation: 'eval_loss',
    format: FIGURES,
    show: (value) => value.toPrecision(3),
    zero: false,
    log: 'automatic',
    best: 'lowest',
  },
  accuracy: {
    title: 'Mean token accuracy',
    axis: 'target tokens predicted right',
    train: 'mean_token_accuracy',
    evaluation: 'eval_mean_token_accuracy',
    format: '.2~%',
    show: (value) => `${(100 * value).toFixed(1)}%`,
    zero: false,
    best: 'highest',
  },
  gradNorm: {
    title: 'Gradient norm',
    axis: 'global norm before clipping',
    train: 'grad_norm',
    format: FIGURES,
    show: (value) => value.toPrecision(3),
    zero: true,
    log: 'asked',
  },
  learningRate: {
    title: 'Learning rate',
    axis: 'learning rate',
    train: 'learning_rate',
    format: '~e',
    show: (value) => (value === 0 ? '0' : value.toExponential(1).replace('.0e', 'e')),
    zero: true,
    exact: true,
    peak: true,
  },
};

/** How curves are drawn. */
export interface CurveOptions {
  /** Heading; by default the curve's own name. */
  readonly title?: string;
  /** Second line of the heading; by default the ends of the line (of the smoothed one where there is one), or the peak, and the best evaluation. An empty text leaves it out. */
  readonly subtitle?: string;
  /** Weight of the neighbouring points on both sides in the smoothed line, 0 (raw only) to below 1; by default by the number of points. */
  readonly smoothing?: number;
  /**
   * Loss and gradient norm on a logarithmic axis, where all their values are above 0. By default the loss is where its highest value
   * is more than 30 times its lowest, as the end of its fall would lie on the axis otherwise.
   */
  readonly logScale?: boolean;
  /** Size of the plotting area in pixels. */
  readonly width?: number;
  /** Its height. */
  readonly height?: number;
  /** Draws a line where gradients are clipped (`gradNorm` only), unless all norms are so far below it that they would lie on the axis. */
  readonly maxGradNorm?: number;
  /** Vega-Lite `config` entries that override the shared look. */
  readonly config?: VegaLiteSpec;
}

/** Whether the log has anything to draw for this curve. */
export function hasCurve(log: readonly CurveRecord[], name: CurveName): boolean {
  const { train, evaluation } = CURVE[name];
  return log.some((record) => record[train] !== undefined || (evaluation !== undefined && record[evaluation] !== undefined));
}

/** Whether the log has enough training records for a line. */
export function hasLine(log: readonly CurveRecord[], name: CurveName): boolean {
  return log.filter((record) => record[CURVE[name].train] !== undefined).length > 1;
}
