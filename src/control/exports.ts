/**
 * The started volumes of the open classes as NBD exports `CLASS/VOLUME`. A volume is attached for as
 * long as a connection has its export; verbs that need it unused are refused meanwhile.
 */

import type { AttachedVolume, VolumeInfo } from '../engine/api.ts';
import type { NbdExport, NbdExports } from '../nbd/export.ts';
import { BASE_ALLOCATION } from '../nbd/wire.ts';
import type { ZeroFinder } from '../nbd/zeros.ts';
import type { ServedClasses } from './classes.ts';

/** What a client should move at once at least, bytes. */
const PREFERRED_BLOCK_SIZE = 4096;

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
  const { size } = attached;
  const read = (into: Uint8Array, offset: number) => attached.read(into, offset);
  return {
    name,
    description,
    size,
    readOnly: attached.readOnly,
    preferredBlockSize: PREFERRED_BLOCK_SIZE,
    contexts: [BASE_ALLOCATION],
    read,
    write: (from, offset) => attached.write(from, offset),
    async zero(offset, length, punch) {
      const write = (from: number, count: number) => attached.zero(from, count);
      // Without `punch` the client wants its space allocated.
      if (punch) await zeros.clear(read, write, offset, length);
      else await write(offset, length);
    },
    flush: () => attached.flush(),
    status: (_context, offset, length) => zeros.extents(read, offset, length),
  };
}
