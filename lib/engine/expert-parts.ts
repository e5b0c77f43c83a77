/** Which weights of experts an adapter may be added to, and what kernels and their inputs are called then. */

export type ExpertPart = 'gateUp' | 'down';

export const EXPERT_PARTS: readonly ExpertPart[] = ['gateUp', 'down'];

/** To which of them it is added: to none, one, or both. */
export const ADAPTED_PARTS: ReadonlyArray<readonly ExpertPart[]> = [[], ['gateUp'], ['down'], EXPERT_PARTS];

export const KERNEL_NAMES: Readonly<Record<ExpertPart, string>> = { gateUp: 'GateUp', down: 'Down' };

/** The end of a kernel's name, where an adapter is added to these weights. */
export function kindOf(adapted: readonly ExpertPart[]): string {
  return adapted.length === 0 ? '' : `Adapted${adapted.map((part) => KERNEL_NAMES[part]).join('')}`;
}

/** The inputs of a kernel that have the factors of what is added to a weight. */
export function factorNames(part: ExpertPart): [a: string, b: string] {
  return [`${part}A`, `${part}B`];
}
