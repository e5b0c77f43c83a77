/** The parts of an ONNX graph, and how they are written in the ONNX protobuf format (github.com/onnx/onnx, onnx.proto). */
import { Writer } from 'protobufjs/minimal';

/** A size known when the graph is built, or the name of one that is known only when it runs. */
export type Dim = number | string;

/** Element types of the graph's tensors, by their number in ONNX. */
export const ELEMENT_TYPES = { float32: 1, uint8: 2, uint16: 4, int32: 6, int64: 7, bool: 9, float16: 10 } as const;
export type ElementType = keyof typeof ELEMENT_TYPES;

/** A tensor, or a sequence of tensors, as Loop carries them along. */
export type ValueType = ElementType | `${ElementType}[]`;

/** A floating-point attribute. */
export class Float {
  constructor(readonly value: number) {}
}

export interface NodeRecord {
  op: string;
  domain: string;
  inputs: string[];
  outputs: string[];
  /** Numbers are integers unless they are a `Float`; graphs are bodies of loops. */
  attributes: Record<string, number | number[] | string | Float | { readonly parts: GraphParts }>;
}

export interface ValueInfo {
  name: string;
  type: ValueType;
  shape?: Dim[];
}

export interface Constant {
  name: string;
  type: ElementType;
  dims: readonly number[];
  data: Uint8Array;
}

/** Everything that is written of a graph. */
export interface GraphParts {
  nodes: readonly NodeRecord[];
  constants: readonly Constant[];
  /** Constants whose data stays outside of the protobuf, by name. */
  outside: ReadonlyMap<string, Constant>;
  inputs: readonly ValueInfo[];
  outputs: readonly ValueInfo[];
  /** Values whose shape is said, by name. */
  described: ReadonlyMap<string, ValueInfo>;
  /** Other names that values have got. */
  renamed: ReadonlyMap<string, string>;
}

/** Bytes of a file. */
export interface DataPlace {
  offset: number;
  length: number;
}

/** Where the data outside of a model lies, by the names of the constants. */
export interface DataPlaces {
  file: string;
  of: ReadonlyMap<string, DataPlace>;
}

const ATTRIBUTE_TYPE = { float: 1, int: 2, string: 3, graph: 5, ints: 7 } as const;
const IR_VERSION = 10;

/** Where the data of a constant is (TensorProto.DataLocation). */
const EXTERNAL = 1;

/**
 * A model as protobuf bytes.
 * @param opsets versions of operators by their domain
 * @param places of the data outside; absent: each constant of it is a file of its own name
 */
export function writeModel(graph: GraphParts, opsets: Readonly<Record<string, number>>, places?: DataPlaces): Uint8Array {
  const writer = Writer.create();
  writer.uint32(tag(1, 0)).int64(IR_VERSION).uint32(tag(2, 2)).string('tunebook');
  writer.uint32(tag(7, 2)).fork();
  writeGraph(writer, graph, graph.renamed, places);
  writer.ldelim();
  for (const [domain, version] of Object.entries(opsets))
    writer.uint32(tag(8, 2)).fork().uint32(tag(1, 2)).string(domain).uint32(tag(2, 0)).int64(version).ldelim();
  return writer.finish();
}

const tag = (field: number, wireType: number): number => (field << 3) | wireType;

/** @param renamed other names of values of this graph and of those around it */
function writeGraph(writer: Writer, graph: GraphParts, renamed: ReadonlyMap<string, string>, places?: DataPlaces): void {
  for (const node of graph.nodes) writeNode(writer, node, renamed);
  writer.uint32(tag(2, 2)).string('graph');
  for (const constant of graph.constants) {
    writeHead(writer, constant).uint32(tag(9, 2)).bytes(constant.data).ldelim();
  }
  for (const constant of graph.outside.values()) {
    writeHead(writer, constant);
    for (const [key, value] of placeEntries(constant.name, places)) {
      writer.uint32(tag(13, 2)).fork().uint32(tag(1, 2)).string(key).uint32(tag(2, 2)).string(value).ldelim();
    }
    writer.uint32(tag(14, 0)).int32(EXTERNAL).ldelim();
  }
  for (const info of graph.inputs) writeValueInfo(writer, 11, info);
  for (const info of graph.outputs) writeValueInfo(writer, 12, info);
  for (const [name, info] of graph.described) if (!renamed.has(name)) writeValueInfo(writer, 13, info);
}

