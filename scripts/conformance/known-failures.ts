/**
 * Tests of tfjs-core that do not pass on the ONNX Runtime backend, by the beginning of their full names, each with its
 * reason. A run fails on every other failure, and says when a test listed here passes.
 */
export const knownFailures: Readonly<Record<string, string>> = {};
