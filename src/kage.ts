/**
 * Entry of the one-file bundle: the command line.
 * `KAGE_FAULT=step[@n]` ends the process as kill -9 would at the n-th arrival at a durable step
 * (`base/faults.ts`); the crash tests use it.
 */

import './cli/guarded-env.ts';
import { faultAt, setFaultHook } from './base/faults.ts';
import { widenPool } from './device/pool.ts';

/** Set by the bundle: it was loaded as CommonJS, so nothing has used the pool of threads yet. */
declare const KAGE_COMMONJS: boolean;

/** Verbs under which other people's requests wait for disks. */
const SERVING = ['serve', 'run'];

const fault = process.env.KAGE_FAULT;
if (fault) setFaultHook(faultAt(fault, () => process.kill(process.pid, 'SIGKILL')));
if (KAGE_COMMONJS && SERVING.includes(process.argv[2] ?? '')) widenPool();
void import('./cli/main.ts');
