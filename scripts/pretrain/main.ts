/**
 * `npm run pretrain`: makes the shipped data from the seed. Arguments: `--data` stops before the training of the base model;
 * `--to FOLDER` writes somewhere else than data/; `--text` also writes the whole text, one document a line.
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { writeFileAtomic } from '../../lib/files';
import { projectRoot } from '../../lib/project';
import { writeData } from './data';

const { values: options } = parseArgs({ options: { data: { type: 'boolean' }, text: { type: 'boolean' }, to: { type: 'string' } } });
const directory = path.resolve(options.to ?? path.join(projectRoot, 'data'));
const { documents, bpe, tokens } = writeData(directory);
console.log(`${documents.length} documents, ${tokens} tokens, a vocabulary of ${bpe.vocabulary.length}`);
if (options.text)
  writeFileAtomic(
    path.join(directory, 'world.jsonl'),
    documents.map((text) => `${JSON.stringify({ text })}\n`),
  );
