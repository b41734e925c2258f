/**
 * One connection to an NBD server: socket, TLS, handshake, then requests out and replies in. It
 * never comes back to life: `lost` is called once, and after that no byte of it reaches anybody's
 * memory.
 */

import net from 'node:net';
import { errnoOf, ioError, KageError } from '../base/errors.ts';
import { type Negotiated, startHandshake } from './client-handshake.ts';
import { createReplyParser, encodeRequest, freshReply, type Request } from './client-protocol.ts';
import { type Clock, createTicker, TICK_MS } from './client-ticks.ts';
import { prepareTls } from './client-tls.ts';
import type { NbdUri } from './uri.ts';
import { COMMAND } from './wire.ts';

/** Time for an orderly end, ms. */
const END_MS = 2000;
/** Idle time after which TCP asks whether the other end is there, ms. */
const KEEP_ALIVE_MS = 15_000;

/**
 * Why a connection ended. `closed`: the server ended it, and works on nothing more of it. `silent`:
 * it may still be there and work on what it was sent. `broken`: it is not to be believed.
 */
export type Loss = { readonly kind: 'closed' | 'silent' | 'broken'; readonly error: KageError };

export type ConnectionOptions = {
  readonly uri: NbdUri;
  /** What messages call the server. */
  readonly server: string;
  readonly clock: Clock;
  /** For connecting and the handshake together, ms. */
  readonly connectMs: number;
};

export type ConnectionEvents = {
  find(cookie: number): Request | undefined;
  /** A whole reply. */
  answered(cookie: number, request: Request): void;
  /** Once, after the handshake, and not after `end` or `destroy`. */
  lost(loss: Loss): void;
};

export interface Connection {
  readonly negotiated: Negotiated;
  /** Sends a request. The bytes of a write are read from its memory until it is answered. */
  send(cookie: number, request: Request): void;
  /** Ends an idle connection in order. */
  end(): Promise<void>;
  /** Ends it at once. */
  destroy(): void;
}

/** Errors of a socket that say that the server has ended the connection. */
const CLOSED = ['ECONNRESET', 'EPIPE', 'ECONNABORTED', 'ERR_STREAM_WRITE_AFTER_END'];

/** Connects and agrees with the server. Rejects with a `KageError`. */
export function openConnection(
  options: ConnectionOptions,
  events: ConnectionEvents,
): Promise<Connection> {
  const { uri, server, clock } = options;
  return new Promise((resolve, reject) => {
    const secure = uri.tls ? prepareTls(uri, server) : undefined;
    let state: 'opening' | 'open' | 'over' = 'opening';
    let receive: (bytes: Uint8Array) => void = () => {};
    let whenClosed = () => {};
    let waited = 0;

    function lose(loss: Loss): void {
      if (state === 'over') return;
      const wasOpen = state === 'open';
      state = 'over';
      receive = () => {};
      socket.destroy();
      if (wasOpen) events.lost(loss);
      else reject(loss.error);
    }

    function failed(error: Error): void {
      const what = state === 'opening' ? 'connecting' : 'the connection';
      const kind = CLOSED.includes(errnoOf(error)) ? 'closed' : 'silent';
      lose({ kind, error: socketError(what, server, error) });
    }

    function guarded(work: () => void): void {
      try {
        work();
      } catch (error) {
        const bug = `${server}: a reply could not be read: ${error}`;
        const known = error instanceof KageError;
        lose({
          kind: 'broken',
          error: known ? error : new KageError('failed', bug, { cause: error }),
        });
      }
    }

    const hear = (bytes: Uint8Array) => guarded(() => receive(bytes));
    const closed = () => {
      gone();
      whenClosed();
    };

    /** Begins ('on') or ends ('off') to listen. */
    function listen(to: net.Socket, how: 'on' | 'off'): void {
      to[how]('data', hear);
      to[how]('error', failed);
      to[how]('end', gone);
      to[how]('close', closed);
    }

    function gone(): void {
      const text = `${server}: the server closed the connection`;
      lose({ kind: 'closed', error: new KageError('io-error', text, { data: { path: server } }) });
    }

    let socket = connect(uri);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    listen(socket, 'on');

    const handshake = startHandshake(
      { server, exportName: uri.exportName, tls: uri.tls, allocation: true },
      {
        send: (bytes) => socket.write(bytes),
        startTls() {
          // What ends the connection below comes up through TLS; its errors must be heard as well.
          const plain = socket;
          listen(plain, 'off');
          plain.on('error', failed);
          socket = secure!(plain);
          listen(socket, 'on');
          socket.once('secureConnect', () => guarded(() => handshake.secured()));
        },
        done(negotiated) {
          state = 'open';
          const { structured, allocationId } = negotiated;
          const { find, answered: done } = events;
          receive = createReplyParser({ server, structured, allocationId, find, done });
          resolve({ negotiated, send, end, destroy });
        },
      },
    );
    receive = (bytes) => handshake.push(bytes);

    createTicker(clock, () => {
      waited += TICK_MS;
      const text = `${server}: no answer within ${options.connectMs / 1000} s`;
      if (state === 'opening' && waited >= options.connectMs) {
        lose({
          kind: 'silent',
          error: new KageError('io-error', text, { data: { path: server } }),
        });
      }
      return state === 'opening';
    })();

    function send(cookie: number, request: Request): void {
      const head = encodeRequest(cookie, request);
      if (request.command !== COMMAND.write) {
        socket.write(head);
        return;
      }
      socket.cork();
      socket.write(head);
      socket.write(request.data!);
      socket.uncork();
    }

    function end(): Promise<void> {
      if (state === 'over') return Promise.resolve();
      state = 'over';
      receive = () => {};
      return new Promise((ended) => {
        let left = END_MS;
        let closed = false;
        whenClosed = () => {
          closed = true;
          ended();
        };
        socket.end(encodeRequest(0, DISCONNECT));
        createTicker(clock, () => {
          left -= TICK_MS;
          if (!closed && left <= 0) {
            socket.destroy();
            ended();
          }
          return !closed && left > 0;
        })();
      });
    }

    function destroy(): void {
      state = 'over';
      receive = () => {};
      socket.destroy();
    }
  });
}

const DISCONNECT: Request = {
  command: COMMAND.disconnect,
  offset: 0,
  length: 0,
  reply: freshReply(),
};

function connect({ address }: NbdUri): net.Socket {
  return address.kind === 'unix'
    ? net.connect({ path: address.path })
    : net.connect({ host: address.host, port: address.port });
}

function socketError(what: string, server: string, error: Error): KageError {
  const errno = errnoOf(error);
  if (errno === 'ENOENT' || errno === 'ECONNREFUSED') {
    return new KageError('io-error', `${server}: no server listens there`, {
      hint: 'is it started?',
      data: { path: server, errno },
      cause: error,
    });
  }
  if (/^E[A-Z0-9]+$/.test(errno)) return ioError(what, server, error);
  // TLS says in a sentence what it does not like.
  return new KageError('io-error', `${server}: ${what} failed: ${error.message}`, {
    data: { path: server, errno },
    cause: error,
  });
}
