/** The WebGPU path, on a GPU or on a software Vulkan driver (SwiftShader, part of Debian's chromium package). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { assertGolden, families, type GoldenRun } from './golden-run';

const SWIFTSHADER = '/usr/lib/chromium';
const DRIVER = path.join(SWIFTSHADER, 'vk_swiftshader_icd.json');

/** Without a driver of the machine's own choice, the software driver where it is installed. */
function environment(): NodeJS.ProcessEnv {
  if (process.env.VK_ICD_FILENAMES || !existsSync(DRIVER)) return process.env;
  const libraries = [SWIFTSHADER, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':');
  return { ...process.env, VK_ICD_FILENAMES: DRIVER, LD_LIBRARY_PATH: libraries };
}

for (const family of families) {
  test(`${family} on WebGPU: token losses and the first training steps are those of the reference`, (t) => {
    const child = spawnSync(process.execPath, [path.join(__dirname, 'webgpu-child.js'), family], { env: environment(), encoding: 'utf8' });
    if (child.stderr.includes("The device 'webgpu' needs a GPU")) {
      t.skip("there is no Vulkan driver here; Debian's package chromium brings one in software");
      return;
    }
    assert.equal(child.status, 0, child.stderr);
    assertGolden(family, JSON.parse(child.stdout) as GoldenRun);
  });
}
