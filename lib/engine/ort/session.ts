/** The door to ONNX Runtime: compile a model, run it at once on memory that we own. */
import { type InferenceSession, Tensor } from 'onnxruntime-common';
import { binding, initOrt } from 'onnxruntime-node/dist/binding';
import { GraphBuilder } from './onnx';
import type { HostArray } from './value';

/** What a session needs to know of the device. */
export interface SessionSettings {
  threads: number;
  executionProviders: string[];
  /** Gives working memory back after each run instead of keeping it for the next: slower, for graphs that run seldom. */
  frugal?: boolean;
}

/** A compiled graph. `run` is synchronous: tfjs's dataSync needs that, and the promise of the public interface hides no thread. */
export class Session {
  private readonly native: InstanceType<typeof binding.InferenceSession>;

  constructor(model: Uint8Array, settings: SessionSettings) {
    initOrt();
    this.native = new binding.InferenceSession();
    const options: InferenceSession.SessionOptions = {
      executionProviders: settings.executionProviders,
      intraOpNumThreads: settings.threads,
      graphOptimizationLevel: 'basic',
      // Shapes vary from run to run; a pattern for each would be kept forever.
      enableMemPattern: false,
      enableCpuMemArena: !settings.frugal,
      // Errors come as exceptions; the log would print them a second time.
      logSeverityLevel: 4,
      extra: { session: { disable_prepacking: '1' } },
    };
    this.native.loadModel(model.buffer as ArrayBuffer, model.byteOffset, model.byteLength, options);
  }

  run(feeds: Record<string, Tensor>, fetches: Record<string, Tensor>): void {
    this.native.run(feeds, fetches, {});
  }

  dispose(): void {
    this.native.dispose();
  }
}

export function ortTensor(dtype: 'float32' | 'int32' | 'bool', data: HostArray, shape: readonly number[]): Tensor {
  return new Tensor(dtype, data as Float32Array, shape);
}

/**
 * Tries an execution provider on the smallest of graphs.
 * @throws ONNX Runtime's error, if the provider does not work here
 */
export function probe(settings: SessionSettings): void {
  const graph = new GraphBuilder();
  graph.outputAs('y', graph.op('Neg', [graph.input('x', 'float32', [1])]), 'float32', [1]);
  const session = new Session(graph.toModel(), settings);
  try {
    session.run({ x: ortTensor('float32', new Float32Array(1), [1]) }, { y: ortTensor('float32', new Float32Array(1), [1]) });
  } finally {
    session.dispose();
  }
}
