import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import * as engine from '../../lib/engine';
import { adamWInPlace } from '../../lib/engine/adamw';
import { ADAMW_WASM } from '../../lib/engine/adamw-wasm';
import * as composed from '../../lib/engine/composed';
import { readText } from '../../lib/files';
import { MT19937_WASM } from '../../lib/mt19937-wasm';
import { projectRoot } from '../../lib/project';
import { createTorchRandom } from '../../lib/torch-random';
import { assertClose, random, two } from './tensors';

before(async () => {
  await engine.useDevice('cpu');
});

type Inputs = Record<string, tf.Tensor>;

/** Value and gradients of Σ f(inputs)·direction, the direction fixed, on one set of operations. */
function evaluate(
  f: (inputs: Inputs) => tf.Tensor,
  inputs: Inputs,
  names: string[],
  direction: tf.Tensor,
): { value: tf.Tensor; gradients: tf.Tensor[] } {
  const others = { ...inputs };
  const compute = (...args: tf.Tensor[]): tf.Tensor => {
    for (const [index, name] of names.entries()) others[name] = args[index];
    return f(others);
  };
  const value = f(inputs);
  const gradients = tf.grads((...args: tf.Tensor[]) => tf.sum(tf.mul(compute(...args), direction)))(names.map((name) => inputs[name]));
  return { value, gradients };
}

/** Central differences of Σ f(inputs)·direction along a few random elements of one input. */
function assertFiniteDifferences(
  f: (inputs: Inputs) => tf.Tensor,
  inputs: Inputs,
  name: string,
  direction: tf.Tensor,
  gradient: tf.Tensor,
): void {
  const step = 1e-2;
  const analytic = gradient.dataSync();
  const base = inputs[name].dataSync();
  for (let i = 0; i < base.length; i += Math.max(1, Math.floor(base.length / 7))) {
    const at = (delta: number): number => {
      const moved = Float32Array.from(base);
      moved[i] += delta;
      return tf.tidy(() => tf.sum(tf.mul(f({ ...inputs, [name]: tf.tensor(moved, inputs[name].shape) }), direction)).dataSync()[0]);
    };
    const numeric = (at(step) - at(-step)) / (2 * step);
    assert.ok(
      Math.abs(numeric - analytic[i]) <= 2e-2 * Math.max(1, Math.abs(numeric)),
      `${name}[${i}]: gradient ${analytic[i]}, finite difference ${numeric}`,
    );
  }
}

interface Case {
  name: string;
  inputs: () => Inputs;
  differentiate: string[];
  fused: (inputs: Inputs) => tf.Tensor;
  reference: (inputs: Inputs) => tf.Tensor;
}

const segments = engine.makeSegments([5, 1, 9, 2]);
const T = 17;
const one = (x: tf.Tensor): tf.Tensor1D => x as tf.Tensor1D;

function attentionCase(name: string, options: engine.AttentionOptions, headDim = 8): Case {
  return {
    name,
    inputs: () => ({
      q: random([T, options.heads * headDim]),
      k: random([T, options.kvHeads * headDim]),
      v: random([T, options.kvHeads * headDim]),
    }),
    differentiate: ['q', 'k', 'v'],
    fused: ({ q, k, v }) => engine.attention(two(q), two(k), two(v), segments, options),
    reference: ({ q, k, v }) => composed.attention(two(q), two(k), two(v), segments, options),
  };
}

