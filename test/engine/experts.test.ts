/** Experts on each device, and their gradients, against token by token in float64. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import * as engine from '../../lib/engine';
import { createRandom } from '../../lib/random';

const SIZES = { tokens: 21, features: 6, intermediate: 5, experts: 7, perToken: 3 };

type Name = 'x' | 'logits' | 'gateUp' | 'down';
type Numbers = Record<Name, Float64Array>;

const shapesOf = ({ tokens, features, intermediate, experts } = SIZES): Record<Name, number[]> => ({
  x: [tokens, features],
  logits: [tokens, experts],
  gateUp: [experts, 2 * intermediate, features],
  down: [experts, features, intermediate],
});

const NAMES = Object.keys(shapesOf()) as Name[];

/** @param unused an expert that no token chooses */
function numbersBy(seed: number, unused: number): Numbers {
  const random = createRandom(seed);
  const make = (name: Name): Float64Array =>
    Float64Array.from({ length: shapesOf()[name].reduce((product, n) => product * n) }, () => random.normal());
  const numbers = { x: make('x'), logits: make('logits'), gateUp: make('gateUp'), down: make('down') };
  for (let token = 0; token < SIZES.tokens; token++) numbers.logits[token * SIZES.experts + unused] = -20;
  return numbers;
}

const dot = (a: Float64Array, b: Float64Array): number => a.reduce((sum, value, i) => sum + value * b[i], 0);

/** Each token through each of its experts, as transformers' classes have it. */
function tokenByToken({ x, logits, gateUp, down }: Numbers, normalized: boolean): Float64Array {
  const { tokens, features, intermediate, experts, perToken } = SIZES;
  const y = new Float64Array(tokens * features);
  for (let token = 0; token < tokens; token++) {
    const own = logits.subarray(token * experts, (token + 1) * experts);
    const powers = own.map((logit) => Math.exp(logit));
    const chosen = [...own.keys()].sort((a, b) => own[b] - own[a]).slice(0, perToken);
    const total = (normalized ? chosen.map((expert) => powers[expert]) : [...powers]).reduce((sum, power) => sum + power);
    const row = x.subarray(token * features, (token + 1) * features);
    for (const expert of chosen) {
      const matrixRow = (i: number) =>
        gateUp.subarray((expert * 2 * intermediate + i) * features, (expert * 2 * intermediate + i + 1) * features);
      const inner = Float64Array.from({ length: intermediate }, (_, i) => {
        const gate = dot(matrixRow(i), row);
        return (gate / (1 + Math.exp(-gate))) * dot(matrixRow(intermediate + i), row);
      });
      for (let feature = 0; feature < features; feature++) {
        const place = (expert * features + feature) * intermediate;
        y[token * features + feature] += (powers[expert] / total) * dot(down.subarray(place, place + intermediate), inner);
      }
    }
  }
  return y;
}

/** Slopes of Σ y · factors along each number. */
function slopes(numbers: Numbers, factors: Float64Array, normalized: boolean): Numbers {
  const STEP = 1e-5;
  const along = (name: Name): Float64Array =>
    numbers[name].map((value, i) => {
      const [above, below] = [value + STEP, value - STEP].map((moved) => {
        const changed = Float64Array.from(numbers[name]);
        changed[i] = moved;
        return dot(tokenByToken({ ...numbers, [name]: changed }, normalized), factors);
      });
      return (above - below) / (2 * STEP);
    });
  return { x: along('x'), logits: along('logits'), gateUp: along('gateUp'), down: along('down') };
}

function compute(inputs: tf.Tensor[], normalized: boolean): tf.Tensor2D {
  const [x, logits, gateUp, down] = inputs as [tf.Tensor2D, tf.Tensor2D, tf.Tensor3D, tf.Tensor3D];
  const { perToken } = SIZES;
  return engine.experts(x, engine.route(logits, { perToken, normalized }), { gateUp, down }, perToken);
}

function assertNear(actual: tf.Tensor, expected: Float64Array, what: string): void {
  const found = actual.dataSync();
  assert.equal(found.length, expected.length, what);
  const scale = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  for (const [i, value] of expected.entries())
    assert.ok(Math.abs(found[i] - value) <= 2e-6 * scale, `${what}: number ${i} is ${found[i]}, expected ${value}`);
}

const DEVICES: Record<string, () => Promise<unknown>> = {
  'ONNX Runtime': () => engine.useDevice('cpu'),
  'plain tfjs operations': () => tf.setBackend('cpu'),
};

