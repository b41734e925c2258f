/**
 * A class goes in one step: a root is committed that says so, and from then on the class is not
 * there, though its files are. They go afterwards, that root last; whoever opens a class of that name
 * under the lock finishes what a crash left undone.
 */

import { reach } from '../base/faults.ts';
import type { ClassRecord } from '../catalog/records.ts';
import { type Loaded, loadRoots } from '../catalog/root.ts';
import type { Folder } from '../device/host.ts';
import type { Kernel } from '../kernel/kernel.ts';

type Removable = ClassRecord & { removed?: true };

/** Turns the record into that of a class that is no more. */
export function markRemoved(record: ClassRecord): void {
  (record as Removable).removed = true;
  // Whoever looks for the owner of an image reads these.
  record.disks = [];
}

/**
 * Whether a newest good root says that its class is no more. Nothing is committed after that one: a
 * root beside it that is missing or damaged is older.
 */
export function isRemoved(record: ClassRecord | undefined): boolean {
  return (record as Removable | undefined)?.removed === true;
}

/** The roots of a folder under its lock; what is left of a class that is no more goes first. */
export async function loadLiving(folder: Folder, kernel: Kernel): Promise<Loaded> {
  const loaded = await loadRoots(folder, kernel);
  if (loaded.record === undefined || !isRemoved(loaded.record)) return loaded;
  await finishRemoval(folder, loaded.record);
  return { record: undefined, closed: null };
}

/** Removes the files of a class for which `isRemoved` is true. Needs the lock, and leaves it. */
export async function finishRemoval(folder: Folder, record: ClassRecord): Promise<void> {
  const last = `root.${record.generation % 2}`;
  for (const name of await folder.list()) {
    if (/^(pair|root\.|(intent|alive)$)/.test(name) && name !== last) await folder.remove(name);
  }
  // Were the last one to vanish first in a power cut, the class would be back.
  await folder.sync();
  reach('class:last-root');
  await folder.remove(last);
  await folder.sync();
}
