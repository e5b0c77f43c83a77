import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { goldenModel, goldenRows, program, refuses, tunebook, workFolder } from './support';

const score = ['score', '--model', goldenModel, '--input_ids', '1,2,3', '--json'];

test('a standard output that is full is told in one sentence', { skip: !existsSync('/dev/full') }, async () => {
  const full = openSync('/dev/full', 'w');
  await refuses(score, /^Standard output could not be written: the disk is full; send it elsewhere and run again\.$/, { stdout: full });
  await refuses(['--help'], /^Standard output could not be written: the disk is full/, { stdout: full });
  closeSync(full);
});

describe('a training outlives', { skip: process.platform === 'win32' && 'Windows has no such signals and devices' }, () => {
  const train = (out: string, steps: number): string[] => [
    ...['sft', '--model', goldenModel, '--data', goldenRows, '--output_dir', out, '--max_steps', String(steps), '--logging_steps', '1'],
    ...['--per_device_train_batch_size', '2', '--save_strategy', 'steps'],
  ];

  test('the reader of its standard error', async (t) => {
    const out = path.join(workFolder(t), 'out');
    const child = spawn(process.execPath, [program, ...train(out, 6)], {
      env: { ...process.env, NODE_TEST_CONTEXT: undefined },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    child.stderr.once('data', () => child.stderr.destroy());
    const [code] = (await once(child, 'exit')) as [number | null];
    assert.equal(code, 0);
    assert.ok(existsSync(path.join(out, 'model.safetensors')));
  });

  test('its terminal, up to a checkpoint from which it goes on', async (t) => {
    const out = path.join(workFolder(t), 'out');
    let sent = false;
    const { code, stderr } = await tunebook(train(out, 200), {
      onStderr: (text, kill) => {
        if (sent || !text.includes('step 2/200')) return;
        sent = true;
        kill('SIGHUP');
      },
    });
    assert.equal(code, 129, stderr);
    assert.match(stderr, /Stopped after step \d+; continue from .*checkpoint-\d+ with --resume_from_checkpoint true\.\n$/);
  });
});
