/** ALiBi: slopes, and texts longer than those that a model was trained on. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { generateBatch, loadModel, tokenNll } from '../../lib/model';
import { alibiSlopes } from '../../lib/model/alibi';
import { closeTo, fixtures } from './support';

before(() => useDevice('cpu'));

test('slopes are the geometric sequence of the paper, and where heads are no power of two some from between', () => {
  assert.deepEqual(alibiSlopes(1), [1 / 256]);
  assert.deepEqual(alibiSlopes(4), [1 / 4, 1 / 16, 1 / 64, 1 / 256]);
  assert.deepEqual(alibiSlopes(6), [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]);
  closeTo(alibiSlopes(12).slice(6), [2 ** -7, 2 ** -8, 2 ** -0.5, 2 ** -1.5, 2 ** -2.5, 2 ** -3.5], 1e-12);
});

test('a text may be longer than those that a BLOOM was trained on', async (t) => {
  const model = await loadModel(path.join(fixtures, 'bloom-old-keys'));
  t.after(() => model.dispose());
  const ids = Array.from({ length: 40 }, (_, i) => 2 + ((7 * i) % 60));
  const { nll } = await tokenNll(model, ids);
  assert.ok(nll.every(Number.isFinite));
  const [{ ids: added }] = await generateBatch(model, [ids], { maxNewTokens: 5, ignoreEos: true });
  assert.equal(added.length, 5);
});