function writeNode(writer: Writer, { op, domain, inputs, outputs, attributes }: NodeRecord, renamed: ReadonlyMap<string, string>): void {
  writer.uint32(tag(1, 2)).fork();
  for (const input of inputs) writer.uint32(tag(1, 2)).string(renamed.get(input) ?? input);
  for (const output of outputs) writer.uint32(tag(2, 2)).string(renamed.get(output) ?? output);
  writer.uint32(tag(4, 2)).string(op);
  for (const name in attributes) writeAttribute(writer, name, attributes[name], renamed);
  if (domain) writer.uint32(tag(7, 2)).string(domain);
  writer.ldelim();
}

/** Begins a constant: its sizes, type and name. */
function writeHead(writer: Writer, { name, type, dims }: Constant): Writer {
  writer.uint32(tag(5, 2)).fork();
  for (const dim of dims) writer.uint32(tag(1, 0)).int64(dim);
  return writer.uint32(tag(2, 0)).int32(ELEMENT_TYPES[type]).uint32(tag(8, 2)).string(name);
}

/** The keys of TensorProto.external_data. */
function placeEntries(name: string, places?: DataPlaces): Array<[string, string]> {
  if (!places) return [['location', name]];
  const { offset, length } = places.of.get(name) as DataPlace;
  return [
    ['location', places.file],
    ['offset', String(offset)],
    ['length', String(length)],
  ];
}

function writeAttribute(writer: Writer, name: string, value: NodeRecord['attributes'][string], renamed: ReadonlyMap<string, string>): void {
  writer.uint32(tag(5, 2)).fork().uint32(tag(1, 2)).string(name);
  let type: number;
  if (typeof value === 'number') {
    writer.uint32(tag(3, 0)).int64(value);
    type = ATTRIBUTE_TYPE.int;
  } else if (typeof value === 'string') {
    writer.uint32(tag(4, 2)).string(value);
    type = ATTRIBUTE_TYPE.string;
  } else if (Array.isArray(value)) {
    for (const item of value) writer.uint32(tag(8, 0)).int64(item);
    type = ATTRIBUTE_TYPE.ints;
  } else if (value instanceof Float) {
    writer.uint32(tag(2, 5)).float(value.value);
    type = ATTRIBUTE_TYPE.float;
  } else {
    writer.uint32(tag(6, 2)).fork();
    writeGraph(writer, value.parts, new Map([...renamed, ...value.parts.renamed]));
    writer.ldelim();
    type = ATTRIBUTE_TYPE.graph;
  }
  writer.uint32(tag(20, 0)).int32(type).ldelim();
}

function writeValueInfo(writer: Writer, field: number, { name, type, shape }: ValueInfo): void {
  writer.uint32(tag(field, 2)).fork().uint32(tag(1, 2)).string(name).uint32(tag(2, 2)).fork();
  const elements = type.replace('[]', '') as ElementType;
  if (elements === type) {
    writeTensorType(writer, elements, shape);
  } else {
    writer.uint32(tag(4, 2)).fork().uint32(tag(1, 2)).fork();
    writeTensorType(writer, elements, undefined);
    writer.ldelim().ldelim();
  }
  writer.ldelim().ldelim();
}

function writeTensorType(writer: Writer, type: ElementType, shape: Dim[] | undefined): void {
  writer.uint32(tag(1, 2)).fork().uint32(tag(1, 0)).int32(ELEMENT_TYPES[type]);
  if (shape) {
    writer.uint32(tag(2, 2)).fork();
    for (const dim of shape) {
      writer.uint32(tag(1, 2)).fork();
      if (typeof dim === 'number') writer.uint32(tag(1, 0)).int64(dim);
      else writer.uint32(tag(2, 2)).string(dim);
      writer.ldelim();
    }
    writer.ldelim();
  }
  writer.ldelim();
}
