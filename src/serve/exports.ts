/**
 * The started volumes of the open classes as NBD exports `CLASS/VOLUME`. A volume is attached for as
 * long as a connection has its export; verbs that need it unused are refused meanwhile.
 *
 * A parted proxy that is started read-only has a second metadata context, its increment, under the name
 * that backup tools look for: those of a dirty bitmap of QEMU.
 */

import type { ServedClasses } from '../control/classes.ts';
import type { AttachedVolume, VolumeInfo } from '../engine/api.ts';
import type { NbdExport, NbdExports } from '../nbd/export.ts';
import { BASE_ALLOCATION } from '../nbd/wire.ts';
import type { ZeroFinder } from '../nbd/zeros.ts';

/** What a client should move at once at least, bytes. */
const PREFERRED_BLOCK_SIZE = 4096;

export const INCREMENT = 'qemu:dirty-bitmap:increment';
/** Flag of its extents. */
const DIRTY = 1;

export function exportsOf(classes: ServedClasses, zeros: ZeroFinder): NbdExports {
  return {
    list() {
      return classes
        .names()
        .flatMap((name) =>
          (classes.find(name)?.volumes ?? [])
            .filter((volume) => volume.status === 'ACTIVE')
            .map((volume) => ({ name: `${name}/${volume.name}`, description: describe(volume) })),
        );
    },

    async open(exportName) {
      const slash = exportName.indexOf('/');
      const found = classes.find(exportName.slice(0, Math.max(0, slash)));
      const name = exportName.slice(slash + 1);
      // Only names: a path would be a second name of the same export.
      const volume = found?.volumes.find((v) => v.name === name);
      if (found === undefined || volume === undefined) return undefined;
      const attached = await found.diskClass.attach(name);
      return {
        target: exportOf(attached, exportName, describe(volume), zeros),
        close() {
          attached.close().catch(() => {});
        },
      };
    },
  };
}

function describe(volume: VolumeInfo): string {
  return volume.role ?? 'volume';
}

function exportOf(
  attached: AttachedVolume,
  name: string,
  description: string,
  zeros: ZeroFinder,
): NbdExport {
  const { size, increment } = attached;
  const read = (into: Uint8Array, offset: number) => attached.read(into, offset);
  return {
    name,
    description,
    size,
    readOnly: attached.readOnly,
    preferredBlockSize: PREFERRED_BLOCK_SIZE,
    contexts: increment === undefined ? [BASE_ALLOCATION] : [BASE_ALLOCATION, INCREMENT],
    read,
    write: (from, offset) => attached.write(from, offset),
    async zero(offset, length, punch) {
      const write = (from: number, count: number) => attached.zero(from, count);
      // Without `punch` the client wants its space allocated.
      if (punch) await zeros.clear(read, write, offset, length);
      else await write(offset, length);
    },
    flush: () => attached.flush(),
    status(context, offset, length) {
      if (context !== INCREMENT || !increment) return zeros.extents(read, offset, length);
      return increment
        .runs(offset, length)
        .map((run) => ({ length: run.length, flags: run.differs ? DIRTY : 0 }));
    },
  };
}
