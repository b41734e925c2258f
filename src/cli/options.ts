/**
 * The options that several verbs share, and their values checked: sizes, rates, pauses. Every
 * wrong value is a `usage` error that names the option.
 */

import { KageError } from '../base/errors.ts';
import {
  DELAY_MS_MAX,
  QUIESCE_MS_DEFAULT,
  QUIESCE_MS_MAX,
  REGION_SIZE_MAX,
  REGION_SIZE_MIN,
} from '../base/limits.ts';
import { formatSize, parseSize } from '../base/units.ts';

export type OptionRow = {
  readonly describe: string;
  readonly alias?: string;
  /** Name of the value in help; without it the option is a switch. */
  readonly value?: string;
  /** May be given more than once, each time with a value. */
  readonly several?: boolean;
  /** What completes the value. */
  readonly completes?: 'class' | 'folder';
};

export type OptionRows = Readonly<Record<string, OptionRow>>;

/** Parsed options and arguments of one call: names as typed, without dashes in front. */
export type Args = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

export const EVERYWHERE: OptionRows = {
  class: {
    alias: 'c',
    value: 'CLASS',
    completes: 'class',
    describe: 'Disk class (default: default)',
  },
  json: { describe: 'Print exactly one JSON object, errors too' },
  'dry-run': { describe: 'Say what would be done, change nothing' },
  quiet: { alias: 'q', describe: 'Print errors only, and what was asked for' },
  verbose: { alias: 'v', describe: 'Print more: notes, and where an internal error happened' },
  home: { value: 'DIR', completes: 'folder', describe: 'Folder of the state (or KAGE_HOME)' },
};

export const COPYING: OptionRows = {
  rate: { value: 'SIZE', describe: 'Look at no more than this per second: 50M' },
  delay: { value: 'MS', describe: `Pause between transfers, 0 to ${DELAY_MS_MAX} ms` },
  compare: { describe: 'Read both sides and write what differs, even if the map is trusted' },
  'differential-only': { describe: 'Refuse any copy that is not differential (exit 14)' },
};

export const REGION: OptionRows = {
  region: { value: 'SIZE', describe: 'Tracking unit, a power of two from 4K to 4M (default 64K)' },
};

export const READ_ONLY: OptionRows = {
  'read-only': {
    describe: 'Clients may read it and not write to it; a backup can pull its increment',
  },
};

export const NO_WAIT: OptionRows = {
  'no-wait': { describe: 'Come back at once, the server copies on (see `kage serve`)' },
};

export const DEVICES: OptionRows = {
  devices: {
    value: 'DIR',
    completes: 'folder',
    describe: 'Also as files DIR/CLASS/dsk/VOLUME (needs nbdfuse)',
  },
};

export const FORCE: OptionRows = {
  force: { describe: 'Also while clients use it: they are cut off' },
};

export const QUIESCING: OptionRows = {
  freeze: { value: 'CMD', describe: 'Run by /bin/sh when only the instant is left to be done' },
  thaw: { value: 'CMD', describe: 'Run right after the instant, and whatever fails' },
  timeout: {
    value: 'SECONDS',
    describe: 'Longest time from the freeze to the instant, and of the thaw (default 30)',
  },
};

/** What a server calls itself as the holder of a class. */
export const SERVER = 'kage serve';

/** Text of a given option; undefined when absent. */
export function textOf(args: Args, name: string): string | undefined {
  const value = args[name];
  return typeof value === 'string' ? value : undefined;
}

export function isSet(args: Args, name: string): boolean {
  return args[name] === true;
}

/** The words of an argument that may be given several times. */
export function listOf(args: Args, name: string): readonly string[] {
  const value = args[name];
  if (value === undefined || typeof value === 'boolean') return [];
  return typeof value === 'string' ? [value] : value;
}

