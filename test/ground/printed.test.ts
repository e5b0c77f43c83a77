import assert from 'node:assert/strict';
import * as path from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { Dataset, type Example } from '../../lib/data';
import { createModel } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { loadTokenizer } from '../../lib/text';
import { SFTTrainer } from '../../lib/train';

test('datasets, tokenizers, models and trainers print as one line each, as the last expression of a cell or inside of something', async () => {
  const folder = path.join(projectRoot, 'data/base');
  const tokenizer = await loadTokenizer(folder);
  const rows = Dataset.fromRows(['one', 'two', 'three'].map((word) => ({ instruction: 'Say it.', input: word, output: word })));
  const shape = { hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 128 };
  const config = { model_type: 'llama', vocab_size: tokenizer.vocabSize, ...shape, tie_word_embeddings: true };
  const model = createModel(config, { seed: 1, tokenizer });
  const trainer = new SFTTrainer({ model, trainDataset: rows, config: { perDeviceTrainBatchSize: 1, numTrainEpochs: 2 } });

  assert.equal(inspect(rows), 'Dataset: 3 rows (alpaca)');
  assert.equal(inspect({ test: rows.take(1) }), '{ test: Dataset: 1 row (alpaca) }');
  const mixed = new Dataset<Example>([{ messages: [{ role: 'user', content: 'Hi' }] }, ...rows.rows]);
  assert.equal(inspect(mixed), 'Dataset: 4 rows (messages and others)');
  assert.equal(inspect(tokenizer), `Tokenizer: ${tokenizer.vocabSize} tokens, from ${folder}`);
  const count = [...model.parameters.values()].reduce((sum, { size }) => sum + size, 0);
  assert.equal(inspect(model), `llama model: ${count.toLocaleString('en')} parameters, 1 layer, from new weights, seed 1`);
  assert.equal(inspect(trainer), 'SFTTrainer: 3 examples, 6 steps, at step 0');
  model.dispose();
  assert.match(inspect(model), /^llama model: /);
});
