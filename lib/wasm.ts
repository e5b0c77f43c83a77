/** WebAssembly modules that are part of the sources (`npm run wasm`), each with a memory of its own. */

/** The part of JavaScript's WebAssembly that is used here; TypeScript describes it only for browsers. */
interface WebAssemblyApi {
  Memory: new (pages: { initial: number }) => { buffer: ArrayBuffer };
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: Record<string, Record<string, object>>) => { exports: unknown };
}

/** Bytes of a page of WebAssembly's memory. */
const PAGE = 65536;

export interface WasmModule<Functions> {
  functions: Functions;
  memory: ArrayBuffer;
}

/**
 * @param base64 a module that exports `Functions`
 * @param bytes that its memory has at least
 */
export function openWasm<Functions>(base64: string, bytes: number): WasmModule<Functions> {
  const { Memory, Module, Instance } = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;
  const memory = new Memory({ initial: Math.ceil(bytes / PAGE) });
  const { exports } = new Instance(new Module(Buffer.from(base64, 'base64')), { host: { memory } });
  return { functions: exports as Functions, memory: memory.buffer };
}
