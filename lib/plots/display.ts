/** Showing pictures in a notebook cell, once or overwritten in place. Outside of a notebook every function here does nothing. */
import { inNotebook } from '../display';

/** One output in every form that a viewer may choose from: MIME type to text, or to bytes for pictures. */
export type MimeBundle = Readonly<Record<string, string | Uint8Array>>;

/** Measures that go with a form, such as `{ 'image/png': { width: 640 } }`. */
export type MimeMetadata = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

type Writer = (message: object, update: boolean) => void;

interface KernelGlobal {
  __tslab__?: { require(id: string): unknown };
}

/**
 * The running kernel's own function that sends an output, asked for anew each time because it belongs to the current cell.
 * tslab's public `display` sends a single form without measures, so that a picture of doubled density would show at twice its size.
 */
function writer(): Writer | undefined {
  const kernel = (globalThis as KernelGlobal).__tslab__;
  if (!kernel) return undefined;
  try {
    return (kernel.require('tslab/dist/jupyter') as { lastWriteDisplayData?: Writer | null }).lastWriteDisplayData ?? undefined;
  } catch {
    return undefined;
  }
}

function send(bundle: MimeBundle, metadata: MimeMetadata, id: string | undefined, update: boolean): void {
  const write = writer();
  if (!write) return;
  const data = Object.fromEntries(
    Object.entries(bundle).map(([type, content]) => [
      type,
      typeof content === 'string' ? content : Buffer.from(content).toString('base64'),
    ]),
  );
  write({ data, metadata, transient: id === undefined ? {} : { display_id: id } }, update);
}

/** Shows one output in all its forms; the viewer takes the richest that it knows. */
export function display(bundle: MimeBundle, metadata: MimeMetadata = {}): void {
  send(bundle, metadata, undefined, false);
}

/**
 * Shows a PNG picture.
 * @param width in CSS pixels; half the picture's own width where it was drawn at double density
 */
export function displayPng(png: Uint8Array, { width }: { width?: number } = {}): void {
  display({ 'image/png': png }, width === undefined ? {} : { 'image/png': { width: Math.round(width) } });
}

/** An output that is overwritten in place, as a progress line or a live curve is. */
export class LiveDisplay {
  private readonly id = `tunebook-${process.pid}-${nextDisplay++}-${Date.now().toString(36)}`;
  private shown = false;

  /** Shows the output, in the cell that runs at the first call, or replaces what it showed before. */
  show(bundle: MimeBundle, metadata: MimeMetadata = {}): void {
    send(bundle, metadata, this.id, this.shown);
    this.shown ||= inNotebook();
  }
}

let nextDisplay = 0;
