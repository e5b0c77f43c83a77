/** What every work of the bench is given. */
import type { BenchDevice, CeilingResult } from './jobs';
import type { Workspace } from './workspace';

export interface Bench {
  workspace: Workspace;
  device: BenchDevice;
  /** Threads of every engine. */
  threads: number;
  steps: number;
  /** Rank of the adapters that are trained in the place of all weights. */
  lora?: number;
  /** How many times this engine and the peer train, in turn. */
  rounds: number;
  /** Python of the peer's environment; absent: no peer is measured. */
  python?: string;
  /** Seconds after which a run on one of tfjs's own backends is ended. */
  tfjsLimit: number;
  ceilings: Ceilings;
}

/** The fastest float32 matrix products of this machine. */
export interface Ceilings {
  onnxruntime?: CeilingResult;
  torch?: CeilingResult;
}

/** Tells what is being measured, apart from the tables. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
