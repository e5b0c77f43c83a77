import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import * as engine from '../../lib/engine';
import * as composed from '../../lib/engine/composed';
import { assertClose, random, two } from './tensors';

before(async () => {
  await engine.useDevice('cpu');
});

for (const [window, softcap] of [[undefined], [3], [undefined, 0.5], [3, 0.5]]) {
  const kind = `${window ? ' in a window' : ''}${softcap ? ' with soft-capped scores' : ''}`;
  test(`cachedAttention${kind}: token after token equals attention over the whole sequence`, () => {
    tf.tidy(() => {
      const options = { heads: 4, kvHeads: 2, scale: 0.4, window, softcap };
      const [length, headDim, capacity] = [6, 8, 10];
      const rows = [4, 2].map((shorter) => length - shorter);
      const sequences = rows.map((filled) => ({ filled, q: random([length, 32]), k: random([length, 16]), v: random([length, 16]) }));
      const cacheOf = (name: 'k' | 'v'): tf.Tensor4D =>
        tf.stack(
          sequences.map((sequence) => {
            const rows = tf.reshape(tf.slice(sequence[name], [0, 0], [sequence.filled, 16]), [sequence.filled, 2, headDim]);
            return tf.transpose(
              tf.pad(rows, [
                [0, capacity - sequence.filled],
                [0, 0],
                [0, 0],
              ]),
              [1, 0, 2],
            );
          }),
        ) as tf.Tensor4D;
      let cache: engine.LayerCache = { keys: cacheOf('k'), values: cacheOf('v') };
      for (let extra = 0; extra < 2; extra++) {
        const at = (name: 'q' | 'k' | 'v'): tf.Tensor2D =>
          tf.concat(
            sequences.map((sequence) => tf.slice(sequence[name], [sequence.filled + extra, 0], [1, sequence[name].shape[1] as number])),
          ) as tf.Tensor2D;
        const lengths = tf.tensor1d(
          sequences.map(({ filled }) => filled + extra),
          'int32',
        );
        const result = engine.cachedAttention(at('q'), at('k'), at('v'), cache, lengths, options);
        cache = result.cache;
        for (const [index, { q, k, v, filled }] of sequences.entries()) {
          const whole = composed.attention(two(q), two(k), two(v), engine.makeSegments([length]), options);
          assertClose(
            tf.slice(result.output, [index, 0], [1, 32]),
            tf.slice(whole, [filled + extra, 0], [1, 32]),
            2e-6,
            `sequence ${index}`,
          );
        }
      }
    });
  });
}

for (const [sequences, headDim] of [
  [1, 8],
  [2, 8],
  [1, 6],
]) {
  for (const [window, softcap] of [[undefined], [3], [3, 0.5]]) {
    const capped = softcap ? ', with soft-capped scores' : '';
    const where = `${sequences === 1 ? 'one sequence' : 'two sequences'}, ${headDim} features${window ? ', in a window' : ''}${capped}`;
    test(`cachedAttention: several tokens at once are the same as one after the other (${where})`, () => {
      tf.tidy(() => {
        const options = { heads: 4, kvHeads: 2, scale: 0.4, window, softcap };
        const [capacity, added] = [12, 3];
        const filled = [4, 7].slice(0, sequences);
        const empty = random([sequences, 2, capacity, headDim]) as tf.Tensor4D;
        const fresh = [4 * headDim, 2 * headDim, 2 * headDim].map((width) => random([sequences, added, width]));
        const step = (tensors: tf.Tensor[], cache: engine.LayerCache, lengths: number[]) => {
          const [q, k, v] = tensors.map((x) => tf.reshape(x, [-1, x.shape[2] as number]) as tf.Tensor2D);
          return engine.cachedAttention(q, k, v, cache, tf.tensor1d(lengths, 'int32'), options);
        };
        const start = (): engine.LayerCache => ({ keys: tf.add(empty, 0), values: tf.mul(empty, 2) });
        const together = step(fresh, start(), filled);
        let cache = start();
        const outputs: tf.Tensor[] = [];
        for (let i = 0; i < added; i++) {
          const one = step(
            fresh.map((x) => tf.slice(x, [0, i, 0], [sequences, 1, x.shape[2] as number])),
            cache,
            filled.map((length) => length + i),
          );
          cache = one.cache;
          outputs.push(one.output);
        }
        assertClose(tf.reshape(together.output, [sequences, added, 4 * headDim]), tf.stack(outputs, 1), 2e-6, 'outputs');
        for (const name of ['keys', 'values'] as const) {
          for (const [index, length] of filled.entries()) {
            const written = (from: engine.LayerCache) => tf.slice(from[name], [index, 0, 0, 0], [1, 2, length + added, headDim]);
            assertClose(written(together.cache), written(cache), 1e-7, name);
          }
        }
      });
    });
  }
}

