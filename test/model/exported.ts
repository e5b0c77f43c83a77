/** Exports models, and runs them as transformers.js does, through the public interface of onnxruntime-node. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import { type CausalLM, exportModel, loadModel, type OnnxDtype } from '../../lib/model';

export interface Step {
  /** [batch, tokens]; all of one length. */
  ids: number[][];
  /** 1 for each token of the cache and of the step that is one, 0 where a prompt is padded. */
  mask?: number[][];
  /** What the step before has returned. */
  before?: Outputs;
  /** How many of the last logits are wanted; 0 for all. */
  keep?: number;
}

export type Outputs = Record<string, Tensor>;

/** What an input of the cache is called as an output. */
const presentOf = (past: string): string => past.replace('past_key_values', 'present').replace(/^past_/, 'present_');

/** An open exported model. */
export class Exported {
  private constructor(
    private readonly session: InferenceSession,
    private readonly tensor: typeof Tensor,
    private readonly cache: ReadonlyArray<{ name: string; type: 'float32' | 'float16'; shape: ReadonlyArray<number | string> }>,
  ) {}

  /** @param runtime what to import; of onnxruntime-web the data has to be handed over */
  static async open(folder: string, file = 'model.onnx', runtime = 'onnxruntime-node'): Promise<Exported> {
    const { InferenceSession, Tensor } = (await import(runtime)) as typeof import('onnxruntime-node');
    const graph = path.join(folder, 'onnx', file);
    const weights = { path: `${file}_data`, data: new Uint8Array(readFileSync(`${graph}_data`)) };
    const session =
      runtime === 'onnxruntime-node'
        ? await InferenceSession.create(graph)
        : await InferenceSession.create(new Uint8Array(readFileSync(graph)), { externalData: [weights] });
    const past = session.inputMetadata.filter(({ name }) => name.startsWith('past_')) as InferenceSession.TensorValueMetadata[];
    const cache = past.map(({ name, shape, type }) => ({ name, shape, type: type as 'float32' | 'float16' }));
    return new Exported(session, Tensor, cache);
  }

  get inputNames(): readonly string[] {
    return this.session.inputNames;
  }

  run({ ids, before, keep = 0, mask }: Step): Promise<Outputs> {
    const keys = this.cache.find(({ name }) => name.endsWith('.key'))?.name as string;
    const past = before ? before[presentOf(keys)].dims[2] : 0;
    const shown = mask ?? ids.map((row) => new Array<number>(past + row.length).fill(1));
    const positions = shown.map((row) => positionsOf(row).slice(past));
    const feeds: Record<string, Tensor> = {
      input_ids: this.longs(ids),
      attention_mask: this.longs(shown),
      ...(this.inputNames.includes('position_ids') && { position_ids: this.longs(positions) }),
      num_logits_to_keep: new this.tensor('int64', BigInt64Array.of(BigInt(keep)), []),
    };
    for (const { name, type, shape } of this.cache) {
      // as transformers.js begins: nothing of what grows, zeros for the rest
      const dims = shape.map((size) => (typeof size === 'number' ? size : size === 'batch_size' ? ids.length : 0));
      const size = dims.reduce((product, n) => product * n, 1);
      const empty = () =>
        type === 'float16' ? new this.tensor(type, new Uint16Array(size), dims) : new this.tensor(type, new Float32Array(size), dims);
      feeds[name] = withBits(before ? before[presentOf(name)] : empty());
    }
    return this.session.run(feeds) as Promise<Outputs>;
  }

  release(): Promise<void> {
    return this.session.release();
  }

  private longs(rows: number[][]): Tensor {
    return new this.tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length]);
  }
}

/** A tensor whose float16 are bits, as onnxruntime-node takes them, also where JavaScript has an array of their own for them; so does transformers.js. */
export function withBits(tensor: Tensor): Tensor {
  const { data, type } = tensor;
  if (type === 'float16' && !(data instanceof Uint16Array)) {
    const { buffer, byteOffset, length } = data as Float32Array;
    Object.assign(tensor, { cpuData: new Uint16Array(buffer, byteOffset, length) });
  }
  return tensor;
}

/** How many tokens are before each; those of the padding get any, as in transformers.js. */
function positionsOf(mask: number[]): number[] {
  let count = 0;
  return mask.map((shown) => (shown ? count++ : 1));
}

/** The rows of logits of a sequence of a batch. */
export function rowsOf({ logits }: Outputs, sequence = 0): number[][] {
  const [, rows, vocabulary] = logits.dims;
  const row = (i: number): number[] => [
    ...(logits.data as Float32Array).subarray((sequence * rows + i) * vocabulary, (sequence * rows + i + 1) * vocabulary),
  ];
  return Array.from({ length: rows }, (_, i) => row(i));
}

/** Where transformers.js looks for the graphs. */
export const graphFiles: Readonly<Record<OnnxDtype, string>> = {
  fp32: 'model.onnx',
  fp16: 'model_fp16.onnx',
  q8: 'model_quantized.onnx',
  q4: 'model_q4.onnx',
  q4f16: 'model_q4f16.onnx',
};

/** The one that transformers.js brings, in its build for Node.js: in a browser there is no 4-bit table without WebGPU. */
export function onnxRuntimeWeb(): string {
  const paths = [path.dirname(require.resolve('@huggingface/transformers'))];
  return pathToFileURL(require.resolve('onnxruntime-web', { paths })).href;
}

export interface ExportedModel {
  model: CausalLM;
  folder: string;
  open: Exported;
}

/** A model exported into a folder of its own, opened; neither outlives the use of it. */
export async function exported(source: string, use: (found: ExportedModel) => Promise<void>, dtype: OnnxDtype = 'fp32'): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'tunebook-exported-'));
  const model = await loadModel(source);
  await exportModel(model, folder, { dtypes: [dtype] });
  const open = await Exported.open(folder, graphFiles[dtype]);
  try {
    await use({ model, folder, open });
  } finally {
    await open.release();
    model.dispose();
    rmSync(folder, { recursive: true });
  }
}
