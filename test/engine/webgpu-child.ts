/** Run by webgpu.test.ts in a process of its own, whose environment names the Vulkan driver: golden values of one family, as JSON. */
import { useDevice } from '../../lib/engine';
import { type Family, goldenRun } from './golden-run';

async function main(family: Family): Promise<void> {
  await useDevice('webgpu');
  console.log(JSON.stringify(await goldenRun(family)));
}

main(process.argv[2] as Family).catch((error: Error) => {
  console.error(error.message);
  process.exitCode = 1;
});
