/**
 * One client, from its first byte to its last, without a socket: bytes come in through `receive`, go
 * out through a `Line`, and everything between is decided here. `server.ts` ties it to sockets.
 *
 * Reading stops while the window is full, whether the export or the client is the slow one. A client
 * that vanishes leaves nothing undone: what was taken up is carried out, then the export is closed.
 */

import type { Surroundings } from './agreement.ts';
import type { OpenExport } from './export.ts';
import { greeting, Handshake } from './handshake.ts';
import { Inbox } from './inbox.ts';
import type { Answer, Haggle, Refusal } from './options.ts';
import { Outbox, type Send } from './outbox.ts';
import { Transmission } from './transmission.ts';

/** What a connection needs of its transport. */
export interface Line {
  send: Send;
  /** Whether bytes are wanted now. They are at first. */
  want(more: boolean): void;
  /** What was sent has been taken; from now on the line carries TLS. Ends with `secured`. */
  startTls(): void;
  /** Closes once everything that was sent has left. */
  end(): void;
  /** Closes at once. */
  drop(): void;
}

export type Phase = 'haggling' | 'transmission' | 'closed';

export type ConnectionOptions = Pick<Haggle, 'exports' | 'tls'> &
  Surroundings & {
    /** An export was agreed on. */
    readonly onAgreed?: (name: string, tls: boolean) => void;
    /** The client does not get what it wants; the same reason is told once. */
    readonly onRefused?: (refusal: Refusal, tls: boolean) => void;
  };

export class Connection {
  readonly #line: Line;
  readonly #options: ConnectionOptions;
  readonly #onChange: () => void;
  readonly #inbox = new Inbox();
  readonly #out: Outbox;
  #handshake: Handshake | undefined;
  #transmission: Transmission | undefined;
  #open: OpenExport | undefined;
  /** An option is being answered. */
  #answering = false;
  /** The answer to STARTTLS is on its way, or TLS is being set up. */
  #securing: 'no' | 'acknowledging' | 'handshaking' = 'no';
  #secured = false;
  /** Why it was refused last. */
  #refused = '';
  #wanted = true;
  /** No more bytes will come. */
  #inputEnded = false;
  #stopping = false;
  /** Nothing is read or answered any more; the transport closes. */
  #ending = false;
  #gone = false;
  /** `#advance` runs, or will run at the end of this turn. */
  #busy = false;
  #scheduled = false;

