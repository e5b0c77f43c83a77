/** Trains the base model on the text with the project's own trainer, and writes it as a checkpoint with its log and curve. */
import { copyFileSync } from 'node:fs';
import path from 'node:path';
import { currentDevice } from '../../lib/engine';
import { writeFileAtomic } from '../../lib/files';
import { createModel, saveModel } from '../../lib/model';
import { renderPng } from '../../lib/plots/render';
import { curveSpec } from '../../lib/plots/specs';
import { loadTokenizer } from '../../lib/text';
import { type SFTConfig, SFTTrainer, type TrainOutput } from '../../lib/train';
import { CONTEXT, VOCABULARY_SIZE } from './tokenizer-files';

/** A Llama of 2.3 million parameters. */
const MODEL = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: VOCABULARY_SIZE,
  hidden_size: 192,
  intermediate_size: 640,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 48,
  hidden_act: 'silu',
  max_position_embeddings: CONTEXT,
  rope_theta: 10000,
  rms_norm_eps: 1e-5,
  initializer_range: 0.02,
  attention_bias: false,
  attention_dropout: 0,
  mlp_bias: false,
  tie_word_embeddings: true,
  use_cache: true,
  bos_token_id: 0,
  eos_token_id: 0,
  pad_token_id: 1,
};

const SEED = 1;

/** One pass over the text, packed into rows of the context's length. */
const RECIPE: Partial<SFTConfig> = {
  numTrainEpochs: 1,
  perDeviceTrainBatchSize: 2,
  packing: true,
  maxLength: CONTEXT,
  learningRate: 2e-3,
  lrSchedulerType: 'cosine_with_min_lr',
  lrSchedulerKwargs: { min_lr_rate: 0.05 },
  warmupSteps: 100,
  weightDecay: 0.1,
  adamBeta2: 0.98,
  maxGradNorm: 1,
  loggingSteps: 10,
  seed: SEED,
};

export interface PretrainOptions {
  /** Where the tokenizer is and the model goes. */
  directory: string;
  /** Where checkpoints go, so that an interrupted run can continue. */
  work: string;
  /** Continue from the newest checkpoint of `work`. */
  resume: boolean;
  /** Fewer steps than the recipe has, to try it. */
  maxSteps?: number;
}

/** Trains and writes `config.json`, float16 weights, `generation_config.json`, `pretrain_log.jsonl` and `pretrain_loss.png`. */
export async function pretrainBase(
  documents: readonly string[],
  { directory, work, resume, maxSteps }: PretrainOptions,
): Promise<TrainOutput> {
  console.log((await currentDevice()).description);
  const model = createModel(MODEL, { seed: SEED, tokenizer: await loadTokenizer(directory) });
  const trainer = new SFTTrainer({
    model,
    trainDataset: documents.map((text) => ({ text })),
    config: { ...RECIPE, maxSteps: maxSteps ?? -1, outputDir: work, overwriteOutputDir: !resume, saveSteps: 200, saveTotalLimit: 1 },
  });
  const output = await trainer.train({ resumeFromCheckpoint: resume });
  // A model is only saved into a folder of its own; the tokenizer already lies in this one.
  const fresh = path.join(work, 'model');
  await saveModel(model, fresh, { dtype: 'float16' });
  for (const file of ['config.json', 'model.safetensors']) copyFileSync(path.join(fresh, file), path.join(directory, file));
  const settings = { _from_model_config: true, bos_token_id: 0, eos_token_id: 0, pad_token_id: 1 };
  writeFileAtomic(path.join(directory, 'generation_config.json'), `${JSON.stringify(settings, null, 2)}\n`);
  writeFileAtomic(path.join(directory, 'pretrain_log.jsonl'), trainer.log.map((record) => `${JSON.stringify(record)}\n`).join(''));
  writeFileAtomic(
    path.join(directory, 'pretrain_loss.png'),
    await renderPng(curveSpec(trainer.log, 'loss', { title: 'Pretraining of the base model' })),
  );
  model.dispose();
  return output;
}
