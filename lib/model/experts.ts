/**
 * A mixture of experts in the place of an MLP: of each token a router chooses a few of many gated MLPs (Shazeer et al. 2017; Mixtral, Jiang et al. 2024).
 */
import * as tf from '@tensorflow/tfjs-core';
import { experts, linear, route } from '../engine';
import type { ConfigReader } from './config';
import type { MatrixStack, ParameterList } from './layers';
import type { Family, ForwardPass } from './types';

export interface ExpertsConfig {
  /** How many there are. */
  readonly count: number;
  /** How many of them each token goes through. */
  readonly perToken: number;
  /** Whether the weights of a token's experts sum up to 1, or are its experts' shares of the softmax over all. */
  readonly normalized: boolean;
  /** Hidden features of each. */
  readonly intermediateSize: number;
  /** Which layers have experts. */
  readonly layers: readonly boolean[];
}

/** Names of parameters, and of their parts where checkpoints hold each expert by itself. */
export interface ExpertNames {
  router: string;
  gateUp: string;
  down: string;
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

/** As Qwen's checkpoints name them, and OLMoE's. @param module in whose place the experts are */
export function namesOfExperts(module: string, family: Family): ExpertNames {
  const experts = `${module}.experts`;
  return {
    routerIsLast: family === 'qwen3_moe',
    router: `${module}.gate.weight`,
    gateUp: `${experts}.gate_up_proj`,
    down: `${experts}.down_proj`,
    parts: (expert) => {
      const [gate, up, down] = ['gate', 'up', 'down'].map((which) => `${experts}.${expert}.${which}_proj.weight`);
      return { gate, up, down };
    },
  };
}

export class Experts {
  private readonly router: MatrixStack<tf.Rank.R2>;
  private readonly gateUp: MatrixStack<tf.Rank.R3>;
  private readonly down: MatrixStack<tf.Rank.R3>;

  constructor(
    private readonly config: ExpertsConfig & { hiddenSize: number },
    private readonly layer: number,
    parameters: ParameterList,
    { router, gateUp, down, routerIsLast = false, parts }: ExpertNames,
  ) {
    const { count, hiddenSize, intermediateSize } = config;
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
    this.gateUp = parameters.stack(gateUpMatrices);
    this.down = parameters.stack(downMatrices);
    this.router = first ?? parameters.stack(routerMatrix);
  }

  /** @param x [tokens, features] */
  apply(x: tf.Tensor2D, { routed }: ForwardPass): tf.Tensor2D {
    const { perToken } = this.config;
    const logits = this.logits(x);
    const routing = route(logits, this.config);
    routed?.(this.layer, logits, routing.chosen);
    const added = { gateUp: this.gateUp.adapter?.(), down: this.down.adapter?.() };
    return experts(x, routing, { gateUp: this.gateUp.tensor, down: this.down.tensor, added }, perToken);
  }

  /** By which experts are chosen. */
  private logits(x: tf.Tensor2D): tf.Tensor2D {
    const { tensor, adapter } = this.router;
    const logits = linear(x, tensor);
    if (!adapter) return logits;
    const { a, b } = adapter();
    const [inner, outer] = [a, b].map((factor) => tf.squeeze<tf.Tensor2D>(factor, [0]));
    return tf.add(logits, linear(linear(x, inner), outer));
  }
}
