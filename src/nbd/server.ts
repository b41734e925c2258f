/**
 * Edge: the NBD server on sockets. It ties each accepted socket to a `Connection`, which decides
 * everything; here are only places, the limits on clients, TLS, and the orderly end.
 *
 * A client that vanishes, stalls or talks nonsense costs its own connection and nobody is told.
 */

import type net from 'node:net';
import { KageError } from '../base/errors.ts';
import { BUDGET_BYTES, Budget } from './budget.ts';
import { Connection, type Line } from './connection.ts';
import type { NbdExports } from './export.ts';
import { NbdMetrics } from './metrics.ts';
import type { TlsMode } from './options.ts';
import { isLoopback, type Listening, listenAt, type Place, placeText } from './places.ts';
import { SlabStore } from './slabs.ts';
import { prepareTls, type Secure, type TlsOptions } from './tls.ts';

/** Clients at a time; a further one is closed at once. */
const CONNECTIONS_MAX = 100;
/** From the first byte to an agreed export, TLS included, ms. */
const HANDSHAKE_MS = 10_000;
/** A client may keep memory so long that others wait for and it does not move, ms. */
const STALL_MS = 15_000;
const STALL_LOOK_MS = 1000;
/** A closed line waits so long for the client to close its end, ms; when the server stops, less. */
const LINGER_MS = 5000;
const LAST_LINGER_MS = 500;
/** A stopping server lets clients in the middle of the handshake ask once more, ms. */
const HAGGLE_MS = 100;

export type NbdServerOptions = {
  readonly exports: NbdExports;
  /** ms, never going back. */
  readonly clock: () => number;
  /** Clients that come before this wait; without it nobody does. */
  readonly ready?: Promise<unknown>;
  /** Clients that come, go and are refused. Must not throw. */
  readonly onClient?: (event: ClientEvent) => void;
  readonly connectionsMax?: number;
  readonly handshakeMs?: number;
  /** Memory for requests of all clients together, beyond 1 MiB of each, bytes. */
  readonly budgetBytes?: number;
  /** So long may a client keep memory that others wait for without moving, ms. */
  readonly stallMs?: number;
};

export type ClientEvent = {
  readonly kind: 'connected' | 'disconnected' | 'refused';
  /** `unix`, or address and port. */
  readonly peer: string;
  readonly tls: boolean;
  /** Of one that is refused: what it asked for, if anything, in its own words. */
  readonly export: string | null;
  /** Why it is refused. */
  readonly why: string | null;
};

export type NbdSafety = {
  /** Off without it. */
  readonly tls?: TlsOptions;
  /** Allows other machines without TLS: whoever reaches the port reads and writes all exports. */
  readonly insecure?: boolean;
};

export interface NbdServer {
  /** Where it listens, with the ports that were found. */
  readonly places: readonly Place[];
  readonly metrics: NbdMetrics;
  /**
   * Closes all connections that have this export, and waits until the export is closed for each of them.
   * Resolves to false if what they had asked for takes longer than `limitMs`. New ones are let in.
   */
  cut(exportName: string, limitMs: number): Promise<boolean>;
  /**
   * Takes no further clients and requests, waits for what is in flight, closes. Resolves to false if
   * that took longer than `limitMs`; then clients are cut off, and what the exports still work on is
   * theirs to end.
   */
  stop(limitMs: number): Promise<boolean>;
}

/** Listens on all places or, with an error, on none. */
export async function startNbdServer(
  places: readonly Place[],
  options: NbdServerOptions & NbdSafety,
): Promise<NbdServer> {
  const start = await prepareNbdServer(places, options);
  return await start(options);
}

/** The same in two steps: throws what is wrong with places and files for TLS before anything listens. */
export async function prepareNbdServer(
  places: readonly Place[],
  safety: NbdSafety,
): Promise<(options: NbdServerOptions) => Promise<NbdServer>> {
  for (const place of places) checkPlace(place, safety);
  const secure = await prepareTls(safety.tls ?? { mode: 'off' });
  return async (options) => {
    const guests = new Guests(options, secure);
    const listening = await listenAll(places, guests, safety);
    return {
      places: listening.map((each) => each.place),
      metrics: guests.metrics,
      cut: (exportName, limitMs) => guests.cutOff(exportName, limitMs),
      async stop(limitMs) {
        for (const each of listening) each.close();
        return await guests.leave(limitMs);
      },
    };
  };
}

async function listenAll(
  places: readonly Place[],
  guests: Guests,
  safety: NbdSafety,
): Promise<Listening[]> {
  const listening: Listening[] = [];
  const { mode = 'off', unixMode = mode } = safety.tls ?? {};
  const modeOf = ({ kind }: Place) => (kind === 'tcp' ? mode : unixMode);
  try {
    for (const place of places) {
      let seen = place;
      const each = await listenAt(place, (socket) => guests.meet(socket, modeOf(seen)));
      listening.push(each);
      // Only now is it known where a socket that was handed over listens.
      seen = each.place;
      checkPlace(seen, safety);
    }
    return listening;
  } catch (error) {
    for (const each of listening) each.close();
    guests.cut();
    throw error;
  }
}

