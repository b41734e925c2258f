/**
 * The data of options, as clients send them, and of the answers. Whatever is not exactly as long as
 * it says is undefined: the option is then answered INVALID.
 */

import { decodeText, encodeText, putU64, u16, u32 } from './big-endian.ts';
import {
  INFO,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC,
  PAYLOAD_BYTES_MAX,
  TEXT_BYTES_MAX,
} from './wire.ts';

/** INFO and GO. */
export type InfoQuery = { readonly name: string; readonly types: ReadonlySet<number> };
/** LIST_META_CONTEXT and SET_META_CONTEXT. */
export type MetaQuery = { readonly name: string; readonly queries: readonly string[] };

/** The name of an export, 0 to 4096 bytes of UTF-8. */
export function decodeName(bytes: Uint8Array): string | undefined {
  return bytes.byteLength > TEXT_BYTES_MAX ? undefined : decodeText(bytes);
}

/** A name with its length in front, and where it ends. */
function leadingName(data: Uint8Array): { name: string; end: number } | undefined {
  if (data.byteLength < 4) return undefined;
  const end = 4 + u32(data, 0);
  if (end > data.byteLength) return undefined;
  const name = decodeName(data.subarray(4, end));
  return name === undefined ? undefined : { name, end };
}

export function decodeInfoQuery(data: Uint8Array): InfoQuery | undefined {
  const lead = leadingName(data);
  if (lead === undefined || data.byteLength < lead.end + 2) return undefined;
  const count = u16(data, lead.end);
  if (data.byteLength !== lead.end + 2 + 2 * count) return undefined;
  const types = new Set<number>();
  for (let i = 0; i < count; i++) types.add(u16(data, lead.end + 2 + 2 * i));
  return { name: lead.name, types };
}

/** Queries that are too long or no text match nothing and are left out; `count` tells there were some. */
export function decodeMetaQuery(data: Uint8Array): (MetaQuery & { count: number }) | undefined {
  const lead = leadingName(data);
  if (lead === undefined || data.byteLength < lead.end + 4) return undefined;
  const count = u32(data, lead.end);
  const queries: string[] = [];
  let at = lead.end + 4;
  for (let i = 0; i < count; i++) {
    if (data.byteLength < at + 4) return undefined;
    const end = at + 4 + u32(data, at);
    if (end > data.byteLength) return undefined;
    const query = decodeName(data.subarray(at + 4, end));
    if (query !== undefined) queries.push(query);
    at = end;
  }
  return at === data.byteLength ? { name: lead.name, queries, count } : undefined;
}

/** One reply to an option: header and data. */
export function optionReply(
  option: number,
  type: number,
  ...parts: readonly Uint8Array[]
): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.byteLength, 0);
  const reply = new Uint8Array(OPTION_REPLY_HEADER_BYTES + length);
  const view = new DataView(reply.buffer);
  view.setBigUint64(0, OPTION_REPLY_MAGIC);
  view.setUint32(8, option);
  view.setUint32(12, type);
  view.setUint32(16, length);
  let at = OPTION_REPLY_HEADER_BYTES;
  for (const part of parts) {
    reply.set(part, at);
    at += part.byteLength;
  }
  return reply;
}

export function text(value: string): Uint8Array {
  return encodeText(value, TEXT_BYTES_MAX);
}

export function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** Size in bytes and flags, as EXPORT_NAME answers them and INFO with its type in front. */
export function sizeAndFlags(size: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(10);
  const view = new DataView(bytes.buffer);
  putU64(view, 0, size);
  view.setUint16(8, flags);
  return bytes;
}

export function infoType(type: number): Uint8Array {
  const bytes = new Uint8Array(2);
  new DataView(bytes.buffer).setUint16(0, type);
  return bytes;
}

/** The answer to INFO's question for block sizes: minimum, preferred, largest payload. */
export function blockSizes(preferred: number): Uint8Array {
  const bytes = new Uint8Array(14);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, INFO.blockSize);
  view.setUint32(2, 1);
  view.setUint32(6, preferred);
  view.setUint32(10, PAYLOAD_BYTES_MAX);
  return bytes;
}
