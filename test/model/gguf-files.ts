/** Models for the tests of GGUF files, and what lies in such a file. */
import assert from 'node:assert/strict';
import { closeSync, existsSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import type { TestContext } from 'node:test';
import { type GGUFParseOutput, gguf } from '@huggingface/gguf';
import { UserError } from '../../lib/errors';
import { type CausalLM, createModel, exportGguf, type GgufDtype, loadModel } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { loadTokenizer } from '../../lib/text';

/** The checkpoint of a family that is compared with transformers. */
export const golden = (family: string): string => path.join(projectRoot, 'test', 'golden', family, 'model');

/** In a folder of its own, which the test removes. */
export function temporaryFile(t: TestContext): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'tunebook-gguf-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return path.join(folder, 'model.gguf');
}

export async function loaded(t: TestContext, folder: string): Promise<CausalLM> {
  const model = await loadModel(folder);
  t.after(() => model.dispose());
  return model;
}

/** Of 1,024 tokens, with weights by chance. */
export async function created(t: TestContext, config: Record<string, unknown>): Promise<CausalLM> {
  const model = createModel(config, { seed: 1, tokenizer: await loadTokenizer(golden('llama')) });
  t.after(() => model.dispose());
  return model;
}

export const open = (file: string): Promise<GGUFParseOutput<{ strict: false }>> =>
  gguf(file, { allowLocalFile: true }) as unknown as Promise<GGUFParseOutput<{ strict: false }>>;

/** Values of a tensor in float32, as they lie in the file. */
export function valuesOf(
  file: string,
  { tensorInfos, tensorDataOffset }: Pick<GGUFParseOutput, 'tensorInfos' | 'tensorDataOffset'>,
  name: string,
): Float32Array {
  const info = tensorInfos.find((tensor) => tensor.name === name);
  assert.ok(info, `no tensor ${name}`);
  const values = new Float32Array(Number(info.shape.reduce((product, n) => product * n, 1n)));
  const descriptor = openSync(file, 'r');
  readSync(descriptor, new Uint8Array(values.buffer), 0, values.byteLength, Number(tensorDataOffset + info.offset));
  closeSync(descriptor);
  return values;
}

export const weightOf = (model: CausalLM, name: string): Float32Array => model.parameters.get(name)?.dataSync() as Float32Array;

/** Asserts that a model is refused in one sentence, with nothing written. */
export async function refuses(t: TestContext, model: CausalLM, pattern: RegExp, options?: { dtype: GgufDtype }): Promise<void> {
  const file = temporaryFile(t);
  await assert.rejects(exportGguf(model, file, options), (error: unknown) => error instanceof UserError && pattern.test(error.message));
  assert.ok(!existsSync(file));
}
