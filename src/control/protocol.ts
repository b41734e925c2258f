/**
 * What commands and server say on the control socket: one JSON object on each line, UTF-8. The client
 * says hello, the server greets; then the client sends requests, each with a number of its own, and
 * gets for each number any `progress` and in the end one `result` or `error`. Requests of one connection
 * run beside each other. Within a request the server may ask its client to `freeze` and to `thaw`, and is
 * answered when that is done. The first byte tells a client from one that speaks HTTP (`http.ts`).
 *
 * Bytes travel as base64 in `{"$bytes": …}`, `DATA_LENGTH_MAX` at a time. Nothing here knows sockets.
 */

import { ERRORS, type ErrorCode, type ErrorData, KageError } from '../base/errors.ts';
import { CHUNK_SIZE } from '../base/limits.ts';
import type { DiskClass, Progress } from '../engine/api.ts';

/** Of the shapes below; client and server must have the same. */
export const PROTOCOL = 2;
/** Bytes of data in one `read` or `write`. */
export const DATA_LENGTH_MAX = CHUNK_SIZE;
/** Longest line, bytes: data as base64 and room for the rest; a class of a thousand volumes fits. */
export const LINE_LENGTH_MAX = 8 * 1024 * 1024;

/** The calls that are forwarded. `attach` is not: clients of a volume come over NBD. */
export type Method = Exclude<keyof DiskClass, 'name' | 'attach' | 'close'>;

type Row = {
  /** Place of the options among the arguments; they may carry `signal` and `onProgress`. */
  readonly options?: number;
  /** Places of references: volume names, or paths, which hold in the client's folder. */
  readonly refs?: readonly number[];
  /** Places of what is a path in any case. */
  readonly paths?: readonly number[];
  /** Volumes may come, go, start or stop by it. */
  readonly changes: boolean;
};

const ON_PROXIES: Row = { options: 1, refs: [0], changes: true };
const ON_TWO: Row = { options: 2, refs: [0, 1], changes: true };
const ON_VOLUMES: Row = { refs: [0], changes: true };
const ON_DATA: Row = { refs: [0], changes: false };

export const METHODS: Readonly<Record<Method, Row>> = {
  add: { options: 1, changes: true },
  create: { options: 3, paths: [2], changes: true },
  remove: ON_PROXIES,
  addDisk: { options: 3, paths: [0], changes: true },
  removeDisk: { options: 1, changes: true },
  addVolume: { options: 3, changes: true },
  removeClass: { options: 0, changes: true },
  start: ON_VOLUMES,
  stop: ON_VOLUMES,
  lock: ON_VOLUMES,
  unlock: ON_VOLUMES,
  fix: ON_VOLUMES,
  join: ON_TWO,
  relate: ON_TWO,
  part: ON_PROXIES,
  rejoin: ON_PROXIES,
  restore: ON_PROXIES,
  update: ON_PROXIES,
  swap: ON_PROXIES,
  cancel: ON_PROXIES,
  break: ON_PROXIES,
  verify: { options: 1, refs: [0], changes: false },
  write: ON_DATA,
  read: ON_DATA,
  flush: ON_DATA,
  info: { changes: false },
};

export function isMethod(name: string): name is Method {
  return Object.hasOwn(METHODS, name);
}

/** The first line of a client. */
export type Hello = { readonly kage: 'hello'; readonly protocol: number };

/** The first line of a server. */
export type Greeting = { readonly kage: 'control'; readonly protocol: number };

/** Where the volumes of a server are. */
export type Whereabouts = {
  /** Of its NBD places; a client adds `CLASS/VOLUME`. */
  readonly uris: readonly string[];
  /** Folder of the device files; null: there are none. */
  readonly devices: string | null;
  /** The volumes that it exports; null: all. */
  readonly volumes: readonly string[] | null;
};

export type Request =
  /** Answers `Whereabouts`. */
  | { readonly id: number; readonly where: true }
  /** Opens a class for this connection, which must come first. Answers whether it is served here. */
  | { readonly id: number; readonly open: string; readonly create: boolean }
  | {
      readonly id: number;
      readonly class: string;
      readonly method: Method;
      readonly args: readonly unknown[];
    }
  /** Asks the request of that number to stop at a safe point. */
  | { readonly abort: number }
  /** What the request of that number has asked for is done, or has failed. */
  | { readonly answer: number; readonly of: Question; readonly error?: WireError };

