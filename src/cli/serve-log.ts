/** What a server tells, as lines on standard error. */

import type { ServeEvent } from '../serve/serve.ts';
import type { Printer } from './print.ts';

/** One line of text or JSON; the work goes on when nobody reads it. */
export function logEvent(event: ServeEvent, printer: Printer, command: string): void {
  const { failed, text } = event;
  const of = event.class === undefined ? '' : ` ${event.class}:`;
  const line = printer.options.json
    ? JSON.stringify({ ...event, time: new Date(event.time).toISOString() })
    : `${command}:${of} ${failed ? 'FAILED: ' : ''}${text}`;
  void printer[failed ? 'warn' : 'say'](line).catch(() => {});
}
