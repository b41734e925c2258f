/** Edge: finds the server of a state folder, if one lives, and connects to it. */

import { existsSync } from 'node:fs';
import net from 'node:net';
import { resolve } from 'node:path';
import { KageError } from '../base/errors.ts';
import type { DiskClass } from '../engine/api.ts';
import { isNbdUri } from '../nbd/uri.ts';
import type { Whereabouts } from './protocol.ts';
import { type Remote, remote } from './remote.ts';

/** A living server greets at once; one that is being started, when it listens. */
const GREETING_MS = 10_000;

/** Where the server of a state folder listens. */
export function controlPath(home: string): string {
  return `${resolve(home)}/control.sock`;
}

/**
 * Opens a class of the server that lives in the state folder. Undefined: there is no server, or it does
 * not serve that class. Closing the class only ends the connection. Throws what the server throws.
 */
export async function openServed(
  name: string,
  options: { readonly home: string; readonly create?: boolean },
): Promise<DiskClass | undefined> {
  return await withServer(options.home, async (far, leave) => {
    const diskClass = await far.openClass(name, { create: options.create ?? false });
    if (diskClass === undefined) leave();
    return diskClass;
  });
}

/** Where the volumes of the server are that lives in the state folder; undefined: there is none. */
export async function findServer(home: string): Promise<Whereabouts | undefined> {
  return await withServer(home, async (far, leave) => {
    const found = await far.where();
    leave();
    return found;
  });
}

async function withServer<T>(
  home: string,
  work: (far: Remote, leave: () => void) => Promise<T>,
): Promise<T | undefined> {
  const path = controlPath(home);
  const socket = await connect(path);
  if (socket === undefined) return undefined;
  const far = remote({
    send: (line) => void socket.write(line),
    close: () =>
      new Promise((done) => {
        if (socket.destroyed) return done();
        socket.once('close', () => done());
        socket.end();
      }),
    resolve: (image) => (isNbdUri(image) ? image : resolve(image)),
  });
  socket.on('data', (bytes: Uint8Array) => far.receive(bytes));
  socket.on('error', () => {});
  socket.on('close', () => far.ended());
  const timer = setTimeout(() => far.ended(silent(path)), GREETING_MS);
  try {
    await far.greeted;
    // Opening a class may take its time.
    clearTimeout(timer);
    return await work(far, () => void socket.destroy());
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function silent(path: string): KageError {
  return new KageError('failed', `${path}: the server does not answer`);
}

/** Undefined when nobody listens: no socket, or that of a dead server. */
function connect(path: string): Promise<net.Socket | undefined> {
  if (!existsSync(path)) return Promise.resolve(undefined);
  return new Promise((done) => {
    const socket = net.connect(path);
    socket.once('connect', () => done(socket));
    // Whoever may not connect is told by the lock of the class who has it.
    socket.once('error', () => done(undefined));
  });
}