function checkPlace(place: Place, { tls, insecure }: NbdSafety): void {
  if (isLoopback(place) || insecure || tls?.mode === 'required') return;
  throw new KageError(
    'not-permitted',
    `${placeText(place)}: other machines could read and write the exports without TLS`,
    {
      hint:
        'give it a certificate, or listen on 127.0.0.1 or ::1 and forward the port, for example ' +
        'with ssh',
    },
  );
}

/** The clients of one server. */
class Guests {
  readonly metrics = new NbdMetrics();
  readonly #options: NbdServerOptions;
  readonly #secure: Secure | undefined;
  readonly #store = new SlabStore();
  readonly #budget: Budget;
  #stallWatch: ReturnType<typeof setInterval> | undefined;
  readonly #all = new Map<Connection, Wire>();
  #stopping = false;
  /** Have come before anybody is let in; undefined from then on. */
  #early: Map<net.Socket, TlsMode> | undefined;
  /** Told whenever a client's state has changed. */
  readonly #watchers = new Set<() => void>();

  constructor(options: NbdServerOptions, secure: Secure | undefined) {
    this.#options = options;
    this.#secure = secure;
    this.#budget = new Budget(options.budgetBytes ?? BUDGET_BYTES, () => this.#watchStalled());
    if (options.ready === undefined) return;
    this.#early = new Map();
    options.ready.then(
      () => this.#begin(),
      () => {},
    );
  }

  /** A client has connected. */
  meet(socket: net.Socket, tls: TlsMode): void {
    const { connectionsMax = CONNECTIONS_MAX } = this.#options;
    const here = this.metrics.connections + (this.#early?.size ?? 0);
    if (this.#stopping || here >= connectionsMax) {
      this.metrics.refused++;
      const why = this.#stopping ? 'the server is stopping' : 'there are too many clients';
      this.#tell('refused', peerOf(socket), { why });
      socket.on('error', () => {});
      socket.destroy();
    } else if (this.#early === undefined) {
      this.#admit(socket, tls);
    } else {
      this.#early.set(socket, tls);
      socket.on('error', () => {});
      socket.once('close', () => this.#early?.delete(socket));
    }
  }

  #begin(): void {
    const early = this.#early;
    this.#early = undefined;
    for (const [socket, tls] of early ?? []) this.#admit(socket, tls);
  }

  #admit(socket: net.Socket, tls: TlsMode): void {
    const { handshakeMs = HANDSHAKE_MS } = this.#options;
    this.metrics.accepted++;
    this.metrics.connections++;
    const peer = peerOf(socket);
    let leave = () => {};
    const wire = new Wire(socket, this.#secure);
    const connection = new Connection(
      wire,
      {
        exports: this.#options.exports,
        tls,
        store: this.#store,
        budget: this.#budget,
        metrics: this.metrics,
        clock: this.#options.clock,
        turn: () => new Promise((resolve) => setImmediate(resolve)),
        onAgreed: (name, secured) => {
          const facts = { export: name, tls: secured };
          this.#tell('connected', peer, facts);
          leave = () => this.#tell('disconnected', peer, facts);
        },
        onRefused: (refusal, secured) => this.#tell('refused', peer, { ...refusal, tls: secured }),
      },
      () => this.#changed(connection),
    );
    const timer = setTimeout(() => {
      if (connection.phase === 'haggling') connection.drop();
    }, handshakeMs);
    timer.unref?.();
    this.#all.set(connection, wire);
    wire.attach(connection, () => {
      clearTimeout(timer);
      this.metrics.connections--;
      connection.gone();
      leave();
    });
    connection.start();
  }

  #tell(
    kind: ClientEvent['kind'],
    peer: string,
    facts: Partial<Pick<ClientEvent, 'export' | 'tls' | 'why'>>,
  ): void {
    this.#options.onClient?.({ kind, peer, tls: false, export: null, why: null, ...facts });
  }

