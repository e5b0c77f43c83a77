/** The door to ONNX Runtime: compile a model, run it at once on memory that we own. */
import { type InferenceSession, Tensor } from 'onnxruntime-common';
import { undisturbed } from '../zeros';
import { onnxRuntime } from './native';
import { ELEMENT_TYPES, GraphBuilder, type Precision } from './onnx';
import type { HostArray } from './value';

/** What a session needs to know of the device. */
export interface SessionSettings {
  threads: number;
  executionProviders: string[];
  /** Gives working memory back after each run instead of keeping it for the next: slower, for graphs that run seldom. */
  frugal?: boolean;
  /** Brings constants into the layouts that operators want when the graph is compiled. */
  prepacks?: boolean;
}

/** Where a session leaves a result: in main memory, or on the GPU. */
export type OutputPlace = 'cpu' | 'gpu-buffer';

/**
 * Operations of a graph for the processor from which on ONNX Runtime does not look for better ones. Its passes over a graph take as long
 * as the rest of compiling. A large one is a whole model, written as it is to be computed: of the 10,000 operations of a training step
 * they replaced six, on constants. In a small one, of somebody's convolutions perhaps, they may find much.
 */
const TOO_MANY_TO_OPTIMIZE = 2000;

/** Name of an output that nobody reads, and what the binding says when it comes to it. */
const END = 'end';
const AT_THE_END = 'Non tensor type is temporarily not supported';

/**
 * Gives a graph without outputs a first one that keeps the binding from copying the others. After a run it copies every result
 * into a new ArrayBuffer, also what the run has written into an array of ours: all sums of gradients, once a row of tokens.
 * A sequence it cannot convert: it gives up there, with everything computed. (microsoft/onnxruntime#32346 ends the copying.)
 */
export function leaveResults(graph: GraphBuilder): void {
  graph.outputAs(END, graph.op('SequenceEmpty', [], { dtype: ELEMENT_TYPES.float32 }), 'float32[]');
}

/** A compiled graph. `run` is synchronous: tfjs's dataSync needs that, and the promise of the public interface hides no thread. */
export class Session {
  /** Inputs, which they are as a whole too, and outputs that are bound in pieces (pieces.ts). */
  readonly inPieces: ReadonlySet<string>;
  private readonly native: InstanceType<ReturnType<typeof onnxRuntime>['InferenceSession']>;
  /** Results on the GPU: their memory goes with the session's. */
  private results = 0;
  private isDisposed = false;

  /** @param places where each output goes, by name; without them, into the tensors that `run` is given */
  constructor(graph: GraphBuilder, settings: SessionSettings, places?: Record<string, OutputPlace>) {
    this.inPieces = graph.inPieces;
    this.native = new (onnxRuntime().InferenceSession)();
    const isLarge = graph.target.device === 'cpu' && graph.nodeCount >= TOO_MANY_TO_OPTIMIZE;
    const options: InferenceSession.SessionOptions = {
      executionProviders: settings.executionProviders,
      intraOpNumThreads: settings.threads,
      graphOptimizationLevel: isLarge ? 'disabled' : 'basic',
      // Shapes vary from run to run; a pattern for each would be kept forever.
      enableMemPattern: false,
      enableCpuMemArena: !settings.frugal,
      // Errors come as exceptions; the log would print them a second time.
      logSeverityLevel: 4,
      // Threads that go on looking for work after a run would take the processor from JavaScript and from the next graph's threads.
      extra: { session: { disable_prepacking: settings.prepacks ? '0' : '1', force_spinning_stop: '1' } },
      ...(places && { preferredOutputLocation: places }),
      externalData: graph.dataOutside,
    };
    const model = graph.toModel();
    this.native.loadModel(model.buffer as ArrayBuffer, model.byteOffset, model.byteLength, options);
  }

  /**
   * @param fetches the outputs to compute, and the tensor in main memory that each is written into; null for a new one, which
   *   only a graph without `leaveResults` gives
   * @returns the outputs by name
   */
  run(feeds: Record<string, Tensor>, fetches: Record<string, Tensor | null>): Record<string, Tensor> {
    try {
      return undisturbed(() => this.native.run(feeds, { [END]: null, ...fetches }, {})) as Record<string, Tensor>;
    } catch (error) {
      if ((error as Error).message.includes(AT_THE_END)) return fetches as Record<string, Tensor>;
      throw error;
    }
  }

  /** Says that a result of it lies on the GPU. */
  holdResult(): void {
    this.results++;
  }

  /** Says that one of those is there no more. */
  letGoOfResult(): void {
    this.results--;
    this.disposeOfNative();
  }

  /** It runs no more, and goes when the last of its results has gone. */
  dispose(): void {
    this.isDisposed = true;
    this.disposeOfNative();
  }

  private disposeOfNative(): void {
    if (this.isDisposed && this.results === 0) this.native.dispose();
  }
}

export function ortTensor(dtype: 'float32' | 'int32' | 'bool', data: HostArray, shape: readonly number[]): Tensor {
  return new Tensor(dtype, data as Float32Array, shape);
}

/**
 * Tries an execution provider on the smallest of graphs, computing in the given type.
 * @throws ONNX Runtime's error, if the provider does not work here
 */
export function probe(settings: SessionSettings, type: Precision = 'float32'): void {
  const graph = new GraphBuilder();
  const cast = (x: string, to: Precision): string => graph.op('Cast', [x], { to: ELEMENT_TYPES[to] });
  const x = graph.input('x', 'float32', [1]);
  const y = type === 'float32' ? graph.op('Neg', [x]) : cast(graph.op('Neg', [cast(x, type)]), 'float32');
  graph.outputAs('y', y, 'float32', [1]);
  const session = new Session(graph, settings);
  try {
    session.run({ x: ortTensor('float32', new Float32Array(1), [1]) }, { y: ortTensor('float32', new Float32Array(1), [1]) });
  } finally {
    session.dispose();
  }
}
