/** Progress of downloads, and the line that shows it. */
import { createLiveText } from '../../display';

/** Progress of one file's download. */
export interface DownloadProgress {
  readonly file: string;
  /** Bytes present so far, including those of an earlier, interrupted run. */
  readonly loaded: number;
  readonly total: number;
  /** Bytes over all the files of this call. */
  readonly totalLoaded: number;
  readonly totalSize: number;
}

/** Shows one line that is rewritten a few times a second; in a notebook in the cell, else on standard error where that is a terminal. */
export function progressLine(id: string): (progress: DownloadProgress) => void {
  const show = createLiveText();
  const started = Date.now();
  let before: number | undefined;
  return ({ file, totalLoaded, totalSize }) => {
    before ??= totalLoaded;
    const done = totalLoaded >= totalSize;
    const speed = (totalLoaded - before) / Math.max(1, Date.now() - started) / 1000;
    const percent = totalSize > 0 ? Math.floor((100 * totalLoaded) / totalSize) : 100;
    show(
      `${id}: ${megabytes(totalLoaded)} of ${megabytes(totalSize)} MB (${percent}%), ${speed.toFixed(1)} MB/s, ${done ? 'complete' : file}`,
      done,
    );
  };
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0);
}
