/** The compute engine: tfjs, the fused operations, and the device they run on. Knows nothing of language models. */

export * from './checkpoint';
export * from './device';
export * from './ops';
export * from './segments';
