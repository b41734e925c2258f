/** What a client is told of an error of ours: the number on the wire, and a short text. */

import { ERRORS, errnoOf, KageError } from '../base/errors.ts';
import { encodeText } from './big-endian.ts';
import { ERRNO } from './wire.ts';

/** QEMU closes the connection when an error chunk is longer than about 1000 bytes. */
const ERROR_TEXT_BYTES_MAX = 800;

/** Error codes of the system that have another name on the wire; all others are EIO. */
const TRANSLATED = new Map<string, number>([
  ...Object.entries(ERRNO),
  ['EROFS', ERRNO.EPERM],
  ['EACCES', ERRNO.EPERM],
  ['EDQUOT', ERRNO.ENOSPC],
  ['EFBIG', ERRNO.ENOSPC],
]);

export function wireErrno(error: unknown): number {
  const name = error instanceof KageError ? ERRORS[error.code].errno : errnoOf(error);
  return TRANSLATED.get(name) ?? ERRNO.EIO;
}

/** The message of a `KageError`; what else went wrong is not the client's to read. */
export function errorText(error: unknown): Uint8Array {
  return encodeText(error instanceof KageError ? error.message : '', ERROR_TEXT_BYTES_MAX);
}
