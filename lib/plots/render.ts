/** Turns a Vega-Lite specification into a picture, without a browser and without fonts of the machine. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { LETTER, type VegaLiteSpec } from './theme';

/** Draws the specification as SVG text. */
export async function renderSvg(spec: VegaLiteSpec): Promise<string> {
  // vega and vega-lite are ES modules with a top-level await: only a dynamic import reaches them from CommonJS
  const [vega, vegaLite] = await Promise.all([import('vega'), import('vega-lite')]);
  const compiled = vegaLite.compile(spec as unknown as Parameters<typeof vegaLite.compile>[0], { logger: silent() });
  measureText(vega as unknown as { textMetrics: TextMetrics });
  const view = new vega.View(vega.parse(compiled.spec), { renderer: 'none' });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

/** How a picture becomes a PNG. */
export interface PngOptions {
  /** Picture pixels for each SVG pixel; the default, 2, is sharp on today's screens. */
  readonly scale?: number;
  /** A file of twice the size in a quarter of the time, for a picture that is soon replaced. */
  readonly quick?: boolean;
}

/** Rasterizes SVG text with the font that ships with the project. */
export async function svgToPng(svg: string, { scale = 2, quick = false }: PngOptions = {}): Promise<Buffer> {
  useOwnFont();
  const { default: sharp } = await import('sharp');
  return sharp(Buffer.from(svg), { density: 72 * scale })
    .flatten({ background: '#ffffff' })
    .png(quick ? { compressionLevel: 3 } : { compressionLevel: 9, palette: true, colours: 128, dither: 0 })
    .toBuffer();
}

/** Draws the specification as a PNG. */
export async function renderPng(spec: VegaLiteSpec, options: PngOptions = {}): Promise<Buffer> {
  return svgToPng(await renderSvg(spec), options);
}

/** Width of an SVG in its own pixels. */
export function svgWidth(svg: string): number | undefined {
  const found = /<svg[^>]*\swidth="([\d.]+)"/.exec(svg);
  return found ? Number(found[1]) : undefined;
}

interface TextMetrics {
  width: (item: { fontSize?: number }, text?: unknown) => number;
}

/** Without a canvas vega takes every letter for 0.8 em wide, which leaves wide empty margins. */
function measureText(vega: { textMetrics: TextMetrics }): void {
  vega.textMetrics.width = (item, text) => LETTER * (item.fontSize ?? 11) * String(text ?? '').length;
}

/** Compiler remarks (such as dropped empty layers) are not for the user. */
function silent() {
  const logger = { level: () => logger, error: () => logger, warn: () => logger, info: () => logger, debug: () => logger };
  return logger as never;
}

let fontReady = false;

/**
 * Adds Inter to the fonts of sharp's text renderer, which reads them through fontconfig when it first draws text.
 * A machine without any font (a container) would otherwise get a picture without text. Fonts of the machine stay available.
 */
function useOwnFont(): void {
  if (fontReady) return;
  fontReady = true;
  if (process.env.FONTCONFIG_FILE || process.env.FONTCONFIG_PATH) return;
  const fonts = path.dirname(require.resolve('@expo-google-fonts/inter/package.json'));
  const folders = ['400Regular', '600SemiBold'].map((weight) => `<dir>${escapeXml(path.join(fonts, weight))}</dir>`);
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tunebook-fonts-'));
  const system = '/etc/fonts/fonts.conf';
  const include = existsSync(system) ? `<include ignore_missing="yes">${system}</include>` : '';
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const file = path.join(folder, 'fonts.conf');
  writeFileSync(
    file,
    `<?xml version="1.0"?><fontconfig>${include}${folders.join('')}<cachedir>${escapeXml(path.join(folder, 'cache'))}</cachedir></fontconfig>`,
  );
  process.env.FONTCONFIG_FILE = file;
}

function escapeXml(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;');
}
