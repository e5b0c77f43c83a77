import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { readTemplate } from '../../lib/text/jinja';

interface Fixture {
  names: Record<string, unknown>;
  cases: Array<{ template: string; text?: string; error?: string }>;
}
/** What transformers writes (`jinja.py`). */
const { names, cases }: Fixture = JSON.parse(fs.readFileSync(path.join(projectRoot, 'test/text/jinja.json'), 'utf8'));

const write = (template: string): string => readTemplate(template)({ documents: null, add_generation_prompt: false, ...names });

test('templates write what they write in Python', () => {
  const differ = cases
    .filter(({ text }) => text !== undefined)
    .flatMap(({ template, text }) => {
      let written: string;
      try {
        written = write(template);
      } catch (error) {
        written = String(error);
      }
      return written === text ? [] : [{ template, text, written }];
    });
  assert.deepEqual(differ, []);
});

test('templates that fail in Python fail here', () => {
  for (const { template, error } of cases) if (error !== undefined) assert.throws(() => write(template), Error, `${error}: ${template}`);
});

test('a place for a value that Python knows and this does not is refused, not written as it is', () => {
  for (const place of ['{:,}', '{0[a]}', '{a.b}', '{:.1%}'])
    assert.throws(() => write(`{{ '${place}'.format(1, a=1) }}`), /has a place for a value that is not known here/, place);
});
