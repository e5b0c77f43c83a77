/** What a loop of a template says of itself: `loop.first`, `loop.index0` and the like. */
import { Callable, Facade, Undefined, type Value } from './values';

/** @param deeper writes the loop once more over other values, where it is recursive */
export function loopOf(items: readonly Value[], index: number, depth: number, deeper?: (values: Value) => string): Facade {
  const fields: Readonly<Record<string, () => Value>> = {
    index: () => index + 1,
    index0: () => index,
    revindex: () => items.length - index,
    revindex0: () => items.length - index - 1,
    first: () => index === 0,
    last: () => index === items.length - 1,
    length: () => items.length,
    previtem: () => (index > 0 ? items[index - 1] : new Undefined('there is no previous item')),
    nextitem: () => (index + 1 < items.length ? items[index + 1] : new Undefined('there is no next item')),
    depth: () => depth + 1,
    depth0: () => depth,
    cycle: () => new Callable((values) => values[index % values.length]),
  };
  return new Facade(
    (name) => (Object.hasOwn(fields, name) ? fields[name]() : undefined),
    ([values]) => {
      if (!deeper) throw new Error('"loop" is called in a loop that is not recursive');
      return deeper(values);
    },
  );
}
