import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import * as path from 'node:path';
import { before, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { readJson } from '../../lib/files';
import { generateBatch, loadModel } from '../../lib/model';
import { closeTo, fixtures, packedLogits } from './support';

interface Expected {
  sequences: { input_ids: number[]; logits: number[][] }[];
  /** Continues the second sequence, or the only one. */
  greedy: number[];
}

before(() => useDevice('cpu'));

const variants = readdirSync(fixtures, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

for (const variant of variants) {
  const folder = path.join(fixtures, variant);
  const { sequences, greedy } = readJson(path.join(folder, 'expected.json')) as Expected;
  const ids = sequences.map(({ input_ids }) => input_ids);

  test(`${variant}: logits of packed sequences are those that transformers computes for each alone`, async () => {
    const model = await loadModel(folder);
    const logits = await packedLogits(model, ids);
    for (const [i, { logits: expected }] of sequences.entries()) closeTo(logits[i].flat(), expected.flat(), 1e-5);
    model.dispose();
  });

  test(`${variant}: prompts of different lengths continued together give the ids that transformers generates for one`, async () => {
    const model = await loadModel(folder);
    const results = await generateBatch(model, ids, { maxNewTokens: 10, ignoreEos: true });
    assert.deepEqual(results[Math.min(1, ids.length - 1)].ids, greedy);
    model.dispose();
  });
}

test('the variants cover every family', () => {
  for (const family of [
    'llama',
    'mistral',
    'qwen2',
    'qwen3',
    'qwen2_moe',
    'qwen3_moe',
    'mixtral',
    'gpt_oss',
    'lfm2_moe',
    'gemma1',
    'gemma2',
    'gemma3',
    'gemma4',
    'nanochat',
    'smollm3',
    'ernie4_5',
    'hunyuan',
    'starcoder2',
    'gpt_bigcode',
    'glm',
    'glm4',
    'gptj',
    'codegen',
    'bloom',
    'ministral3',
    'exaone4',
    'cohere',
    'cohere2',
    'olmo',
    'olmo2',
    'olmo3',
    'olmoe',
    'granite',
    'granitemoe',
    'granitemoehybrid',
    'granitemoehybrid-experts',
    'granitemoehybrid-mamba',
    'falcon_h1',
    'phi',
    'phi3',
    'stablelm',
    'lfm2',
    'qwen3_5',
    'gpt2',
    'gpt-neo',
    'gpt-neox',
    'opt',
  ])
    assert.ok(variants.some((name) => name.startsWith(family)));
});
