/** Names of modules and parameters, in checkpoints and in PEFT's files. */

/** Before every name in PEFT's files. */
export const PEFT_PREFIX = 'base_model.model.';

export const HEAD = 'lm_head';
/** GPT-NeoX's in its checkpoints; transformers has come to call it as all others. */
export const OLD_HEAD = 'embed_out';

/** `model.norm` of `model.norm.weight`. */
export function moduleOf(parameter: string): string {
  return parameter.slice(0, parameter.lastIndexOf('.'));
}

/** `q_proj` of `model.layers.0.self_attn.q_proj`. */
export function lastPart(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1);
}

/** What checkpoints call otherwise than transformers does: Granite's the experts, and what chooses among them, Mixtral's that alone. */
const OF_EXPERTS: ReadonlyArray<readonly [inFiles: string, usual: string]> = [
  ['.block_sparse_moe.input_linear.weight', '.block_sparse_moe.experts.gate_up_proj'],
  ['.block_sparse_moe.output_linear.weight', '.block_sparse_moe.experts.down_proj'],
  ['.block_sparse_moe.router.layer.weight', '.block_sparse_moe.router.weight'],
  ['.block_sparse_moe.gate.weight', '.mlp.gate.weight'],
];

/** The name of a parameter in transformers. */
export function usualName(parameter: string): string {
  if (parameter === `${OLD_HEAD}.weight`) return `${HEAD}.weight`;
  const [inFiles, usual] = OF_EXPERTS.find(([end]) => parameter.endsWith(end)) ?? ['', ''];
  return parameter.slice(0, parameter.length - inFiles.length) + usual;
}

/** As PEFT matches them: a module is meant when its name, or that of one around it, ends with what is named. */
export function isMeant(module: string, names: readonly string[]): boolean {
  const parts = module.split('.');
  const around = parts.map((_, i) => parts.slice(0, i + 1).join('.'));
  return around.some((name) => names.some((end) => name.endsWith(end)));
}
