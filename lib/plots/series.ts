/** From log records to the points of a curve: what is drawn, smoothed and thinned out. */

/** What the plots read of a log record: TRL's names. A record carries training values, evaluation values, or both. */
export interface CurveRecord {
  readonly step: number;
  readonly loss?: number;
  readonly mean_token_accuracy?: number;
  readonly grad_norm?: number;
  readonly learning_rate?: number;
  readonly eval_loss?: number;
  readonly eval_mean_token_accuracy?: number;
}

export type CurveKey = Exclude<keyof CurveRecord, 'step'>;

/** One point of a curve; `value` is null where the run logged something that is not a finite number. */
export interface Point {
  readonly step: number;
  readonly value: number | null;
}

/** The points of one logged name, in order of steps; records without it are passed over. */
export function pointsOf(log: readonly CurveRecord[], key: CurveKey): Point[] {
  const points: Point[] = [];
  for (const record of log) {
    const value: unknown = record[key];
    if (value === undefined) continue;
    // JSON has no NaN: a log that was read back from a file carries null or a text there
    points.push({ step: record.step, value: typeof value === 'number' && Number.isFinite(value) ? value : null });
  }
  return points.sort((a, b) => a.step - b.step);
}

/**
 * Average over both sides with exponentially falling weights: point j counts `weight^|i - j|` towards point i.
 * Unlike a running average it does not trail behind the curve. Near the beginning, where a loss falls steeply, it looks ahead no
 * farther than back and so begins where the curve does; near the end it looks ahead to the last point and back without limit, so
 * that its own last value is the running average that TensorBoard shows (with its bias corrected), not one noisy point.
 * Points that are not finite stay gaps and count nothing.
 * @param weight from 0 (no smoothing) to below 1
 */
export function smooth(points: readonly Point[], weight: number): Point[] {
  const before = oneSided(points, weight);
  const after = oneSided([...points].reverse(), weight).reverse();
  return points.map(({ step, value }, i) => {
    if (value === null) return { step, value };
    // as many points ahead as there are behind: what lies beyond them is the sum that begins there
    const beyond = after[2 * i + 1];
    const total = (of: 'sum' | 'mass') => before[i][of] + after[i][of] - weight ** (i + 1) * (beyond?.[of] ?? 0);
    // the point itself is in both sums
    return { step, value: (total('sum') - value) / (total('mass') - 1) };
  });
}

function oneSided(points: readonly Point[], weight: number): Array<{ sum: number; mass: number }> {
  let sum = 0;
  let mass = 0;
  return points.map(({ value }) => {
    sum = weight * sum + (value ?? 0);
    mass = weight * mass + (value === null ? 0 : 1);
    return { sum, mass };
  });
}

/** Smoothing that suits a curve's length: none where every point can be seen, then over about a thirtieth of the run. */
export function defaultSmoothing(points: number): number {
  return points < 80 ? 0 : Math.min(0.99, 1 - 60 / points);
}

/** Keeps the lowest and the highest point of each of `buckets` equal parts, so that a long curve keeps its look at a fraction of its points. */
export function thin(points: readonly Point[], buckets = 600): Point[] {
  if (points.length <= 2 * buckets) return [...points];
  const kept = new Set<Point>([points[0], points[points.length - 1]]);
  for (let bucket = 0; bucket < buckets; bucket++) {
    const part = points.slice(Math.floor((bucket * points.length) / buckets), Math.floor(((bucket + 1) * points.length) / buckets));
    let low: Point | undefined;
    let high: Point | undefined;
    for (const point of part) {
      if (point.value === null) kept.add(point);
      else {
        if (low === undefined || point.value < (low.value as number)) low = point;
        if (high === undefined || point.value > (high.value as number)) high = point;
      }
    }
    if (low) kept.add(low);
    if (high) kept.add(high);
  }
  return points.filter((point) => kept.has(point));
}
