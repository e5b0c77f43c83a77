#!/usr/bin/env node
/** Compiles each .wat of lib into a module beside it (`npm run wasm`). The results are part of the sources, so that installing needs no compiler. */
import { readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import wabt from 'wabt';

const lib = path.join(path.dirname(path.dirname(fileURLToPath(import.meta.url))), 'lib');
const { parseWat } = await wabt();
for (const source of ['engine/adafactor', 'engine/adamw', 'engine/sgd', 'mt19937']) {
  const name = path.basename(source);
  const module = parseWat(`${name}.wat`, readFileSync(path.join(lib, `${source}.wat`), 'utf8'), { simd: true });
  const base64 = Buffer.from(module.toBinary({}).buffer).toString('base64');
  writeFileSync(
    path.join(lib, `${source}-wasm.ts`),
    `/** ${name}.wat as a WebAssembly module in base64, written by \`npm run wasm\`. */\nexport const ${name.toUpperCase()}_WASM =\n  '${base64}';\n`,
  );
}