/** Bytes of a size option, at least `min`. */
export function sizeOf(args: Args, name: string, min = 1): number | undefined {
  const text = textOf(args, name);
  if (text === undefined) return undefined;
  const bytes = parseSize(text);
  if (bytes === undefined) {
    throw new KageError('usage', `--${name} ${text}: not a size`, {
      hint: 'a size is a number with K, M, G or T behind it: 64K, 1.5G; or bytes',
    });
  }
  if (bytes < min) throw new KageError('usage', `--${name} ${text}: must be at least ${min}`);
  return bytes;
}

export function regionSizeOf(args: Args): number | undefined {
  const bytes = sizeOf(args, 'region');
  if (bytes === undefined) return undefined;
  const isPowerOfTwo = Number.isInteger(Math.log2(bytes));
  if (isPowerOfTwo && bytes >= REGION_SIZE_MIN && bytes <= REGION_SIZE_MAX) return bytes;
  const range = `${formatSize(REGION_SIZE_MIN)} to ${formatSize(REGION_SIZE_MAX)}`;
  throw new KageError(
    'usage',
    `--region ${textOf(args, 'region')}: must be a power of two, ${range}`,
  );
}

/** `50M` or `50M/s`, bytes per second. */
function rateOf(args: Args): number | undefined {
  const text = textOf(args, 'rate');
  return text === undefined ? undefined : sizeOf({ rate: text.replace(/\/s$/, '') }, 'rate');
}

/** Pause in ms from `text`, as `name` of an option or key. */
export function parseDelay(name: string, text: string): number {
  const delayMs = /^\d{1,4}$/.test(text) ? Number(text) : Number.NaN;
  if (delayMs <= DELAY_MS_MAX) return delayMs;
  throw new KageError('usage', `${name} ${text}: must be 0 to ${DELAY_MS_MAX} ms`);
}

export type QuiesceChoice = {
  readonly freeze: string;
  readonly thaw: string;
  readonly limitMs: number;
};

/** The options of `QUIESCING`; undefined when none was given. */
export function quiesceChoice(args: Args): QuiesceChoice | undefined {
  const freeze = textOf(args, 'freeze');
  const thaw = textOf(args, 'thaw');
  const timeout = textOf(args, 'timeout');
  if (freeze === undefined && thaw === undefined) {
    if (timeout === undefined) return undefined;
    throw new KageError('usage', '--timeout is the time limit of --freeze and --thaw');
  }
  if (freeze === undefined || thaw === undefined) {
    throw new KageError('usage', '--freeze and --thaw need each other', {
      hint: 'a command that does nothing is `true`',
    });
  }
  if (timeout === undefined) return { freeze, thaw, limitMs: QUIESCE_MS_DEFAULT };
  const limitMs = /^\d{1,5}(\.\d+)?$/.test(timeout)
    ? Math.round(Number(timeout) * 1000)
    : Number.NaN;
  if (limitMs >= 1 && limitMs <= QUIESCE_MS_MAX) return { freeze, thaw, limitMs };
  const most = QUIESCE_MS_MAX / 1000;
  throw new KageError(
    'usage',
    `--timeout ${timeout}: must be more than 0, at most ${most} seconds`,
  );
}

export type CopyChoices = {
  readonly rateBytesPerSec?: number;
  readonly delayMs?: number;
  readonly compare?: boolean;
  readonly differentialOnly?: boolean;
};

/** The options of `COPYING`; only what was given. */
export function copyChoices(args: Args): CopyChoices {
  const rateBytesPerSec = rateOf(args);
  const delay = textOf(args, 'delay');
  const compare = isSet(args, 'compare');
  const differentialOnly = isSet(args, 'differential-only');
  if (compare && differentialOnly) {
    throw new KageError('usage', '--compare and --differential-only contradict each other');
  }
  return {
    ...(rateBytesPerSec === undefined ? {} : { rateBytesPerSec }),
    ...(delay === undefined ? {} : { delayMs: parseDelay('--delay', delay) }),
    ...(compare ? { compare } : {}),
    ...(differentialOnly ? { differentialOnly } : {}),
  };
}