const cases: Case[] = [
  {
    name: 'rmsNorm',
    inputs: () => ({ x: random([T, 8]), weight: random([8]) }),
    differentiate: ['x', 'weight'],
    fused: ({ x, weight }) => engine.rmsNorm(x, one(weight), 1e-5),
    reference: ({ x, weight }) => composed.rmsNorm(x, one(weight), 1e-5),
  },
  {
    name: 'rmsNorm over heads',
    inputs: () => ({ x: random([T, 3, 8]), weight: random([8]) }),
    differentiate: ['x', 'weight'],
    fused: ({ x, weight }) => engine.rmsNorm(x, one(weight), 1e-6),
    reference: ({ x, weight }) => composed.rmsNorm(x, one(weight), 1e-6),
  },
  {
    name: 'layerNorm',
    inputs: () => ({ x: random([T, 8]), weight: random([8]), bias: random([8]) }),
    differentiate: ['x', 'weight', 'bias'],
    fused: ({ x, weight, bias }) => engine.layerNorm(x, one(weight), one(bias), 1e-5),
    reference: ({ x, weight, bias }) => composed.layerNorm(x, one(weight), one(bias), 1e-5),
  },
  ...[4, 2].flatMap((half) =>
    [false, true].map((interleaved) => ({
      name: `rotary of ${2 * half} of 8 features${interleaved ? ', pairs side by side' : ''}`,
      inputs: () => ({ x: random([T, 24]), cos: random([T, half]), sin: random([T, half]) }),
      differentiate: ['x'],
      fused: ({ x, cos, sin }: Inputs) => engine.rotary(two(x), two(cos), two(sin), 3, { interleaved }),
      reference: ({ x, cos, sin }: Inputs) => composed.rotary(two(x), two(cos), two(sin), 3, interleaved),
    })),
  ),
  {
    name: 'swiglu',
    inputs: () => ({ gate: random([T, 6]), up: random([T, 6]) }),
    differentiate: ['gate', 'up'],
    fused: ({ gate, up }) => engine.swiglu(two(gate), two(up)),
    reference: ({ gate, up }) => composed.swiglu(two(gate), two(up)),
  },
  ...(['relu', 'relu2', 'gelu', 'gelu_new', 'silu'] as const).map((name) => ({
    name: `activation ${name}`,
    inputs: () => ({ x: tf.add(random([T, 6]), 0.013) }),
    differentiate: ['x'],
    fused: ({ x }: Inputs) => engine.activation(name, x),
    reference: ({ x }: Inputs) => composed.activation(name, x),
  })),
  {
    name: 'embedding with repeated ids',
    inputs: () => ({ weight: random([7, 5]), ids: tf.tensor1d([0, 3, 3, 6, 0, 3], 'int32') }),
    differentiate: ['weight'],
    fused: ({ weight, ids }) => engine.embedding(two(weight), one(ids)),
    reference: ({ weight, ids }) => tf.gather(weight, one(ids)),
  },
  {
    name: 'linear with bias',
    inputs: () => ({ x: random([T, 6]), weight: random([4, 6]), bias: random([4]) }),
    differentiate: ['x', 'weight', 'bias'],
    fused: ({ x, weight, bias }) => engine.linear(two(x), two(weight), one(bias)),
    reference: ({ x, weight, bias }) => tf.add(tf.matMul(two(x), tf.transpose(two(weight))), bias),
  },
  attentionCase('attention with as many key heads as query heads', { heads: 3, kvHeads: 3, scale: 0.5 }),
  attentionCase('attention with grouped query heads', { heads: 6, kvHeads: 2, scale: 0.5 }),
  attentionCase('attention in a sliding window', { heads: 4, kvHeads: 2, scale: 0.7, window: 3 }),
  attentionCase('attention with soft-capped scores', { heads: 4, kvHeads: 2, scale: 0.7, softcap: 0.8, window: 3 }),
  attentionCase('attention of heads with 5 features', { heads: 4, kvHeads: 2, scale: 0.5 }, 5),
  {
    name: 'tokenLoss',
    inputs: () => ({ hidden: random([6, 8]), weight: random([11, 8]), targets: tf.tensor1d([3, 0, 10, 3, 5, 1], 'int32') }),
    differentiate: ['hidden', 'weight'],
    fused: ({ hidden, weight, targets }) => engine.tokenLoss(two(hidden), two(weight), one(targets)).nll,
    reference: ({ hidden, weight, targets }) => composed.tokenLoss(two(hidden), two(weight), one(targets)).nll,
  },
  {
    name: 'tokenLoss with a bias',
    inputs: () => ({
      hidden: random([6, 8]),
      weight: random([11, 8]),
      bias: random([11]),
      targets: tf.tensor1d([3, 0, 10, 3, 5, 1], 'int32'),
    }),
    differentiate: ['hidden', 'weight', 'bias'],
    fused: ({ hidden, weight, targets, bias }) => engine.tokenLoss(two(hidden), two(weight), one(targets), undefined, one(bias)).nll,
    reference: ({ hidden, weight, targets, bias }) => composed.tokenLoss(two(hidden), two(weight), one(targets), undefined, one(bias)).nll,
  },
  {
    name: 'tokenLoss of soft-capped logits',
    inputs: () => ({ hidden: random([6, 8]), weight: random([11, 8]), targets: tf.tensor1d([3, 0, 10, 3, 5, 1], 'int32') }),
    differentiate: ['hidden', 'weight'],
    fused: ({ hidden, weight, targets }) => engine.tokenLoss(two(hidden), two(weight), one(targets), 1.5).nll,
    reference: ({ hidden, weight, targets }) => composed.tokenLoss(two(hidden), two(weight), one(targets), 1.5).nll,
  },
];

