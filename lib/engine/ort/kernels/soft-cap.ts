/** Soft-capping in a graph: numbers that come no further from 0 than a cap (Gemma 2; Gemma team 2024). */
import type { GraphBuilder } from '../onnx';

/** cap·tanh(x / cap). */
export function softCapped(graph: GraphBuilder, x: string, cap: number): string {
  const bound = graph.scalar('float32', cap);
  return graph.op('Mul', [graph.op('Tanh', [graph.op('Div', [x, bound])]), bound]);
}

/** Its slope, 1 − tanh²(x / cap), of what is capped already. */
export function softCapSlope(graph: GraphBuilder, capped: string, cap: number): string {
  const share = graph.op('Mul', [graph.op('Mul', [capped, capped]), graph.scalar('float32', 1 / (cap * cap))]);
  return graph.op('Sub', [graph.scalar('float32', 1), share]);
}
