/**
 * A tfjs backend on ONNX Runtime.
 *
 * A kernel call computes nothing: it records a node and hands back a tensor at once. When somebody reads a value, every
 * recorded value that is still alive is cut out of the record as one graph, compiled to a session (or found in the
 * cache, when a graph of the same structure ran before) and run.
 */
import {
  type BackendValues,
  backend_util,
  type DataId,
  DataStorage,
  type DataType,
  engine,
  KernelBackend,
  type TensorInfo,
} from '@tensorflow/tfjs-core';
import { DeviceMemory } from './device-memory';
import { HostMemory } from './host-memory';
import type { Attrs, NumericType, OrtKernel, Output } from './kernel';
import type { Memory } from './memory';
import type { Precision, Target } from './onnx';
import { announcedSizes, type Cut, cutOut, keyOf, sizesOf, type VaryingSize, type VaryingSizes } from './program';
import { multipliesIn8Bits } from './quantized-products';
import { type Begun, cutOf, isCurrent, type Recorded, recordingOf, variablesOf } from './recording';
import { canLieInBlocks, changeLayout, layoutsOf } from './resting-layout';
import type { Session, SessionSettings } from './session';
import { SessionCache } from './session-cache';
import type { EngineMemory, EngineStatistics } from './statistics';
import { targetOf } from './target';
import { type HostArray, inShape, type Layout, Node, sameShape, sizeOf, Value, valueOver } from './value';

/** Data of a tfjs tensor: a value of the record, two of them (real and imaginary parts), or strings, which stay outside of it. */
interface Entry {
  value?: Value;
  parts?: [Value, Value];
  strings?: Uint8Array[];
  references: number;
}

export class OrtBackend extends KernelBackend {
  readonly statistics: EngineStatistics = {
    ...{ runs: 0, compilations: 0, compileMs: 0, runMs: 0, fallbacks: new Map() },
    ...{ uploadedBytes: 0, downloadedBytes: 0, deviceTensors: 0, deviceBytes: 0 },
  };
  private readonly data: DataStorage<Entry>;
  private readonly pending = new Set<Value>();
  private readonly sessions = new SessionCache(this.statistics);
  private readonly storage: Memory;
  private letGo: Value[] = [];
  /** Values that a failed run has left to be computed, each alone. */
  private readonly leftOver = new Set<Value>();
  private sizes: VaryingSizes = new Map();
  /** Matrices that the next graph may lay in blocks. */
  private onlyRead = new Set<Value>();
  /** Runs, and reads by JavaScript, so far. */
  private events = 0;
  private target: Target;
  private has8Bits?: boolean;

  constructor(private settings: SessionSettings) {
    super();
    this.target = targetOf(settings);
    this.storage = this.target.device === 'cpu' ? new HostMemory() : new DeviceMemory(settings, this.statistics);
    this.data = new DataStorage(this, engine());
  }

  /** Products recorded from now on are computed in this precision. */
  setPrecision(precision: Precision): void {
    if (precision === this.target.precision) return;
    this.flush();
    this.target = { ...this.target, precision };
  }

  get precision(): Precision {
    return this.target.precision;
  }

  /** Graphs are computed by so many threads from now on; those compiled already go. */
  setThreads(threads: number): void {
    if (threads === this.settings.threads) return;
    this.flush();
    this.releaseMemory();
    this.settings = { ...this.settings, threads };
  }

  /** See device.ts. @param beside leaves those announced before, which count where they are equal */
  setVaryingSizes(sizes: Record<string, VaryingSize>, beside = false): void {
    this.sizes = announcedSizes(sizes, beside ? this.sizes : undefined);
  }

  // ---- recording -------------------------------------------------------------------------------------------------

