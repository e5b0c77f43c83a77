/** Checkpoints of models that read pictures too: the language model in them is a model by itself. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { readJson } from '../../lib/files';
import { loadModel, saveModel, tokenNll } from '../../lib/model';
import { fixtures } from './support';

const scratch = mkdtempSync(path.join(tmpdir(), 'tunebook-multimodal-'));
after(() => rmSync(scratch, { recursive: true, force: true }));
before(() => useDevice('cpu'));

const CLASSES = {
  'qwen3_5-multimodal': { type: 'qwen3_5_text', name: 'Qwen3_5ForCausalLM' },
  'gemma4-multimodal': { type: 'gemma4_text', name: 'Gemma4ForCausalLM' },
  'gemma4_unified-multimodal': { type: 'gemma4_unified_text', name: 'Gemma4UnifiedForCausalLM' },
  'gemma3-multimodal': { type: 'gemma3_text', name: 'Gemma3ForCausalLM' },
  'ministral3-multimodal': { type: 'ministral3', name: 'Ministral3ForCausalLM' },
};

/** Those whose names of weights begin alike. */
const NAMED_ALIKE = ['qwen3_5-multimodal', 'gemma4-multimodal', 'gemma4_unified-multimodal'];

for (const [fixture, { type, name }] of Object.entries(CLASSES)) {
  describe(fixture, () => {
    const folder = path.join(fixtures, fixture);

    test('is saved as the language model alone, which computes the same', async () => {
      const model = await loadModel(folder);
      assert.ok([...model.parameters.keys()].every((parameter) => parameter.startsWith('model.')));
      const saved = path.join(scratch, fixture);
      await saveModel(model, saved);
      const config = readJson(path.join(saved, 'config.json')) as Record<string, unknown>;
      assert.equal(config.model_type, type);
      assert.deepEqual(config.architectures, [name]);
      assert.equal('vision_config' in config, false);
      const again = await loadModel(saved);
      const ids = [5, 9, 2, 30, 41, 7];
      assert.deepEqual((await tokenNll(again, ids)).nll, (await tokenNll(model, ids)).nll);
      for (const opened of [model, again]) opened.dispose();
    });

    test('with the configuration of its language model alone opens where its weights are called as those of Qwen3.5, which transformers saves so', async () => {
      const alone = path.join(scratch, `${fixture}-alone`);
      cpSync(folder, alone, { recursive: true });
      cpSync(path.join(scratch, fixture, 'config.json'), path.join(alone, 'config.json'));
      if (!NAMED_ALIKE.includes(fixture)) return assert.rejects(loadModel(alone), /the tensor "model.embed_tokens.weight" is missing/);
      (await loadModel(alone)).dispose();
    });

    test('is refused without the configuration of its language model', async () => {
      const broken = path.join(scratch, `${fixture}-broken`);
      cpSync(folder, broken, { recursive: true });
      const { text_config, ...config } = readJson(path.join(folder, 'config.json')) as Record<string, unknown>;
      writeFileSync(path.join(broken, 'config.json'), JSON.stringify(config));
      await assert.rejects(loadModel(broken), /config\.json: "text_config" is missing; expected the configuration of the language model/);
    });
  });
}
