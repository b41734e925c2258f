/**
 * The server's log: what happened, as one line for people and, as an object with fields that stay, for
 * programs (docs/serve.md). Pure, but for the counting of refusals.
 */

import { KageError } from '../base/errors.ts';
import { formatSeconds, formatSize } from '../base/units.ts';
import type { Request } from '../control/protocol.ts';
import type { ClassEvent } from '../engine/api.ts';
import type { ClientEvent } from '../nbd/server.ts';

type Facts = Readonly<Record<string, string | number | boolean | null>>;

/** Something that happened. The fields behind these depend on `event`. */
export type ServeEvent = Facts & {
  readonly event: 'server' | 'class' | 'call' | 'copy' | 'volume' | 'device' | 'pair' | 'client';
  /** One line. */
  readonly text: string;
  readonly failed: boolean;
  /** ms since 1970. */
  readonly time: number;
};

type Untimed = Facts & Pick<ServeEvent, 'event' | 'text' | 'failed'>;
export type Log = (event: Untimed) => void;

/** Adds the time, and sees to it that a line is one. */
export function logTo(write: (event: ServeEvent) => void, now: () => number): Log {
  return (event) => write({ ...event, text: oneLine(event.text), time: now() } as ServeEvent);
}

function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what must not reach a terminal
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ');
}

export function serverEvent(text: string, failed: boolean): Untimed {
  return { event: 'server', text, failed };
}

/** What is wrong with the device file of a volume. */
export function deviceEvent(name: string, volume: string, problem: string): Untimed {
  const text = `${volume}: ${problem}`;
  return { event: 'device', class: name, volume, problem, text, failed: true };
}

export function classLine(name: string, text: string, failed = false): Untimed {
  return { event: 'class', class: name, text, failed };
}

/** A verb has ended; `error` undefined: well. */
export function callEvent(call: Extract<Request, { class: string }>, error: unknown): Untimed {
  const words = call.args.flat().map((word) => (word as { path?: unknown } | null)?.path ?? word);
  const text = [call.method, ...words.filter((word) => typeof word === 'string')].join(' ');
  return {
    event: 'call',
    class: call.class,
    verb: call.method,
    text: error === undefined ? text : `${text}: ${messageOf(error)}`,
    failed: error !== undefined && !wasStopped(error),
  };
}

export function classEvent(name: string, event: ClassEvent): Untimed {
  const of = { class: name, failed: true } as const;
  switch (event.kind) {
    case 'copy-begun':
    case 'copy-ended':
      return copyEvent(name, event);
    case 'invalid': {
      const { volume, problem } = event;
      return { ...of, event: 'volume', volume, problem, text: `${volume} is INVALID: ${problem}` };
    }
    case 'doubt': {
      const { kind: _, ...facts } = event;
      const text = `${facts.master} / ${facts.proxy}: the next copy compares: ${facts.reason}`;
      return { ...of, event: 'pair', ...facts, text, failed: false };
    }
    case 'differs': {
      const { kind: _, ...facts } = event;
      const one = facts.regions === 1;
      const what = one
        ? '1 region that was believed equal differs'
        : `${facts.regions} regions that were believed equal differ`;
      const reason = 'verify found differences';
      return { ...of, event: 'pair', ...facts, reason, text: `${facts.proxy}: ${what}` };
    }
    case 'broken': {
      const { reason } = event;
      const text = `broken, restart the server: the state could not be written: ${reason}`;
      return { ...of, event: 'class', text };
    }
  }
}

type CopyEvent = Extract<ClassEvent, { kind: 'copy-begun' | 'copy-ended' }>;

function copyEvent(name: string, event: CopyEvent): Untimed {
  const { master, proxy, verb, direction, method, reason } = event;
  const which = `${master} ${direction === 'toProxy' ? '->' : '<-'} ${proxy}`;
  const facts = {
    event: 'copy',
    class: name,
    master,
    proxy,
    verb,
    direction,
    method,
    reason,
  } as const;
  if (event.kind === 'copy-begun') {
    const { totalBytes } = event;
    const text = `${which}: ${method} copy of ${formatSize(totalBytes)} begins: ${reason}`;
    return { ...facts, phase: 'begin', totalBytes, text, failed: false };
  }
  const { end, error, report } = event;
  const { bytesRead = null, bytesWritten = null, seconds = null } = report ?? {};
  const text =
    report === null
      ? `${which}: ${method} copy ${end}: ${error}`
      : `${which}: ${method} copy done, ${formatSize(report.bytesWritten)} written in ` +
        formatSeconds(report.seconds);
  const more = { phase: 'end', result: end, error, bytesRead, bytesWritten, seconds };
  return { ...facts, ...more, text, failed: end === 'failed' };
}

/** Names that clients ask for may be long and anything. */
const SHOWN_MAX = 100;

export function clientEvent(event: ClientEvent): Untimed {
  const { kind: phase, peer, tls, export: name, why: reason } = event;
  const shown = name === null ? null : name.slice(0, SHOWN_MAX);
  const who = `client ${peer}${tls ? ' (TLS)' : ''}`;
  const text =
    phase === 'refused'
      ? `${who}: refused: ${reason}${shown === null ? '' : `: ${JSON.stringify(shown)}`}`
      : `${who}: ${phase} ${phase === 'connected' ? 'to' : 'from'} ${shown}`;
  return { event: 'client', phase, peer, tls, export: shown, reason, text, failed: false };
}

/** Refusals that are written down in a period of so long, ms: anybody may make as many as they like. */
const REFUSALS_MAX = 20;
const REFUSALS_MS = 60_000;

/** Clients come, go and are refused; of the refusals only so many. `clock`: ms, never going back. */
export function clientLog(log: Log, clock: () => number): (event: ClientEvent) => void {
  let begin = Number.NEGATIVE_INFINITY;
  let told = 0;
  let left = 0;
  return (event) => {
    const line = clientEvent(event);
    if (event.kind !== 'refused') return log(line);
    if (clock() - begin >= REFUSALS_MS) {
      begin = clock();
      told = 0;
    }
    if (told === REFUSALS_MAX) {
      left++;
      return;
    }
    told++;
    log(left === 0 ? line : { ...line, text: `${line.text} (before it ${left} more)` });
    left = 0;
  };
}

/** Somebody wanted it to stop: nothing has failed. */
function wasStopped(error: unknown): boolean {
  return error instanceof KageError && error.code === 'interrupted';
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
