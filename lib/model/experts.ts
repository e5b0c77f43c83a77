/**
 * A mixture of experts in the place of an MLP: of each token a router chooses a few of many gated MLPs (Shazeer et al. 2017; Mixtral, Jiang et al. 2024).
 */
import * as tf from '@tensorflow/tfjs-core';
import { experts, linear, type RoutingOptions, route } from '../engine';
import type { ConfigReader } from './config';
import type { MatrixStack, Parameter, ParameterList } from './layers';
import { moduleOf } from './names';
import type { Family, ForwardPass } from './types';

export interface ExpertsConfig extends Readonly<RoutingOptions> {
  /** How many there are. */
  readonly count: number;
  /** Hidden features of each. */
  readonly intermediateSize: number;
  /** Which layers have experts. */
  readonly layers: readonly boolean[];
  /** Hidden features of the MLP that all tokens go through beside them, where there is one (shared-expert.ts). */
  readonly sharedSize?: number;
  /** Whether a vector of the checkpoint, which training leaves as it is, is added to the scores by which experts are chosen. */
  readonly biased?: boolean;
  /** Whether they compute as those of gpt-oss (clamped-experts.ts). */
  readonly clamped?: boolean;
  /** Whether transformers has no loss that keeps the family's experts in use. */
  readonly withoutRouterLoss?: boolean;
}

/** Names of parameters, and of their parts where checkpoints hold each expert by itself. */
export interface ExpertNames {
  router: string;
  gateUp: string;
  down: string;
  /** Of what is added to the scores for choosing, where something is. */
  bias?: string;
  /** Whether transformers' class has the router behind the experts: adapters draw what they begin with in that order. */
  routerIsLast?: boolean;
  /** @returns the names of an expert's matrices */
  parts?: (expert: number) => { gate: string; up: string; down: string };
}

/** In all layers together; no decoder has nearly as many, and modules are built before the weights are looked at. */
const MOST_EXPERTS = 100_000;

/**
 * How many experts a configuration has, and how many a token goes through.
 * @param key under which it says how many there are
 * @throws UserError when there are too many, a token goes through more than there are, or they compute otherwise than with silu
 */
export function readExperts(
  reader: ConfigReader,
  { key, fallback, perToken }: { key: string; fallback: number; perToken: number },
): Pick<ExpertsConfig, 'count' | 'perToken'> {
  const count = reader.count(key, fallback);
  if (count * reader.count('num_hidden_layers') > MOST_EXPERTS)
    throw reader.wrong(key, count, `at most ${MOST_EXPERTS} experts in all layers together`);
  const chosen = reader.count('num_experts_per_tok', perToken);
  if (chosen > count) throw reader.wrong('num_experts_per_tok', chosen, `at most ${key}, which is ${count}`);
  const activation = reader.activation('hidden_act', 'silu');
  if (activation !== 'silu' && activation !== 'swish')
    throw reader.wrong('hidden_act', activation, 'silu, as experts compute with it alone');
  return { count, perToken: chosen };
}

/** Under which key a configuration says how many experts there are, where it may say it under two: as in transformers this one counts before the other. */
export function keyOfCount(reader: ConfigReader): string {
  return reader.get('num_local_experts') === undefined ? 'num_experts' : 'num_local_experts';
}

/** Of families whose class in transformers has the router behind the experts. */
const ROUTER_IS_LAST: ReadonlySet<Family> = new Set(['qwen3_moe', 'lfm2_moe']);

/** What checkpoints call an expert's layers. */
const USUAL_LAYERS = { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };
const NUMBERED_LAYERS = { gate: 'w1', up: 'w3', down: 'w2' };

/** Families whose checkpoints call them otherwise, and perhaps the module, too, that they are in. */
const IN_FILES: Readonly<Partial<Record<Family, { layers: typeof USUAL_LAYERS; module?: string }>>> = {
  lfm2_moe: { layers: NUMBERED_LAYERS },
  mixtral: { layers: NUMBERED_LAYERS, module: 'block_sparse_moe' },
};

/** As most checkpoints name them. @param module in whose place the experts are, as transformers calls it */
export function namesOfExperts(module: string, family: Family): ExpertNames {
  const { layers, module: own } = IN_FILES[family] ?? { layers: USUAL_LAYERS };
  const inFiles = own === undefined ? module : `${moduleOf(module)}.${own}`;
  return {
    routerIsLast: ROUTER_IS_LAST.has(family),
    router: `${inFiles}.gate.weight`,
    gateUp: `${module}.experts.gate_up_proj`,
    down: `${module}.experts.down_proj`,
    bias: `${module}.expert_bias`,
    parts: (expert) => {
      const [gate, up, down] = [layers.gate, layers.up, layers.down].map((layer) => `${inFiles}.experts.${expert}.${layer}.weight`);
      return { gate, up, down };
    },
  };
}

export class Experts {
  private readonly router: MatrixStack<tf.Rank.R2>;
  private readonly gateUp: MatrixStack<tf.Rank.R3>;
  private readonly down: MatrixStack<tf.Rank.R3>;
  private readonly bias?: Parameter<tf.Rank.R1>;

  constructor(
    private readonly config: ExpertsConfig & { hiddenSize: number },
    private readonly layer: number,
    parameters: ParameterList,
    { router, gateUp, down, bias, routerIsLast = false, parts }: ExpertNames,
  ) {
    const { count, hiddenSize, intermediateSize, biased } = config;
    const ofEach = parts && Array.from({ length: count }, (_, expert) => parts(expert));
    const routerMatrix = parameters.matrix(router, count, hiddenSize);
    const gateUpMatrices = parameters.matrices(
      gateUp,
      [count, 2 * intermediateSize, hiddenSize],
      ofEach?.flatMap(({ gate, up }) => [gate, up]),
    );
    const downMatrices = parameters.matrices(
      down,
      [count, hiddenSize, intermediateSize],
      ofEach?.map(({ down }) => down),
    );
    const first = routerIsLast ? undefined : parameters.stack(routerMatrix);
    this.gateUp = parameters.stack(gateUpMatrices, { mayBeCompact: true });
    this.down = parameters.stack(downMatrices, { mayBeCompact: true });
    this.router = first ?? parameters.stack(routerMatrix);
    if (biased && bias !== undefined) this.bias = parameters.buffer(bias, count);
  }

  /** @param x [tokens, features] */
  apply(x: tf.Tensor2D, { routed }: ForwardPass): tf.Tensor2D {
    const { perToken } = this.config;
    const logits = logitsOfRouter(x, this.router);
    const routing = route(logits, this.config, this.bias?.tensor);
    routed?.(this.layer, logits, routing.chosen);
    const added = { gateUp: this.gateUp.adapter?.(), down: this.down.adapter?.() };
    return experts(x, routing, { gateUp: this.gateUp.matrices, down: this.down.matrices, added }, perToken);
  }
}

/** By which experts are chosen, [tokens, experts]. */
export function logitsOfRouter(x: tf.Tensor2D, { tensor, adapter }: MatrixStack<tf.Rank.R2>): tf.Tensor2D {
  const logits = linear(x, tensor);
  if (!adapter) return logits;
  const { a, b } = adapter();
  const [inner, outer] = [a, b].map((factor) => tf.squeeze<tf.Tensor2D>(factor, [0]));
  return tf.add(logits, linear(linear(x, inner), outer));
}
