/**
 * Entry of the one-file bundle: the command line.
 * `KAGE_FAULT=step[@n]` ends the process as kill -9 would at the n-th arrival at a durable step
 * (`base/faults.ts`); the crash tests use it.
 */

import './cli/guarded-env.ts';
import { faultAt, setFaultHook } from './base/faults.ts';

const fault = process.env.KAGE_FAULT;
if (fault) setFaultHook(faultAt(fault, () => process.kill(process.pid, 'SIGKILL')));
await import('./cli/main.ts');