for (const [device, use] of Object.entries(DEVICES))
  describe(device, () => {
    for (const normalized of [true, false])
      test(`experts and all their gradients are those of a token at a time${normalized ? ', with weights that sum up to 1' : ''}`, async () => {
        await use();
        const numbers = numbersBy(3, 4);
        const factors = numbersBy(5, 4).x;
        const before = tf.memory().numTensors;
        tf.tidy(() => {
          const inputs = NAMES.map((name) => tf.tensor(Float32Array.from(numbers[name]), shapesOf()[name]));
          const { value, grads } = tf.tidy(() => {
            const dy = tf.tensor2d(Float32Array.from(factors), [SIZES.tokens, SIZES.features]);
            return tf.valueAndGrads((...given: tf.Tensor[]) => compute(given, normalized))(inputs, dy);
          });
          assertNear(value, tokenByToken(numbers, normalized), 'the result');
          const expected = slopes(numbers, factors, normalized);
          for (const [i, name] of NAMES.entries()) assertNear(grads[i], expected[name], `the gradient of ${name}`);
        });
        assert.equal(tf.memory().numTensors, before);
      });
  });

for (const [device, use] of Object.entries(DEVICES))
  test(`${device}: one expert alone, or all of them, are chosen by every token`, async () => {
    await use();
    for (const experts of [1, 2, 3])
      tf.tidy(() => {
        const logits = tf.tensor2d(
          Float32Array.from({ length: 2 * experts }, (_, i) => Math.cos(i)),
          [2, experts],
        );
        const { chosen, weights } = engine.route(logits, { perToken: experts, normalized: true });
        assert.deepEqual([...chosen.dataSync()], new Array(2 * experts).fill(1));
        assertNear(weights, Float64Array.from(tf.softmax(logits).dataSync()), 'weights');
      });
  });

for (const [device, use] of Object.entries(DEVICES))
  test(`${device}: one expert alone is a gated MLP, with its gradients`, async () => {
    await use();
    tf.tidy(() => {
      const { x, gateUp, down } = numbersBy(7, 0);
      const { tokens, features, intermediate } = SIZES;
      const shapes = [
        [tokens, features],
        [tokens, 1],
        [1, 2 * intermediate, features],
        [1, features, intermediate],
      ];
      const inputs = [x, x.subarray(0, tokens), gateUp, down].map((numbers, i) =>
        tf.tensor(Float32Array.from(numbers.subarray(0, tf.util.sizeFromShape(shapes[i]))), shapes[i]),
      );
      const expert = (...[x, logits, gateUp, down]: tf.Tensor[]): tf.Tensor2D => {
        const routing = engine.route(logits as tf.Tensor2D, { perToken: 1, normalized: true });
        return engine.experts(x as tf.Tensor2D, routing, { gateUp: gateUp as tf.Tensor3D, down: down as tf.Tensor3D }, 1);
      };
      const mlp = (...[x, logits, gateUp, down]: tf.Tensor[]): tf.Tensor2D => {
        const both = tf.matMul<tf.Tensor2D>(x, tf.reshape(gateUp, [2 * intermediate, features]), false, true);
        const [gate, up] = tf.split(both, 2, 1);
        const product = tf.matMul<tf.Tensor2D>(
          tf.mul(tf.mul(gate, tf.sigmoid(gate)), up),
          tf.reshape(down, [features, intermediate]),
          false,
          true,
        );
        return tf.add(product, tf.mul(logits, 0));
      };
      const [found, expected] = [expert, mlp].map((compute) => tf.valueAndGrads(compute)(inputs));
      assertNear(found.value, Float64Array.from(expected.value.dataSync()), 'the result');
      for (const i of [0, 2, 3]) assertNear(found.grads[i], Float64Array.from(expected.grads[i].dataSync()), `gradient ${i}`);
      assert.ok(found.grads[1].dataSync().every((slope) => Math.abs(slope) < 1e-6));
    });
  });