  /** Ends all clients in order; see `NbdServer.stop`. */
  async leave(limitMs: number): Promise<boolean> {
    this.#stopping = true;
    for (const connection of this.#all.keys()) connection.stop();
    const drained = await this.#until(() => this.#isDrained(), limitMs, HAGGLE_MS);
    for (const connection of this.#all.keys()) connection.end();
    if (drained) await this.#until(() => this.#all.size === 0, LAST_LINGER_MS, 0);
    this.cut();
    return drained;
  }

  /** See `NbdServer.cut`. */
  async cutOff(exportName: string, limitMs: number): Promise<boolean> {
    // One that has just been given the export shall be seen to have it.
    await new Promise((resolve) => setImmediate(resolve));
    const having = () => [...this.#all.keys()].filter((c) => c.exportName === exportName);
    for (const connection of having()) connection.drop();
    return await this.#until(() => having().length === 0, limitMs, 0);
  }

  /** While somebody waits for memory, whoever keeps it and does not move is cut off. */
  #watchStalled(): void {
    if (this.#stallWatch !== undefined) return;
    const { clock, stallMs = STALL_MS } = this.#options;
    const look = () => {
      if (!this.#budget.isShort) {
        clearInterval(this.#stallWatch);
        this.#stallWatch = undefined;
        return;
      }
      for (const connection of this.#all.keys()) {
        if (connection.stalledMs(clock()) < stallMs) continue;
        this.metrics.cutOff++;
        connection.drop();
      }
    };
    this.#stallWatch = setInterval(look, Math.min(STALL_LOOK_MS, stallMs));
    this.#stallWatch.unref?.();
  }

  /** Closes all sockets at once. */
  cut(): void {
    for (const socket of this.#early?.keys() ?? []) socket.destroy();
    clearInterval(this.#stallWatch);
    for (const [connection, wire] of this.#all) {
      connection.drop();
      wire.destroy();
    }
  }

  #isDrained(): boolean {
    return [...this.#all.keys()].every((connection) => !connection.busy);
  }

  #changed(connection: Connection): void {
    if (connection.phase === 'closed' && this.#all.get(connection)?.isClosed && !connection.busy) {
      this.#all.delete(connection);
    }
    for (const watcher of this.#watchers) watcher();
  }

  /** Whether `look` holds within the time; clients that haggle get at least `haggleMs` of it. */
  #until(look: () => boolean, limitMs: number, haggleMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      let patient = haggleMs > 0;
      const haggles = () => [...this.#all.keys()].some((c) => c.phase === 'haggling');
      const finish = (result: boolean) => {
        this.#watchers.delete(watcher);
        clearTimeout(limit);
        clearTimeout(patience);
        resolve(result);
      };
      const watcher = () => {
        if (look() && !(patient && haggles())) finish(true);
      };
      const limit = setTimeout(() => finish(look()), limitMs);
      const patience = setTimeout(() => {
        patient = false;
        watcher();
      }, haggleMs);
      this.#watchers.add(watcher);
      watcher();
    });
  }
}

function peerOf({ remoteAddress, remotePort }: net.Socket): string {
  if (!remoteAddress) return 'unix';
  return remoteAddress.includes(':')
    ? `[${remoteAddress}]:${remotePort}`
    : `${remoteAddress}:${remotePort}`;
}

/** The socket of one client; another one once TLS is on. */
class Wire implements Line {
  #socket: net.Socket;
  readonly #secure: Secure | undefined;
  #connection: Connection | undefined;
  #onClose = () => {};
  #linger: ReturnType<typeof setTimeout> | undefined;
  isClosed = false;

  constructor(socket: net.Socket, secure: Secure | undefined) {
    this.#socket = socket;
    this.#secure = secure;
  }

  /** `onClose` is called once, when the socket is closed. */
  attach(connection: Connection, onClose: () => void): void {
    this.#connection = connection;
    this.#onClose = onClose;
    this.#listen();
  }

  send(pieces: readonly Uint8Array[], taken: () => void): void {
    const socket = this.#socket;
    const last = pieces.length - 1;
    if (last > 0) socket.cork();
    for (let i = 0; i < last; i++) socket.write(pieces[i]);
    // Once with an error is enough: 'close' follows.
    socket.write(pieces[last], (error) => {
      if (!error) taken();
    });
    if (last > 0) socket.uncork();
  }

  want(more: boolean): void {
    if (more) this.#socket.resume();
    else this.#socket.pause();
  }

  startTls(): void {
    const plain = this.#socket;
    plain.removeAllListeners('data');
    plain.removeAllListeners('end');
    plain.pause();
    this.#secure!(plain).then(
      (socket) => {
        this.#socket = socket;
        this.#listen();
        this.#connection!.secured();
      },
      (error) => this.#connection!.notSecured(error.message),
    );
  }

  end(): void {
    const socket = this.#socket;
    socket.end();
    // What the client still says is not for us, but unread bytes would turn the end into a reset.
    socket.resume();
    this.#linger = setTimeout(() => this.destroy(), LINGER_MS);
    this.#linger.unref?.();
  }

  drop(): void {
    this.destroy();
  }

  destroy(): void {
    this.#socket.destroy();
    // Not every runtime tells of the end of a socket that TLS has taken over.
    setImmediate(() => this.#closed());
  }

  #listen(): void {
    const connection = this.#connection!;
    const socket = this.#socket;
    socket.on('data', (bytes) => connection.receive(bytes));
    socket.on('end', () => connection.inputEnded());
    // Clients vanish; 'close' follows.
    socket.on('error', () => {});
    socket.once('close', () => this.#closed());
  }

  #closed(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    clearTimeout(this.#linger);
    this.#onClose();
  }
}
