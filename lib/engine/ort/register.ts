/** Makes the backend known to tfjs: its kernels, their gradients, and the fallback for every other kernel. */
// The union package registers the gradients of tfjs's own kernels and the CPU backend.
import '@tensorflow/tfjs';
import {
  type BackendValues,
  backend_util,
  findBackend,
  getKernel,
  getKernelsForBackend,
  type KernelBackend,
  type KernelConfig,
  type NamedAttrMap,
  type NamedTensorInfoMap,
  registerBackend,
  registerKernel,
  type TensorInfo,
  util,
} from '@tensorflow/tfjs-core';
import { OrtBackend } from './backend';
import { registerFusedGradients } from './gradients';
import type { Attrs, OrtKernel } from './kernel';
import { attentionKernels } from './kernels/attention';
import { cachedAttention } from './kernels/cached-attention';
import { dropout } from './kernels/dropout';
import { elementwiseKernels } from './kernels/elementwise';
import { expertKernels } from './kernels/experts';
import { gatedDeltaKernels } from './kernels/gated-delta';
import { halfMatrixKernels } from './kernels/half-matrix';
import { lossKernels } from './kernels/loss';
import { matmulKernels } from './kernels/matmul';
import { normalFloatKernels } from './kernels/normal-float';
import { reduceKernels } from './kernels/reduce';
import { shapeKernels } from './kernels/shape';
import { stateSpaceKernels } from './kernels/state-space';
import { transformerKernels } from './kernels/transformer';
import type { SessionSettings } from './session';

/** Every kernel that runs in ONNX Runtime. */
export const mappedKernels: readonly OrtKernel[] = [
  ...elementwiseKernels,
  ...shapeKernels,
  ...reduceKernels,
  ...matmulKernels,
  ...normalFloatKernels,
  ...halfMatrixKernels,
  ...transformerKernels,
  dropout,
  ...attentionKernels,
  cachedAttention,
  ...gatedDeltaKernels,
  ...stateSpaceKernels,
  ...expertKernels,
  ...lossKernels,
];

/** The part of tfjs's CPU backend that the fallback uses. */
interface CpuBackend extends KernelBackend {
  makeTensorInfo(shape: number[], dtype: string, values: BackendValues): TensorInfo;
  /** While true, the first write prints an advertisement for tfjs-node. */
  firstUse: boolean;
}

const registered = new Set<string>();

/** Registers a backend with tfjs, once; the first `tf.setBackend` makes it. */
export function registerOrtBackend(backendName: string, settings: SessionSettings): void {
  if (registered.has(backendName)) return;
  if (registered.size === 0) registerFusedGradients();
  registered.add(backendName);
  registerBackend(backendName, () => new OrtBackend(settings));
  const own = [...mappedKernels.map(mapped), ...aliases, ...complexKernels];
  const known = new Set(own.map(({ kernelName }) => kernelName));
  const others = getKernelsForBackend('cpu').filter(({ kernelName }) => !known.has(kernelName));
  for (const kernel of own) registerKernel({ ...kernel, backendName });
  for (const kernel of others) registerKernel({ kernelName: kernel.kernelName, backendName, kernelFunc: fallback(kernel) });
}

/** Kernels that compute nothing: they give a tensor another shape, or take complex numbers apart. */
export const sharingKernels = (): string[] => [...aliases, ...complexKernels].map(({ kernelName }) => kernelName);

/** A kernel of tfjs, without the backend that it is for. */
type Kernel = Omit<KernelConfig, 'backendName'>;

function mapped(kernel: OrtKernel): Kernel {
  const onCpu = getKernelsForBackend('cpu').find((config) => config.kernelName === kernel.name);
  const elsewhere = onCpu && fallback(onCpu);
  return {
    kernelName: kernel.name,
    kernelFunc: (call) => {
      const inputs = inputsOf(kernel, call.inputs);
      const attrs = (call.attrs ?? {}) as Attrs;
      const given = inputs.filter((input) => input !== undefined);
      const fits = given.every((input) => input.dtype !== 'string' && input.dtype !== 'complex64');
      if (elsewhere && !(fits && (kernel.supports?.(given, attrs) ?? true))) return elsewhere(call);
      const outputs = (call.backend as OrtBackend).record(kernel, inputs, attrs);
      return outputs.length > 1 || kernel.list ? outputs : outputs[0];
    },
  };
}

function inputsOf(kernel: OrtKernel, inputs: NamedTensorInfoMap): (TensorInfo | undefined)[] {
  return kernel.inputs ? kernel.inputs.map((name) => inputs[name]) : (Object.values(inputs) as TensorInfo[]);
}

