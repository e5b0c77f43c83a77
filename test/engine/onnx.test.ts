/** What the graph builder writes, seen through ONNX Runtime. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Reader } from 'protobufjs/minimal';
import { loop } from '../../lib/engine/ort/kernels/loop';
import { onnxRuntime } from '../../lib/engine/ort/native';
import { float, GraphBuilder } from '../../lib/engine/ort/onnx';
import { ortTensor, Session } from '../../lib/engine/ort/session';

const settings = { threads: 1, executionProviders: ['cpu'] };
const x = ortTensor('float32', Float32Array.of(1, 2, 3, 4, 5, 6), [6]);

test('what has been computed already is not computed again', () => {
  const graph = new GraphBuilder();
  const input = graph.input('x', 'float32', ['n']);
  const leaky = graph.op('LeakyRelu', [input], { alpha: float(1) });
  assert.equal(graph.op('LeakyRelu', [input], { alpha: float(1) }), leaky);
  assert.notEqual(graph.op('LeakyRelu', [input], { alpha: float(2) }), leaky);
  assert.notEqual(graph.op('Neg', [input]), leaky);
  assert.deepEqual(
    graph.ops('Split', [input], 2, { axis: 0, num_outputs: 2 }),
    graph.ops('Split', [input], 2, { axis: 0, num_outputs: 2 }),
  );
});

test('one value may be several outputs', () => {
  const graph = new GraphBuilder();
  const input = graph.input('x', 'float32', ['n']);
  for (const name of ['a', 'b']) graph.outputAs(name, graph.op('Neg', [input]), 'float32', ['n']);
  const session = new Session(graph, settings);
  const { a, b } = session.run({ x }, { a: null, b: null });
  session.dispose();
  assert.deepEqual(a.data, Float32Array.of(-1, -2, -3, -4, -5, -6));
  assert.deepEqual(b.data, a.data);
});

test('what no output needs is not written; what the body of a loop reads is', () => {
  const graph = new GraphBuilder();
  const input = graph.input('x', 'float32', ['n']);
  const unread = graph.op('Neg', [input]);
  graph.op('Reshape', [unread, graph.ints([-1, 2])]);
  const readInside = graph.op('Abs', [input]);
  const count = graph.scalar('int64', 2);
  const [doubled] = loop(graph, { count, sequences: [], carried: [input] }, (body, _iteration, [sum]) => {
    body.op('Sqrt', [readInside]);
    return { items: [], carried: [body.op('Add', [sum, readInside])] };
  });
  graph.outputAs('y', doubled, 'float32');
  const operators = ({ nodes }: GraphBuilder['parts']): string[] =>
    nodes.flatMap(({ op, attributes: { body } }) => [op, ...(body instanceof GraphBuilder ? operators(body.parts) : [])]);
  assert.deepEqual(operators(graph.parts), ['Abs', 'Loop', 'Identity', 'Add']);
  assert.deepEqual(inputNames(graph.toModel()), ['x']);
  const session = new Session(graph, settings);
  const { y } = session.run({ x }, { y: null });
  session.dispose();
  assert.deepEqual(y.data, Float32Array.of(3, 6, 9, 12, 15, 18));
});

test('a shape with a size to be inferred is no constant to ONNX Runtime, but an input with a default', () => {
  const graph = new GraphBuilder();
  const input = graph.input('x', 'float32', ['n']);
  const open = graph.ints([-1, 2]);
  const closed = graph.ints([2, 3]);
  graph.outputAs('pairs', graph.op('Reshape', [input, open]), 'float32');
  graph.outputAs('threes', graph.op('Reshape', [input, closed]), 'float32');
  assert.deepEqual(inputNames(graph.toModel()), ['x', open]);
  const session = new Session(graph, settings);
  const { pairs, threes } = session.run({ x }, { pairs: null, threes: null });
  session.dispose();
  assert.deepEqual(pairs.dims, [3, 2]);
  assert.deepEqual(threes.dims, [2, 3]);
});

test('of a shape that was opened ONNX Runtime does not know how many axes it has', () => {
  const graph = new GraphBuilder();
  const input = graph.input('x', 'float32', ['n']);
  const shape = graph.concat([graph.sizeOf(input, 0), graph.ints([1])], 0);
  graph.outputAs('known', graph.op('Reshape', [input, shape]), 'float32');
  graph.outputAs('open', graph.op('Reshape', [input, graph.open(shape)]), 'float32');
  const native = new (onnxRuntime().InferenceSession)();
  const model = graph.toModel();
  native.loadModel(model.buffer as ArrayBuffer, model.byteOffset, model.byteLength, {});
  const axes = native.outputMetadata.map((value) => [value.name, value.isTensor && value.shape.length]);
  native.dispose();
  assert.deepEqual(Object.fromEntries(axes), { known: 2, open: 0 });
  const session = new Session(graph, settings);
  const { open } = session.run({ x }, { known: null, open: null });
  session.dispose();
  assert.deepEqual(open.dims, [6, 1]);
});

test('what is computed does not depend on how large the graph is, from where on ONNX Runtime does not look for better operations', () => {
  const steps = (from: typeof x, count: number): typeof x => {
    const graph = new GraphBuilder();
    let value = graph.input('x', 'float32', ['n']);
    for (let i = 0; i < count; i++) value = graph.op(i % 2 ? 'Sin' : 'Mul', i % 2 ? [value] : [value, graph.scalar('float32', 1.1)]);
    graph.outputAs('y', value, 'float32', ['n']);
    assert.equal(graph.nodeCount, count);
    const session = new Session(graph, settings);
    const { y } = session.run({ x: from }, { y: null });
    session.dispose();
    return y as typeof x;
  };
  const inPieces = [1000, 1000, 1000].reduce(steps, x);
  assert.deepEqual(steps(x, 3000).data, inPieces.data);
});

/** Names of the inputs that a model declares (onnx.proto: ModelProto.graph is field 7, GraphProto.input 11, ValueInfoProto.name 1). */
function inputNames(model: Uint8Array): string[] {
  const [graph] = fieldsOf(model, 7);
  return fieldsOf(graph, 11).map((info) => Buffer.from(fieldsOf(info, 1)[0]).toString());
}

/** The contents of a message's fields of a number, which are messages or texts. */
function fieldsOf(message: Uint8Array, wanted: number): Uint8Array[] {
  const reader = Reader.create(message);
  const found: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === ((wanted << 3) | 2)) found.push(reader.bytes());
    else reader.skipType(tag & 7);
  }
  return found;
}
