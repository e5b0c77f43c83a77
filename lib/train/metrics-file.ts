/** metrics.jsonl: the log of a run, a line for each record, as it grows. */
import fs from 'node:fs';
import * as path from 'node:path';
import { codeOf } from '../errors';
import { statusOf, writeError, writeFileAtomic } from '../files';
import type { LogRecord } from './metrics';

/** A disk without room, or one that fails: what another moment may mend. */
const PASSING = ['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO'];

/** A run's metrics.jsonl. The log is in the run's state, too, so that a line which the disk does not take is no loss. */
export class MetricsFile {
  private readonly file: string;
  /** Lines are missing: it has to be written whole before it can be added to. */
  private behind = false;
  private told = false;

  /**
   * Replaces the file by these records: none at the start, those up to the checkpoint when a run resumes.
   * @throws UserError when the system refuses
   */
  constructor(folder: string, log: readonly LogRecord[]) {
    this.file = path.join(folder, 'metrics.jsonl');
    this.rewrite(log);
  }

  /**
   * Adds a record; none while lines are missing.
   * @returns what the user should know, once: the disk is full
   * @throws UserError when the system refuses for another reason
   */
  append(record: LogRecord): string | undefined {
    if (this.behind) return undefined;
    const size = statusOf(this.file)?.size ?? 0;
    try {
      fs.appendFileSync(this.file, jsonLine(record));
      return undefined;
    } catch (error) {
      const code = codeOf(error) ?? '';
      if (!PASSING.includes(code)) throw writeError(this.file, error);
      this.behind = true;
      this.cutTo(size);
      if (this.told) return undefined;
      this.told = true;
      const reason = code === 'EIO' ? 'The disk fails' : 'The disk is full';
      return `${reason}: ${this.file} cannot take the line of step ${record.step}; the run goes on without it, and the file is written whole when a checkpoint is saved, and at the end, if there is room.`;
    }
  }

  /** Writes the file whole if lines are missing and the disk takes them now; else they stay missing. */
  catchUp(log: readonly LogRecord[]): void {
    if (!this.behind) return;
    try {
      this.rewrite(log);
      this.behind = false;
    } catch {
      // not worth a run: it is tried again
    }
  }

  private rewrite(log: readonly LogRecord[]): void {
    writeFileAtomic(this.file, log.map(jsonLine).join(''));
  }

  /** Takes half a line away again. */
  private cutTo(size: number): void {
    try {
      fs.truncateSync(this.file, size);
    } catch {
      // the whole file replaces it
    }
  }
}

function jsonLine(record: LogRecord): string {
  return `${JSON.stringify(record)}\n`;
}
