/** What a server's terms and its errors mean to the client. */

import { ioError, KageError } from '../base/errors.ts';
import type { Negotiated } from './client-handshake.ts';
import type { Reply } from './client-protocol.ts';
import { ERRNO, TRANSMISSION } from './wire.ts';

/** Boundaries that suit servers, bytes. */
const PAGE = 4096;

const NAMES: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(ERRNO).map(([name, errno]) => [errno, name]),
);

/** Largest payload that suits both sides, bytes: whole blocks, whole pages where they fit. */
export function pieceOf({ minimum, maximum }: Negotiated, wanted: number): number {
  const most = Math.max(minimum, Math.min(wanted, maximum));
  const unit = Math.max(minimum, most >= PAGE ? PAGE : 1);
  return most - (most % unit);
}

/** Why an export cannot be written, if so: what it takes must become durable upon a flush. */
export function writeRefusal(server: string, { flags }: Negotiated): KageError | undefined {
  const data = { path: server };
  if (flags & TRANSMISSION.readOnly) {
    return new KageError('image-readonly', `${server}: the server exports it read-only`, { data });
  }
  if (flags & TRANSMISSION.sendFlush) return undefined;
  return new KageError('not-permitted', `${server}: the server has no flush`, {
    hint: 'nothing written to it would be durable; it can only be read',
    data,
  });
}

/** The error of a reply; `what` was done, as in `reading at byte 512`. */
export function replyError(server: string, what: string, { errno, text }: Reply): KageError {
  const code = NAMES[errno] ?? `error ${errno}`;
  if (errno === ERRNO.ENOSPC) return ioError(what, server, { code });
  const said = text === '' ? '' : ` (${text})`;
  return new KageError('io-error', `${server}: ${what} failed: ${code}${said}`, {
    data: { path: server, errno: code },
  });
}
