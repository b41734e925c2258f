/** Entry of the one-file bundle: a copy thread when started as one, else the command line. */

import { workerCode } from './copy/crew.ts';
import { isCopyWorker, serveCopies } from './copy/worker.ts';

if (isCopyWorker()) {
  serveCopies();
} else {
  workerCode.url = new URL(import.meta.url);
  await import('./cli/main.ts');
}