for (const { name, inputs, differentiate, fused, reference } of cases) {
  test(`${name}: value and gradients equal plain operations and finite differences`, () => {
    tf.tidy(() => {
      const given = inputs();
      const direction = random(reference(given).shape);
      const actual = evaluate(fused, given, differentiate, direction);
      const expected = evaluate(reference, given, differentiate, direction);
      assertClose(actual.value, expected.value, 2e-6, `${name} value`);
      for (const [index, input] of differentiate.entries()) {
        assertClose(actual.gradients[index], expected.gradients[index], 5e-6, `${name} gradient of ${input}`);
        assertFiniteDifferences(fused, given, input, direction, actual.gradients[index]);
      }
    });
  });
}

test('every fused operation is right when an announced size meets one of its own by chance', () => {
  for (const { inputs, fused, reference } of cases) {
    tf.tidy(() => {
      const given = inputs();
      const expected = reference(given);
      for (const size of new Set(Object.values(given).flatMap((x) => x.shape))) {
        engine.varyingSizes({ tokens: size });
        assertClose(fused(given), expected, 2e-6, `with a varying size of ${size}`);
      }
      engine.varyingSizes({});
    });
  }
});

test('tokenLoss: likeliest token and entropy equal plain operations', () => {
  tf.tidy(() => {
    const inputs = [random([6, 8]), random([11, 8]), tf.tensor1d([3, 0, 10, 3, 5, 1], 'int32')] as [tf.Tensor2D, tf.Tensor2D, tf.Tensor1D];
    const actual = engine.tokenLoss(...inputs);
    const expected = composed.tokenLoss(...inputs);
    assertClose(actual.entropy, expected.entropy, 2e-6, 'entropy');
    assert.deepEqual([...actual.argmax.dataSync()], [...expected.argmax.dataSync()]);
  });
});

for (const vocabulary of [6000, 5003]) {
  test(`tokenLoss over a vocabulary of ${vocabulary}: values and gradients equal plain operations`, () => {
    tf.tidy(() => {
      const ids = tf.tensor1d([0, vocabulary - 1, 1999, 2000, 4001, 3999, 4001], 'int32');
      const inputs = { hidden: random([7, 8]), weight: random([vocabulary, 8]) };
      const direction = random([7]);
      const of = ({ tokenLoss }: Pick<typeof engine, 'tokenLoss'>) => ({
        ...tokenLoss(two(inputs.hidden), two(inputs.weight), ids),
        ...evaluate(({ hidden, weight }) => tokenLoss(two(hidden), two(weight), ids).nll, inputs, ['hidden', 'weight'], direction),
      });
      const actual = of(engine);
      const expected = of(composed);
      assertClose(actual.nll, expected.nll, 2e-6, 'nll');
      // the difference of two larger numbers, and ARM's kernel sums the second without pairing: 2.7e-5 there
      assertClose(actual.entropy, expected.entropy, 5e-5, 'entropy');
      assert.deepEqual([...actual.argmax.dataSync()], [...expected.argmax.dataSync()]);
      for (const [index, gradient] of actual.gradients.entries())
        assertClose(gradient, expected.gradients[index], 2e-6, `gradient ${index}`);
    });
  });
}

/** Three pieces whose weights are large enough for the processor's own layout, where it has one, and targets that make several chunks there. */
const LARGE = { vocabulary: 4112, features: 400, targets: 272 };

