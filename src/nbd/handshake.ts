/**
 * The first half of a connection: greeting and options, one at a time, until an export is agreed on.
 *
 * Option data is kept up to `OPTION_BYTES_MAX`; longer data of any claimed length up to the largest
 * payload is passed over unread, and beyond that the connection is dropped. Nothing is taken up while
 * an answer is being made or its bytes have not left, so a client cannot pile up work here.
 */

import { u32 } from './big-endian.ts';
import type { Inbox } from './inbox.ts';
import { type Answer, answerOption, type Haggle, refused, secure } from './options.ts';
import {
  HANDSHAKE,
  IHAVEOPT,
  NBDMAGIC,
  OPTION,
  OPTION_HEADER_BYTES,
  OPTION_REPLY,
  PAYLOAD_BYTES_MAX,
} from './wire.ts';

/** Data of an option that is looked at, bytes: a name and a dozen queries of the longest kind. */
const OPTION_BYTES_MAX = 64 * 1024;
const CLIENT_FLAGS_BYTES = 4;
const KNOWN_OPTIONS = Object.values<number>(OPTION).filter((n) => n !== OPTION.extendedHeaders);

/** The server's first words. */
export function greeting(): Uint8Array {
  const bytes = new Uint8Array(18);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, NBDMAGIC);
  view.setBigUint64(8, IHAVEOPT);
  view.setUint16(16, HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes);
  return bytes;
}

/** `wait`: more bytes are needed. */
export type Step = Answer | Promise<Answer> | 'wait';

const NO_DATA = new Uint8Array(0);
const DROP: Answer = { replies: [], next: { kind: 'drop' } };

export class Handshake {
  readonly #haggle: Haggle;
  /** Client flags have come. */
  #begun = false;
  #fixedNewstyle = false;
  /** The option whose data is awaited. `over`: it is longer than what is looked at. */
  #option: { readonly number: number; readonly length: number; readonly over: boolean } | undefined;
  #skipped = 0;
  #stopping = false;

  constructor(haggle: Pick<Haggle, 'exports' | 'tls'>) {
    this.#haggle = {
      ...haggle,
      secured: false,
      noZeroes: false,
      structured: false,
      selection: undefined,
    };
  }

  /** From now on options are answered with SHUTDOWN. */
  stop(): void {
    this.#stopping = true;
  }

  /** TLS is on; what was negotiated before is forgotten. */
  secured(): void {
    secure(this.#haggle);
  }

  /** Takes up the next thing that is whole. A promise does not reject. */
  next(inbox: Inbox): Step {
    if (!this.#begun) return this.#readFlags(inbox);
    if (this.#option === undefined) {
      if (!inbox.has(OPTION_HEADER_BYTES)) return 'wait';
      if (!this.#readHeader(inbox.take(OPTION_HEADER_BYTES))) return DROP;
    }
    return this.#readData(inbox);
  }

  #readFlags(inbox: Inbox): Step {
    if (!inbox.has(CLIENT_FLAGS_BYTES)) return 'wait';
    const flags = u32(inbox.take(CLIENT_FLAGS_BYTES), 0);
    if ((flags & ~(HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes)) !== 0) return DROP;
    this.#begun = true;
    this.#fixedNewstyle = (flags & HANDSHAKE.fixedNewstyle) !== 0;
    this.#haggle.noZeroes = (flags & HANDSHAKE.noZeroes) !== 0;
    return this.next(inbox);
  }

  /** False: this is not NBD, or more than we put up with. */
  #readHeader(header: Uint8Array): boolean {
    const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
    if (view.getBigUint64(0) !== IHAVEOPT) return false;
    const number = view.getUint32(8);
    const length = view.getUint32(12);
    if (length > PAYLOAD_BYTES_MAX) return false;
    if (!this.#fixedNewstyle && number !== OPTION.exportName) return false;
    this.#option = { number, length, over: length > OPTION_BYTES_MAX };
    return true;
  }

  #readData(inbox: Inbox): Step {
    const { number, length, over } = this.#option!;
    if (over) {
      this.#skipped += inbox.skip(length - this.#skipped);
      if (this.#skipped < length) return 'wait';
      this.#skipped = 0;
      this.#option = undefined;
      return this.#tooLong(number);
    }
    if (!inbox.has(length)) return 'wait';
    const data = inbox.take(length);
    this.#option = undefined;
    if (this.#stopping && number !== OPTION.abort) return this.#shutdown(number);
    return answerOption(this.#haggle, number, data).catch(() => DROP);
  }

  #tooLong(option: number): Step {
    if (option === OPTION.abort) return answerOption(this.#haggle, option, NO_DATA);
    if (option === OPTION.exportName) return DROP;
    if (this.#stopping) return this.#shutdown(option);
    const type = KNOWN_OPTIONS.includes(option) ? OPTION_REPLY.tooBig : OPTION_REPLY.unsupported;
    return refused(option, type, 'more data than this server looks at');
  }

  #shutdown(option: number): Answer {
    if (option === OPTION.exportName) return DROP;
    return refused(option, OPTION_REPLY.shutdown, 'the server is stopping');
  }
}
