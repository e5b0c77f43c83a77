/** What the backend counts and holds, for tests and benchmarks. */
import type { DeviceStatistics } from './device-memory';

/** Counters; those of a device's memory stay 0 on the CPU. */
export interface EngineStatistics extends DeviceStatistics {
  runs: number;
  compilations: number;
  compileMs: number;
  runMs: number;
  /** Calls handed to tfjs's CPU backend, by kernel. */
  fallbacks: Map<string, number>;
}

/** What the backend holds at the moment. */
export interface EngineMemory {
  /** Data of tensors, in memory or still to be computed. */
  tensors: number;
  /** Compiled graphs. */
  sessions: number;
  /** Buffers that wait for their next use, and their bytes. */
  idleBuffers: number;
  idleBytes: number;
}