  /** Records a call of a kernel; the tensors that it returns have no data yet. */
  record(kernel: OrtKernel, inputs: (TensorInfo | undefined)[], attrs: Attrs): TensorInfo[] {
    const given = inputs as TensorInfo[];
    const inferred = kernel.infer(given, attrs);
    const outputs: Output[] = Array.isArray(inferred) ? inferred : [inferred];
    const values = inputs.map((input) => input && this.operandOf(input));
    const inMemory = values.map((value) => value?.data);
    const node = new Node(kernel, values, attrs, kernel.key?.(attrs, given) ?? '', outputs);
    node.mayFail = kernel.check?.(given, attrs, inMemory) === false;
    return node.outputs.map((value) => {
      this.pending.add(value);
      return this.infoOf(value);
    });
  }

  /** The recorded value behind a tensor, in the tensor's shape. */
  private operandOf(info: TensorInfo): Value {
    const value = this.entry(info.dataId).value;
    if (!value) throw new Error('A tensor of strings cannot take part in a computation.');
    return inShape(value, info.shape);
  }

  private infoOf(value: Value): TensorInfo {
    const dataId = {};
    value.handles++;
    this.data.set(dataId, { value, references: 1 });
    return { dataId, shape: [...value.shape], dtype: value.dtype };
  }

  /** A complex tensor of the given real and imaginary parts. */
  joinComplex(real: TensorInfo, imag: TensorInfo): TensorInfo {
    const parts: [Value, Value] = [this.operandOf(real), this.operandOf(imag)];
    for (const part of parts) {
      part.handles++;
      if (part.node) this.pending.add(part);
    }
    const dataId = {};
    this.data.set(dataId, { parts, references: 1 });
    return { dataId, shape: [...real.shape], dtype: 'complex64' };
  }

  /** The real (0) or imaginary (1) part of a complex tensor. */
  partOf(info: TensorInfo, which: 0 | 1): TensorInfo {
    const part = this.entry(info.dataId).parts?.[which];
    if (!part) throw new Error(`A tensor of type ${info.dtype} has no real and imaginary parts.`);
    return { ...this.infoOf(part), shape: [...info.shape] };
  }

  /** A tensor over data that nobody else will change. */
  makeTensorInfo(shape: number[], dtype: DataType, values: BackendValues): TensorInfo {
    const dataId = {};
    this.move(dataId, values, shape, dtype, 1);
    return { dataId, shape, dtype };
  }

  /** Marks a tensor whose sizes may vary without a new graph, because no other shape follows from them. */
  markVarying(dataId: DataId): void {
    const value = this.entry(dataId).value;
    if (value) value.varies = true;
  }

  // ---- running ---------------------------------------------------------------------------------------------------

  /**
   * Computes every recorded value that is still alive.
   * @param settings of the session, if it has to be compiled
   */
  flush(settings: Partial<SessionSettings> = {}): void {
    const cut = this.takePending();
    if (cut.fetches.length > 0) this.runAsItLies(cut, settings);
    this.recycleLetGo();
  }

  /** Cuts out what is recorded by now, and lays what it reads as it reads it. */
  private takePending(): Cut {
    const cut = cutOut([...this.pending]);
    const onlyRead = this.onlyRead;
    // Cleared first: what fails now must not fail every later read. Each of the others can still be computed alone.
    this.pending.clear();
    this.onlyRead = new Set();
    this.layFeeds(cut, onlyRead);
    return cut;
  }

  /** What computes tensors that are never computed here (onnx-model.ts). The data that it reads, as it comes, lies row after row. */
  cutFor(tensors: readonly TensorInfo[]): Cut {
    const cut = cutOut(tensors.map((tensor) => this.operandOf(tensor)));
    const constants = cut.nodes.flatMap(({ kernel, attrs }) => kernel.constant?.(attrs) ?? []);
    for (const value of [...cut.feeds, ...constants]) this.lay(value, 'rows');
    return cut;
  }

  private recycleLetGo(): void {
    const needed = new Set(this.leftOver.size > 0 ? cutOut([...this.leftOver]).feeds : []);
    for (const value of this.letGo) if (!needed.has(value)) this.storage.recycle(value);
    this.letGo = this.letGo.filter((value) => needed.has(value));
  }

  /** @param onlyRead matrices that may be laid in blocks for it */
  private layFeeds(cut: Cut, onlyRead: ReadonlySet<Value> = new Set()): void {
    for (const [feed, layout] of layoutsOf(cut, onlyRead)) this.lay(feed, layout);
  }

