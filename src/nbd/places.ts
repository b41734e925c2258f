/**
 * Edge: where a server listens. A unix socket is mode 0600 from its first moment and takes the place
 * of one whose server is dead, never of a living one or of another file. TCP stays on this machine
 * unless the caller says otherwise. A socket that was handed over belongs to whoever made it.
 */

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { errnoOf, ioError, KageError } from '../base/errors.ts';

export type Place =
  | { readonly kind: 'unix'; readonly path: string }
  /** `host`: a name or an address, IPv6 with or without brackets. `port`: 0 for any free one. */
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  /** A listening socket that this process was started with. */
  | { readonly kind: 'fd'; readonly fd: number };

/** A place that is listened on. */
export type Listening = {
  /** With the port that was found; a TCP socket that was handed over with its host and port. */
  readonly place: Place;
  /** No further clients. */
  close(): void;
};

/** Longest path of a unix socket, bytes; it differs by a few between systems. */
const SOCKET_PATH_MAX = 103;

export function isLoopback(place: Place): boolean {
  if (place.kind !== 'tcp') return true;
  const host = bare(place.host);
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** `place` as people write it. */
export function placeText(place: Place): string {
  if (place.kind === 'unix') return place.path;
  if (place.kind === 'fd') return `fd:${place.fd}`;
  const host = bare(place.host);
  return host.includes(':') ? `[${host}]:${place.port}` : `${host}:${place.port}`;
}

export function listenAt(place: Place, onSocket: (socket: net.Socket) => void): Promise<Listening> {
  if (place.kind === 'unix') return listenUnix(place.path, onSocket);
  return place.kind === 'fd' ? listenFd(place, onSocket) : listenTcp(place, onSocket);
}

function bare(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}

/** A client that half-closes still gets its answers. */
function makeServer(onSocket: (socket: net.Socket) => void): net.Server {
  return net.createServer({ allowHalfOpen: true }, onSocket);
}

async function listenTcp(
  place: Extract<Place, { kind: 'tcp' }>,
  onSocket: (socket: net.Socket) => void,
): Promise<Listening> {
  const host = bare(place.host);
  const server = makeServer((socket) => {
    socket.setNoDelay(true);
    onSocket(socket);
  });
  try {
    await started(server, { host, port: place.port });
  } catch (error) {
    throw cannotListen(placeText(place), error);
  }
  const { port } = server.address() as net.AddressInfo;
  return { place: { kind: 'tcp', host, port }, close: () => void server.close() };
}

/** The name in the file system stays when it is closed. */
async function listenFd(
  place: Extract<Place, { kind: 'fd' }>,
  onSocket: (socket: net.Socket) => void,
): Promise<Listening> {
  const server = makeServer((socket) => {
    socket.setNoDelay(true);
    onSocket(socket);
  });
  try {
    await started(server, { fd: place.fd });
  } catch (error) {
    const errno = errnoOf(error);
    throw new KageError('not-permitted', `${placeText(place)}: is no listening socket: ${errno}`, {
      hint: 'whoever starts the server hands the socket over; see systemd.socket(5)',
      data: { errno },
      cause: error,
    });
  }
  const found = server.address() as Partial<net.AddressInfo> | null;
  const close = () => void server.close();
  if (found?.address === undefined) return { place, close };
  return { place: { kind: 'tcp', host: found.address, port: found.port! }, close };
}

/**
 * The socket is made in a folder that nobody else may enter and then moved to its name, so it is
 * never open to others and its name never leads to a socket that does not answer yet.
 */
async function listenUnix(at: string, onSocket: (socket: net.Socket) => void): Promise<Listening> {
  const replaces = await isDeadSocket(at);
  let folder: string;
  try {
    folder = fs.mkdtempSync(path.join(path.dirname(at), '.k-'));
  } catch (error) {
    throw cannotListen(at, error);
  }
  const made = path.join(folder, 's');
  const server = makeServer(onSocket);
  try {
    checkLength(at, Math.max(Buffer.byteLength(at), Buffer.byteLength(made)));
    await started(server, { path: made });
    fs.chmodSync(made, 0o600);
    if (replaces) fs.renameSync(made, at);
    else giveName(made, at);
  } catch (error) {
    server.close();
    if (errnoOf(error) === 'EEXIST') throw inUse(at);
    throw cannotListen(at, error);
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
  const { ino } = fs.lstatSync(at);
  const close = () => {
    server.close();
    if (fs.lstatSync(at, { throwIfNoEntry: false })?.ino === ino) fs.rmSync(at, { force: true });
  };
  return { place: { kind: 'unix', path: at }, close };
}

/** Never replaces a file that has come meanwhile, where the system can name a socket twice. */
function giveName(made: string, at: string): void {
  try {
    fs.linkSync(made, at);
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') throw error;
    fs.renameSync(made, at);
  }
}

/** Whether a dead server's socket is there; false when nothing is. Throws for anything else. */
async function isDeadSocket(at: string): Promise<boolean> {
  const stat = fs.lstatSync(at, { throwIfNoEntry: false });
  if (stat === undefined) return false;
  if (!stat.isSocket()) {
    throw new KageError('not-permitted', `${at}: something that is no socket is there already`, {
      hint: 'choose another path',
      data: { path: at },
    });
  }
  const errno = await connectionError(at);
  if (errno === 'ECONNREFUSED') return true;
  if (errno === 'ENOENT') return false;
  throw errno === '' || errno === 'EAGAIN' ? inUse(at) : cannotListen(at, { code: errno });
}

/** '' when somebody answers, else the error code of the connection. */
function connectionError(at: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = net.connect(at);
    socket.once('connect', () => {
      socket.destroy();
      resolve('');
    });
    socket.once('error', (error) => resolve(errnoOf(error) || error.message));
  });
}

function started(server: net.Server, where: net.ListenOptions | { fd: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      // Out of descriptors, mostly: the clients that are here go on.
      server.on('error', () => {});
      resolve();
    });
  });
}

function checkLength(at: string, length: number): void {
  if (length <= SOCKET_PATH_MAX) return;
  throw new KageError('usage', `${at}: the path is too long for a socket`, {
    hint: `sockets have paths of at most ${SOCKET_PATH_MAX} bytes`,
    data: { path: at },
  });
}

function inUse(at: string): KageError {
  return new KageError('in-use', `${at}: another server listens there`, { data: { path: at } });
}

function cannotListen(at: string, error: unknown): KageError {
  if (error instanceof KageError) return error;
  const errno = errnoOf(error);
  if (errno === 'EADDRINUSE') return inUse(at);
  if (
    errno === 'EACCES' ||
    errno === 'EPERM' ||
    errno === 'EADDRNOTAVAIL' ||
    errno === 'ENOTFOUND' ||
    errno === 'ENOENT'
  ) {
    const why = errno === 'ENOENT' ? 'no such folder' : errno;
    return new KageError('not-permitted', `${at}: cannot listen there: ${why}`, {
      data: { path: at, errno },
      cause: error,
    });
  }
  return ioError('listening', at, error);
}
