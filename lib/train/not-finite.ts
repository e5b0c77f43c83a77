/** The error of a step whose loss or gradients are not numbers any more. */
import fs from 'node:fs';
import { UserError } from '../errors';
import { listCheckpoints } from './checkpoint';
import type { SFTConfig } from './config';
import type { RunState } from './run-state';

/** A step that was not made, after those of `state`. */
interface FailedStep {
  loss: number;
  /** Global norm of its gradients. */
  norm: number;
  learningRate: number;
}

/** Says what happened, what is likely the cause, and which weights are good. */
export function notFinite({ loss, norm, learningRate }: FailedStep, { step, lossScale }: RunState, config: SFTConfig): UserError {
  const { outputDir, maxGradNorm, warmupSteps, warmupRatio } = config;
  const checkpoints = outputDir !== null && fs.existsSync(outputDir) ? listCheckpoints(outputDir) : [];
  const causes = [`a learning_rate that is too high (this step used ${learningRate}; try a tenth)`];
  if (warmupSteps === 0 && warmupRatio === 0) causes.push('no warmup (set warmup_ratio: 0.03)');
  if (maxGradNorm === 0) causes.push('gradients that are not clipped (set max_grad_norm: 1)');
  if (lossScale) causes.push('numbers that float16 cannot hold (set fp16: false)');
  causes.push('weights that were not finite to begin with');
  const good =
    checkpoints.length > 0 ? `the last good checkpoint is ${checkpoints[checkpoints.length - 1].folder}` : 'there is no checkpoint yet';
  const what = Number.isFinite(loss) ? `the gradient norm is ${norm}` : `the loss is ${loss}`;
  return new UserError(
    `Step ${step + 1}: ${what}, so training stopped before this update; likely causes are ${causes.join(', ')}; ` +
      `the model in memory has the weights of step ${step}, and ${good}.`,
  );
}
