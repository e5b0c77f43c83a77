/** Sums of a matrix's rows by their ids. */
import { type Dim, ELEMENT_TYPES, type GraphBuilder } from '../onnx';

/**
 * Of each id the sum of its rows, zeros where it has none, as adding one row after the other gives it. Scattering goes from number to number,
 * gathering from row to row, at fifty times the speed: so the first row of each id is gathered, and only what repeats an id is scattered.
 * @param shape of the result: the number of ids, then a row's shape
 */
export function sumsOfRows(graph: GraphBuilder, rows: string, ids: string, shape: readonly Dim[]): string {
  const [count, ...width] = shape;
  const zeros = (shape: readonly Dim[]): string => graph.op('Expand', [graph.scalar('float32', 0), graph.shape(shape)]);
  if (graph.target.device !== 'cpu') return addRows(graph, zeros(shape), ids, rows, shape.length);
  const end = graph.op('Cast', [graph.op('Squeeze', [graph.sizeOf(ids, 0)])], { to: ELEMENT_TYPES.int32 });
  const places = graph.upTo(end);
  const first = graph.op('ScatterElements', [graph.op('Expand', [end, graph.shape([count])]), ids, places], { axis: 0, reduction: 'min' });
  const firstRows = graph.op('Gather', [graph.op('Concat', [rows, zeros([1, ...width])], { axis: 0 }), first], { axis: 0 });
  const repeats = graph.op('Greater', [places, graph.op('Gather', [first, ids], { axis: 0 })]);
  const [otherIds, others] = [ids, rows].map((x) => graph.op('Compress', [x, repeats], { axis: 0 }));
  return addRows(graph, firstRows, otherIds, others, shape.length);
}

/** base with rows[i], of this rank as a whole, added to its row ids[i]; one after the other, so that sums do not depend on threads. */
export function addRows(graph: GraphBuilder, base: string, ids: string, rows: string, rank: number): string {
  const column = graph.op('Reshape', [ids, graph.ints([-1, ...new Array<number>(rank - 1).fill(1)])]);
  const indices = graph.op('Expand', [column, graph.op('Shape', [rows])]);
  return graph.op('ScatterElements', [base, indices, rows], { axis: 0, reduction: 'add' });
}