for (const [scale, softcap, hasBias] of [
  [1, undefined],
  [40, undefined],
  [1, 1.5],
  // beyond the cap the slope is 0 but for rounding
  [40, 30],
  [1, undefined, true],
  [1, 1.5, true],
] as const) {
  const kind = `logits of up to about ${3 * scale}${softcap === undefined ? '' : ` soft-capped at ${softcap}`}${hasBias ? ' with a bias' : ''}`;
  test(`tokenLoss over large pieces, with ${kind}: values and gradients equal plain operations`, () => {
    const { vocabulary, features, targets } = LARGE;
    engine.varyingSizes({ targets: { size: targets, multipleOf: 16 } });
    tf.tidy(() => {
      const ids = tf.tensor1d(
        Int32Array.from({ length: targets }, (_, i) => (i * 1237) % vocabulary),
        'int32',
      );
      const matrices = { hidden: random([targets, features]), weight: random([vocabulary, features], scale * features ** -0.5) };
      const inputs: Inputs = hasBias ? { ...matrices, bias: random([vocabulary]) } : matrices;
      const direction = random([targets]);
      const of = ({ tokenLoss }: Pick<typeof engine, 'tokenLoss'>) => {
        const lossOf = ({ hidden, weight, bias }: Inputs) => tokenLoss(two(hidden), two(weight), ids, softcap, bias && one(bias));
        const alone = lossOf(inputs);
        const kept: engine.TokenLoss[] = [];
        const f = (given: Inputs): tf.Tensor => {
          const loss = lossOf(given);
          kept.push(loss);
          return loss.nll;
        };
        return { alone, kept, ...evaluate(f, inputs, Object.keys(inputs), direction) };
      };
      const [actual, expected] = [of(engine), of(composed)];
      for (const loss of [actual.alone, actual.kept[0]]) {
        assertClose(loss.nll, expected.alone.nll, 2e-6, 'nll');
        // the difference of two numbers as large as the logits, to seven digits
        assertClose(loss.entropy, expected.alone.entropy, 1e-4, 'entropy');
        assert.deepEqual([...loss.argmax.dataSync()], [...expected.alone.argmax.dataSync()]);
      }
      for (const [index, gradient] of actual.gradients.entries())
        assertClose(gradient, expected.gradients[index], 5e-6, `gradient ${index}`);
    });
    engine.varyingSizes({});
  });
}

test('values and gradients of tokenLoss over large pieces come from one graph, and of equal logits the first is the likeliest', () => {
  const { vocabulary, features, targets } = LARGE;
  engine.varyingSizes({ targets: { size: targets, multipleOf: 16 } });
  tf.tidy(() => {
    const hidden = tf.variable(tf.ones([targets, features]));
    const data = new Float32Array(vocabulary * features).fill(-0.1);
    // in one block, in one lane of two blocks, and in two pieces
    for (const id of [1205, 1206, 1214, 1230, 3000]) data.fill(0.1, id * features, (id + 1) * features);
    const weight = engine.ownedVariable<tf.Rank.R2>(data, [vocabulary, features]);
    let loss: engine.TokenLoss | undefined;
    const { value, grads } = tf.variableGrads(() => {
      loss = engine.tokenLoss(two(hidden), weight, tf.zeros([targets], 'int32') as tf.Tensor1D);
      tf.keep(loss.argmax);
      tf.keep(loss.entropy);
      return tf.sum(loss.nll) as tf.Scalar;
    }, [hidden, weight]);
    const runs = engine.engineStatistics()?.runs as number;
    assert.deepEqual([...(loss as engine.TokenLoss).argmax.dataSync()], new Array(targets).fill(1205));
    // the difference of the target's logit and the expected one is 80, to seven digits
    assertClose((loss as engine.TokenLoss).entropy, tf.tensor1d(new Array(targets).fill(Math.log(5))), 1e-4, 'entropy');
    for (const gradient of Object.values(grads)) gradient.dataSync();
    assert.equal(engine.engineStatistics()?.runs, runs + 1);
    tf.dispose([value, ...Object.values(grads), hidden, weight, loss?.argmax as tf.Tensor, loss?.entropy as tf.Tensor]);
  });
  engine.varyingSizes({});
});

interface AttentionShape extends engine.AttentionOptions {
  headDim: number;
  keyScale?: number;
  /** What the segments share, by index. */
  prefixes?: Array<engine.SharedPrefix | undefined>;
  /** Share of the weights that is dropped. */
  dropout?: number;
}

/** What is left of weights when a share is dropped by chance. */
function keptWeights(tokens: number, heads: number, longest: number, share: number): engine.KeptWeights {
  const bytes = tokens * heads * engine.bytesOfWeights(longest);
  const bits = new Uint8Array(bytes);
  createTorchRandom(5).bernoulli(1 - share, 8 * bytes, bits, 0);
  return new engine.Dropout(new Map([[0, bits]])).weightsAt(0, share) as engine.KeptWeights;
}

