import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';
import { UserError } from '../../lib/errors';
import {
  type CurveRecord,
  comparisonSpec,
  curveSpec,
  dashboardSpec,
  plotComparison,
  plotTraining,
  renderPng,
  renderSvg,
  savePlots,
} from '../../lib/plots';
import { svgWidth } from '../../lib/plots/render';
import { defaultSmoothing, pointsOf, smooth } from '../../lib/plots/series';

function run(steps: number, evaluateEvery = 0): CurveRecord[] {
  const log: CurveRecord[] = [];
  for (let step = 1; step <= steps; step++) {
    const loss = 0.5 + 3 * Math.exp((-4 * step) / steps) + 0.1 * Math.sin(7 * step);
    log.push({ step, loss, mean_token_accuracy: 1 / (1 + loss), grad_norm: 2 * loss, learning_rate: 1e-4 * (1 - step / steps) });
    if (evaluateEvery > 0 && step % evaluateEvery === 0) log.push({ step, eval_loss: loss + 0.1, eval_mean_token_accuracy: 0.5 });
  }
  return log;
}

function inFolder(body: (folder: string) => Promise<void>): () => Promise<void> {
  return async () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'tunebook-plots-'));
    try {
      await body(folder);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
}

/** Width and height from a PNG's header. */
function pngSize(png: Buffer): [number, number] {
  assert.equal(png.subarray(1, 4).toString(), 'PNG');
  return [png.readUInt32BE(16), png.readUInt32BE(20)];
}

test(
  'the curves are exported as PNG and SVG under their agreed names',
  inFolder(async (folder) => {
    await plotTraining(run(20, 5), { saveTo: path.join(folder, 'plots') });
    const names = ['learning_rate', 'train_accuracy', 'train_gradnorm', 'train_loss'];
    assert.deepEqual(
      readdirSync(path.join(folder, 'plots')).sort(),
      names.flatMap((name) => [`${name}.png`, `${name}.svg`]),
    );
    const svg = readFileSync(path.join(folder, 'plots/train_loss.svg'), 'utf8');
    for (const text of ['Training loss', 'evaluation', 'step', 'loss (nats per target token)']) assert.ok(svg.includes(text), text);
    const width = Number(/width="([\d.]+)"/.exec(svg)?.[1]);
    assert.equal(pngSize(readFileSync(path.join(folder, 'plots/train_loss.png')))[0], 2 * width);
  }),
);

test(
  'only curves that the log has are exported',
  inFolder(async (folder) => {
    const files = await savePlots(
      [
        { step: 1, loss: 2 },
        { step: 2, loss: 1 },
      ],
      folder,
    );
    assert.deepEqual(
      files.map((file) => path.basename(file)),
      ['train_loss.png', 'train_loss.svg'],
    );
    assert.ok(files.every((file) => existsSync(file)));
  }),
);

test('a log without anything to plot is refused in one sentence', async () => {
  await assert.rejects(plotTraining([]), (error) => error instanceof UserError && /nothing to plot/.test(error.message));
});

test(
  'two runs are overlaid, each with its name in the legend',
  inFolder(async (folder) => {
    await plotComparison({ slow: run(30), fast: { log: run(30, 10) } }, { saveTo: folder, curves: ['loss'] });
    const svg = readFileSync(path.join(folder, 'compare_train_loss.svg'), 'utf8');
    assert.ok(svg.includes('slow') && svg.includes('fast'));
  }),
);

test('the legend of a comparison has whole names, in as many rows as they need', async () => {
  const names = ['2e-4', '1e-4', '5e-5'].map((rate) => `SmolLM2-135M with LoRA, learning rate ${rate}`);
  const svg = await renderSvg(comparisonSpec(Object.fromEntries(names.map((name) => [name, run(20)])), 'loss'));
  for (const name of names) assert.ok(svg.includes(`>${name}<`), name);
  const width = Number(/width="([\d.]+)"/.exec(svg)?.[1]);
  assert.ok(width < 800, `${width} pixels`);
});

