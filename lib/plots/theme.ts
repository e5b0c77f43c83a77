/** The look that all plots share. */

/** A Vega-Lite specification or a part of one, as plain JSON. */
export type VegaLiteSpec = { readonly [key: string]: unknown };

export const COLORS = {
  train: '#2f6db5',
  evaluation: '#e0702b',
  fault: '#c8382e',
  ink: '#1f2933',
  faintInk: '#616e7c',
  grid: '#e9edf2',
  /** Overlaid runs, in order; told apart also without red-green vision. */
  runs: ['#2f6db5', '#e0702b', '#3a9a7b', '#8a63b8', '#b08a1e', '#6b7785'],
} as const;

/** Inter ships with the project (see render.ts); the others stand in for it where an SVG is shown elsewhere. */
const FONT = 'Inter, "Helvetica Neue", Arial, sans-serif';

/** What Inter's letters take on average, by their size. */
export const LETTER = 0.58;

/** Size of the names in a legend. */
export const LEGEND_SIZE = 11.5;

/** Vega-Lite's `config` of every plot. */
export const THEME: VegaLiteSpec = {
  font: FONT,
  background: '#ffffff',
  padding: { left: 10, top: 12, right: 18, bottom: 10 },
  view: { stroke: null },
  title: {
    anchor: 'start',
    frame: 'group',
    fontSize: 15,
    fontWeight: 600,
    color: COLORS.ink,
    subtitleColor: COLORS.faintInk,
    subtitleFontSize: 11.5,
    subtitlePadding: 4,
    offset: 12,
  },
  axis: {
    labelColor: COLORS.faintInk,
    labelFontSize: 11,
    titleColor: COLORS.faintInk,
    titleFontSize: 11.5,
    titleFontWeight: 400,
    titlePadding: 8,
    gridColor: COLORS.grid,
    domain: false,
    ticks: false,
    labelPadding: 6,
  },
  // room for four figures, so that a picture that is drawn again keeps its width
  axisY: { minExtent: 36 },
  axisX: { grid: false, domain: true, domainColor: '#cbd2d9', ticks: true, tickColor: '#cbd2d9', tickSize: 4, labelPadding: 4 },
  legend: {
    orient: 'top',
    direction: 'horizontal',
    title: null,
    labelColor: COLORS.ink,
    labelFontSize: LEGEND_SIZE,
    symbolSize: 90,
    symbolOpacity: 1,
    offset: 6,
    padding: 0,
    columnPadding: 16,
  },
  line: { strokeWidth: 2, strokeJoin: 'round', strokeCap: 'round', interpolate: 'linear' },
};
