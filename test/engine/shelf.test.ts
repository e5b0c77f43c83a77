/** What parts of a computation leave for later ones is differentiated part by part as it is as a whole. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { type Chain, checkpointedGradients, KeptShelf, openShelf, type Shelf, useDevice } from '../../lib/engine';

const NAMES = ['first', 'middle', 'last'];

/** A chain whose first part leaves two tensors, one of which is read twice, and whose first link leaves one that none reads, and one that the last does. */
function chainOn(shelf: Shelf, variables: ReadonlyMap<string, tf.Variable>): Chain<tf.Tensor2D> {
  const times = (x: tf.Tensor2D, name: string): tf.Tensor2D => tf.mul(x, variables.get(name) as tf.Tensor);
  return {
    first: () => {
      const x = times(tf.ones([2, 3]), 'first');
      shelf.put('a', tf.sin(x));
      shelf.put('b', tf.cos(x));
      return x;
    },
    links: [
      (x) => {
        shelf.put('unread', tf.exp(x));
        shelf.put('c', tf.square(x));
        return tf.add(times(x, 'middle'), shelf.get('a'));
      },
      (x) => tf.add(times(x, 'last'), tf.mul<tf.Tensor2D>(shelf.get('a'), shelf.get('b'))),
    ],
    last: (x) => tf.sum(tf.mul(x, shelf.get('c'))),
  };
}

for (const device of ['cpu', 'plain tfjs'] as const) {
  describe(`on ${device}`, () => {
    let variables: ReadonlyMap<string, tf.Variable>;
    before(async () => {
      await useDevice('cpu');
      if (device === 'plain tfjs') await tf.setBackend('cpu');
      variables = new Map(NAMES.map((name, i) => [name, tf.variable(tf.tensor2d([0.3, -0.7, 1.1, 0.2, 0.9, -0.4], [2, 3]).add(i / 8))]));
    });
    after(() => {
      tf.dispose([...variables.values()]);
      return useDevice('cpu');
    });

    test('gradients are the same bits, and no tensor is left behind', () => {
      const before = tf.memory().numTensors;
      const { first, links, last } = chainOn(openShelf(), variables);
      const whole = tf.variableGrads(() => last(links.reduce((x, link) => link(x), first())));
      const found = new Map<string, Float32Array>();
      const shelf = new KeptShelf();
      checkpointedGradients({ ...chainOn(shelf, variables), shelf }, variables, (name, gradient) => {
        const values = Float32Array.from(gradient.dataSync());
        found.set(
          name,
          values.map((value, i) => value + (found.get(name)?.[i] ?? 0)),
        );
        gradient.dispose();
      });
      for (const [name, variable] of variables)
        assert.deepEqual(found.get(name), Float32Array.from(whole.grads[variable.name].dataSync()), name);
      tf.dispose([whole.value, whole.grads]);
      assert.equal(tf.memory().numTensors, before);
    });

    test('what nobody has left is not found', () => {
      assert.throws(() => openShelf().get('x'), /No earlier part has left the x/);
      assert.throws(() => new KeptShelf().get('x'), /No earlier part has left the x/);
    });
  });
}
