/** The axes of a curve: their ends, ticks and figures. */
import { type Curve, type CurveOptions, FIGURES } from './curves';
import type { Point } from './series';
import type { VegaLiteSpec } from './theme';

/**
 * The encoding that all layers of a curve share.
 * @param points of all its lines, by which the axes' ends are chosen
 * @param color the scale that gives each line its color by its name, and the legend, null for none
 */
export function axes(curve: Curve, points: readonly Point[], color: VegaLiteSpec, options: CurveOptions): VegaLiteSpec {
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
    color: { type: 'nominal', ...color },
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
export function stepDomain(points: readonly Point[]): [number, number] {
  if (points.length === 0) return [0, 1];
  const steps = points.map((point) => point.step);
  const low = steps.reduce((a, b) => Math.min(a, b));
  const high = steps.reduce((a, b) => Math.max(a, b));
  if (low === high) return [low - 1, low + 1];
  return [low <= 0.2 * high ? Math.min(0, low) : low, high];
}

/** Where the line of clipping is drawn, if anywhere. */
export function clipOf(curve: Curve, points: readonly Point[], { maxGradNorm = 0 }: CurveOptions): number | undefined {
  const highest = points.reduce((high, { value }) => Math.max(high, value ?? 0), 0);
  return curve.train === 'grad_norm' && maxGradNorm > 0 && maxGradNorm <= CLIP_FAR * highest ? maxGradNorm : undefined;
}

/** Times the highest norm. */
const CLIP_FAR = 4;