  /** Brings a matrix into a layout, in its own memory. */
  private lay(value: Value, layout: Layout): void {
    if (value.layout === layout) return;
    const { kernel, shape } = changeLayout(value.shape, layout);
    const [converted] = new Node(kernel, [value], {}, shape.join(), [{ shape, dtype: value.dtype }]).outputs;
    this.runAsItLies(cutOut([converted]));
    (value.data as Float32Array).set(converted.data as Float32Array);
    value.layout = layout;
    value.tensor = undefined;
    this.storage.recycle(converted);
  }

  /** @returns what finds the compiled graph in the cache */
  private runAsItLies(cut: Cut, settings: Partial<SessionSettings> = {}): string {
    // Where a run fails, or has failed before, everything else can still be computed.
    cut.keepsFeeds = this.leftOver.size > 0 || cut.nodes.some(({ mayFail }) => mayFail);
    for (const fetch of cut.fetches) if (fetch.handles > 0) this.leftOver.add(fetch);
    const { session, key } = this.sessionFor(cut, { ...this.settings, ...settings });
    this.runSession(session, cut);
    for (const fetch of cut.fetches) this.leftOver.delete(fetch);
    for (const feed of cut.feeds) feed.dropViews();
    // After a failed run, what is held may still have to be computed.
    for (const node of cut.nodes) for (const output of node.outputs) if (output.isKnown || output.handles === 0) output.node = undefined;
    return key;
  }

  private runSession(session: Session, cut: Cut): void {
    const start = performance.now();
    this.events++;
    this.storage.run(session, cut);
    this.statistics.runMs += performance.now() - start;
    this.statistics.runs++;
  }

  private sessionFor(cut: Cut, settings: SessionSettings): { session: Session; key: string } {
    const sizes = sizesOf(cut, this.sizes);
    const places = this.storage.places(cut);
    const key = [keyOf(cut, sizes), this.precision, ...(places ?? [])].join(';');
    const session = this.sessions.find(key) ?? this.sessions.compile(key, cut, { sizes, target: this.target, settings, places });
    return { session, key };
  }

  // ---- repeating (see repeated.ts) ---------------------------------------------------------------------------------

  /**
   * Computes what is recorded so far, so that what comes next can be kept.
   * @returns what `endRecording` needs; undefined if nothing can be kept
   */
  beginRecording(inputs: readonly TensorInfo[]): Begun | undefined {
    this.flush();
    const values = this.plainValues(inputs);
    return values?.every(({ isKnown }) => isKnown) ? { inputs: values, events: this.events } : undefined;
  }

  /** The values of tensors in the shapes they were computed in; undefined if one is another tensor's reshaped, or complex, or text. */
  private plainValues(tensors: readonly TensorInfo[]): Value[] | undefined {
    const values = tensors.map(({ dataId }) => this.entry(dataId).value);
    const arePlain = values.every((value, i) => value && sameShape(value.shape, tensors[i].shape));
    return arePlain ? (values as Value[]) : undefined;
  }

  /**
   * Computes what was recorded since then.
   * @param read so many of the outputs, the first ones, are to be in main memory
   * @returns undefined if it cannot be repeated: it is more than the outputs, or data was computed or read meanwhile
   */
  endRecording({ inputs, events }: Begun, outputs: readonly TensorInfo[], read: number): Recorded | undefined {
    const values = this.plainValues(outputs);
    if (events !== this.events || !values?.every((value) => this.pending.has(value))) return undefined;
    for (const value of values.slice(0, read)) value.wanted = true;
    const cut = this.takePending();
    const recording = recordingOf(cut, inputs, values);
    const key = this.runAsItLies(cut);
    this.recycleLetGo();
    const valueBehind = (dataId: DataId): Value | undefined => (this.data.has(dataId) ? this.entry(dataId).value : undefined);
    return recording && { ...recording, key, precision: this.precision, variables: variablesOf(recording, valueBehind) };
  }

