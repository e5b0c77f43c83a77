#!/usr/bin/env node
/** Compiles lib/engine/adamw.wat into lib/engine/adamw-wasm.ts (`npm run wasm`). The result is part of the sources, so that installing needs no compiler. */
import { readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import wabt from 'wabt';

const engine = path.join(path.dirname(path.dirname(fileURLToPath(import.meta.url))), 'lib/engine');
const { parseWat } = await wabt();
const module = parseWat('adamw.wat', readFileSync(path.join(engine, 'adamw.wat'), 'utf8'), { simd: true });
const base64 = Buffer.from(module.toBinary({}).buffer).toString('base64');
writeFileSync(
  path.join(engine, 'adamw-wasm.ts'),
  `/** adamw.wat as a WebAssembly module in base64, written by \`npm run wasm\`. */\nexport const ADAMW_WASM =\n  '${base64}';\n`,
);