test('cachedAttention: one token and several after the same cache, in one graph', () => {
  tf.tidy(() => {
    const options = { heads: 4, kvHeads: 2, scale: 0.4 };
    const cache = (): engine.LayerCache => ({ keys: tf.add(keys, 0), values: tf.mul(keys, 2) });
    const keys = random([1, 2, 12, 8]) as tf.Tensor4D;
    const lengths = tf.tensor1d([5], 'int32');
    const tokens = [1, 3].map((count) => [32, 16, 16].map((width) => two(random([count, width]))));
    const outputs = (): tf.Tensor[] => tokens.map(([q, k, v]) => engine.cachedAttention(q, k, v, cache(), lengths, options).output);
    const together = outputs();
    together[1].dataSync();
    const alone = tokens.map(([q, k, v]) => {
      const { output } = engine.cachedAttention(q, k, v, cache(), lengths, options);
      output.dataSync();
      return output;
    });
    for (const [i, output] of together.entries()) assertClose(output, alone[i], 1e-6, `${tokens[i][0].shape[0]} tokens`);
  });
});

for (const [sequences, added, headDim, half, interleaved] of [
  [1, 1, 32, 16],
  [1, 3, 32, 16, true],
  [3, 1, 32, 8, true],
  [1, 3, 32, 8],
  [3, 1, 16, 8],
  [1, 3, 16, 4],
  [2, 1, 24, 8],
] as const) {
  for (const window of [undefined, 3]) {
    const pairs = interleaved ? ', pairs side by side' : '';
    const where = `${sequences} × ${added} tokens, ${2 * half} of ${headDim} features${pairs}${window ? ', in a window' : ''}`;
    test(`cachedAttention with a rotary embedding in the same graph is the same as after it (${where})`, () => {
      tf.tidy(() => {
        const options = { heads: 4, kvHeads: 2, scale: 0.2, window };
        const filled = [5, 7, 3].slice(0, sequences);
        const lengths = tf.tensor1d(filled, 'int32');
        const positions = tf.tensor1d(
          filled.flatMap((length) => Array.from({ length: added }, (_, i) => length + i)),
          'int32',
        );
        const [cosines, sines] = [0, 1].map(() => two(random([17, half])));
        const [x, empty] = [two(random([sequences * added, 64])), random([sequences, 2, 12, headDim])];
        const weights = [4, 2, 2].map((heads) => two(random([heads * headDim, 64], 0.2)));
        for (const product of [engine.quantizedProduct, (a: tf.Tensor2D, w: tf.Tensor2D) => two(tf.matMul(a, w, false, true))]) {
          const compute = (inBetween: (...tensors: tf.Tensor[]) => void): tf.Tensor[] => {
            const [keys, values] = [tf.add(empty, 0), tf.mul(empty, 2)] as tf.Tensor4D[];
            const [cos, sin] = [cosines, sines].map((table) => two(tf.gather(table, positions)));
            const [q, k, v] = weights.map((weight) => product(x, weight));
            inBetween(q, k, v);
            const turned = [engine.rotary(q, cos, sin, 4, { interleaved }), engine.rotary(k, cos, sin, 2, { interleaved })];
            inBetween(keys, values, ...turned);
            const { output, cache } = engine.cachedAttention(turned[0], turned[1], v, { keys, values }, lengths, options);
            return [output, cache.keys, cache.values];
          };
          const together = compute(() => undefined);
          const apart = compute((...tensors) => {
            for (const tensor of tensors) tensor.dataSync();
          });
          for (const [i, name] of ['output', 'keys', 'values'].entries()) assertClose(together[i], apart[i], 1e-5, name);
        }
      });
    });
  }
}

