/** Which tokens' rows an adapter trains (trainable-tokens.ts), as files and flags name them. Nothing heavy is imported here. */
import { isObject } from '../json';

/** Ids by the module whose rows they are, or those of the embedding. */
export type TrainableTokens = readonly number[] | Readonly<Record<string, readonly number[]>>;

/** Whether a value, from a file or from who writes JavaScript, is a list of ids, or such lists by the names of modules. */
export function isTrainableTokens(value: unknown): value is TrainableTokens {
  const isList = (list: unknown): boolean =>
    Array.isArray(list) && list.length > 0 && list.every((id) => Number.isSafeInteger(id) && id >= 0);
  if (!isObject(value)) return isList(value);
  return Object.entries(value).length > 0 && Object.entries(value).every(([name, list]) => name !== '' && isList(list));
}