test(
  'a size that nothing can be drawn in is refused before anything is written',
  inFolder(async (folder) => {
    for (const [options, sentence] of [
      [{ width: 0 }, /^width is 0, but must be a number of pixels, above 0 and at most 8000\.$/],
      [{ width: 100_000 }, /^width is 100000, but/],
      [{ height: -5 }, /^height is -5, but/],
      [{ height: 'tall' as unknown as number }, /^height is "tall", but/],
      [{ smoothing: 1 }, /^smoothing is 1, but must be a number, at least 0 and below 1\.$/],
    ] as const) {
      for (const drawing of [
        plotTraining(run(5), { ...options, saveTo: folder }),
        plotComparison({ a: run(5) }, { ...options, saveTo: folder }),
      ])
        await assert.rejects(drawing, (error) => error instanceof UserError && sentence.test(error.message), JSON.stringify(options));
    }
    assert.deepEqual(readdirSync(folder), []);
  }),
);

test('a name that is too long for a line of the legend keeps its ends, and the plot its width', async () => {
  const width = async (...names: string[]): Promise<[number | undefined, string]> => {
    const svg = await renderSvg(comparisonSpec(Object.fromEntries(names.map((name) => [name, run(20)])), 'loss'));
    return [svgWidth(svg), svg];
  };
  const [usual] = await width('first', 'second');
  const names = [1, 2].map((seed) => `qlora-"${'alpaca-cleaned-'.repeat(20)}"-seed-${seed}`);
  const [found, svg] = await width(...names);
  assert.equal(found, usual);
  for (const seed of [1, 2]) assert.match(svg, new RegExp(`>qlora-[^<]*…[^<]*-seed-${seed}<`));
  for (const letter of ['W', '模', '😀', 'i', '<']) assert.equal((await width(letter.repeat(300), 'b'))[0], usual, letter);
});

test('a legend appears only where two lines need telling apart', async () => {
  assert.ok(!(await renderSvg(curveSpec(run(20), 'loss'))).includes('evaluation'));
  assert.ok((await renderSvg(curveSpec(run(20, 5), 'loss'))).includes('evaluation'));
});

test('the heading says the ends of the line that one sees: of the smoothed one where there is one', () => {
  // the last step is one noisy value
  const log = (steps: number) => [...run(steps - 1), { step: steps, loss: 9 }];
  const subtitle = (steps: number, options = {}) => (curveSpec(log(steps), 'loss', options).title as { subtitle: string }).subtitle;
  const end = smooth(pointsOf(log(200), 'loss'), defaultSmoothing(200))[199].value ?? Number.NaN;
  assert.ok(end < 4);
  assert.equal(subtitle(200), `3.51 → ${end.toPrecision(3)} smoothed`);
  assert.equal(subtitle(200, { smoothing: 0 }), '3.51 → 9.00');
  assert.match(subtitle(20), /^\d\.\d\d → 9\.00$/);
});

test('where a smoothed line lies over the raw one, both are named', async () => {
  const smoothed = await renderSvg(curveSpec(run(200), 'loss'));
  assert.ok(smoothed.includes('>training<') && smoothed.includes('>smoothed<'));
  assert.ok(!(await renderSvg(curveSpec(run(20, 5), 'loss'))).includes('smoothed'));
  assert.ok((await renderSvg(comparisonSpec({ a: run(200) }, 'loss'))).includes('bold: smoothed'));
  assert.ok(!(await renderSvg(comparisonSpec({ a: run(20) }, 'loss'))).includes('smoothed'));
  for (const steps of [20, 200]) {
    const once = [...run(steps), { step: steps, eval_loss: 1 }];
    assert.ok((await renderSvg(comparisonSpec({ a: run(steps), once }, 'loss'))).includes('single dot: evaluation'));
    const evaluated = [...once, { step: steps / 2, eval_loss: 2 }];
    assert.ok((await renderSvg(comparisonSpec({ a: run(steps), evaluated }, 'loss'))).includes('dashed: evaluation'));
  }
  assert.ok(!(await renderSvg(comparisonSpec({ a: run(200) }, 'loss'))).includes('dashed'));
});

