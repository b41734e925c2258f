/**
 * A volume in the hands of a client: calls go to the link as they come, beside verbs and copies. What
 * the volume becomes under the client (INVALID, stopped by force) shows in the next call.
 */

import { KageError } from '../base/errors.ts';
import type { ClassRecord, VolumeRecord } from '../catalog/records.ts';
import type { Link } from '../proxy/link.ts';
import type { AttachedVolume } from './api.ts';
import type { FrozenIncrement } from './increment.ts';
import { startedReadOnly } from './members.ts';
import type { State } from './state.ts';

/** Zeros are written from here, so many bytes at a time. */
const ZEROS = new Uint8Array(1024 * 1024);

export function attachVolume(
  state: State,
  link: Link,
  { id, name, size, readOnly: isReadOnly }: VolumeRecord,
  options: { readOnly: boolean; increment?: FrozenIncrement; written: () => void },
): AttachedVolume {
  let open = true;
  let seen: ClassRecord | undefined;
  const check = () => {
    if (!open) throw new KageError('usage', `${name}: used after it was given back`);
    state.requireIntact();
    if (seen === state.record) return;
    const volume = state.record.volumes.find((v) => v.id === id);
    if (volume === undefined || volume.invalid !== null || !volume.started) {
      const what = volume?.invalid ? `is INVALID: ${volume.invalid.reason}` : 'was stopped';
      throw new KageError('wrong-state', `${name}: ${what}`, { data: { volume: name } });
    }
    seen = state.record;
  };
  /** What became INVALID meanwhile has perhaps given what is no part of its content. */
  const checked = (work: void | Promise<void>) => work?.then(check);
  const write = (from: Uint8Array, offset: number) => {
    check();
    if (isReadOnly) throw startedReadOnly(name);
    if (options.readOnly) throw new KageError('not-permitted', `${name}: is opened to read only`);
    options.written();
    return checked(link.write(id, offset, from));
  };
  const frozen = options.increment;
  const increment = frozen && {
    regionSize: frozen.regionSize,
    runs(offset: number, length: number) {
      check();
      return frozen.runs(offset, length);
    },
  };
  state.addUser(id);
  return {
    name,
    size,
    readOnly: options.readOnly || isReadOnly,
    increment,
    read(into, offset) {
      check();
      return checked(link.read(id, offset, into));
    },
    write,
    async zero(offset, length) {
      for (let done = 0; done < length; done += ZEROS.byteLength) {
        await write(ZEROS.subarray(0, Math.min(ZEROS.byteLength, length - done)), offset + done);
      }
    },
    async flush() {
      check();
      await checked(link.flush(id));
    },
    async close() {
      if (!open) return;
      open = false;
      frozen?.release();
      state.removeUser(id);
    },
  };
}
