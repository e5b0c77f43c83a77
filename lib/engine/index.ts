/** The compute engine: tfjs, the fused operations, and the device they run on. Knows nothing of language models. */
import '@tensorflow/tfjs-backend-cpu';

export * from './ops';
export * from './segments';
export * from './device';