/** A loss that falls by a factor. */
const falling = (factor: number): CurveRecord[] =>
  Array.from({ length: 61 }, (_, i) => ({ step: 5 * i, loss: 8 * factor ** (-i / 60), grad_norm: 2, mean_token_accuracy: 0.01 + i / 61 }));

interface ValueAxis {
  scale: { type?: string; domain?: number[] };
  axis: { values?: number[] };
}
const valueAxis = (spec: unknown) => (spec as { encoding: { y: ValueAxis } }).encoding.y;

test('a loss that falls by more than 30 times stands on a logarithmic axis, unless its values or the options say otherwise', async () => {
  assert.equal(valueAxis(curveSpec(falling(29), 'loss')).scale.type, undefined);
  assert.equal(valueAxis(curveSpec(falling(31), 'loss')).scale.type, 'log');
  assert.equal(valueAxis(curveSpec(falling(300), 'loss', { logScale: false })).scale.type, undefined);
  assert.equal(valueAxis(curveSpec(falling(3), 'loss', { logScale: true })).scale.type, 'log');
  assert.equal(valueAxis(comparisonSpec({ a: falling(31) }, 'loss')).scale.type, 'log');
  assert.equal(valueAxis(curveSpec([...falling(300), { step: 400, loss: 0 }], 'loss', { logScale: true })).scale.type, undefined);
  assert.equal(valueAxis(curveSpec(falling(300), 'accuracy', { logScale: true })).scale.type, undefined);
  const { domain } = valueAxis(curveSpec(falling(3), 'gradNorm', { logScale: true, maxGradNorm: 1 })).scale;
  assert.ok(domain && domain[0] <= 1 && domain[1] >= 2);
  assert.ok((await renderSvg(curveSpec(falling(267), 'loss'))).includes('log scale'));
});

test('a logarithmic axis has few ticks, all round, however much it spans', () => {
  for (const factor of [31, 267, 1e4, 1e7, 1e15, 1e40]) {
    const { scale, axis } = valueAxis(curveSpec(falling(factor), 'loss'));
    const { values = [] } = axis;
    assert.ok(values.length >= 3 && values.length <= 7, `${factor}: ${values}`);
    for (const tick of values) {
      assert.ok(tick >= (scale.domain?.[0] ?? 0) && tick <= (scale.domain?.[1] ?? 0));
      assert.match(tick.toExponential(), /^[1235]e/);
    }
  }
});

/** The numbers beside the lines of the grid, as drawn. */
async function ticksOf(log: CurveRecord[], name: 'loss' | 'accuracy' | 'gradNorm'): Promise<number[]> {
  const [, labels = ''] = (await renderSvg(curveSpec(log, name))).matchAll(/role-axis-label.*?<\/g>/gs);
  return [...labels[0].matchAll(/<text[^>]*>([\d.]+)(%?)<\/text>/g)].map(([, number, percent]) => Number(number) / (percent ? 100 : 1));
}

test('no point lies beyond the first or last tick of its axis, be it linear or logarithmic', async () => {
  const highestOf = [
    ['loss', 8],
    ['gradNorm', 7.2],
    ['accuracy', 8 / 8.1],
  ] as const;
  for (const factor of [1.02, 1.5, 2.5, 7, 29, 31, 267, 1e5]) {
    const log = falling(factor).map(({ step, loss = 0 }) => ({ step, loss, grad_norm: 0.9 * loss, mean_token_accuracy: loss / 8.1 }));
    for (const [name, highest] of highestOf) {
      const ticks = await ticksOf(log, name);
      assert.ok(ticks.length >= 2 && ticks[0] <= highest / factor && ticks[ticks.length - 1] >= highest, `${name} ${factor}: ${ticks}`);
    }
    assert.ok(Math.max(...(await ticksOf(log, 'accuracy'))) <= 1);
  }
});

