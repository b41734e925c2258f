/** Lines in the manual's style: `<severity>: <object>: <text>`; INFO on stdout, others on stderr. */

import { KageError } from '../../base/errors.ts';
import type { Session } from '../session.ts';

export function line(severity: 'INFO' | 'WARNING' | 'ERROR', object: string, text: string): string {
  // The engine's sentences often begin with the object already.
  const rest = text.startsWith(`${object}: `) ? text.slice(object.length + 2) : text;
  return `${severity}: ${object}: ${rest}`;
}

export async function warn(session: Session, object: string, text: string): Promise<void> {
  await session.printer.warn(line('WARNING', object, text));
}

/** The object an error is about, if it says so. */
export function objectOf(error: unknown, otherwise: string): string {
  if (!(error instanceof KageError)) return otherwise;
  const { proxy, volume, disk, class: className } = error.data;
  const named = [proxy, volume, disk, className].find((name) => typeof name === 'string');
  return error.code === 'usage' || named === undefined ? otherwise : String(named);
}
