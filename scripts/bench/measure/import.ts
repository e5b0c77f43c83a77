/** Child: how long the library takes to load in a fresh process. Nothing above this line loads any of it. */
import { serve } from '../child';
import type { ImportResult } from '../jobs';

serve(async (): Promise<ImportResult> => {
  const started = performance.now();
  require('../../../lib/index');
  return { seconds: (performance.now() - started) / 1000 };
});
