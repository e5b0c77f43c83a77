/**
 * A small assembler for WebAssembly (https://webassembly.github.io/spec/core/binary/): functions over one memory that compute with whole numbers
 * of 32 bits, four at a time. Code is written as nested calls; each gives the bytes of its operands and of its instruction behind them.
 */

export type Code = readonly number[];

/** As much of it as is needed here; TypeScript's types of Node have none of it. */
interface WebAssemblyTypes {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object) => { exports: unknown };
}

const { Module, Instance } = (globalThis as unknown as { WebAssembly: WebAssemblyTypes }).WebAssembly;

const I32 = 0x7f;
const V128 = 0x7b;
const PAGE_BYTES = 65536;

/** A whole number in as many bytes as it needs (LEB128). */
function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

function signed(value: number): number[] {
  const [byte, rest] = [value & 0x7f, value >> 7];
  const isLast = rest === (byte & 0x40 ? -1 : 0);
  return isLast ? [byte] : [byte | 0x80, ...signed(rest)];
}

const vector = (instruction: number): Code => [0xfd, ...unsigned(instruction)];
const ofTwo =
  (instruction: Code) =>
  (a: Code, b: Code): Code => [...a, ...b, ...instruction];

/** A single number. */
export const constant = (value: number): Code => [0x41, ...signed(value | 0)];
export const add = ofTwo([0x6a]);
export const isBelow = ofTwo([0x49]);
export const join = ofTwo([0x72]);
export const shift = (single: Code, bits: number): Code => [...single, ...constant(bits), 0x74];
export const storeSingle = (address: Code, single: Code): Code => [...address, ...single, 0x36, 0, 0];

/** Four numbers that lie from an address on, which need be no multiple of anything. */
export const load = (address: Code, offset = 0): Code => [...address, ...vector(0x00), 0, ...unsigned(offset)];
export const store = (address: Code, four: Code): Code => [...address, ...four, ...vector(0x0b), 0, 0];
/** Four times the same number. */
export const splat = (single: Code): Code => [...single, ...vector(0x11)];
export const and = ofTwo(vector(0x4e));
export const or = ofTwo(vector(0x50));
export const xor = ofTwo(vector(0x51));
export const subtract = ofTwo(vector(0xb1));
export const shiftLeft = (four: Code, bits: number): Code => [...four, ...constant(bits), ...vector(0xab)];
export const shiftRight = (four: Code, bits: number): Code => [...four, ...constant(bits), ...vector(0xad)];
/** All bits where it holds, else none; of numbers without a sign. */
export const fourEqual = ofTwo(vector(0x37));
export const fourBelow = ofTwo(vector(0x3a));
/** The highest bit of each of the four, as the lowest bits of a single number. */
export const signs = (four: Code): Code => [...four, ...vector(0xa4)];
/** Whether any bit is set. */
export const isAny = (four: Code): Code => [...four, ...vector(0x53)];
/** Four of the eight numbers of two operands, by their places. */
export const pick = (a: Code, b: Code, places: readonly number[]): Code => [
  ...a,
  ...b,
  ...vector(0x0d),
  ...places.flatMap((place) => [0, 1, 2, 3].map((byte) => 4 * place + byte)),
];

export const when = (condition: Code, then: readonly Code[]): Code => [...condition, 0x04, 0x40, ...then.flat(), 0x0b];
/** Runs once, and again as long as the condition holds. */
export const repeat = (body: readonly Code[], condition: Code): Code => [0x03, 0x40, ...body.flat(), ...condition, 0x0d, 0, 0x0b];

export class Variable {
  constructor(private readonly index: number) {}

  get value(): Code {
    return [0x20, ...unsigned(this.index)];
  }

  set(value: Code): Code {
    return [...value, 0x21, ...unsigned(this.index)];
  }
}

/** A function without a result: its parameters, single numbers, and its variables of four. */
export interface Definition {
  parameters: number;
  variables: number;
  body(parameters: readonly Variable[], variables: readonly Variable[]): readonly Code[];
}

const section = (id: number, content: readonly number[]): Code => [id, ...unsigned(content.length), ...content];
const list = (entries: readonly Code[]): Code => [...unsigned(entries.length), ...entries.flat()];
const text = (name: string): Code => list([...Buffer.from(name)].map((byte) => [byte]));

function bodyOf({ parameters, variables, body }: Definition): Code {
  const all = Array.from({ length: parameters + variables }, (_, index) => new Variable(index));
  const code = [...list([[...unsigned(variables), V128]]), ...body(all.slice(0, parameters), all.slice(parameters)).flat(), 0x0b];
  return [...unsigned(code.length), ...code];
}

/** Compiles functions that share a memory of at least so many bytes. */
export function assemble<Name extends string>(definitions: Record<Name, Definition>, bytes: number) {
  const names = Object.keys(definitions) as Name[];
  const functions = names.map((name) => definitions[name]);
  const module = [
    ...Buffer.from('\0asm'),
    ...[1, 0, 0, 0],
    ...section(1, list(functions.map(({ parameters }) => [0x60, ...list(Array.from({ length: parameters }, () => [I32])), 0]))),
    ...section(3, list(functions.map((_, index) => unsigned(index)))),
    ...section(5, list([[0, ...unsigned(Math.ceil(bytes / PAGE_BYTES))]])),
    ...section(7, list([[...text('memory'), 2, 0], ...names.map((name, index) => [...text(name), 0, ...unsigned(index)])])),
    ...section(10, list(functions.map(bodyOf))),
  ];
  const { exports } = new Instance(new Module(Uint8Array.from(module)));
  return exports as Record<Name, (...values: number[]) => void> & { memory: { buffer: ArrayBuffer } };
}
