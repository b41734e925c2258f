/**
 * The registry of durable steps: each has a name here, and the crash tests enumerate the names. In
 * production a step costs one comparison; a test (or `KAGE_FAULT=name[@n]`) makes the n-th arrival
 * at a step end the process or cut the power.
 */

export const STEPS = {
  'image:recorded': 'a created image is in the catalog, its file not yet made',
  'image:created': 'the image file exists at full length and its folder is synced',
  'image:whole': 'a copy to a new image is complete and synced, the image not yet renamed',
  'class:removed': 'a root that says that the class is gone is durable, its files still there',
  'class:last-root': 'that root is the last file of the class',
  'intent:before-write': 'a hot extent is about to be made durable',
  'intent:durable': 'a hot extent is durable, the write it covers not yet issued',
  'write:preserved': 'old content is in the target, not yet synced',
  'write:preserve-synced': 'old content is durable in the target, its bit still set',
  'write:preserve-cleared': 'the pending bit is durably clear, the source not yet overwritten',
  'write:one-side': 'the first side is written, the other not',
  'write:done': 'all sides are written, nothing synced',
  'flush:synced': 'the data of a flush is durable, bits it covers not yet clear',
  'flush:cleared': 'the bits a flush covers are durably clear',
  'evict:bits-durable': 'changed bits of an extent are durable, the extent still in the log',
  'evict:done': 'an extent has left the log',
  'copy:written': 'a batch is written to the target, not synced',
  'copy:source-synced': 'source synced, target not',
  'copy:target-synced': 'both sides synced, pending bits still set',
  'copy:cleared': 'the pending bits of a batch are durably clear',
  'verb:settled': 'settling regions are durably clear, the verb not begun',
  'verb:synced': 'both sides synced, nothing committed',
  'commit:maps-written': 'new map generations are durable, no root names them',
  'commit:root-written': 'the new root is written under its temporary name',
  'commit:root-renamed': 'the new root has its name, its folder is not synced',
  'commit:done': 'the commit is durable, old maps not yet removed',
  'recovery:begun': 'the class is open after a crash, nothing repaired',
  'recovery:pended': 'hot extents are in the maps, the log not yet emptied',
  'close:stamped': 'identities are taken, the clean root not yet written',
} as const;

export type Step = keyof typeof STEPS;

/** Called at each step. May throw (a simulated power cut) or never return (a real one). */
export type FaultHook = (step: Step) => void;

let hook: FaultHook | undefined;

/** Installs the hook (tests, the crash switch of the command line) or, with none, removes it. */
export function setFaultHook(next?: FaultHook): void {
  hook = next;
}

/** Marks the arrival at a durable step. */
export function reach(step: Step): void {
  if (hook !== undefined) hook(step);
}

/** A hook that calls `strike` at the n-th arrival (from 1) at `name`, given as `name` or `name@n`. */
export function faultAt(text: string, strike: () => void): FaultHook {
  const match = /^(.*?)(?:@(\d+))?$/.exec(text);
  const name = match?.[1];
  let left = Number(match?.[2] ?? 1);
  return (step) => {
    if (step === name && --left === 0) strike();
  };
}
