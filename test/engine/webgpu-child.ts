/** Run by webgpu.test.ts in a process of its own, whose environment names the Vulkan driver: golden values of one family, as JSON. */
import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import { useDevice } from '../../lib/engine';
import { loadModel, tokenNll } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { parseConfig, SFTTrainer } from '../../lib/train';

const STEPS = 3;

async function main(family: string): Promise<void> {
  const golden = path.join(projectRoot, 'test', 'golden');
  const read = (...names: string[]) => JSON.parse(readFileSync(path.join(golden, ...names), 'utf8'));
  await useDevice('webgpu');
  const model = await loadModel(path.join(golden, family, 'model'));
  const { nll } = await tokenNll(model, read(family, 'forward.json').input_ids);
  const trainer: SFTTrainer = new SFTTrainer({
    model,
    trainDataset: read('rows.json'),
    config: { ...parseConfig(read(family, 'sft.json').config), disableTqdm: true },
    callbacks: [
      {
        onLog: ({ step, stop }) => {
          if (step >= STEPS) stop();
        },
      },
    ],
  });
  await trainer.train();
  console.log(JSON.stringify({ nll: [...nll], log: trainer.log }));
}

main(process.argv[2]).catch((error: Error) => {
  console.error(error.message);
  process.exitCode = 1;
});
