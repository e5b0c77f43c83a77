import { UserError } from '../errors';

/** @throws UserError when an option is given, but is no whole number of at least 1 */
export function checkWholeNumber(name: string, value: number | null | undefined): void {
  if (value === undefined || value === null || (Number.isInteger(value) && value >= 1)) return;
  throw new UserError(`${name} is ${value}; expected a whole number of at least 1.`);
}
