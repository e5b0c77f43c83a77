import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, test } from 'node:test';
import { Dataset } from '../../lib/data';
import { useDevice } from '../../lib/engine';
import { readJson } from '../../lib/files';
import { loadModel, saveModel } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { loadTokenizer } from '../../lib/text';
import { SFTTrainer } from '../../lib/train';
import { says } from '../data/hub-place';

const golden = path.join(projectRoot, 'test/golden');
const folder = path.join(golden, 'llama/model');
const scratch = mkdtempSync(path.join(tmpdir(), 'tunebook-eos-'));
before(() => useDevice('cpu'));
after(() => rmSync(scratch, { recursive: true }));

/** loss and grad_norm of TRL 1.13 with `eos_token='<|im_end|>'` on the rows below, in their order. */
const TRL = [
  [7.073080539703369, 3.6315195560455322, 118],
  [7.053874969482422, 1.9951667785644531, 441],
  [7.050617694854736, 2.6101162433624268, 561],
];

test("with another EOS token training takes TRL's steps", async () => {
  const rows = readJson(path.join(golden, 'rows.json')) as Array<{ instruction: string; output: string }>;
  const data = rows.slice(0, 8).map(({ instruction, output }) => ({ prompt: `${instruction}\n`, completion: output }));
  const model = await loadModel(folder, { eosToken: '<|im_end|>' });
  const config = {
    ...{ maxSteps: 3, perDeviceTrainBatchSize: 2, learningRate: 1e-3, lrSchedulerType: 'constant' as const },
    loggingSteps: 1,
  };
  const trainer = new SFTTrainer({
    model,
    trainDataset: Dataset.fromRows(data),
    config: { ...config, trainSamplingStrategy: 'sequential', disableTqdm: true },
  });
  await trainer.train();
  const steps = trainer.log.filter(({ loss }) => loss !== undefined);
  assert.equal(steps.length, TRL.length);
  for (const [i, [loss, norm, tokens]] of TRL.entries()) {
    assert.ok(Math.abs((steps[i].loss as number) - loss) < 1e-4, `${steps[i].loss}`);
    assert.ok(Math.abs((steps[i].grad_norm as number) - norm) < 1e-3 * norm, `${steps[i].grad_norm}`);
    assert.equal(steps[i].num_tokens, tokens);
  }
  model.dispose();
});

test('it is saved with the model, as TRL saves it, and ends what the model writes', async () => {
  const model = await loadModel(folder, { eosToken: '<|im_end|>' });
  assert.deepEqual([model.tokenizer.eosToken, model.tokenizer.eosId, model.tokenizer.stopIds], ['<|im_end|>', 3, [3, 0]]);
  await saveModel(model, scratch);
  model.dispose();
  const json = (name: string) => JSON.parse(readFileSync(path.join(scratch, name), 'utf8')) as Record<string, unknown>;
  assert.equal(json('config.json').eos_token_id, 3);
  assert.deepEqual(json('generation_config.json').eos_token_id, [3, 0]);
  assert.deepEqual([json('tokenizer_config.json').eos_token, json('tokenizer_config.json').pad_token], ['<|im_end|>', '<|pad|>']);
  const tokenizer = await loadTokenizer(scratch);
  assert.deepEqual([tokenizer.eosId, tokenizer.stopIds], [3, [3, 0]]);
});

test('a token that is not in the vocabulary is refused', async () => {
  const asked = loadModel(folder, { eosToken: '<|end|>' });
  await assert.rejects(asked, says(/The EOS token "<\|end\|>" that was asked for is not in the vocabulary of .*; name one that is\./));
});

test('beside the chat template of another tokenizer, whose own counts, it must be a token too, and a note says that it has no effect', async () => {
  const chatTemplateFrom = path.join(projectRoot, 'test/train/fixtures/chat-tokens');
  await assert.rejects(
    loadTokenizer(folder, { chatTemplateFrom, eosToken: '<nope>' }),
    says(/The EOS token "<nope>" that was asked for is not in the vocabulary of .*; name one that is\./),
  );
  const notesWith = async (eosToken?: string) => (await loadTokenizer(folder, { chatTemplateFrom, eosToken })).notes;
  const notes = await notesWith();
  assert.deepEqual(await notesWith('<|end_of_turn|>'), notes);
  const note = 'The EOS token "<|im_end|>" has no effect: that of the chat template is taken, "<|end_of_turn|>", as in TRL.';
  assert.deepEqual(await notesWith('<|im_end|>'), [...notes, note]);
});