  /** `onChange` is called whenever `phase` or `busy` may have changed. */
  constructor(line: Line, options: ConnectionOptions, onChange: () => void = () => {}) {
    this.#line = line;
    this.#options = options;
    this.#onChange = onChange;
    this.#out = new Outbox(
      options.store,
      (pieces, taken) => line.send(pieces, taken),
      (replies) => this.#taken(replies),
    );
    this.#handshake = new Handshake(options);
  }

  /** Says the first words. */
  start(): void {
    this.#out.append(greeting(), 0);
    this.#out.flush();
  }

  get phase(): Phase {
    if (this.#gone || this.#ending) return 'closed';
    return this.#transmission === undefined ? 'haggling' : 'transmission';
  }

  /** Name of the export that the client has. */
  get exportName(): string | undefined {
    return this.#open?.target.name;
  }

  /** Requests or an option are being worked on, or replies have not left. */
  get busy(): boolean {
    const { running = 0, requests = 0 } = this.#transmission ?? {};
    return this.#answering || running > 0 || (!this.#gone && requests > 0);
  }

  /** ms for which the client has held memory that it does not move. */
  stalledMs(now: number): number {
    return this.#transmission?.stalledMs(now) ?? 0;
  }

  /** Bytes from the client; they are the connection's from now on. */
  receive(bytes: Uint8Array): void {
    if (this.#gone || this.#ending) return;
    // Plain bytes behind STARTTLS would be taken for the client's own words within TLS.
    if (this.#securing !== 'no') {
      this.drop();
      return;
    }
    this.#inbox.push(bytes);
    this.#advance();
  }

  /** TLS is set up; bytes are what the client said within it. */
  secured(): void {
    if (this.#gone || this.#ending) return;
    this.#securing = 'no';
    this.#secured = true;
    this.#handshake!.secured();
    this.#advance();
  }

  /** TLS cannot be set up with this client. */
  notSecured(why: string): void {
    if (this.#ending) return;
    this.#refuse({ export: null, why: `TLS: ${why}` });
    this.drop();
  }

  /** The client has closed its direction: what it asked for is still answered. */
  inputEnded(): void {
    this.#inputEnded = true;
    this.#advance();
  }

  /** The transport is closed. */
  gone(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#inbox.clear();
    this.#out.close();
    this.#transmission?.close();
    this.#closeExport();
    this.#onChange();
  }

  /** New options and requests are refused from now on, because the server stops. */
  stop(): void {
    this.#stopping = true;
    this.#handshake?.stop();
    this.#transmission?.stop();
  }

  /** Closes the line once everything sent has left; at once in the middle of a TLS handshake. */
  end(): void {
    if (this.#gone || this.#ending) return;
    if (this.#securing !== 'no') {
      this.drop();
      return;
    }
    this.#ending = true;
    this.#inbox.clear();
    this.#out.flush();
    this.#line.end();
    this.#onChange();
  }

  /** Closes the line at once; what was taken up is still carried out. */
  drop(): void {
    if (this.#gone || this.#ending) return;
    this.#ending = true;
    this.#inbox.clear();
    this.#out.close();
    this.#transmission?.close();
    this.#line.drop();
    this.#onChange();
  }

  /** Goes on with what has arrived, sends what is ready, and tells the line whether to read on. */
  #advance(): void {
    if (this.#busy || this.#gone || this.#ending) return;
    this.#busy = true;
    let wants = this.#haggleOn();
    if (this.#transmission !== undefined) wants = this.#transmitOn(this.#transmission);
    this.#busy = false;
    this.#out.flush();
    if (this.#ending || this.#gone) return;
    if (this.#endsNow(wants)) this.end();
    else if (wants !== this.#wanted) {
      this.#wanted = wants;
      this.#line.want(wants);
    }
  }

  /** All that the client wanted is done, and it will not want more. `starved`: more bytes would help. */
  #endsNow(starved: boolean): boolean {
    if (this.busy) return false;
    if (this.#transmission?.disconnected) return true;
    return this.#inputEnded && starved;
  }

  #transmitOn(transmission: Transmission): boolean {
    const progress = transmission.advance(this.#inbox);
    if (progress === 'broken') this.drop();
    return progress === 'wait';
  }

  /** True when it waits for bytes. */
  #haggleOn(): boolean {
    while (this.#handshake !== undefined) {
      if (this.#answering || this.#securing !== 'no' || this.#out.unsent > 0) return false;
      const step = this.#handshake.next(this.#inbox);
      if (step === 'wait') return true;
      if (!(step instanceof Promise)) {
        this.#answer(step);
        continue;
      }
      this.#answering = true;
      step.then((answer) => {
        this.#answering = false;
        this.#answer(answer);
        this.#advance();
        this.#onChange();
      });
    }
    return false;
  }

  #refuse(refusal: Refusal): void {
    if (refusal.why === this.#refused) return;
    this.#refused = refusal.why;
    this.#options.onRefused?.(refusal, this.#secured);
  }

  #answer({ replies, next, refusal }: Answer): void {
    if (refusal !== undefined) this.#refuse(refusal);
    if (next.kind === 'agreed') {
      const { agreed } = next;
      if (this.#gone || this.#ending) {
        agreed.open.close();
        return;
      }
      this.#open = agreed.open;
      this.#options.onAgreed?.(agreed.open.target.name, this.#secured);
      this.#handshake = undefined;
      this.#transmission = new Transmission(agreed, this.#out, this.#options, () =>
        this.#settled(),
      );
      if (this.#stopping) this.#transmission.stop();
    }
    if (this.#gone || this.#ending) return;
    for (const reply of replies) this.#out.append(reply, 0);
    if (next.kind === 'drop') this.drop();
    else if (next.kind === 'end') this.end();
    else if (next.kind === 'tls') this.#acknowledgeTls();
    this.#onChange();
  }

  #acknowledgeTls(): void {
    if (this.#inbox.size > 0) {
      this.drop();
      return;
    }
    this.#securing = 'acknowledging';
    this.#out.flush();
  }

  #taken(replies: number): void {
    this.#transmission?.taken(replies);
    if (this.#securing === 'acknowledging' && this.#out.unsent === 0) {
      this.#securing = 'handshaking';
      this.#line.startTls();
    }
    this.#settled();
  }

  /** Something has ended: the window may have room again. All of one turn is taken together. */
  #settled(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#transmission?.update();
      this.#advance();
      if (this.#gone) this.#closeExport();
      if (!this.busy) this.#onChange();
    });
  }

  /** The export is closed once nobody works on it any more. */
  #closeExport(): void {
    if (this.#open === undefined || this.#transmission!.running > 0) return;
    const open = this.#open;
    this.#open = undefined;
    open.close();
  }
}