test("cachedAttention: on tfjs's own CPU backend it is the same", async () => {
  const options = { heads: 4, kvHeads: 2, scale: 0.4 };
  const numbers = (shape: number[]): { shape: number[]; data: Float32Array } => ({ shape, data: random(shape).dataSync<'float32'>() });
  for (const added of [1, 3]) {
    const given = [
      [2 * added, 32],
      [2 * added, 16],
      [2 * added, 16],
      [2, 2, 12, 8],
    ].map(numbers);
    const output = (): Float32Array =>
      tf.tidy(() => {
        const [q, k, v, keys] = given.map(({ shape, data }) => tf.tensor(data, shape as [number, number])) as unknown as [
          tf.Tensor2D,
          tf.Tensor2D,
          tf.Tensor2D,
          tf.Tensor4D,
        ];
        const result = composed.cachedAttention(q, k, v, { keys, values: tf.mul(keys, 2) }, tf.tensor1d([3, 7], 'int32'), options);
        return result.output.dataSync<'float32'>();
      });
    const here = output();
    await tf.setBackend('cpu');
    const there = output();
    await tf.setBackend('onnxruntime');
    for (const [i, value] of there.entries()) assert.ok(Math.abs(value - here[i]) < 2e-6, `${added} tokens, element ${i}`);
  }
});

for (const [sequences, added] of [
  [1, 1],
  [1, 3],
  [2, 1],
]) {
  for (const kind of ['rmsNorm', 'layerNorm'] as const) {
    test(`${kind} of sums in a graph with cachedAttention is the same as of known sums (${sequences} × ${added} tokens)`, () => {
      tf.tidy(() => {
        const options = { heads: 8, kvHeads: 4, scale: 0.3 };
        const [shift, scale] = [random([64]), random([64])] as tf.Tensor1D[];
        const normalize = (x: tf.Tensor): tf.Tensor2D =>
          two(kind === 'rmsNorm' ? engine.rmsNorm(x, scale, 0.1) : engine.layerNorm(x, scale, shift, 0.1));
        const [x, first, second] = [0, 1, 2].map(() => random([sequences * added, 64]));
        const weights = [64, 32, 32, 96, 96].map((rows) => two(random([rows, 64], 0.2)));
        const cache = random([sequences, 4, 12, 8]) as tf.Tensor4D;
        const lengths = tf.tensor1d([5, 3].slice(0, sequences), 'int32');
        const compute = (inBetween: (tensor: tf.Tensor) => tf.Tensor): Record<string, tf.Tensor> => {
          const sum = inBetween(tf.add(x, first));
          const before = inBetween(normalize(sum));
          const [q, k, v] = weights.slice(0, 3).map((weight) => two(tf.matMul(before, weight, false, true)));
          const { output: attended } = engine.cachedAttention(q, k, v, { keys: cache, values: tf.mul(cache, 2) }, lengths, options);
          const secondSum = inBetween(tf.add(sum, tf.add(attended, second)));
          const after = inBetween(normalize(secondSum));
          const [gate, up] = weights.slice(3).map((weight) => engine.quantizedProduct(two(after), weight));
          return { sum, before, attended, secondSum, after, unit: engine.swiglu(gate, up) };
        };
        const together = compute((tensor) => tensor);
        const apart = compute((tensor) => {
          tensor.dataSync();
          return tensor;
        });
        // What the products round to 8 bits may differ in its last bit, and so by a step of the rounding.
        for (const [name, expected] of Object.entries(apart)) assertClose(together[name], expected, name === 'unit' ? 2e-2 : 1e-5, name);
      });
    });
  }
}
