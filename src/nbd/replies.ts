/**
 * The forms of an answer. A client that agreed on structured replies gets chunks for what it reads,
 * for block status and for errors (with a text), and simple replies for everything else; all others
 * get simple replies.
 */

import { putU64 } from './big-endian.ts';
import type { Extent } from './export.ts';
import type { Outbox, Piece } from './outbox.ts';
import type { Request } from './requests.ts';
import {
  CHUNK,
  CHUNK_DONE,
  CHUNK_HEADER_BYTES,
  COMMAND,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './wire.ts';

/** A chunk with data has its offset in front of them. */
const DATA_CHUNK_BYTES = CHUNK_HEADER_BYTES + 8;
const EXTENT_BYTES = 8;

/** Bytes in front of the data that a READ is answered with. */
export function readHeaderBytes(structured: boolean): number {
  return structured ? DATA_CHUNK_BYTES : SIMPLE_REPLY_BYTES;
}

/** Writes the header of a successful READ at the start of a piece that holds its data already. */
export function putReadHeader(piece: Piece, request: Request, structured: boolean): void {
  const { view } = piece.slab;
  if (!structured) {
    putSimple(view, piece.start, 0, request);
    return;
  }
  putChunk(view, piece.start, CHUNK_DONE, CHUNK.offsetData, request, 8 + request.length);
  putU64(view, piece.start + CHUNK_HEADER_BYTES, request.offset);
}

/** Success of a request whose answer has no data. */
export function replyDone(out: Outbox, request: Request, structured: boolean): void {
  const asChunk = structured && request.command === COMMAND.read;
  const piece = out.reserve(asChunk ? CHUNK_HEADER_BYTES : SIMPLE_REPLY_BYTES);
  const { view } = piece.slab;
  if (asChunk) putChunk(view, piece.start, CHUNK_DONE, CHUNK.none, request, 0);
  else putSimple(view, piece.start, 0, request);
  out.commit(piece, 1);
}

/** `errno`: a number of `ERRNO`, not 0. `text`: UTF-8, short. */
export function replyError(
  out: Outbox,
  request: Request,
  structured: boolean,
  errno: number,
  text: Uint8Array,
): void {
  const payload = 6 + text.byteLength;
  const piece = out.reserve(structured ? CHUNK_HEADER_BYTES + payload : SIMPLE_REPLY_BYTES);
  const { view, bytes } = piece.slab;
  if (structured) {
    putChunk(view, piece.start, CHUNK_DONE, CHUNK.error, request, payload);
    const at = piece.start + CHUNK_HEADER_BYTES;
    view.setUint32(at, errno);
    view.setUint16(at + 4, text.byteLength);
    bytes.set(text, at + 6);
  } else putSimple(view, piece.start, errno, request);
  out.commit(piece, 1);
}

export type StatusAnswer = { readonly id: number; readonly extents: readonly Extent[] };

/** One chunk for each selected context, the last one ends the answer. */
export function replyStatus(out: Outbox, request: Request, answers: readonly StatusAnswer[]): void {
  const header = CHUNK_HEADER_BYTES + 4;
  const total = answers.reduce((sum, a) => sum + header + EXTENT_BYTES * a.extents.length, 0);
  const piece = out.reserve(total);
  const { view } = piece.slab;
  let at = piece.start;
  for (const [i, { id, extents }] of answers.entries()) {
    const flags = i === answers.length - 1 ? CHUNK_DONE : 0;
    const payload = 4 + EXTENT_BYTES * extents.length;
    putChunk(view, at, flags, CHUNK.blockStatus, request, payload);
    view.setUint32(at + CHUNK_HEADER_BYTES, id);
    at += header;
    for (const { length, flags: state } of extents) {
      view.setUint32(at, length);
      view.setUint32(at + 4, state);
      at += EXTENT_BYTES;
    }
  }
  out.commit(piece, 1);
}

function putSimple(view: DataView, at: number, errno: number, request: Request): void {
  view.setUint32(at, SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, errno);
  view.setUint32(at + 8, request.cookieHigh);
  view.setUint32(at + 12, request.cookieLow);
}

function putChunk(
  view: DataView,
  at: number,
  flags: number,
  type: number,
  request: Request,
  length: number,
): void {
  view.setUint32(at, STRUCTURED_REPLY_MAGIC);
  view.setUint16(at + 4, flags);
  view.setUint16(at + 6, type);
  view.setUint32(at + 8, request.cookieHigh);
  view.setUint32(at + 12, request.cookieLow);
  view.setUint32(at + 16, length);
}
