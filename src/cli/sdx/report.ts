/** Lines in the manual's style: `<severity>: <object>: <text>`; INFO on stdout, others on stderr. */

import { KageError } from '../../base/errors.ts';
import type { Session } from '../session.ts';

export function line(severity: 'INFO' | 'WARNING' | 'ERROR', object: string, text: string): string {
  return `${severity}: ${object}: ${withoutObject(text, object)}`;
}

/** `rejoin vm-proxy: it is joined` without what stands in front already. */
function withoutObject(text: string, object: string): string {
  const [first, ...rest] = text.split(': ');
  const named = first === object || first.endsWith(` ${object}`);
  if (named && rest.length > 0) return rest.join(': ');
  return text.startsWith(`${object} is `) ? text.slice(object.length + 1) : text;
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