  /**
   * Runs a recorded graph on other inputs.
   * @returns its outputs, inputs among them that have become outputs in their place; undefined if it has to be recorded again
   */
  repeat(recorded: Recorded, inputs: readonly TensorInfo[]): TensorInfo[] | undefined {
    const { feeds, outputs, key } = recorded;
    this.flush();
    if (!isCurrent(recorded, this.precision)) return undefined;
    const values = this.plainValues(inputs);
    if (!values?.every(({ isKnown }) => isKnown) || new Set(values).size < values.length) return undefined;
    const cut = cutOf(recorded, values, (input) => this.ownsAlone(inputs[input].dataId));
    const session = new Set(cut.feeds).size === cut.feeds.length ? this.sessions.find(key) : undefined;
    if (!session) return undefined;
    for (const [index, feed] of cut.feeds.entries()) this.lay(feed, feeds[index].layout);
    this.runSession(session, cut);
    const inputOf = new Map(values.map((value, index) => [value, inputs[index]]));
    return outputs.map((fetch) => inputOf.get(cut.fetches[fetch]) ?? this.infoOf(cut.fetches[fetch]));
  }

  /** What is held at the moment. */
  get holdings(): EngineMemory {
    const { buffers, bytes } = this.storage.idle;
    return { tensors: this.data.numDataIds(), sessions: this.sessions.count, idleBuffers: buffers, idleBytes: bytes };
  }

  /** Lets go of compiled graphs and idle memory. */
  releaseMemory(): void {
    this.sessions.clear();
    this.storage.clear();
  }

  // ---- tfjs's KernelBackend --------------------------------------------------------------------------------------

  /** The data is copied: it is read when something is computed, and until then the program may put its array to another use. */
  override write(values: BackendValues | null, shape: number[], dtype: DataType): DataId {
    return this.makeTensorInfo(shape, dtype, values?.slice() as BackendValues).dataId;
  }

  override move(dataId: DataId, values: BackendValues | null, shape: number[], dtype: DataType, references: number): void {
    if (dtype === 'string') {
      this.data.set(dataId, { strings: values as Uint8Array[], references });
      return;
    }
    if (dtype === 'complex64') {
      const { real, imag } = backend_util.splitRealAndImagArrays((values ?? new Float32Array(2 * sizeOf(shape))) as Float32Array);
      this.data.set(dataId, { parts: [valueOver(real, shape, 'float32'), valueOver(imag, shape, 'float32')], references });
      return;
    }
    this.data.set(dataId, { value: valueOver(values, shape, dtype as NumericType), references });
  }

  /** On a device, what is asked for at the same time comes back from one run. */
  override async read(dataId: DataId): Promise<BackendValues> {
    const { value } = this.entry(dataId);
    if (this.storage.isHost || !value) return this.readSync(dataId);
    value.wanted = true;
    value.handles++;
    try {
      await undefined;
      this.compute(value);
      return this.storage.readCopy(value);
    } finally {
      this.release(value);
    }
  }

  /** The caller gets a copy: our memory is used again. */
  override readSync(dataId: DataId): BackendValues {
    const { value, parts, strings } = this.entry(dataId);
    if (strings) return strings;
    if (parts) {
      const [real, imag] = parts.map((part) => this.dataOf(part) as Float32Array);
      return backend_util.mergeRealAndImagArrays(real, imag);
    }
    this.compute(value as Value);
    return this.storage.readCopy(value as Value);
  }

  /** See ops.ts: matrices that the graph which runs next may lay in blocks. */
  onlyReads(dataIds: readonly DataId[]): void {
    for (const dataId of dataIds) {
      const { value } = this.entry(dataId);
      if (value?.isKnown && this.ownsAlone(dataId) && canLieInBlocks(value, this.target)) this.onlyRead.add(value);
    }
  }

  /** The data itself, computed if need be; valid until the tensor is disposed. For operations that work in place on the host. */
  hostData(dataId: DataId): HostArray {
    return this.dataOf(this.entry(dataId).value as Value);
  }

