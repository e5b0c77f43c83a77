/**
 * A training run in a process of its own, for the test that kills it.
 * usage: resume-child OUTPUT_DIR KILL_AT     KILL_AT: the change to the file system before which the process kills itself; 0: none
 * Prints the number of changes that it made.
 */
import fs from 'node:fs';
import fsPromises from 'node:fs/promises';
import * as path from 'node:path';
import { useDevice } from '../../lib/engine';
import { loadModel } from '../../lib/model';
import { SFTTrainer } from '../../lib/train';
import { golden, resumable, rows } from './support';

let changes = 0;

function countChanges(module: Record<string, unknown>, names: readonly string[], killAt: number): void {
  for (const name of names) {
    const original = module[name] as (...given: unknown[]) => unknown;
    module[name] = (...given: unknown[]) => {
      if (++changes === killAt) process.kill(process.pid, 'SIGKILL');
      return original(...given);
    };
  }
}

async function main(outputDir: string, killAt: number): Promise<void> {
  await useDevice('cpu');
  const model = await loadModel(path.join(golden, 'llama', 'model'));
  const trainer = new SFTTrainer({
    model,
    trainDataset: rows.slice(0, 18),
    evalDataset: rows.slice(18, 22),
    config: { ...resumable, outputDir },
  });
  countChanges(
    fs as unknown as Record<string, unknown>,
    ['renameSync', 'appendFileSync', 'writeFileSync', 'writeSync', 'mkdirSync', 'rmSync', 'copyFileSync', 'openSync'],
    killAt,
  );
  countChanges(fsPromises as unknown as Record<string, unknown>, ['rename', 'open', 'mkdir', 'rm'], killAt);
  await trainer.train({ resumeFromCheckpoint: true });
  await trainer.saveModel(path.join(outputDir, 'final'));
  process.stdout.write(String(changes));
}

void main(process.argv[2], Number(process.argv[3]));
