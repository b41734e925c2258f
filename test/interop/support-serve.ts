/**
 * A server for the interop tests, as a process of its own on any runtime: one export `disk` over a raw
 * file or memory. Its only argument is JSON (`Serve`); it prints `ready PORT…` and ends on SIGTERM.
 */

import { KageError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/device.ts';
import { FileDevice } from '../../src/device/file.ts';
import { deviceExport, fixedExports } from '../../src/nbd/device-export.ts';
import type { NbdExport } from '../../src/nbd/export.ts';
import type { Place } from '../../src/nbd/places.ts';
import { startNbdServer } from '../../src/nbd/server.ts';
import type { TlsOptions } from '../../src/nbd/tls.ts';

export type Serve = {
  readonly places: readonly Place[];
  /** A raw image; without it memory of `size` bytes. */
  readonly file?: string;
  readonly size?: number;
  readonly readOnly?: boolean;
  readonly tls?: TlsOptions;
  readonly insecure?: boolean;
  /** Every call of the export answers with a promise, in the next turn. */
  readonly later?: boolean;
};

function memory(size: number): BlockDevice {
  const content = new Uint8Array(size);
  return {
    name: 'memory',
    size,
    readOnly: false,
    read: (into, offset) => into.set(content.subarray(offset, offset + into.byteLength)),
    write: (from, offset) => content.set(from, offset),
    zero: (offset, length) => void content.fill(0, offset, offset + length),
    flush: async () => {},
    close: async () => {},
  };
}

/** The same export, never done at once. */
function late(target: NbdExport): NbdExport {
  const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
  return {
    ...target,
    read: (into, offset) => turn().then(() => target.read(into, offset)),
    write: (from, offset) => turn().then(() => target.write(from, offset)),
    zero: (offset, length, punch) => turn().then(() => target.zero(offset, length, punch)),
    status: (context, offset, length) => turn().then(() => target.status(context, offset, length)),
  };
}

const serve = JSON.parse(process.argv[2]) as Serve;
const { file, size = 0, readOnly = false } = serve;
const device = file === undefined ? memory(size) : new FileDevice(file, { readOnly });
const plain = deviceExport({ ...bound(device), readOnly }, 'disk', { description: 'a test disk' });
const target = serve.later ? late(plain) : plain;

/** Its methods as plain functions, so that it can be spread. */
function bound(of: BlockDevice): BlockDevice {
  return {
    name: of.name,
    size: of.size,
    readOnly: of.readOnly,
    read: (into, offset) => of.read(into, offset),
    write: (from, offset) => of.write(from, offset),
    zero: (offset, length) => of.zero(offset, length),
    flush: () => of.flush(),
    close: () => of.close(),
  };
}

try {
  const server = await startNbdServer(serve.places, {
    exports: fixedExports([target]),
    clock: () => performance.now(),
    tls: serve.tls,
    insecure: serve.insecure,
  });
  process.on('SIGTERM', async () => {
    const drained = await server.stop(5000);
    await device.close();
    console.log(`stopped ${drained}`);
    process.exit(0);
  });
  const ports = server.places.map((place) => (place.kind === 'tcp' ? place.port : '-'));
  console.log(`ready ${ports.join(' ')}`);
} catch (error) {
  if (!(error instanceof KageError)) throw error;
  console.log(`refused ${error.code}: ${error.message}`);
  process.exit(error.exitStatus);
}
