/** `npm run lab`: opens JupyterLab at the notebooks, with the project's own kernel. Further arguments go to JupyterLab. */
import { spawnSync } from 'node:child_process';
import * as path from 'node:path';
import { entry, jupyterEnvironment, root, SetupError, setUp } from './setup.mjs';

await entry(() => {
  const python = setUp({ lab: true });
  const args = ['-m', 'jupyterlab', `--ServerApp.root_dir=${root}`, '--LabApp.default_url=/lab/tree/notebooks', ...process.argv.slice(2)];
  const { status } = spawnSync(python, args, { cwd: path.join(root, 'notebooks'), stdio: 'inherit', env: jupyterEnvironment() });
  // as in many containers; npm takes a flag for its own unless it stands behind "--"
  if (status === 1 && process.getuid?.() === 0 && !args.includes('--allow-root'))
    throw new SetupError('JupyterLab ended with an error; where it is that it runs as root, write npm run lab -- --allow-root.');
  return status ?? 1;
});