/** Values and gradients of attention over segments are those of plain operations. */
function assertAttention(lengths: number[], shape: AttentionShape, tolerance: number): void {
  const { headDim, keyScale = 1, prefixes, dropout, ...options } = shape;
  tf.tidy(() => {
    const tokens = lengths.reduce((a, b) => a + b);
    const rows = engine.makeSegments(lengths, prefixes);
    const [q, k, v] = [options.heads, options.kvHeads, options.kvHeads].map((count) => random([tokens, count * headDim]));
    const inputs = { q, k: tf.mul(k, keyScale), v };
    const direction = random(q.shape);
    const weights = dropout === undefined ? undefined : keptWeights(tokens, options.heads, Math.max(...lengths), dropout);
    const of = (attention: typeof engine.attention) =>
      evaluate(({ q, k, v }) => attention(two(q), two(k), two(v), rows, options, weights), inputs, ['q', 'k', 'v'], direction);
    const actual = of(engine.attention);
    const expected = of(composed.attention);
    assertClose(actual.value, expected.value, tolerance, 'value');
    for (const [index, gradient] of actual.gradients.entries())
      assertClose(gradient, expected.gradients[index], 2.5 * tolerance, 'qkv'[index]);
    rows.dispose();
    weights?.kept.dispose();
  });
}

for (const [window, headDim, softcap] of [
  [undefined, 8, undefined],
  [60, 8, undefined],
  [60, 5, undefined],
  [undefined, 8, 0.5],
  [60, 8, 0.5],
] as const) {
  const capped = softcap ? ', with soft-capped scores' : '';
  const kind = `attention of heads with ${headDim} features${window ? ' in a window' : ''}${capped}`;
  test(`${kind} over segments of several blocks and several groups: value and gradients equal plain operations`, () => {
    assertAttention([300, 1, 129, 128, 37, 2, 40, 100, 2, 41], { heads: 4, kvHeads: 2, scale: 0.4, window, softcap, headDim }, 2e-6);
  });
}

for (const [window, softcap] of [[undefined], [60], [60, 0.5]])
  for (const kvHeads of softcap ? [2] : [4, 2, 1])
    test(`attention of what is left of weights${window ? ' in a window' : ''}${softcap ? ', soft-capped' : ''}, ${kvHeads} heads of keys: value and gradients equal plain operations`, () => {
      const shape = { heads: 4, kvHeads, scale: 0.4, window, softcap, headDim: 8, dropout: 0.3 };
      assertAttention([300, 1, 129, 128, 37, 2, 40, 100, 2, 41], shape, 3e-6);
      // an even segment whose last block is odd
      assertAttention([264, 9], shape, 3e-6);
    });

test('attention of which all weights are dropped is zero, and so are its gradients', () => {
  assertAttention([20, 3], { heads: 2, kvHeads: 2, scale: 0.4, headDim: 8, dropout: 1 }, 1e-12);
});

test('attention over scores far apart: hidden ones do not count however large, and the smallest of those seen do not disturb', () => {
  assertAttention([6, 150, 5, 70], { heads: 2, kvHeads: 1, scale: 1, headDim: 8, keyScale: 100 }, 8e-6);
});

