/** Vega-Lite specifications of the training curves: plain data in, plain JSON out. */
import { type CurveKey, type CurveRecord, defaultSmoothing, type Point, pointsOf, smooth, thin } from './series';
import { COLORS, THEME, type VegaLiteSpec } from './theme';

/** What can be drawn against the steps. */
export type CurveName = 'loss' | 'accuracy' | 'gradNorm' | 'learningRate';

/** The names in the order in which they are shown. */
export const CURVES: readonly CurveName[] = ['loss', 'accuracy', 'gradNorm', 'learningRate'];

interface Curve {
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
const FIGURES = '.4~g';

const CURVE: Readonly<Record<CurveName, Curve>> = {
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

const TRAINING = 'training';
const SMOOTHED = 'smoothed';
const EVALUATION = 'evaluation';

/** Whether the log has anything to draw for this curve. */
export function hasCurve(log: readonly CurveRecord[], name: CurveName): boolean {
  const { train, evaluation } = CURVE[name];
  return log.some((record) => record[train] !== undefined || (evaluation !== undefined && record[evaluation] !== undefined));
}

/** Whether the log has enough training records for a line. */
export function hasLine(log: readonly CurveRecord[], name: CurveName): boolean {
  return log.filter((record) => record[CURVE[name].train] !== undefined).length > 1;
}

/** One curve of one run: the raw line (faint where a smoothed one lies over it), evaluations as points, faults as marked steps. */
export function curveSpec(log: readonly CurveRecord[], name: CurveName, options: CurveOptions = {}): VegaLiteSpec {
  return { ...curveUnit(log, name, options), ...frame(options) };
}

/** Several curves of one run in one picture, two in a row. */
export function dashboardSpec(log: readonly CurveRecord[], names: readonly CurveName[], options: CurveOptions = {}): VegaLiteSpec {
  const units = names.map((name) => headedByLayers(curveUnit(log, name, { width: 400, height: 200, ...options, title: undefined })));
  const title = options.title ? { title: { text: options.title, fontSize: 17, offset: 16 } } : {};
  // 'flush' lines up the plotting areas; what stands around them needs the spacing
  return { ...title, columns: 2, concat: units, bounds: 'flush', spacing: { row: 116, column: 84 }, ...frame(options) };
}

/** Vega-Lite places a title by what stands around the plot, so that the titles of a row would not line up; text layers do. */
function headedByLayers(unit: VegaLiteSpec): VegaLiteSpec {
  const { title, ...rest } = unit;
  const { text, subtitle } = title as { text: string; subtitle?: string };
  const line = (words: string, y: number, look: VegaLiteSpec): VegaLiteSpec => ({
    data: { values: [{}] },
    mark: { type: 'text', text: words, align: 'left', baseline: 'alphabetic', ...look },
    encoding: { x: { value: 0 }, y: { value: y }, color: { value: look.color } },
  });
  const lines = [line(text, -48, { fontSize: 15, fontWeight: 600, color: COLORS.ink })];
  if (subtitle) lines.push(line(subtitle, -31, { fontSize: 11.5, color: COLORS.faintInk }));
  return { ...rest, layer: [...lines, ...(rest.layer as VegaLiteSpec[])] };
}

/** One curve of several runs, overlaid. Evaluations are dashed with points. */
export function comparisonSpec(
  runs: Readonly<Record<string, readonly CurveRecord[]>>,
  name: CurveName,
  options: CurveOptions = {},
): VegaLiteSpec {
  const curve = CURVE[name];
  const names = Object.keys(runs);
  const layers: VegaLiteSpec[] = [];
  const series: Array<readonly Point[]> = [];
  const styles = new Set<string>();
  for (const run of names) {
    const points = pointsOf(runs[run], curve.train);
    const evaluations = curve.evaluation ? pointsOf(runs[run], curve.evaluation) : [];
    series.push(points, evaluations);
    const smoothing = smoothingFor(curve, points, options);
    if (smoothing > 0) styles.add('faint: as logged').add('bold: smoothed');
    if (evaluations.length > 0) styles.add('dashed: evaluation');
    layers.push(...trainingLayers(points, run, smoothing), ...evaluationLayers(evaluations, run));
  }
  const scale = { domain: names, range: names.map((_, index) => COLORS.runs[index % COLORS.runs.length]) };
  const width = options.width ?? 640;
  return {
    title: heading(options.title ?? curve.title, options.subtitle ?? [...styles].join('  ·  ')),
    width,
    height: options.height ?? 300,
    layer: [...layers, ...faultLayers(series)],
    encoding: axes(curve, series.flat(), scale, options, legendOf(names, width)),
    ...frame(options),
  };
}

function curveUnit(log: readonly CurveRecord[], name: CurveName, options: CurveOptions): VegaLiteSpec {
  const curve = CURVE[name];
  const training = pointsOf(log, curve.train);
  const evaluations = curve.evaluation ? pointsOf(log, curve.evaluation) : [];
  const all = [...training, ...evaluations];
  const width = options.width ?? 640;
  const scale = { domain: [TRAINING, EVALUATION], range: [COLORS.train, COLORS.evaluation] };
  const smoothing = smoothingFor(curve, training, options);
  const key: KeyEntry[] = [];
  if (training.length > 0) key.push({ text: TRAINING, color: COLORS.train, opacity: smoothing > 0 ? FAINT : 1 });
  if (training.length > 0 && smoothing > 0) key.push({ text: SMOOTHED, color: COLORS.train, opacity: 1 });
  if (evaluations.length > 0) key.push({ text: EVALUATION, color: COLORS.evaluation, opacity: 1 });
  const clip = clipOf(curve, training, options);
  if (clip !== undefined) key.push({ text: `clipped above ${clip}`, color: COLORS.faintInk, opacity: CLIP_OPACITY, dash: CLIP_DASH });
  return {
    title: heading(options.title ?? titleOf(curve, training), options.subtitle ?? summary(curve, training, smoothing, evaluations)),
    width,
    height: options.height ?? 300,
    layer: [
      ...(key.length > 1 || training.length === 0 ? keyLayers(width, key) : []),
      ...clipLayers(clip),
      ...trainingLayers(training, TRAINING, smoothing),
      ...evaluationLayers(evaluations, EVALUATION),
      ...faultLayers([training, evaluations]),
    ],
    encoding: axes(curve, all, scale, options, null),
  };
}

function smoothingFor(curve: Curve, points: readonly Point[], options: CurveOptions): number {
  return curve.exact ? 0 : (options.smoothing ?? defaultSmoothing(points.length));
}

function frame(options: CurveOptions): VegaLiteSpec {
  return { $schema: 'https://vega.github.io/schema/vega-lite/v6.json', config: { ...THEME, ...options.config } };
}

function titleOf({ title, titleOfEvaluations = title }: Curve, training: readonly Point[]): string {
  return training.length > 0 ? title : titleOfEvaluations;
}

function heading(text: string, subtitle: string): VegaLiteSpec {
  return subtitle ? { text, subtitle } : { text };
}

/** The figures that one would look up in the curve: in the smoothed line where there is one, as the last step alone may be any noisy value. */
function summary(curve: Curve, training: readonly Point[], smoothing: number, evaluations: readonly Point[]): string {
  const parts: string[] = [];
  const line = smooth(training, smoothing);
  const first = line.find(isFinitePoint);
  const last = line.findLast(isFinitePoint);
  if (curve.peak && last) parts.push(`peak ${curve.show(training.reduce((peak, { value }) => Math.max(peak, value ?? 0), 0))}`);
  else if (first && last && first !== last)
    parts.push(`${curve.show(first.value)} → ${curve.show(last.value)}${smoothing > 0 ? ' smoothed' : ''}`);
  else if (last) parts.push(curve.show(last.value));
  const finite = evaluations.filter(isFinitePoint);
  if (curve.best && finite.length > 0) {
    const sign = curve.best === 'lowest' ? 1 : -1;
    const best = finite.reduce((a, b) => (sign * b.value < sign * a.value ? b : a));
    parts.push(`evaluation ${curve.show(best.value)}${finite.length > 1 ? ` (${curve.best}, step ${best.step})` : ''}`);
  }
  return parts.join('  ·  ');
}

function isFinitePoint(point: Point): point is { step: number; value: number } {
  return point.value !== null;
}

// ── layers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** How much of a line shows through where a smoothed one lies over it. */
const FAINT = 0.28;

function trainingLayers(points: readonly Point[], series: string, smoothing: number): VegaLiteSpec[] {
  if (points.length === 0) return [];
  const encoding = { color: { datum: series } };
  const seen = points.length <= 30 ? { point: { filled: true, size: 34 } } : {};
  const raw = { data: { values: thin(points) }, mark: { type: 'line', ...seen }, encoding };
  if (smoothing === 0) return [raw];
  const faint = { ...raw, mark: { type: 'line', strokeWidth: 1, opacity: FAINT } };
  return [faint, { data: { values: thin(smooth(points, smoothing), 300) }, mark: { type: 'line', strokeWidth: 2.2 }, encoding }];
}

function evaluationLayers(points: readonly Point[], series: string): VegaLiteSpec[] {
  if (points.length === 0) return [];
  const crowded = points.length > 40;
  const point = crowded ? {} : { point: { filled: true, size: 62, stroke: '#ffffff', strokeWidth: 1.4, opacity: 1 } };
  return [
    {
      data: { values: thin(points) },
      mark: { type: 'line', strokeWidth: crowded ? 1.8 : 1.4, strokeDash: [5, 3], ...point },
      encoding: { color: { datum: series } },
    },
  ];
}

interface KeyEntry {
  readonly text: string;
  readonly color: string;
  readonly opacity: number;
  /** Named by a piece of a dashed line in the place of a dot. */
  readonly dash?: readonly number[];
}

/**
 * Names the lines above the plot's right end. Vega-Lite's own legend would push the plots of a row out of line,
 * and draws its symbols as faint as the raw line.
 */
function keyLayers(width: number, entries: readonly KeyEntry[]): VegaLiteSpec[] {
  const places = new Map<KeyEntry, number>();
  let end = width + KEY_GAP;
  for (const entry of [...entries].reverse()) {
    end -= keyWidth(entry.text) + 14 + KEY_GAP;
    places.set(entry, end);
  }
  return entries.flatMap((entry) => {
    const { text, color, opacity, dash } = entry;
    const place = places.get(entry) ?? 0;
    const encoding = { x: { value: place }, y: { value: -12 }, color: { value: color } };
    const dot = { mark: { type: 'point', filled: true, size: 62, opacity }, encoding };
    const line = {
      mark: { type: 'rule', strokeDash: dash, opacity },
      encoding: { ...encoding, x: { value: place - 9 }, x2: { value: place + 5 } },
    };
    return [
      { data: { values: [{}] }, ...(dash ? line : dot) },
      { data: { values: [{}] }, mark: { type: 'text', text, align: 'left', dx: 9, fontSize: 11.5 }, encoding },
    ];
  });
}

/** Whole names, as many in a row as have room: runs often differ in the end of their names alone. */
function legendOf(names: readonly string[], width: number): VegaLiteSpec {
  const widest = Math.max(...names.map(keyWidth)) + LEGEND_SYMBOL;
  return { labelLimit: width - LEGEND_SYMBOL, columns: Math.max(1, Math.floor(width / widest)) };
}

/** Pixels that a name's symbol takes with the space around it. */
const LEGEND_SYMBOL = 36;

/** Pixels between two names. */
const KEY_GAP = 18;

/** Pixels of a name, by what Inter's letters take at that size. */
function keyWidth(text: string): number {
  return [...text].reduce(
    (sum, letter) => sum + (/[mw]/.test(letter) ? 10 : /[il]/.test(letter) ? 3 : /[rt. 1]/.test(letter) ? 4 : 6.8),
    0,
  );
}

/** Stretches in which the run logged something that is not a number, shaded, the first one labelled. */
function faultLayers(series: ReadonlyArray<readonly Point[]>): VegaLiteSpec[] {
  const stretches = series.flatMap(faultsOf).sort((a, b) => a.step - b.step);
  if (stretches.length === 0) return [];
  const [low, high] = stepDomain(series.flat());
  const late = stretches[0].step > low + 0.7 * (high - low);
  const color = { value: COLORS.fault };
  const label = {
    type: 'text',
    text: `not finite (step ${stretches[0].step})`,
    fontSize: 11,
    dy: 10,
    align: late ? 'right' : 'left',
    dx: late ? -6 : 6,
  };
  return [
    {
      data: { values: stretches },
      mark: { type: 'rect', opacity: 0.1 },
      encoding: { x2: { field: 'end' }, y: { value: 0 }, y2: { value: 'height' }, color },
    },
    { data: { values: stretches }, mark: { type: 'rule', strokeDash: [3, 3], opacity: 0.7 }, encoding: { y: null, color } },
    { data: { values: stretches.slice(0, 1) }, mark: label, encoding: { y: { value: 0 }, color } },
  ];
}

function faultsOf(points: readonly Point[]): Array<{ step: number; end: number }> {
  const stretches: Array<{ step: number; end: number }> = [];
  let open = false;
  for (const point of points) {
    if (point.value !== null) open = false;
    else if (open) stretches[stretches.length - 1].end = point.step;
    else {
      stretches.push({ step: point.step, end: point.step });
      open = true;
    }
  }
  return stretches;
}

/** Where the line of clipping is drawn, if anywhere. */
function clipOf(curve: Curve, points: readonly Point[], { maxGradNorm = 0 }: CurveOptions): number | undefined {
  const highest = points.reduce((high, { value }) => Math.max(high, value ?? 0), 0);
  return curve.train === 'grad_norm' && maxGradNorm > 0 && maxGradNorm <= CLIP_FAR * highest ? maxGradNorm : undefined;
}

/** Times the highest norm. */
const CLIP_FAR = 4;
const CLIP_OPACITY = 0.8;
const CLIP_DASH = [3, 3];

/** Its name stands among those of the lines: beside the line it would lie over the curve, which often ends there. */
function clipLayers(clip: number | undefined): VegaLiteSpec[] {
  if (clip === undefined) return [];
  // a field, not a datum: layers take the shared encoding's field too, and what lacks it is not drawn
  const data = { values: [{ value: clip }] };
  const color = { value: COLORS.faintInk };
  return [{ data, mark: { type: 'rule', strokeDash: CLIP_DASH, opacity: CLIP_OPACITY }, encoding: { x: null, color } }];
}

// ── axes ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function axes(
  curve: Curve,
  points: readonly Point[],
  colors: VegaLiteSpec,
  options: CurveOptions,
  legend: VegaLiteSpec | null,
): VegaLiteSpec {
  const label = curve.format === '~e' ? { labelExpr: "datum.value === 0 ? '0' : format(datum.value, '~e')" } : formatFor(curve, points);
  const log = logAxis(curve, points, options);
  return {
    x: {
      field: 'step',
      type: 'quantitative',
      title: 'step',
      scale: { domain: stepDomain(points), nice: false },
      axis: { format: ',d', tickMinStep: 1, tickCount: 8, labelFlush: false },
    },
    y: {
      field: 'value',
      type: 'quantitative',
      title: log ? `${curve.axis}, log scale` : curve.axis,
      // as many steps for the ends as for the ticks: otherwise the highest point may lie far above the last tick
      scale: log ? { type: 'log', domain: log.domain, nice: false } : { zero: curve.zero, nice: TICKS, ...valueDomain(curve, points) },
      axis: { ...label, ...(log ? { values: log.ticks } : { tickCount: TICKS }) },
    },
    color: { type: 'nominal', scale: colors, legend },
  };
}

/** In a range that is narrow beside its values ticks would look alike in the curve's own format; without one they get the digits that they need. */
function formatFor({ format }: Curve, points: readonly Point[]): VegaLiteSpec {
  const values = points.flatMap(({ value }) => value ?? []);
  const low = values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const high = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return format === FIGURES && high - low < NARROW * Math.abs(high) ? {} : { format };
}

/** Of its largest value. */
const NARROW = 0.01;

/** About so many has a linear axis. */
const TICKS = 6;

/** By how much a loss must fall for its end to lie on a linear axis. */
const LOG_FROM = 30;

/** The ends of a logarithmic axis and its ticks. */
interface LogAxis {
  readonly domain: readonly [number, number];
  readonly ticks: readonly number[];
}

/** A logarithmic axis, where there is to be one. */
function logAxis(curve: Curve, points: readonly Point[], options: CurveOptions): LogAxis | undefined {
  const { logScale } = options;
  if (logScale === false || !curve.log || (curve.log === 'asked' && !logScale)) return undefined;
  const values = [...points.flatMap(({ value }) => value ?? []), clipOf(curve, points, options) ?? []].flat();
  const low = values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const high = values.reduce((a, b) => Math.max(a, b), 0);
  if (!(low > 0) || !(high > low) || (!logScale && high <= LOG_FROM * low)) return undefined;
  return roundLogAxis(low, high) ?? wideLogAxis(low, high);
}

/** Ticks at 1, 2 and 5 of each power of ten, or 1 and 3, or 1 alone, from below the lowest value to above the highest; if at most seven. */
function roundLogAxis(low: number, high: number): LogAxis | undefined {
  for (const digits of [[1, 2, 5], [1, 3], [1]]) {
    const all = powersOfTen(low, high).flatMap((power) => digits.map((digit) => Number(`${digit}e${power}`)));
    const first = all.findLastIndex((tick) => tick <= low);
    const last = all.findIndex((tick) => tick >= high);
    const ticks = all.slice(first, last + 1);
    if (ticks.length <= 7) return { domain: [ticks[0], ticks[ticks.length - 1]], ticks };
  }
  return undefined;
}

/** Some room around the values, and between its ends at most seven ticks, at every second power of ten, or third, ...: their next would be too far. */
function wideLogAxis(low: number, high: number): LogAxis {
  const room = (high / low) ** 0.04;
  const domain = [low / room, high * room] as const;
  const powers = powersOfTen(...domain);
  for (let every = 2; ; every++) {
    const all = powers.filter((power) => power % every === 0).map((power) => Number(`1e${power}`));
    const ticks = all.filter((tick) => tick >= domain[0] && tick <= domain[1]);
    if (ticks.length <= 7) return { domain, ticks };
  }
}

/** From the one below `low` to the one above `high`. */
function powersOfTen(low: number, high: number): number[] {
  const first = Math.floor(Math.log10(low));
  return Array.from({ length: Math.ceil(Math.log10(high)) - first + 1 }, (_, i) => first + i);
}

/** Room around a single value, which alone spans no axis; otherwise the values themselves decide. */
function valueDomain(curve: Curve, points: readonly Point[]): VegaLiteSpec {
  const values = new Set(points.map((point) => point.value).filter((value) => value !== null));
  if (values.size > 1) return {};
  const [value] = values.size === 1 ? values : [0];
  if (value === 0) return { domain: [0, 1] };
  return {
    domain: curve.zero
      ? [Math.min(0, 1.25 * value), Math.max(0, 1.25 * value)]
      : [value - 0.25 * Math.abs(value), value + 0.25 * Math.abs(value)],
  };
}

/** From 0 (or from where a resumed log begins) to the last step; a single point gets room on both sides. */
function stepDomain(points: readonly Point[]): [number, number] {
  if (points.length === 0) return [0, 1];
  const steps = points.map((point) => point.step);
  const low = steps.reduce((a, b) => Math.min(a, b));
  const high = steps.reduce((a, b) => Math.max(a, b));
  if (low === high) return [low - 1, low + 1];
  return [low <= 0.2 * high ? Math.min(0, low) : low, high];
}
