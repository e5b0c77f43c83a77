/** Vega-Lite specifications of the training curves: plain data in, plain JSON out. */
import { axes, clipOf, stepDomain } from './axes';
import { CURVE, type Curve, type CurveName, type CurveOptions } from './curves';
import { type CurveRecord, defaultSmoothing, type Point, pointsOf, smooth, thin } from './series';
import { COLORS, LEGEND_SIZE, LETTER, THEME, type VegaLiteSpec } from './theme';

const TRAINING = 'training';
const SMOOTHED = 'smoothed';
const EVALUATION = 'evaluation';

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
    if (evaluations.length > 0) styles.add(evaluations.length > 1 ? 'dashed: evaluation' : 'single dot: evaluation');
    layers.push(...trainingLayers(points, run, smoothing), ...evaluationLayers(evaluations, run));
  }
  const scale = { domain: names, range: names.map((_, index) => COLORS.runs[index % COLORS.runs.length]) };
  const width = options.width ?? 640;
  return {
    title: heading(options.title ?? curve.title, options.subtitle ?? [...styles].join('  ·  ')),
    width,
    height: options.height ?? 300,
    layer: [...layers, ...faultLayers(series)],
    encoding: axes(curve, series.flat(), { scale, legend: legendOf(names, width) }, options),
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
    encoding: axes(curve, all, { scale, legend: null }, options),
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

/** Names, as many in a row as have room, whole if they fit into one: runs often differ in the end of their names alone. */
function legendOf(names: readonly string[], width: number): VegaLiteSpec {
  const limit = width - LEGEND_SYMBOL;
  const shown = names.map((name) => shortened(name, limit));
  const widest = Math.max(...shown.map(legendWidth)) + LEGEND_SYMBOL;
  const labels = Object.fromEntries(names.map((name, index) => [name, shown[index]]));
  return {
    labelLimit: limit,
    columns: Math.max(1, Math.floor(width / widest)),
    ...(shown.some((name, index) => name !== names[index]) && { labelExpr: `(${JSON.stringify(labels)})[datum.label]` }),
  };
}

/** A name that fits into so many pixels: of a longer one its beginning and its end. */
function shortened(name: string, limit: number): string {
  const letters = [...name];
  let cut = name;
  for (let kept = letters.length - 1; kept > 0 && legendWidth(cut) > limit; kept--) {
    const [head, tail] = [letters.slice(0, Math.ceil(kept / 2)), letters.slice(letters.length - Math.floor(kept / 2))];
    cut = `${head.join('')}…${tail.join('')}`;
  }
  return cut;
}

/** Pixels of a name in the legend: what it takes, or what vega takes it for. */
const legendWidth = (name: string): number => Math.max(keyWidth(name), LETTER * LEGEND_SIZE * name.length);

/** Pixels that a name's symbol takes with the space around it. */
const LEGEND_SYMBOL = 36;

/** Pixels between two names. */
const KEY_GAP = 18;

/** Pixels of a name, by what Inter's letters take at that size. */
function keyWidth(text: string): number {
  return [...text].reduce((sum, letter) => sum + letterWidth(letter), 0);
}

function letterWidth(letter: string): number {
  if (/[mw]/.test(letter)) return 10;
  // capitals, and signs such as Chinese ones
  if (/[A-Z@%]/.test(letter) || letter > '\u10ff') return LEGEND_SIZE;
  return /[il]/.test(letter) ? 3 : /[rt. 1]/.test(letter) ? 4 : 6.8;
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