test('ticks of a narrow axis have as many digits as tell them apart', async () => {
  const losses = [7.0925, 7.0931, 7.0938];
  for (const values of [losses, losses.map((loss) => 100 * loss)]) {
    const log = values.map((loss, step) => ({ step, loss, grad_norm: loss }));
    const ticks = await ticksOf(log, 'loss');
    assert.ok(ticks.length >= 3 && new Set(ticks).size === ticks.length, `${ticks}`);
  }
});

test('evaluations alone are named, in the heading and beside the line', async () => {
  const log = [1, 2, 3].map((step) => ({ step, eval_loss: 3 - step / 2 }));
  const svg = await renderSvg(curveSpec(log, 'loss'));
  assert.ok(svg.includes('>Evaluation loss<') && svg.includes('>evaluation<') && !svg.includes('raining'));
});

for (const [what, log] of Object.entries({
  'a single point': run(1),
  'three points': run(3),
  'ten thousand points': run(10_000, 500),
  'a constant': [1, 2, 3].map((step) => ({ step, loss: 0, grad_norm: 0 })),
  'evaluations alone': [{ step: 10, eval_loss: 1 }],
  'nothing finite': [1, 2].map((step) => ({ step, loss: Number.NaN, grad_norm: Number.POSITIVE_INFINITY })),
  'a resumed run': run(100).slice(60),
})) {
  test(`a run of ${what} draws without NaN in the picture`, async () => {
    const svg = await renderSvg(curveSpec(log, 'loss'));
    assert.ok(!/NaN|undefined|Infinity/.test(svg));
    assert.ok(svg.length < 100_000, `${svg.length} bytes`);
    assert.ok((await renderSvg(dashboardSpec(log, ['loss', 'gradNorm']))).length > 1000);
  });
}

test('the gradient norm shows where clipping begins, and names it above the curve, not over it', async () => {
  const svg = await renderSvg(curveSpec(run(20), 'gradNorm', { maxGradNorm: 1 }));
  const [, height] = /<text[^>]*transform="translate\([-\d.]+,([-\d.]+)\)"[^>]*>clipped above 1</.exec(svg) ?? [];
  assert.ok(Number(height) < 0, svg);
});

test('a line of clipping that no norm comes near does not press the curve onto the axis', async () => {
  const log = run(20).map((record) => ({ ...record, grad_norm: (record.grad_norm ?? 0) / 100 }));
  for (const logScale of [false, true]) {
    const svg = await renderSvg(curveSpec(log, 'gradNorm', { maxGradNorm: 1, logScale }));
    assert.ok(!svg.includes('clipped above'));
    assert.equal(svg, await renderSvg(curveSpec(log, 'gradNorm', { logScale })));
  }
});

test('steps whose loss is not finite are marked', async () => {
  const log = run(20).map((record) => (record.step > 12 ? { ...record, loss: Number.NaN } : record));
  assert.ok((await renderSvg(curveSpec(log, 'loss'))).includes('not finite (step 13)'));
  const stretches = (spec: object) =>
    JSON.stringify(spec)
      .match(/\{"step":\d+,"end":\d+\}/g)
      ?.slice(0, 2);
  const evaluated = [...log, { step: 16, eval_loss: Number.NaN }];
  assert.deepEqual(stretches(curveSpec(evaluated, 'loss')), ['{"step":13,"end":20}', '{"step":16,"end":16}']);
  assert.equal(stretches(comparisonSpec({ fine: run(20), evaluated }, 'loss'))?.[0], '{"step":13,"end":20}');
});

test('text is drawn with the font that ships with the project', async () => {
  const withText = await renderPng(comparisonSpec({ a: run(5) }, 'loss', { title: 'Training loss Wm' }), { scale: 1 });
  const without = await renderPng(comparisonSpec({ a: run(5) }, 'loss', { title: ' ' }), { scale: 1 });
  assert.notDeepEqual(withText, without);
  assert.ok(existsSync(process.env.FONTCONFIG_FILE ?? ''));
  assert.match(readFileSync(process.env.FONTCONFIG_FILE ?? '', 'utf8'), /400Regular/);
});
