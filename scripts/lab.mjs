/** `npm run lab`: opens JupyterLab at the notebooks, with the project's own kernel. Further arguments go to JupyterLab. */
import { spawnSync } from 'node:child_process';
import * as path from 'node:path';
import { entry, jupyterEnvironment, root, setUp } from './setup.mjs';

await entry(() => {
  const python = setUp({ lab: true });
  const args = ['-m', 'jupyterlab', `--ServerApp.root_dir=${root}`, '--LabApp.default_url=/lab/tree/notebooks', ...process.argv.slice(2)];
  return spawnSync(python, args, { cwd: path.join(root, 'notebooks'), stdio: 'inherit', env: jupyterEnvironment() }).status ?? 1;
});
