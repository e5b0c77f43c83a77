/** What graphs are written for on a device. */
import { findBlock } from './blocked-products';
import { fusesFast } from './fused-attention';
import type { Target } from './onnx';
import type { SessionSettings } from './session';

/** The target of a device's graphs, in float32, with what ONNX Runtime turns out to be able to on this processor. */
export function targetOf(settings: SessionSettings): Target {
  if (settings.executionProviders[0] !== 'cpu') return { device: 'webgpu', precision: 'float32' };
  const block = findBlock(settings);
  return { device: 'cpu', precision: 'float32', block, fusesAttention: fusesFast(settings, block) };
}
