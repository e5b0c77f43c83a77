export type { CurveName, CurveOptions } from './curves';
export { display, displayPng, LiveDisplay, type MimeBundle, type MimeMetadata } from './display';
export { type LiveOptions, LiveTrainingPlot } from './live';
export { FILE_NAMES, type PlotOptions, plotComparison, plotTraining, savePlots } from './plot';
export { renderPng, renderSvg, svgToPng } from './render';
export type { PlottedRun } from './run';
export type { CurveRecord } from './series';
export { comparisonSpec, curveSpec, dashboardSpec } from './specs';
export type { VegaLiteSpec } from './theme';
