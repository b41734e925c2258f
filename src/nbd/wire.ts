/**
 * The numbers of the NBD protocol (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md),
 * all big-endian on the wire. Server and client both read them here.
 */

export const NBDMAGIC = 0x4e42444d41474943n;
export const IHAVEOPT = 0x49484156454f5054n;
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;

export const REQUEST_BYTES = 28;
export const SIMPLE_REPLY_BYTES = 16;
export const CHUNK_HEADER_BYTES = 20;
export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;

/** First words of the server, and the client's answer to them. */
export const HANDSHAKE = { fixedNewstyle: 1 << 0, noZeroes: 1 << 1 } as const;

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

/** Answers to options; an error has the highest bit. */
export const OPTION_REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  unsupported: 2 ** 31 + 1,
  policy: 2 ** 31 + 2,
  invalid: 2 ** 31 + 3,
  platform: 2 ** 31 + 4,
  tlsRequired: 2 ** 31 + 5,
  unknown: 2 ** 31 + 6,
  shutdown: 2 ** 31 + 7,
  blockSizeRequired: 2 ** 31 + 8,
  tooBig: 2 ** 31 + 9,
} as const;

export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

/** What an export promises. */
export const TRANSMISSION = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  rotational: 1 << 4,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
} as const;

export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const COMMAND_FLAG = {
  fua: 1 << 0,
  noHole: 1 << 1,
  df: 1 << 2,
  reqOne: 1 << 3,
  fastZero: 1 << 4,
} as const;

export const CHUNK = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 2 ** 15 + 1,
  errorOffset: 2 ** 15 + 2,
} as const;

/** Bit of a chunk's flags: the last one of its request. */
export const CHUNK_DONE = 1;

export const ERRNO = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

/** Longest name, query or text on the wire, bytes. */
export const TEXT_BYTES_MAX = 4096;
/** Longest payload of a read or write, bytes: what a client may use that never asked. */
export const PAYLOAD_BYTES_MAX = 32 * 1024 * 1024;

/** Flags of an extent in the context `base:allocation`; a hole is never reported without zero. */
export const ALLOCATION = { hole: 1, zero: 2 } as const;
export const BASE_ALLOCATION = 'base:allocation';
