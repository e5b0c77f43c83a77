/**
 * Matrices that lie in the processor's own layout (blocked-layout.ts) between runs.
 *
 * A product with one row or a few has to read its whole weight for each of them, and reads it at the speed of memory only if it
 * lies as the kernel wants it. So runs that say so (`onlyReads`) bring their weights into that layout, in the weights' own memory, and
 * the next run that reads or changes them in another way brings them back. Nothing outside sees the difference; and as it is the
 * run that says how it reads, not what ran before, the same run gives the same bits.
 */
import { byRows, linesIn } from './blocked-layout';
import type { OrtKernel } from './kernel';
import type { GraphBuilder, Target } from './onnx';
import type { Cut } from './program';
import type { Layout, Value } from './value';

/** Elements of the smallest matrix that is worth it. */
const SMALLEST = 1 << 14;

/** Whether a matrix can lie in blocks where the target computes. */
export function canLieInBlocks({ shape, dtype }: Value, { block, precision }: Target): boolean {
  if (block === undefined || precision !== 'float32' || dtype !== 'float32' || shape.length !== 2) return false;
  return shape.every((size) => size % block === 0) && shape[0] * shape[1] >= SMALLEST;
}

/**
 * The layout in which a cut's nodes read each of its feeds that may have to change it.
 * @param matrices those that may lie in blocks, where nothing in the cut reads them in another way
 */
export function layoutsOf(cut: Cut, matrices: ReadonlySet<Value>): Map<Value, Layout> {
  const layouts = new Map<Value, Layout>();
  for (const feed of cut.feeds) {
    if (matrices.has(feed)) layouts.set(feed, 'blocks');
    else if (feed.layout === 'blocks') layouts.set(feed, 'rows');
  }
  if (layouts.size === 0) return layouts;
  for (const { kernel, inputs, attrs } of cut.nodes) {
    const inBlocks = kernel.inputInBlocks?.(
      attrs,
      inputs.map((input) => input?.shape),
    );
    for (const [position, input] of inputs.entries()) if (input && position !== inBlocks && layouts.has(input)) layouts.set(input, 'rows');
  }
  return layouts;
}

/**
 * Brings a matrix into a layout.
 * @returns the kernel, whose key has the sizes, and the shape of its result, in which one operator writes it at once
 */
export function changeLayout([rows, columns]: readonly number[], layout: Layout): { kernel: OrtKernel; shape: number[] } {
  const shape = [1, rows, linesIn(columns), columns / linesIn(columns)];
  return { kernel: layout === 'blocks' ? toBlocks : toRows, shape };
}

const toBlocks: OrtKernel = {
  name: 'ToBlocks',
  infer: () => [],
  emit: ({ graph, inputs: [{ name }], concrete: [[rows, columns]] }) => byRows(graph, name, [rows, columns]),
};

const toRows: OrtKernel = {
  name: 'ToRows',
  infer: () => [],
  emit: ({ graph, inputs: [{ name }], concrete: [[rows, columns]] }) => {
    const image = graph.op('Reshape', [name, graph.ints([1, rows, linesIn(columns), -1])]);
    return graph.op('ReorderOutput', [image], { channels: rows });
  },
};

/** Rows of a matrix that lies in blocks, [rows / block, columns, block], number by number. */
export function blockedRows(graph: GraphBuilder, matrix: string, rows: string, columns: number): string {
  const block = graph.scalar('int32', graph.target.block as number);
  const wholeBlocks = graph.op('Div', [rows, block]);
  const inBlock = graph.op('Sub', [rows, graph.op('Mul', [wholeBlocks, block])]);
  const first = graph.op('Add', [graph.op('Mul', [wholeBlocks, graph.op('Mul', [block, graph.scalar('int32', columns)])]), inBlock]);
  const steps = graph.op('Mul', [
    graph.constant(
      'int32',
      Array.from({ length: columns }, (_, i) => i),
      [columns],
    ),
    block,
  ]);
  const places = graph.op('Add', [graph.op('Unsqueeze', [first, graph.ints([-1])]), steps]);
  return graph.op('Gather', [graph.op('Reshape', [matrix, graph.ints([-1])]), places], { axis: 0 });
}