for (const [window, softcap] of [[undefined], [60], [60, 0.5]]) {
  const kind = `attention of segments with shared prefixes${window ? ' in a window' : ''}${softcap ? ', with soft-capped scores' : ''}`;
  const options = { heads: 4, kvHeads: 2, scale: 0.4, window, softcap, headDim: 8 };
  // Lenders of one block and of several, borrowers of one and of several, prefixes of several lengths, two families and loners.
  const lengths = [300, 1, 129, 128, 37, 2, 40, 100, 2, 41];
  const prefix = (segment: number, tokens: number): engine.SharedPrefix => ({ segment, tokens });
  const prefixes = [
    undefined,
    prefix(0, 150),
    prefix(0, 40),
    prefix(0, 40),
    prefix(0, 40),
    undefined,
    undefined,
    prefix(6, 40),
    prefix(6, 7),
  ];

  test(`${kind}: value and gradients equal plain operations`, () => {
    assertAttention(lengths, { ...options, prefixes }, 2e-6);
  });

  test(`${kind}: value and gradients are those of whole segments`, () => {
    tf.tidy(() => {
      const tokens = lengths.reduce((a, b) => a + b);
      const starts = lengths.map((_, i) => lengths.slice(0, i).reduce((a, b) => a + b, 0));
      const places = lengths.map((length, i) => Array.from({ length }, (_, j) => starts[i] + j));
      const shared = prefixes.map((prefix) => (prefix ? places[prefix.segment].slice(0, prefix.tokens) : []));
      const whole = places.map((own, i) => [...(shared[i] ?? []), ...own]);
      const inWhole = tf.tensor1d(whole.flat(), 'int32');
      // Where the whole rows have the tokens that the shared row has, in its order.
      const ends = whole.map((_, i) => whole.slice(0, i + 1).reduce((sum, { length }) => sum + length, 0));
      const ownPlaces = lengths.flatMap((length, i) => Array.from({ length }, (_, j) => ends[i] - length + j));
      const inputs = { q: random([tokens, 32]), k: random([tokens, 16]), v: random([tokens, 16]) };
      const direction = random([tokens, 32]);
      const rows = engine.makeSegments(lengths, prefixes);
      const wholeRows = engine.makeSegments(whole.map(({ length }) => length));
      const of = (run: (q: tf.Tensor2D, k: tf.Tensor2D, v: tf.Tensor2D) => tf.Tensor2D) =>
        evaluate(({ q, k, v }) => run(two(q), two(k), two(v)), inputs, ['q', 'k', 'v'], direction);
      const actual = of((q, k, v) => engine.attention(q, k, v, rows, options));
      const spread = (x: tf.Tensor2D) => two(tf.gather(x, inWhole));
      const expected = of((q, k, v) =>
        two(tf.gather(composed.attention(spread(q), spread(k), spread(v), wholeRows, options), tf.tensor1d(ownPlaces, 'int32'))),
      );
      assertClose(actual.value, expected.value, 2e-6, 'value');
      for (const [index, gradient] of actual.gradients.entries()) assertClose(gradient, expected.gradients[index], 5e-6, 'qkv'[index]);
      rows.dispose();
      wholeRows.dispose();
    });
  });
}

test('sums over millions of numbers keep their digits', () => {
  tf.tidy(() => {
    const x = tf.add(random([4000, 1000]), 1);
    let sum = 0;
    let squares = 0;
    for (const value of x.dataSync()) {
      sum += value;
      squares += value * value;
    }
    const relative = (actual: tf.Tensor, expected: number) => Math.abs(actual.dataSync()[0] / expected - 1);
    assert.ok(relative(tf.sum(x), sum) < 2e-6, `sum ${tf.sum(x).dataSync()[0]}, expected ${sum}`);
    assert.ok(relative(tf.mean(x), sum / x.size) < 2e-6, 'mean');
    assert.ok(relative(engine.sumOfSquares(x), squares) < 2e-6, 'sum of squares');
    // So many squares are not kept.
    const many = tf.tile(x, [3, 1]);
    assert.ok(relative(engine.sumOfSquares(many), 3 * squares) < 2e-6, 'sum of more squares');
  });
});

for (const [name, compiled] of [
  ['engine/adamw.wat', ADAMW_WASM],
  ['mt19937.wat', MT19937_WASM],
]) {
  test(`the WebAssembly of the sources is compiled from ${name}`, async () => {
    const wabt = await (await import('wabt')).default();
    const source = readText(path.join(projectRoot, 'lib', name));
    const { buffer } = wabt.parseWat(name, source, { simd: true }).toBinary({});
    assert.equal(compiled, Buffer.from(buffer).toString('base64'), 'run `npm run wasm`');
  });
}

test('adamW in WebAssembly is right for arrays of any length', () => {
  const settings = { learningRate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-6, weightDecay: 0.1, step: 2, gradientScale: 0.5 };
  for (const length of [1, 5, 20_000]) {
    const [w, g, m, v] = [1, 2, 3, 4].map((k) => Float32Array.from({ length }, (_, i) => Math.abs(Math.sin(k * (i + 1)))));
    const [before, slope, first, second] = [w, g, m, v].map((array) => array[length - 1]);
    adamWInPlace(w, g, m, v, settings);
    const gradient = slope * 0.5;
    const mean = 0.9 * first + 0.1 * gradient;
    const square = 0.99 * second + 0.01 * gradient * gradient;
    const expected = before * 0.99 - (0.1 * mean) / (1 - 0.81) / (Math.sqrt(square / (1 - 0.99 ** 2)) + 1e-6);
    assert.ok(Math.abs(w[length - 1] - expected) < 2e-6, `${w[length - 1]}, expected ${expected}`);
    assert.ok(
      g.every((x) => x === 0),
      'the gradient is used up',
    );
  }
});
