/**
 * The memory of a GPU. Results stay there from run to run, and only what somebody reads comes back to main memory.
 * The buffers are ONNX Runtime's; a tensor of location 'gpu-buffer' holds one until it is disposed of.
 */
import type { Tensor } from 'onnxruntime-common';
import type { NumericType } from './kernel';
import { forget, type Memory, tensorOf } from './memory';
import { GraphBuilder } from './onnx';
import type { Cut } from './program';
import { type OutputPlace, ortTensor, Session, type SessionSettings } from './session';
import { arrayOver, bytesPerElement, type HostArray, type Value } from './value';

/** What a device memory counts. */
export interface DeviceStatistics {
  /** Bytes copied from main memory to the device, and back. */
  uploadedBytes: number;
  downloadedBytes: number;
  /** Tensors that lie on the device now, and their bytes. */
  deviceTensors: number;
  deviceBytes: number;
}

/** Data of at most so many bytes is fed from main memory whenever it is needed; a copy kept on the device would save nothing. */
const SMALL = 1 << 10;

export class DeviceMemory implements Memory {
  readonly isHost = false;
  /** Nothing waits here: ONNX Runtime keeps the buffers. */
  readonly idle = { buffers: 0, bytes: 0 };
  private readonly copiers = new Map<string, Session>();
  /** The session that made each tensor on the device. */
  private readonly makers = new WeakMap<Tensor, Session>();

  constructor(
    private readonly settings: SessionSettings,
    private readonly statistics: DeviceStatistics,
  ) {}

  places(cut: Cut): OutputPlace[] {
    return cut.fetches.map((value) => (value.wanted ? 'cpu' : 'gpu-buffer'));
  }

  run(session: Session, cut: Cut): void {
    const feeds: Record<string, Tensor> = {};
    for (const [index, value] of cut.feeds.entries()) feeds[`i${index}`] = this.operand(value);
    const results = session.run(feeds, Object.fromEntries(cut.fetches.map((_, index) => [`o${index}`, null])));
    for (const [index, value] of cut.fetches.entries()) this.store(value, results[`o${index}`], session);
  }

  read(value: Value): HostArray {
    return value.data ?? this.download(value);
  }

  readCopy(value: Value): HostArray {
    return value.data?.slice() ?? this.download(value);
  }

  fill(value: Value, data: HostArray): void {
    value.data = data.slice();
  }

  owns(value: Value): boolean {
    return isOnDevice(value);
  }

  recycle(value: Value): void {
    const { tensor } = value;
    if (tensor && isOnDevice(value)) {
      this.count(value, -1);
      tensor.dispose();
      this.makers.get(tensor)?.letGoOfResult();
    }
    forget(value);
  }

  /** The copying sessions stay, because they keep the device open. */
  clear(): void {}

  /** Data that is fed a second time, and still held, will be fed again (weights, tables): it moves to the device. */
  private operand(value: Value): Tensor {
    const tensor = tensorOf(value);
    if (isOnDevice(value)) return tensor;
    if (value.fed && value.handles > 0 && bytesOf(value) > SMALL) return this.upload(value, tensor);
    value.fed = true;
    this.statistics.uploadedBytes += bytesOf(value);
    return tensor;
  }

  private upload(value: Value, tensor: Tensor): Tensor {
    const copier = this.copier(value.dtype, 'gpu-buffer');
    const { y } = copier.run({ x: tensor }, { y: null });
    this.statistics.uploadedBytes += bytesOf(value);
    forget(value);
    this.store(value, y, copier);
    return y;
  }

  /** Through a graph that copies: ONNX Runtime's own `getData` cannot download in Node.js. */
  private download(value: Value): HostArray {
    const data = arrayOver(new ArrayBuffer(bytesOf(value)), value.dtype);
    this.copier(value.dtype, 'cpu').run({ x: tensorOf(value) }, { y: ortTensor(value.dtype, data, value.shape) });
    this.statistics.downloadedBytes += data.byteLength;
    return data;
  }

  private store(value: Value, tensor: Tensor, maker: Session): void {
    value.tensor = tensor;
    value.wanted = false;
    if (isOnDevice(value)) {
      this.count(value, 1);
      this.makers.set(tensor, maker);
      maker.holdResult();
    } else {
      value.data = tensor.data as HostArray;
      this.statistics.downloadedBytes += bytesOf(value);
    }
  }

  private count(value: Value, sign: 1 | -1): void {
    this.statistics.deviceTensors += sign;
    this.statistics.deviceBytes += sign * bytesOf(value);
  }

  /** A graph that copies a tensor of any shape to the device or to main memory. */
  private copier(dtype: NumericType, place: OutputPlace): Session {
    const key = `${dtype},${place}`;
    let session = this.copiers.get(key);
    if (!session) {
      const graph = new GraphBuilder();
      graph.outputAs('y', graph.input('x', dtype), dtype);
      // A session without places writes into the array that the run gives.
      session = new Session(graph, this.settings, place === 'cpu' ? undefined : { y: place });
      this.copiers.set(key, session);
    }
    return session;
  }
}

const isOnDevice = (value: Value): boolean => value.tensor?.location === 'gpu-buffer';

const bytesOf = (value: Value): number => value.size * bytesPerElement(value.dtype);