for (const [device, use] of Object.entries(DEVICES))
  test(`${device}: factors that are added to the weights compute what their product in the weights does, with all gradients`, async () => {
    await use();
    const numbers = numbersBy(3, 4);
    const random = createRandom(9);
    const { intermediate, features, experts } = SIZES;
    const RANK = 2;
    const factorsOf = (out: number, inputs: number) =>
      [
        [experts, RANK, inputs],
        [experts, out, RANK],
      ].map((shape) =>
        tf.tensor(
          Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => random.normal()),
          shape,
        ),
      );
    for (const adapted of [['gateUp'], ['down'], ['gateUp', 'down']])
      tf.tidy(() => {
        const given = NAMES.map((name) => tf.tensor(Float32Array.from(numbers[name]), shapesOf()[name]));
        const factors = { gateUp: factorsOf(2 * intermediate, features), down: factorsOf(features, intermediate) };
        const operands = [...given, ...adapted.flatMap((part) => factors[part as 'gateUp'])];
        const computeBy = (isMerged: boolean) =>
          tf.valueAndGrads((...[x, logits, gateUp, down, ...others]: tf.Tensor[]) => {
            const pairs = adapted.map((part, i) => [part, { a: others[2 * i], b: others[2 * i + 1] }] as const);
            const added = Object.fromEntries(pairs) as engine.ExpertWeights['added'] & object;
            const matrices = { gateUp, down } as Record<'gateUp' | 'down', tf.Tensor3D>;
            const merged = (part: 'gateUp' | 'down'): tf.Tensor3D =>
              added[part] ? tf.add(matrices[part], tf.matMul(added[part].b, added[part].a)) : matrices[part];
            const routing = engine.route(logits as tf.Tensor2D, { perToken: SIZES.perToken, normalized: true });
            const weights = isMerged ? { gateUp: merged('gateUp'), down: merged('down') } : { ...matrices, added };
            return engine.experts(x as tf.Tensor2D, routing, weights, SIZES.perToken);
          })(operands);
        const [found, expected] = [computeBy(false), computeBy(true)];
        assertNear(found.value, Float64Array.from(expected.value.dataSync()), `the result of ${adapted}`);
        for (const [i, grad] of expected.grads.entries())
          assertNear(found.grads[i], Float64Array.from(grad.dataSync()), `gradient ${i} of ${adapted}`);
      });
  });

for (const [device, use] of Object.entries(DEVICES))
  test(`${device}: with weights in 16 bits results and gradients are, to the last bit, those with the same numbers in float32`, async () => {
    await use();
    const numbers = numbersBy(3, 4);
    const { experts, features, intermediate, perToken } = SIZES;
    const random = createRandom(5);
    const halfOf = (name: 'gateUp' | 'down') => {
      const [, rows, columns] = shapesOf()[name];
      return engine.halfMatrix(Float32Array.from(numbers[name]), [experts * rows, columns], 'bfloat16');
    };
    const half = { gateUp: halfOf('gateUp'), down: halfOf('down') };
    const normal = (shape: number[]) =>
      tf.tensor(
        Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => random.normal()),
        shape,
      );
    tf.tidy(() => {
      const whole = (name: 'gateUp' | 'down'): tf.Tensor3D =>
        tf.tensor3d(engine.fromHalf(half[name]).dataSync(), shapesOf()[name] as [number, number, number]);
      const weights = { gateUp: whole('gateUp'), down: whole('down') };
      const given = (['x', 'logits'] as const).map((name) => tf.tensor(Float32Array.from(numbers[name]), shapesOf()[name]));
      const factors = [
        [experts, 2, features],
        [experts, 2 * intermediate, 2],
      ].map(normal);
      for (const isAdapted of [false, true]) {
        const [found, expected] = [half, weights].map((matrices) => {
          const { value, grads } = tf.valueAndGrads((...[x, logits, a, b]: tf.Tensor[]) => {
            const added = isAdapted ? { gateUp: { a: a as tf.Tensor3D, b: b as tf.Tensor3D } } : undefined;
            const routing = engine.route(logits as tf.Tensor2D, { perToken, normalized: true });
            return engine.experts(x as tf.Tensor2D, routing, { ...matrices, added }, perToken);
          })(isAdapted ? [...given, ...factors] : given);
          return [value, ...grads].map((tensor) => tensor.dataSync());
        });
        assert.deepEqual(found, expected);
      }
    });
    for (const matrix of Object.values(half)) engine.disposeHalf(matrix);
  });

test('one graph serves rows of all lengths', async () => {
  await engine.useDevice('cpu');
  const numbers = numbersBy(3, 4);
  const run = (tokens: number): void =>
    tf.tidy(() => {
      engine.varyingSizes({ tokens });
      const part = (name: Name): tf.Tensor => {
        const [rows, ...rest] = shapesOf({ ...SIZES, tokens })[name];
        const size = rest.reduce((product, n) => product * n, rows);
        return tf.tensor(Float32Array.from(numbers[name].subarray(0, size)), [rows, ...rest]);
      };
      const inputs = NAMES.map(part);
      const grads = tf.grads((...given: tf.Tensor[]) => compute(given, true))(inputs);
      for (const grad of grads) grad.dataSync();
    });
  run(21);
  const compiled = engine.engineStatistics()?.compilations;
  run(13);
  assert.equal(engine.engineStatistics()?.compilations, compiled);
});