  /** The same, to be changed in place. */
  dataToChange(dataId: DataId): HostArray {
    // What is recorded by now reads the data as it is.
    if (this.pending.size > 0) this.flush();
    const value = this.entry(dataId).value as Value;
    value.change();
    return this.dataOf(value);
  }

  /** Whether a tensor's data has been computed. */
  isKnown(dataId: DataId): boolean {
    return this.entry(dataId).value?.isKnown ?? true;
  }

  /** The value of a tensor, with data. */
  knownValue(dataId: DataId): Value {
    const value = this.entry(dataId).value as Value;
    if (!value.isKnown) this.compute(value);
    return value;
  }

  /** Whether there is a kernel for products in 8 bits. */
  get multipliesIn8Bits(): boolean {
    this.has8Bits ??= this.worksOnHost && multipliesIn8Bits(this.settings);
    return this.has8Bits;
  }

  /** Whether data lies in main memory, where JavaScript can work on it. */
  get worksOnHost(): boolean {
    return this.storage.isHost;
  }

  /** Whether the data may be changed in place: no other tensor shares it, and it is not an array that the program handed to us. */
  ownsAlone(dataId: DataId): boolean {
    const { value, references } = this.entry(dataId);
    if (!value?.isKnown) this.compute(value as Value);
    return references === 1 && value?.handles === 1 && value.pooled;
  }

  /** A tensor over an array that is ours from now on: it may be changed in place and used again. */
  takeOver(values: Float32Array, shape: readonly number[]): TensorInfo {
    const info = this.makeTensorInfo([...shape], 'float32', values);
    const { value } = this.entry(info.dataId);
    if (value && values.byteLength === values.buffer.byteLength) value.pooled = true;
    return info;
  }

  /** The same tensor in memory of its own. */
  copy(info: TensorInfo): TensorInfo {
    const value = new Value(info.shape, info.dtype as NumericType);
    this.storage.fill(value, this.hostData(info.dataId));
    return this.infoOf(value);
  }

  private dataOf(value: Value): HostArray {
    this.compute(value);
    return this.storage.read(value);
  }

  /** Sees to it that the value's data exists, row after row. */
  private compute(value: Value): void {
    this.events++;
    if (value.isKnown) {
      this.lay(value, 'rows');
      return;
    }
    value.wanted = true;
    this.flush();
    if (value.isKnown) return;
    const cut = cutOut([value]);
    this.layFeeds(cut);
    this.runAsItLies(cut);
  }

  override disposeData(dataId: DataId, force = false): boolean {
    const entry = this.data.has(dataId) ? this.data.get(dataId) : undefined;
    if (!entry) return true;
    entry.references--;
    if (!force && entry.references > 0) return false;
    this.data.delete(dataId);
    if (entry.value) this.release(entry.value);
    else if (entry.parts) for (const part of entry.parts) this.release(part);
    return true;
  }

  private release(value: Value): void {
    if (--value.handles === 0) this.abandon(value);
  }

  /** Nobody holds the value any more; recorded nodes may still read it. */
  private abandon(value: Value): void {
    this.pending.delete(value);
    this.leftOver.delete(value);
    if (!this.storage.owns(value)) return;
    if (this.pending.size === 0 && this.leftOver.size === 0) this.storage.recycle(value);
    else this.letGo.push(value);
  }

  override incRef(dataId: DataId): void {
    this.entry(dataId).references++;
  }

  override refCount(dataId: DataId): number {
    return this.data.has(dataId) ? this.data.get(dataId).references : 0;
  }

  override numDataIds(): number {
    return this.data.numDataIds();
  }

  override async time(work: () => void): Promise<{ kernelMs: number }> {
    const start = performance.now();
    work();
    this.flush();
    return { kernelMs: performance.now() - start };
  }

  override memory(): { unreliable: boolean; reasons: string[] } {
    return { unreliable: false, reasons: [] };
  }

  override floatPrecision(): 16 | 32 {
    return 32;
  }

  override dispose(): void {
    this.pending.clear();
    this.releaseMemory();
  }

  private entry(dataId: DataId): Entry {
    return this.data.get(dataId);
  }
}