/** What a server asks of its client: commands of the user are run by the user's own process. */
export type Question = 'freeze' | 'thaw';

export type WireError =
  | {
      readonly code: ErrorCode;
      readonly message: string;
      readonly hint?: string;
      readonly data: ErrorData;
    }
  | { readonly code: 'internal'; readonly message: string };

export type Reply =
  | { readonly id: number; readonly progress: Progress }
  | { readonly id: number; readonly ask: Question }
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: WireError };

/** One line. Throws a fault for what has no JSON. */
export function encodeLine(message: Hello | Greeting | Request | Reply): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(message)}\n`);
}

/**
 * Lines out of a stream in any pieces: `push` gives the objects that are whole now. Throws `failed`
 * for a line that is too long, no UTF-8 or no JSON object; nothing can be read after that.
 */
export function lineReader(): { push(bytes: Uint8Array): Record<string, unknown>[] } {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let parts: Uint8Array[] = [];
  let length = 0;
  return {
    push(bytes) {
      const found: Record<string, unknown>[] = [];
      let rest = bytes;
      for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
        if (length + end > LINE_LENGTH_MAX) throw notOurs('a line is too long');
        parts.push(rest.subarray(0, end));
        found.push(parseLine(decoder, join(parts, length + end)));
        parts = [];
        length = 0;
        rest = rest.subarray(end + 1);
      }
      length += rest.byteLength;
      if (length > LINE_LENGTH_MAX) throw notOurs('a line is too long');
      // The piece may be a part of a buffer that is used again.
      if (rest.byteLength > 0) parts.push(new Uint8Array(rest));
      return found;
    },
  };
}

function join(parts: readonly Uint8Array[], length: number): Uint8Array {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

function parseLine(
  decoder: InstanceType<typeof TextDecoder>,
  line: Uint8Array,
): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(line));
  } catch {
    throw notOurs('a line is not JSON');
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw notOurs('a line is no JSON object');
  }
  return value as Record<string, unknown>;
}

function notOurs(why: string): KageError {
  return new KageError('failed', `the control socket: the other side talks nonsense: ${why}`);
}

/** The request in an object that a client sent; undefined: it is none. */
export function asRequest(message: Record<string, unknown>): Request | undefined {
  const { id, abort, answer, open, create, method, args } = message;
  if (isCount(abort)) return { abort };
  if (isCount(answer)) return answerOf(answer, message);
  if (!isCount(id)) return undefined;
  if (message.where === true) return { id, where: true };
  if (typeof open === 'string') return { id, open, create: create === true };
  if (typeof message.class !== 'string' || typeof method !== 'string') return undefined;
  if (!isMethod(method) || !Array.isArray(args)) return undefined;
  return { id, class: message.class, method, args };
}

function answerOf(answer: number, { of, error }: Record<string, unknown>): Request | undefined {
  if (of !== 'freeze' && of !== 'thaw') return undefined;
  if (error === undefined) return { answer, of };
  return error === null || typeof error !== 'object'
    ? undefined
    : { answer, of, error: error as WireError };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** A value as JSON can carry it: bytes become base64, in the value itself, not deeper. */
export function pack(value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value;
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return { $bytes: bytes.toString('base64') };
}

/** What `pack` was given; null, which JSON makes of a missing argument, is undefined. */
export function unpack(value: unknown): unknown {
  if (value === null) return undefined;
  const bytes = (value as { $bytes?: unknown } | undefined)?.$bytes;
  return typeof bytes === 'string' ? new Uint8Array(Buffer.from(bytes, 'base64')) : value;
}

/** Any error for the other side: ours as it is, every other one by its message. */
export function encodeError(error: unknown): WireError {
  if (error instanceof KageError) {
    const { code, message, hint, data } = error;
    return { code, message, ...(hint === undefined ? {} : { hint }), data };
  }
  return { code: 'internal', message: error instanceof Error ? error.message : String(error) };
}

/** The error that the other side had: with its code, and so with its exit status. */
export function decodeError(error: WireError): Error {
  if (!Object.hasOwn(ERRORS, error.code)) return new Error(error.message);
  const { code, message, hint, data } = error as Exclude<WireError, { code: 'internal' }>;
  return new KageError(code, message, { ...(hint === undefined ? {} : { hint }), data });
}
