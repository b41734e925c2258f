/** Edge: the control socket, mode 0600, one `controlSession` for each client that connects. */

import type net from 'node:net';
import { listenAt } from '../nbd/places.ts';
import { type ControlSession, controlSession, type SessionOptions } from './session.ts';

/** Clients at a time; a further one is closed at once. */
const CLIENTS_MAX = 64;
/** A client that leaves more than this unread gets no progress, bytes. */
const UNREAD_MAX = 1024 * 1024;
/** How long the last answers may take to leave, ms. */
const LINGER_MS = 500;

export type ControlServer = {
  /** No further clients; stops what the others wait for, answers them, and closes. */
  stop(): Promise<void>;
};

/** Throws `in-use` when another server listens at the path. */
export async function listenControl(
  path: string,
  options: Omit<SessionOptions, 'send'>,
): Promise<ControlServer> {
  const guests = new Map<net.Socket, ControlSession>();
  const listening = await listenAt({ kind: 'unix', path }, (socket) => {
    if (guests.size >= CLIENTS_MAX) {
      socket.on('error', () => {});
      socket.destroy();
      return;
    }
    const session = controlSession({
      ...options,
      send(line, optional) {
        if (optional && socket.writableLength > UNREAD_MAX) return;
        if (!socket.destroyed) socket.write(line);
      },
    });
    guests.set(socket, session);
    const leave = () => {
      void session.end().finally(() => socket.end());
    };
    socket.on('data', (bytes: Uint8Array) => {
      if (!session.receive(bytes)) leave();
    });
    // A client that closes its end does not wait any more.
    socket.on('end', leave);
    socket.on('error', leave);
    socket.on('close', () => {
      leave();
      guests.delete(socket);
    });
  });
  return {
    async stop() {
      listening.close();
      await Promise.all(
        [...guests].map(([socket, session]) => session.end().then(() => closed(socket))),
      );
    },
  };
}

/** Ends a socket once its last bytes have left, or soon after. */
function closed(socket: net.Socket): Promise<void> {
  if (socket.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.end(() => socket.destroy());
  });
}
