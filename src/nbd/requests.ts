/**
 * A request as it stands on the wire, and whether it may be carried out. Every reason to refuse one
 * is here; what is refused has touched nothing.
 */

import { u16, u32, u64 } from './big-endian.ts';
import { COMMAND, COMMAND_FLAG, ERRNO, PAYLOAD_BYTES_MAX, REQUEST_MAGIC } from './wire.ts';

export type Request = {
  readonly command: number;
  readonly flags: number;
  /** The client's own number for it, 64 bits, given back as it came. */
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** Bytes; above 2^53 only roughly. */
  readonly offset: number;
  /** Bytes, 0 to 2^32 - 1. */
  readonly length: number;
  /** ms of the server's clock. */
  readonly startedAt: number;
};

/** Why not, for the client: a number of `ERRNO` and a sentence. */
export type Refusal = { readonly errno: number; readonly text: string };

/** What decides about a request besides itself. */
export type Terms = {
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  readonly structured: boolean;
  /** Metadata contexts that the client selected. */
  readonly contexts: number;
};

/** The 28 bytes at `at`; undefined if they are no request at all. */
export function parseRequest(bytes: Uint8Array, at: number, now: number): Request | undefined {
  if (u32(bytes, at) !== REQUEST_MAGIC) return undefined;
  return {
    flags: u16(bytes, at + 4),
    command: u16(bytes, at + 6),
    cookieHigh: u32(bytes, at + 8),
    cookieLow: u32(bytes, at + 12),
    offset: u64(bytes, at + 16),
    length: u32(bytes, at + 24),
    startedAt: now,
  };
}

/** Bytes that follow the request on the wire, whatever becomes of it. */
export function payloadBytes(request: Request): number {
  return request.command === COMMAND.write ? request.length : 0;
}

const refuse = (errno: number, text: string): Refusal => ({ errno, text });

const UNKNOWN_COMMAND = refuse(ERRNO.EINVAL, 'unknown command');
const BAD_FLAGS = refuse(ERRNO.EINVAL, 'a flag that this command does not have');
const READ_ONLY = refuse(ERRNO.EPERM, 'the export is read-only');
const TOO_LONG = refuse(ERRNO.EINVAL, 'more than 32 MiB at once');
const PAST_END = refuse(ERRNO.EINVAL, 'beyond the end of the export');
const NO_ROOM = refuse(ERRNO.ENOSPC, 'beyond the end of the export');
const EMPTY_STATUS = refuse(ERRNO.EINVAL, 'block status of no bytes');
const NO_CONTEXT = refuse(ERRNO.EINVAL, 'block status without a selected context');
export const STOPPING = refuse(ERRNO.ESHUTDOWN, 'the server is stopping');

type Rule = {
  /** Flags besides FUA, which every command takes. */
  readonly flags: number;
  readonly writes: boolean;
  /** The length is that of a payload, in either direction. */
  readonly payload: boolean;
  /** The answer to a range that is not inside; undefined: the range does not matter. */
  readonly outside: Refusal | undefined;
};

const RULES: Readonly<Record<number, Rule>> = {
  [COMMAND.read]: { flags: 0, writes: false, payload: true, outside: PAST_END },
  [COMMAND.write]: { flags: 0, writes: true, payload: true, outside: NO_ROOM },
  [COMMAND.flush]: { flags: 0, writes: false, payload: false, outside: undefined },
  [COMMAND.trim]: { flags: 0, writes: true, payload: false, outside: PAST_END },
  [COMMAND.cache]: { flags: 0, writes: false, payload: false, outside: PAST_END },
  [COMMAND.writeZeroes]: {
    flags: COMMAND_FLAG.noHole,
    writes: true,
    payload: false,
    outside: NO_ROOM,
  },
  [COMMAND.blockStatus]: {
    flags: COMMAND_FLAG.reqOne,
    writes: false,
    payload: false,
    outside: PAST_END,
  },
};

/** Undefined if the request may be carried out. DISC is no question for this function. */
export function refusalOf(request: Request, terms: Terms): Refusal | undefined {
  const { command, flags, offset, length } = request;
  const rule = RULES[command];
  if (rule === undefined) return UNKNOWN_COMMAND;
  const df = command === COMMAND.read && terms.structured ? COMMAND_FLAG.df : 0;
  if ((flags & ~(rule.flags | df | COMMAND_FLAG.fua)) !== 0) return BAD_FLAGS;
  if (rule.writes && terms.readOnly) return READ_ONLY;
  if (rule.payload && length > PAYLOAD_BYTES_MAX) return TOO_LONG;
  if (command === COMMAND.blockStatus) {
    if (terms.contexts === 0) return NO_CONTEXT;
    if (length === 0) return EMPTY_STATUS;
  }
  if (rule.outside === undefined) return undefined;
  return offset > terms.size || length > terms.size - offset ? rule.outside : undefined;
}
