/**
 * A `BlockDevice` as an export, without any state of its own: what the device does is what the client
 * gets. All of it is told as data; zeros are written, never punched.
 */

import type { BlockDevice } from '../device/device.ts';
import type { Extent, NbdExport, NbdExports, OpenExport } from './export.ts';
import { BASE_ALLOCATION } from './wire.ts';

export type DeviceExportOptions = {
  readonly description?: string;
  /** Bytes; 4096 without it. */
  readonly preferredBlockSize?: number;
};

/** Closing the device stays with the caller. */
export function deviceExport(
  device: BlockDevice,
  name: string,
  options: DeviceExportOptions = {},
): NbdExport {
  return {
    name,
    description: options.description ?? '',
    size: device.size,
    readOnly: device.readOnly,
    preferredBlockSize: options.preferredBlockSize ?? 4096,
    contexts: [BASE_ALLOCATION],
    read: (into, offset) => device.read(into, offset),
    write: (from, offset) => device.write(from, offset),
    zero: (offset, length) => device.zero(offset, length),
    flush: () => device.flush(),
    status: (_context, offset): Extent[] => [{ length: device.size - offset, flags: 0 }],
  };
}

/** A fixed list of exports; the first one is the default. */
export function fixedExports(targets: readonly NbdExport[]): NbdExports {
  return {
    list: () => targets.map(({ name, description }) => ({ name, description })),
    open(name): OpenExport | undefined {
      const target = name === '' ? targets[0] : targets.find((t) => t.name === name);
      return target && { target, close() {} };
    },
  };
}
