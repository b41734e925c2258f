/** All verbs, in the order of `kage --help`. Listed by hand: one bundled file has no folder to scan. */

import { add } from './add.ts';
import { breakVerb } from './break.ts';
import { cancel } from './cancel.ts';
import { classes } from './classes.ts';
import { completion } from './completion.ts';
import { copy } from './copy.ts';
import { create } from './create.ts';
import { diff } from './diff.ts';
import { fix } from './fix.ts';
import { info } from './info.ts';
import { join } from './join.ts';
import { lock } from './lock.ts';
import { part } from './part.ts';
import { read } from './read.ts';
import { rejoin } from './rejoin.ts';
import { relate } from './relate.ts';
import { remove } from './remove.ts';
import { restore } from './restore.ts';
import { run } from './run.ts';
import { serve } from './serve.ts';
import { start } from './start.ts';
import { stop } from './stop.ts';
import { swap } from './swap.ts';
import { unlock } from './unlock.ts';
import { update } from './update.ts';
import type { Verb } from './verb.ts';
import { verify } from './verify.ts';
import { write } from './write.ts';

export const VERBS: readonly Verb[] = [
  join,
  part,
  rejoin,
  restore,
  update,
  relate,
  swap,
  cancel,
  breakVerb,
  verify,
  add,
  create,
  remove,
  start,
  stop,
  lock,
  unlock,
  fix,
  read,
  write,
  diff,
  copy,
  serve,
  run,
  info,
  classes,
  completion,
];
