/** Who is measured: children of this project's own code, and the peer's Python programs. */
import * as path from 'node:path';
import { projectRoot } from '../../lib/project';
import { type ChildOptions, type Outcome, runChild } from './child';

/** A program of `measure/`, by its name. */
export function runOwn<T>(program: string, job: object, options?: ChildOptions): Promise<Outcome<T>> {
  return runChild<T>([process.execPath, path.join(__dirname, 'measure', `${program}.js`)], job, options);
}

const PEER_ENVIRONMENT = {
  // checkpoints are local; a look-up on the Hub would only cost time
  HF_HUB_OFFLINE: '1',
  PYTHONDONTWRITEBYTECODE: '1',
};

/** A program of `peer/`, by its name; the sources are run where they lie. */
export function runPeer<T>(python: string, program: string, job: object, options?: ChildOptions): Promise<Outcome<T>> {
  const file = path.join(projectRoot, 'scripts', 'bench', 'peer', `${program}.py`);
  return runChild<T>([python, file], job, { ...options, env: PEER_ENVIRONMENT });
}
