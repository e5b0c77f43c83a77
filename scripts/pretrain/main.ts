/**
 * `npm run pretrain`: makes the shipped data from the seed and trains the base model on it.
 * `--data` stops before the training; `--resume` continues an interrupted one; `--to FOLDER` writes somewhere else than data/;
 * `--work FOLDER` keeps the checkpoints somewhere else than build/pretrain; `--steps N` ends after N steps, to try it; `--text` also writes the whole text, one document a line.
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { writeFileAtomic } from '../../lib/files';
import { projectRoot } from '../../lib/project';
import { pretrainBase } from './base';
import { writeData } from './data';

async function main(): Promise<void> {
  const flag = { type: 'boolean', default: false } as const;
  const { values } = parseArgs({
    options: { data: flag, resume: flag, text: flag, to: { type: 'string' }, work: { type: 'string' }, steps: { type: 'string' } },
  });
  const directory = path.resolve(values.to ?? path.join(projectRoot, 'data'));
  const { documents, bpe, tokens } = writeData(directory);
  console.log(`${documents.length} documents, ${tokens} tokens, a vocabulary of ${bpe.vocabulary.length}`);
  if (values.text)
    writeFileAtomic(
      path.join(directory, 'world.jsonl'),
      documents.map((text) => `${JSON.stringify({ text })}\n`),
    );
  if (values.data) return;
  const { metrics } = await pretrainBase(documents, {
    directory: path.join(directory, 'base'),
    work: path.resolve(values.work ?? path.join(projectRoot, 'build', 'pretrain')),
    resume: values.resume,
    maxSteps: values.steps === undefined ? undefined : Number(values.steps),
  });
  console.log(metrics);
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
