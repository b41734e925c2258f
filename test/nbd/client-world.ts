/** A device on a server that a test controls, and time that passes when the test says so. */

import * as assert from 'uvu/assert';
import { type ErrorCode, KageError } from '../../src/base/errors.ts';
import { NbdDevice, type NbdDeviceOptions } from '../../src/nbd/client-device.ts';
import type { Subject } from '../conformance/device.ts';
import { inWorld, randomBytes } from '../support/world.ts';
import { FakeClock, FakeServer } from './client-fake.ts';

export const KIB = 1024;
/** Bytes of an export, if a test wants no other. */
export const SIZE = 256 * KIB;

type Case = { server: FakeServer; clock: FakeClock; open: Open };
type Open = (options?: Partial<NbdDeviceOptions>) => Promise<NbdDevice>;

/** A server on a socket of its own, and a way to open devices on it that are closed at the end. */
export async function withServer(
  work: (at: Case) => Promise<void>,
  content: Uint8Array = randomBytes(SIZE, 1),
): Promise<void> {
  await inWorld(async (w) => {
    const server = new FakeServer(w.path('s'), content);
    const clock = new FakeClock();
    const devices: NbdDevice[] = [];
    await server.start();
    const open: Open = async (options) => {
      const device = await clock.until(NbdDevice.connect(server.uri, { clock, ...options }));
      devices.push(device);
      return device;
    };
    try {
      await work({ server, clock, open });
    } finally {
      server.trick = () => undefined;
      for (const device of devices) await clock.until(device.close());
      await server.stop();
    }
  });
}

/** The same for the conformance suite, which cleans up itself. */
export async function subject(
  content: Uint8Array,
  prepare: (server: FakeServer) => void = () => {},
): Promise<Subject> {
  let server!: FakeServer;
  let ended = () => {};
  const clock = new FakeClock();
  const world = inWorld(async (w) => {
    server = new FakeServer(w.path('s'), content);
    prepare(server);
    await server.start();
    started();
    await new Promise<void>((resolve) => {
      ended = resolve;
    });
  });
  let started = () => {};
  await Promise.race([
    world,
    new Promise<void>((resolve) => {
      started = resolve;
    }),
  ]);
  const end = async () => {
    await server.stop();
    ended();
    await world;
  };
  const opening = Promise.all([
    NbdDevice.connect(server.uri, { clock }),
    NbdDevice.connect(server.uri, { clock, readOnly: true }),
  ]);
  const [device, readOnly] = await clock.until(opening).catch(async (error) => {
    await end();
    throw error;
  });
  return {
    device,
    readOnly,
    async remove() {
      await clock.until(Promise.all([device.close(), readOnly.close()]));
      await end();
    },
  };
}

export async function rejects(promise: unknown, code: ErrorCode, says: RegExp): Promise<KageError> {
  try {
    await promise;
  } catch (error) {
    assert.instance(error, KageError, String(error));
    assert.is((error as KageError).code, code, String(error));
    assert.match((error as KageError).message, says);
    return error as KageError;
  }
  assert.unreachable(`did not fail with ${code}`);
  throw new Error();
}
