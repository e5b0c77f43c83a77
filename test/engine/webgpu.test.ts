/** The WebGPU path, on a GPU or on a software Vulkan driver (SwiftShader, part of Debian's chromium package). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';

const SWIFTSHADER = '/usr/lib/chromium';
const DRIVER = path.join(SWIFTSHADER, 'vk_swiftshader_icd.json');

/** Without a driver of the machine's own choice, the software driver where it is installed. */
function environment(): NodeJS.ProcessEnv {
  if (process.env.VK_ICD_FILENAMES || !existsSync(DRIVER)) return process.env;
  const libraries = [SWIFTSHADER, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':');
  return { ...process.env, VK_ICD_FILENAMES: DRIVER, LD_LIBRARY_PATH: libraries };
}

for (const family of ['llama', 'gpt_neox', 'opt', 'qwen3']) {
  test(`${family} on WebGPU: token losses and the first training steps are those of the reference`, (t) => {
    const child = spawnSync(process.execPath, [path.join(__dirname, 'webgpu-child.js'), family], { env: environment(), encoding: 'utf8' });
    if (child.stderr.includes("The device 'webgpu' needs a GPU")) {
      t.skip("there is no Vulkan driver here; Debian's package chromium brings one in software");
      return;
    }
    assert.equal(child.status, 0, child.stderr);
    const found = JSON.parse(child.stdout) as { nll: number[]; log: Record<string, number>[] };
    const read = (name: string) => JSON.parse(readFileSync(path.join(projectRoot, 'test', 'golden', family, name), 'utf8'));
    const expected = read('forward.json').token_nll as number[];
    for (const [i, nll] of expected.entries())
      assert.ok(Math.abs(found.nll[i] - nll) < 1e-4, `token ${i + 1}: loss ${found.nll[i]}, expected ${nll}`);
    assert.equal(found.log.length, 3);
    for (const [i, record] of found.log.entries()) {
      const reference = read('sft.json').log[i] as Record<string, number>;
      for (const [key, tolerance] of [
        ['loss', 1e-4],
        ['grad_norm', 1e-3],
      ] as const) {
        assert.ok(
          Math.abs(record[key] / reference[key] - 1) < tolerance,
          `${key} of step ${i + 1}: ${record[key]}, expected ${reference[key]}`,
        );
      }
    }
  });
}
