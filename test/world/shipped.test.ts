import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { excerpt, questionsFile, rowsFile } from '../../scripts/pretrain/data';
import { INSTRUCTIONS, makeInstructions } from '../../scripts/pretrain/instructions';
import { generateWorld, WORLD } from '../../scripts/pretrain/world';

const data = path.join(projectRoot, 'data');
const read = (...names: string[]): string => readFileSync(path.join(data, ...names), 'utf8');

test('the shipped instruction files are exactly what the seed makes', () => {
  const { train, test: heldOut } = makeInstructions(INSTRUCTIONS);
  assert.equal(read('instructions.json'), rowsFile(train));
  assert.equal(read('instructions-test.json'), rowsFile(heldOut));
  assert.equal(read('questions.json'), questionsFile(heldOut));
});

test('the shipped excerpt is the beginning of the text', () => {
  assert.equal(read('world-excerpt.txt'), excerpt(generateWorld({ ...WORLD, documents: 60 })));
});

test('the base model is float16, at most 8 MB, of 2 to 4 million parameters', () => {
  const file = path.join(data, 'base', 'model.safetensors');
  assert.ok(statSync(file).size <= 8e6, `${statSync(file).size}`);
  const bytes = readFileSync(file);
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0)))) as Record<
    string,
    { dtype: string; shape: number[] }
  >;
  const tensors = Object.entries(header).filter(([name]) => name !== '__metadata__');
  const parameters = tensors.reduce((sum, [, { shape }]) => sum + shape.reduce((a, b) => a * b, 1), 0);
  for (const [name, { dtype }] of tensors) assert.equal(dtype, 'F16', name);
  assert.ok(parameters >= 2e6 && parameters <= 4e6, `${parameters}`);
});

test('the log and the curve of the pretraining lie beside the weights', () => {
  const log = read('base', 'pretrain_log.jsonl')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { step: number; loss?: number });
  const losses = log.flatMap(({ loss }) => (loss === undefined ? [] : [loss]));
  assert.ok(losses.length > 50 && losses[losses.length - 1] < losses[0] / 3);
  assert.ok(existsSync(path.join(data, 'base', 'pretrain_loss.png')));
});
