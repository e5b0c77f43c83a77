/**
 * Gradient checkpointing (Chen et al. 2016): the gradients of a deep chain with the memory of one of its links.
 *
 * Forward, only what passes from link to link is kept. Backward, each link is computed again, this time recorded for
 * differentiation, and its gradients are handed over before the next one is begun. On the ONNX Runtime backend every link
 * is a graph of its own: inside one graph, the second computation would be merged with the first, which then stays in memory.
 */
import * as tf from '@tensorflow/tfjs-core';
import { computeRecorded } from './device';
import { KeptShelf } from './shelf';

/** A differentiable computation as a chain: each link reads what the one before it returned. */
export interface Chain<T extends tf.Tensor = tf.Tensor> {
  first(): T;
  links: ReadonlyArray<(x: T) => T>;
  /** The scalar that is differentiated. */
  last(x: T): tf.Scalar;
  /** Where links leave what later ones read beside what was returned to them. */
  shelf?: KeptShelf;
}

/**
 * Differentiates a chain with respect to variables. `first` and every link are called twice, `last` once.
 * @param take gets each gradient, and disposes of it. A variable that several links use has several gradients, which add
 *   up; one that none uses has none.
 */
export function checkpointedGradients<T extends tf.Tensor>(
  chain: Chain<T>,
  variables: ReadonlyMap<string, tf.Variable>,
  take: (name: string, gradient: tf.Tensor) => void,
): void {
  const { shelf = new KeptShelf() } = chain;
  tf.tidy(() => {
    const inputs = inputsOfLinks(chain, shelf);
    let dy: tf.Tensor | undefined;
    for (const link of [...chain.links, chain.last].reverse()) {
      const x = inputs.pop() as T;
      dy = linkGradients(() => link(x), { x, dy, variables, take, shelf });
      x.dispose();
      computeRecorded({ frugal: link === chain.last });
    }
    linkGradients(chain.first, { dy, variables, take, shelf });
    computeRecorded({ frugal: true });
  });
}

/** What each link reads, and the last of all. */
function inputsOfLinks<T extends tf.Tensor>({ first, links }: Chain<T>, shelf: KeptShelf): T[] {
  const inputs = [shelf.compute(first)];
  for (const link of links) {
    // Before each link, so that the graphs of all links have one structure.
    computeRecorded();
    inputs.push(shelf.compute(() => link(inputs[inputs.length - 1])));
  }
  computeRecorded();
  return inputs;
}

interface LinkContext {
  /** What the link reads; absent for the first of the chain. */
  x?: tf.Tensor;
  /** Gradient of the link's output, disposed here; absent for the last of the chain, where it is 1. */
  dy?: tf.Tensor;
  variables: ReadonlyMap<string, tf.Variable>;
  take: (name: string, gradient: tf.Tensor) => void;
  shelf: KeptShelf;
}

/** Records a link and its gradients, hands over those of the variables and of what it read of the shelf, and returns the one of `x`. */
function linkGradients(link: () => tf.Tensor, { x, dy, variables, take, shelf }: LinkContext): tf.Tensor | undefined {
  const shelved = shelf.entries();
  const sources = [...(x ? [x] : []), ...shelved.map(([, tensor]) => tensor), ...variables.values()];
  const { value, grads } = tf.engine().gradients(() => shelf.again(link), sources, dy, true);
  tf.dispose(dy ? [value, dy] : value);
  const dx = x ? grads.shift() : undefined;
  const ofShelved = grads.splice(0, shelved.length);
  shelf.settle(shelved.map(([name], index) => [name, ofShelved[index]]));
  for (const [index, name] of [...variables.keys()].entries()) if (grads[index]) take(name, grads[index]);
  return dx;
}
