import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as ts from 'typescript';
import { type Example, loadDataset } from '../lib/data';
import { formatOf } from '../lib/data/types';
import { projectRoot } from '../lib/project';
import { put, tunebook, workFolder } from './cli/support';

const readme = readFileSync(path.join(projectRoot, 'README.md'), 'utf8');

/** The first sample of a language, as it stands in README. */
function sample(language: string): string {
  const [, code] = new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 's').exec(readme) ?? [];
  assert.ok(code, `README has no ${language}`);
  return code;
}

/** Replaces what has to be there. */
function instead(text: string, changes: Readonly<Record<string, string>>): string {
  return Object.entries(changes).reduce((changed, [from, to]) => {
    assert.ok(changed.includes(from), `${from} in ${changed}`);
    return changed.replaceAll(from, to);
  }, text);
}

test("README's recipe trains a model, which README's next command asks", async (t) => {
  const folder = workFolder(t);
  const recipe = put(folder, 'recipe.yaml', sample('yaml'));
  const out = path.join(folder, 'my-run');
  const commands = [...readme.matchAll(/^npm run -s tunebook -- (.*)$/gm)].map(([, words]) => words.replace(/ +#.*/, ''));
  assert.equal(commands[0], 'sft --config recipe.yaml');
  const short = ['--output_dir', out, '--max_steps', '2', '--logging_steps', '1'];
  const trained = await tunebook(['sft', '--config', recipe, ...short], { cwd: projectRoot });
  assert.equal(trained.code, 0, trained.stderr);
  for (const file of ['model.safetensors', 'metrics.jsonl', 'plots', 'run.json']) assert.ok(existsSync(path.join(out, file)), file);
  const words = [...instead(commands[1], { 'runs/my-run': out }).matchAll(/"(.*?)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain);
  const answered = await tunebook(words, { cwd: projectRoot });
  assert.equal(answered.code, 0, answered.stderr);
  assert.ok(answered.stdout.length > 0);
});

test("README's sample for a notebook trains, draws and saves", (t) => {
  const folder = workFolder(t);
  const program = instead(sample('ts'), {
    "'../lib'": JSON.stringify(path.join(projectRoot, 'build/lib')),
    '../plots': path.join(folder, 'plots'),
    '../runs/my-model': path.join(folder, 'my-model'),
    'numTrainEpochs: 2': 'maxSteps: 2, loggingSteps: 1',
  });
  const [imports, ...rest] = program.split('\n');
  const file = put(
    folder,
    'sample.js',
    ts.transpile(`${imports}\n(async () => {${rest.join('\n')}})();`, { module: ts.ModuleKind.CommonJS }),
  );
  const done = spawnSync(process.execPath, [file], { cwd: path.join(projectRoot, 'notebooks'), encoding: 'utf8' });
  assert.equal(done.status, 0, done.stderr);
  assert.equal(readdirSync(path.join(folder, 'plots')).length, 8);
  assert.ok(existsSync(path.join(folder, 'my-model/model.safetensors')));
});

test("each row of README's data is read as the kind that it shows", async (t) => {
  const folder = workFolder(t);
  const kinds: string[] = [];
  for (const [i, line] of sample('jsonl').trimEnd().split('\n').entries()) {
    const { rows } = await loadDataset(put(folder, `${i}.jsonl`, line));
    kinds.push(formatOf(rows[0] as Example));
  }
  assert.deepEqual(kinds, ['alpaca', 'prompt_completion', 'messages', 'text']);
});

test('links in README and docs lead somewhere', () => {
  for (const file of ['README.md', 'CONTRIBUTING.md', 'docs/engine.md', 'docs/guide.md', 'docs/measurements.md', 'data/README.md']) {
    const text = readFileSync(path.join(projectRoot, file), 'utf8');
    for (const [, link] of text.matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
      const [name, anchor] = link.split('#');
      const target = path.join(projectRoot, name === '' ? file : path.join(path.dirname(file), name));
      assert.ok(existsSync(target), `${file}: ${link}`);
      if (anchor === undefined) continue;
      const headings = [...readFileSync(target, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
        heading
          .toLowerCase()
          .replace(/[^\w -]/g, '')
          .replaceAll(' ', '-'),
      );
      assert.ok(headings.includes(anchor), `${file}: ${link}`);
    }
  }
});
