/**
 * Edge: the control socket, mode 0600. The client speaks first, and its first byte decides: `{` is a
 * command and gets a `controlSession`, everything else is HTTP and gets one answer. Who says nothing
 * whole in time gets the greeting, from which a client of another version learns why, and the end.
 */

import type net from 'node:net';
import { listenAt } from '../nbd/places.ts';
import { formatAnswer, type HttpAnswer, type HttpRequest, parseRequest, refused } from './http.ts';
import { type ControlSession, controlSession, GREETING, type SessionOptions } from './session.ts';

/** Commands at a time; a further one is closed at once. */
const CLIENTS_MAX = 64;
/** Connections at a time: whoever watches gets through when commands have taken all their places. */
const SOCKETS_MAX = CLIENTS_MAX + 16;
/** From connecting to a whole hello or a whole head of HTTP, ms. */
const FIRST_WORDS_MS = 5000;
/** A client that leaves more than this unread gets no progress, bytes. */
const UNREAD_MAX = 1024 * 1024;
/** How long the last answers may take to leave, ms. */
const LINGER_MS = 500;

const BRACE = '{'.charCodeAt(0);

export type ControlOptions = Omit<SessionOptions, 'send'> & {
  readonly answer: (request: HttpRequest) => HttpAnswer;
};

export type ControlServer = {
  /** No further clients; stops what the others wait for, answers them, and closes. */
  stop(): Promise<void>;
};

/** Throws `in-use` when another server listens at the path. */
export async function listenControl(path: string, options: ControlOptions): Promise<ControlServer> {
  const guests = new Set<Guest>();
  const listening = await listenAt({ kind: 'unix', path }, (socket) => {
    socket.on('error', () => {});
    if (guests.size >= SOCKETS_MAX) {
      socket.destroy();
      return;
    }
    const mayCommand = () => [...guests].filter((g) => g.commands).length < CLIENTS_MAX;
    const guest = new Guest(socket, options, mayCommand);
    guests.add(guest);
    socket.on('close', () => guests.delete(guest));
  });
  return {
    async stop() {
      listening.close();
      await Promise.all([...guests].map((guest) => guest.leave()));
    },
  };
}

/** One connection. */
class Guest {
  readonly #socket: net.Socket;
  readonly #options: ControlOptions;
  readonly #mayCommand: () => boolean;
  readonly #patience: ReturnType<typeof setTimeout>;
  #session: ControlSession | undefined;
  #head: Uint8Array = new Uint8Array(0);
  #answered = false;

  constructor(socket: net.Socket, options: ControlOptions, mayCommand: () => boolean) {
    this.#socket = socket;
    this.#options = options;
    this.#mayCommand = mayCommand;
    this.#patience = setTimeout(() => this.#giveUp(), FIRST_WORDS_MS);
    socket.on('data', (bytes: Uint8Array) => this.#take(bytes));
    // A client of commands that closes its end does not wait any more.
    socket.on('end', () => {
      if (this.#head.byteLength > 0) this.#answer(refused(400, 'the request is not whole'));
      else void this.leave();
    });
    socket.on('close', () => void this.leave());
  }

  get commands(): boolean {
    return this.#session !== undefined;
  }

  /** Stops what the client waits for, lets the last answers leave, and closes. */
  async leave(): Promise<void> {
    clearTimeout(this.#patience);
    await this.#session?.end();
    await closed(this.#socket);
  }

  #take(bytes: Uint8Array): void {
    if (this.#answered) return;
    if (this.#session === undefined && (this.#head.byteLength > 0 || bytes[0] !== BRACE)) {
      this.#takeHttp(bytes);
    } else if (this.#session === undefined && !this.#mayCommand()) {
      this.#socket.destroy();
    } else {
      this.#session ??= this.#makeSession();
      if (!this.#session.receive(bytes)) void this.leave();
    }
  }

  #makeSession(): ControlSession {
    const socket = this.#socket;
    return controlSession({
      ...this.#options,
      send(line, optional) {
        if (optional && socket.writableLength > UNREAD_MAX) return;
        if (!socket.destroyed && !socket.writableEnded) socket.write(line);
      },
    });
  }

  #takeHttp(bytes: Uint8Array): void {
    const head = new Uint8Array(this.#head.byteLength + bytes.byteLength);
    head.set(this.#head);
    head.set(bytes, this.#head.byteLength);
    this.#head = head;
    const request = parseRequest(head);
    if (request === 'more') return;
    if (!('path' in request)) this.#answer(request);
    else this.#answer(this.#look(request), request.method === 'HEAD');
  }

  #look(request: HttpRequest): HttpAnswer {
    try {
      return this.#options.answer(request);
    } catch (error) {
      return refused(500, error instanceof Error ? error.message : String(error));
    }
  }

  #answer(answer: HttpAnswer, toHead = false): void {
    if (this.#answered) return;
    this.#answered = true;
    clearTimeout(this.#patience);
    this.#socket.write(formatAnswer(answer, toHead));
    void closed(this.#socket);
  }

  #giveUp(): void {
    if (this.#session?.greeted) return;
    if (this.#head.byteLength > 0) {
      this.#answer(refused(408, 'the request did not come in time'));
      return;
    }
    if (this.#session === undefined) this.#socket.write(GREETING);
    void this.leave();
  }
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
    // What the client still says is not for us, but unread bytes would turn the end into a reset.
    socket.resume();
    socket.end(() => {
      if (socket.readableEnded) socket.destroy();
    });
  });
}