/** Complex numbers are kept as two recorded values; all other kernels of them fall back. */
const complexKernels: Kernel[] = [
  {
    kernelName: 'Complex',
    kernelFunc: ({ inputs, backend }) => (backend as OrtBackend).joinComplex(inputs.real as TensorInfo, inputs.imag as TensorInfo),
  },
  { kernelName: 'Real', kernelFunc: ({ inputs, backend }) => (backend as OrtBackend).partOf(inputs.input as TensorInfo, 0) },
  { kernelName: 'Imag', kernelFunc: ({ inputs, backend }) => (backend as OrtBackend).partOf(inputs.input as TensorInfo, 1) },
];

/** Kernels that only give a tensor another shape: the data is shared. */
const aliases: Kernel[] = [
  alias('Identity', (x) => x.shape),
  alias('Reshape', (x, { shape }) => {
    const size = util.sizeFromShape(x.shape);
    const target = util.inferFromImplicitShape(shape as number[], size);
    util.assert(util.sizeFromShape(target) === size, () => `A tensor of shape [${x.shape}] cannot take the shape [${target}].`);
    return target;
  }),
  alias(
    'ExpandDims',
    (x, { dim }) => {
      const at = (dim as number) < 0 ? (dim as number) + x.shape.length + 1 : (dim as number);
      util.assert(at >= 0 && at <= x.shape.length, () => `Axis must be in the interval [${-x.shape.length - 1}, ${x.shape.length}]`);
      return [...x.shape.slice(0, at), 1, ...x.shape.slice(at)];
    },
    'input',
  ),
];

function alias(kernelName: string, shapeOf: (x: TensorInfo, attrs: NamedAttrMap) => number[], input = 'x'): Kernel {
  return {
    kernelName,
    kernelFunc: ({ inputs, attrs, backend }) => {
      const x = inputs[input] as TensorInfo;
      const shape = shapeOf(x, attrs ?? {});
      (backend as OrtBackend).incRef(x.dataId);
      return { dataId: x.dataId, shape: [...shape], dtype: x.dtype };
    },
  };
}

/** Hands a call to tfjs's own CPU backend: reads the inputs, runs its kernel, takes the results over. */
function fallback(kernel: KernelConfig): KernelConfig['kernelFunc'] {
  return ({ inputs, attrs, backend }) => {
    const own = backend as OrtBackend;
    const cpu = findBackend('cpu') as CpuBackend;
    cpu.firstUse = false;
    own.statistics.fallbacks.set(kernel.kernelName, (own.statistics.fallbacks.get(kernel.kernelName) ?? 0) + 1);
    const moved: TensorInfo[] = [];
    const move = (given: Given): Given => {
      if (Array.isArray(given)) return given.map(move);
      if (!given) return given;
      const there = toCpu(cpu, given, own.readSync(given.dataId));
      moved.push(there);
      return there;
    };
    try {
      const there = Array.isArray(inputs) ? inputs.map(move) : mapValues(inputs as Record<string, Given>, move);
      const results = kernel.kernelFunc({ inputs: there as NamedTensorInfoMap, attrs, backend: cpu });
      const back = (info: TensorInfo): TensorInfo => {
        const values = cpu.readSync(info.dataId) as BackendValues;
        moved.push(info);
        return own.makeTensorInfo(info.shape, info.dtype, values);
      };
      return Array.isArray(results) ? results.map(back) : back(results);
    } finally {
      for (const info of moved) cpu.disposeData(info.dataId);
    }
  };
}

/** An input of a kernel; a few take lists of tensors. */
type Given = TensorInfo | undefined | Given[];

const mapValues = <T, U>(record: Record<string, T>, change: (value: T) => U): Record<string, U> =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]));

/** A tensor on tfjs's CPU backend, with the properties of a Tensor that some of its kernels read beyond a TensorInfo's. */
function toCpu(cpu: CpuBackend, { shape, dtype }: TensorInfo, values: BackendValues): TensorInfo {
  const info = dtype === 'complex64' ? complexOnCpu(cpu, shape, values as Float32Array) : cpu.makeTensorInfo(shape, dtype, values);
  return Object.assign(info, { rank: shape.length, size: util.sizeFromShape(shape), strides: util.computeStrides(shape) });
}

function complexOnCpu(cpu: CpuBackend, shape: number[], values: Float32Array): TensorInfo {
  const parts = backend_util.splitRealAndImagArrays(values);
  const [real, imag] = [parts.real, parts.imag].map((part) => cpu.makeTensorInfo(shape, 'float32', part));
  const complex = getKernel('Complex', 'cpu').kernelFunc({ inputs: { real, imag }, backend: cpu }) as TensorInfo;
  for (const part of [real, imag]) cpu.disposeData(part.dataId);
  return complex;
}
