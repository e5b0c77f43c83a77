/**
 * A mixture of experts in the place of an MLP: of each token a router chooses a few of many gated MLPs (Shazeer et al. 2017; Mixtral, Jiang et al. 2024).
 */
import type * as tf from '@tensorflow/tfjs-core';
import { experts, linear, route } from '../engine';
import type { ConfigReader } from './config';
import type { Parameter, ParameterList } from './layers';
import type { ForwardPass } from './types';

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
export function namesOfExperts(module: string): ExpertNames {
  const experts = `${module}.experts`;
  return {
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
  private readonly router: Parameter<tf.Rank.R2>;
  private readonly gateUp: Parameter<tf.Rank.R3>;
  private readonly down: Parameter<tf.Rank.R3>;

  constructor(
    private readonly config: ExpertsConfig & { hiddenSize: number },
    private readonly layer: number,
    parameters: ParameterList,
    { router, gateUp, down, parts }: ExpertNames,
  ) {
    const { count, hiddenSize, intermediateSize } = config;
    const ofEach = parts && Array.from({ length: count }, (_, expert) => parts(expert));
    this.router = parameters.matrix(router, count, hiddenSize);
    this.gateUp = parameters.matrices(
      gateUp,
      [count, 2 * intermediateSize, hiddenSize],
      ofEach?.flatMap(({ gate, up }) => [gate, up]),
    );
    this.down = parameters.matrices(
      down,
      [count, hiddenSize, intermediateSize],
      ofEach?.map(({ down }) => down),
    );
  }

  /** @param x [tokens, features] */
  apply(x: tf.Tensor2D, { routed }: ForwardPass): tf.Tensor2D {
    const { perToken } = this.config;
    const logits = linear(x, this.router.tensor);
    const routing = route(logits, this.config);
    routed?.(this.layer, logits, routing.chosen);
    return experts(x, routing, { gateUp: this.gateUp.tensor, down: this.down.tensor }, perToken);
  }
}
