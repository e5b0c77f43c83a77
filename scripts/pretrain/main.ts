/** `npm run pretrain`: makes the shipped data from the seed and trains the base model on it. */
import path from 'node:path';
import { writeFileAtomic } from '../../lib/files';
import { projectRoot } from '../../lib/project';
import { count, parseFlags, runCommand } from '../flags';
import { pretrainBase } from './base';
import { writeData } from './data';

const HELP = `npm run pretrain [-- --data --resume --text --to FOLDER --work FOLDER --steps N]
  Makes the shipped data from the seed and trains the base model on it.
  --data         stop before the training
  --resume       continue an interrupted training
  --text         also write the whole text, one document a line
  --to FOLDER    write somewhere else than data/
  --work FOLDER  keep the checkpoints somewhere else than build/pretrain
  --steps N      end after N steps, to try it`;

async function main(words: readonly string[]): Promise<number> {
  const flag = { type: 'boolean', default: false } as const;
  const name = { type: 'string' } as const;
  const values = parseFlags(words, { data: flag, resume: flag, text: flag, to: name, work: name, steps: name });
  // before the data are written
  const maxSteps = values.steps === undefined ? undefined : count('steps', values.steps);
  const directory = path.resolve(values.to ?? path.join(projectRoot, 'data'));
  const { documents, bpe, tokens } = writeData(directory);
  console.log(`${documents.length} documents, ${tokens} tokens, a vocabulary of ${bpe.vocabulary.length}`);
  if (values.text)
    writeFileAtomic(
      path.join(directory, 'world.jsonl'),
      documents.map((text) => `${JSON.stringify({ text })}\n`),
    );
  if (values.data) return 0;
  const { metrics } = await pretrainBase(documents, {
    directory: path.join(directory, 'base'),
    work: path.resolve(values.work ?? path.join(projectRoot, 'build', 'pretrain')),
    resume: values.resume,
    maxSteps,
  });
  console.log(metrics);
  return 0;
}

void runCommand(HELP, main).then((code) => {
  process.exitCode = code;
});
