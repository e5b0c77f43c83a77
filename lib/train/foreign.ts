/**
 * Keys of TRL and transformers that recipes carry but that have no meaning here.
 * Those that cannot change the result are accepted, with a note where somebody might wonder; the rest are refused.
 */
import { showValue } from '../json';
import { snakeCase } from './fields';

/** What becomes of a foreign key: nothing at all, a note, or a refusal. */
export interface Verdict {
  note?: string;
  refusal?: string;
}

/** Accepted whatever their value: they say how PyTorch computes, loads data or reports, not what is learned. */
const HARMLESS: Record<string, string | undefined> = {
  bf16: 'computes in float32',
  bf16_full_eval: 'computes in float32',
  fp16_full_eval: 'computes in float32',
  tf32: 'computes in float32',
  use_cpu: 'useDevice chooses the device',
  no_cuda: 'useDevice chooses the device',
  gradient_checkpointing_kwargs: undefined,
  activation_offloading: 'gradient_checkpointing saves memory',
  auto_find_batch_size: 'tokens_per_micro_batch bounds memory',
  torch_compile: 'the engine compiles by itself',
  torch_compile_backend: undefined,
  torch_compile_mode: undefined,
  torch_empty_cache_steps: undefined,
  use_liger_kernel: 'the engine has its own kernels',
  liger_kernel_config: undefined,
  attn_implementation: 'the engine has its own kernels',
  use_cache: undefined,
  report_to: 'metrics go to metrics.jsonl',
  run_name: undefined,
  project: undefined,
  logging_dir: 'metrics go to metrics.jsonl',
  log_level: undefined,
  log_level_replica: undefined,
  log_on_each_node: undefined,
  logging_nan_inf_filter: 'a loss that is not finite stops the run',
  include_num_input_tokens_seen: 'num_tokens is always logged',
  include_for_metrics: undefined,
  prediction_loss_only: undefined,
  eval_accumulation_steps: undefined,
  eval_do_concat_batches: undefined,
  eval_use_gather_object: undefined,
  batch_eval_metrics: undefined,
  skip_memory_metrics: undefined,
  dataset_num_proc: undefined,
  dataloader_num_workers: undefined,
  dataloader_pin_memory: undefined,
  dataloader_persistent_workers: undefined,
  dataloader_prefetch_factor: undefined,
  dataloader_in_order: undefined,
  remove_unused_columns: undefined,
  label_names: undefined,
  length_column_name: undefined,
  pad_token: 'batches carry no padding',
  average_tokens_across_devices: undefined,
  local_rank: undefined,
  ddp_backend: undefined,
  ddp_timeout: undefined,
  ddp_find_unused_parameters: undefined,
  ddp_bucket_cap_mb: undefined,
  ddp_broadcast_buffers: undefined,
  ddp_static_graph: undefined,
  full_determinism: 'the same seed always gives the same bits',
  save_only_model: 'checkpoints always hold the optimizer too',
  save_safetensors: undefined,
  save_on_each_node: undefined,
  restore_callback_states_from_checkpoint: undefined,
  hub_token: undefined,
  hub_model_id: undefined,
  hub_strategy: undefined,
  hub_private_repo: undefined,
  hub_always_push: undefined,
  hub_revision: undefined,
  trackio_space_id: undefined,
  trackio_bucket_id: undefined,
  trackio_static_space_id: undefined,
  enable_jit_checkpoint: undefined,
  dataloader_multiprocessing_context: undefined,
  debug: undefined,
  do_train: undefined,
  do_eval: undefined,
  do_predict: undefined,
  trust_remote_code: 'no code of a model is ever run',
};

/** Accepted at these values only, because any other would change what is learned or saved; and what to do instead. */
const BOUND: Record<string, { values: readonly unknown[]; instead: string }> = {
  optim_target_modules: { values: [null], instead: 'all parameters are trained alike; remove it' },
  truncation_mode: { values: ['keep_start'], instead: 'only keep_start is available' },
  eos_token: { values: [null], instead: 'give loadModel the token as eosToken' },
  dataset_text_field: { values: ['text'], instead: 'give loadDataset the column as textField' },
  dataset_kwargs: { values: [null], instead: 'remove it' },
  model_init_kwargs: { values: [null], instead: 'weights are loaded in float32; remove it' },
  ignore_data_skip: { values: [false], instead: 'a resumed run always continues with the next example; remove it' },
  push_to_hub: {
    values: [false],
    instead: 'nothing is uploaded from here; upload output_dir by npx @huggingface/hub upload org/name output_dir',
  },
  deepspeed: { values: [null, ''], instead: 'training runs in one process; remove it' },
  fsdp: { values: [null, '', false], instead: 'training runs in one process; remove it' },
  fsdp_config: { values: [null], instead: 'training runs in one process; remove it' },
  parallelism_config: { values: [null], instead: 'training runs in one process; remove it' },
  accelerator_config: { values: [null], instead: 'training runs in one process; remove it' },
};

/** Names that TRL or transformers had once. */
const FORMER: Record<string, string> = {
  max_seq_length: 'max_length',
  evaluation_strategy: 'eval_strategy',
  group_by_length: 'train_sampling_strategy: group_by_length',
  per_gpu_train_batch_size: 'per_device_train_batch_size',
  per_gpu_eval_batch_size: 'per_device_eval_batch_size',
};

/** What other programs call settings, too far from the names here to be found by their letters. */
const ELSEWHERE: Record<string, string> = {
  ...{ lr: 'learning_rate', epochs: 'num_train_epochs', num_epochs: 'num_train_epochs', iters: 'max_steps', steps: 'max_steps' },
  ...{ batch_size: 'per_device_train_batch_size', grad_accumulation_steps: 'gradient_accumulation_steps', warmup: 'warmup_steps' },
  ...{ model: 'model_name_or_path', data: 'dataset_name', dataset: 'dataset_name', scheduler: 'lr_scheduler_type' },
};

/** All foreign keys that are accepted at least at one value. */
export const foreignKeys: readonly string[] = [...Object.keys(HARMLESS), ...Object.keys(BOUND)];

/** The verdict on a key that is not ours; undefined when TRL does not know it either. */
export function settleForeignKey(key: string, value: unknown): Verdict | undefined {
  const known = snakeCase(key.replaceAll('-', '_'));
  if (Object.hasOwn(FORMER, known)) return { refusal: `${key} is the former name of a setting; write ${FORMER[known]}.` };
  if (Object.hasOwn(ELSEWHERE, known)) return { refusal: `${key} is no setting here; write ${ELSEWHERE[known]}.` };
  if (Object.hasOwn(BOUND, known)) {
    const { values, instead } = BOUND[known];
    const given = typeof value === 'string' ? word(value) : value;
    const empty = typeof given === 'object' && given !== null && Object.keys(given).length === 0;
    if (values.some((allowed) => allowed === given) || (values.includes(null) && (given === undefined || empty))) return {};
    return { refusal: `${key} is ${showValue(value)}, which would change the result here: ${instead}.` };
  }
  if (!Object.hasOwn(HARMLESS, known)) return undefined;
  const reason = HARMLESS[known];
  const off = value === false || value === null || value === 'none' || value === 'false';
  return off || reason === undefined ? {} : { note: `${key} has no effect here: ${reason}.` };
}

/** A command-line word as the value it means. */
function word(value: string): unknown {
  const meanings: Record<string, unknown> = { true: true, false: false, null: null, none: null };
  if (Object.hasOwn(meanings, value)) return meanings[value];
  return value !== '' && Number.isFinite(Number(value)) ? Number(value) : value;
}
