/** What one chunk of a recurrence is written with, inside the body of a Scan. */
import type { Attributes, GraphBuilder } from '../onnx';
import { fullProduct } from '../products';
import { below, upTo } from './chunk-patterns';

type Turned = { transA?: boolean; transB?: boolean; negative?: boolean };

const SUMS = {
  'up to': {},
  behind: { exclusive: 1, reverse: 1 },
  from: { reverse: 1 },
} satisfies Record<string, Attributes>;

/** A chunk on its way forward. What is asked for twice is written once. */
export abstract class ChunkStep {
  /**
   * @param outer the graph that the constants lie in
   * @param rank how many axes operands of products have that are turned
   */
  constructor(
    protected readonly outer: GraphBuilder,
    readonly graph: GraphBuilder,
    private readonly rank: number,
  ) {}

  /** Ones where a token, a row, sees another before it, a column. */
  get below(): string {
    return below(this.outer);
  }

  /** The same, and itself. */
  get upTo(): string {
    return upTo(this.outer);
  }

  product(a: string, b: string, { transA, transB, negative }: Turned = {}): string {
    return fullProduct(this.graph, a, b, { ranks: [this.rank, this.rank], transA, transB, alpha: negative ? -1 : 1 });
  }

  times(a: string, b: string): string {
    return this.graph.op('Mul', [a, b]);
  }

  plus(first: string, ...others: string[]): string {
    return others.reduce((sum, x) => this.graph.op('Add', [sum, x]), first);
  }

  minus(a: string, b: string): string {
    return this.graph.op('Sub', [a, b]);
  }

  exp(x: string): string {
    return this.graph.op('Exp', [x]);
  }

  /** Along axes, which stay. */
  sum(x: string, ...axes: number[]): string {
    return this.graph.op('ReduceSum', [x, this.outer.ints(axes)], { keepdims: 1 });
  }

  /** Of each token what the numbers up to its own add up to, along an axis; or behind its own; or from its own on. */
  sums(x: string, axis: number, which: keyof typeof SUMS = 'up to'): string {
    return this.graph.op('CumSum', [x, this.outer.scalar('int32', axis)], SUMS[which]);
  }
}

/** The operations as functions. */
export const operationsOf = (step: ChunkStep) => ({
  product: step.product.bind(step),
  times: step.times.bind(step),
  plus: step.plus.bind(step),
  minus: step.minus.bind(step),
  sum: step.sum.bind(step),
});
