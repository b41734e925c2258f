/** `sdxproxy` as a call of the engine: one table row per operation. Pure: nothing is run here. */

import { nearest } from '../../base/units.ts';
import { type Effects, effectsOf, notInThisVersion } from './effects.ts';
import { required, requiredList, type SdxWords, sdxUsage } from './getopt.ts';

export type EngineVerb =
  | 'join'
  | 'part'
  | 'rejoin'
  | 'restore'
  | 'relate'
  | 'update'
  | 'swap'
  | 'cancel'
  | 'break';

type Row = {
  readonly verb: EngineVerb;
  /** `-m` is needed. */
  readonly master: boolean;
  /** `-p` takes a list. */
  readonly many: boolean;
  /** The words of `-e` that the manual has here. */
  readonly effects: readonly string[];
  /** Options that the operation always means. */
  readonly always: Readonly<Record<string, boolean>>;
  /** Data of a volume is overwritten. */
  readonly overwrites: boolean;
  /** The manual's command returns before the copy ends, unless `waitsync` is given. */
  readonly returnsEarly: boolean;
};

const PLAIN = { master: false, many: false, effects: [], overwrites: false, returnsEarly: false };
const STRICT = { strictStop: true };

/** The operations of gds.md section 2.6; strictStop: the manual wants the volumes stopped. */
export const OPERATIONS: Readonly<Record<string, Row>> = {
  Join: {
    ...PLAIN,
    verb: 'join',
    master: true,
    effects: ['delay', 'softcopy', 'syncmode', 'waitsync'],
    always: STRICT,
    overwrites: true,
    returnsEarly: true,
  },
  Part: { ...PLAIN, verb: 'part', many: true, effects: ['instant', 'mode', 'unlock'], always: {} },
  Rejoin: {
    ...PLAIN,
    verb: 'rejoin',
    many: true,
    effects: ['delay', 'softcopy', 'waitsync'],
    always: STRICT,
    overwrites: true,
    returnsEarly: true,
  },
  RejoinRestore: {
    ...PLAIN,
    verb: 'restore',
    many: true,
    effects: ['delay', 'instant', 'nowaitsync', 'softcopy'],
    always: { keep: false, ...STRICT },
    overwrites: true,
  },
  Relate: { ...PLAIN, verb: 'relate', master: true, always: {} },
  Update: {
    ...PLAIN,
    verb: 'update',
    many: true,
    effects: ['instant', 'nowaitsync'],
    always: STRICT,
    overwrites: true,
  },
  Restore: {
    ...PLAIN,
    verb: 'restore',
    many: true,
    effects: ['instant', 'nowaitsync'],
    always: { keep: true, ...STRICT },
    overwrites: true,
  },
  Swap: { ...PLAIN, verb: 'swap', always: {} },
  Cancel: { ...PLAIN, verb: 'cancel', always: {} },
  Break: { ...PLAIN, verb: 'break', effects: ['force', 'restore'], always: {} },
};

export type ProxyCall = {
  readonly operation: string;
  readonly verb: EngineVerb;
  readonly class: string;
  readonly master: string | undefined;
  readonly proxies: readonly string[];
  /** For the engine's verb, as they are. */
  readonly options: Readonly<Record<string, boolean | number>>;
  readonly warnings: readonly string[];
  readonly overwrites: boolean;
  /** Returns before the copy ends, where a server goes on with it. */
  readonly returnsEarly: boolean;
  readonly words: SdxWords;
};

export function translateProxy(words: SdxWords): ProxyCall {
  const [operation, extra] = words.operands;
  if (operation === undefined) {
    throw sdxUsage('sdxproxy', `an operation is missing: ${Object.keys(OPERATIONS).join(', ')}`);
  }
  if (extra !== undefined) throw sdxUsage('sdxproxy', `unexpected ${extra}`);
  if (operation === 'Root') throw notInThisVersion('root classes');
  const row = Object.hasOwn(OPERATIONS, operation) ? OPERATIONS[operation] : undefined;
  if (row === undefined) {
    const near = nearest(operation, Object.keys(OPERATIONS));
    const guess = near === undefined ? '' : `; did you mean ${near}?`;
    throw sdxUsage('sdxproxy', `there is no operation ${operation}${guess}`);
  }
  const effects = words.lists.get('e') ?? [];
  const { warnings, ...options } = { ...effectsOf(words, 'e', row.effects) };
  return {
    operation,
    verb: row.verb,
    class: required(words, 'c', 'class'),
    master: masterOf(words, operation, row),
    proxies: row.many ? requiredList(words, 'p', 'proxy') : [required(words, 'p', 'proxy')],
    options: { ...options, ...row.always },
    warnings: [...warnings, ...attributes(words, operation).warnings],
    overwrites: row.overwrites,
    returnsEarly:
      effects.includes('nowaitsync') || (row.returnsEarly && !effects.includes('waitsync')),
    words,
  };
}

function masterOf(words: SdxWords, operation: string, row: Row): string | undefined {
  if (row.master) return required(words, 'm', 'master');
  if (words.lists.has('m')) throw sdxUsage('sdxproxy', `${operation} takes no -m`);
  return undefined;
}

/** `-a` of Join names the volumes of groups; `-a` of Part turns tracking off. */
function attributes(words: SdxWords, operation: string): Pick<Effects, 'warnings'> {
  if (!words.lists.has('a')) return { warnings: [] };
  if (operation === 'Join') throw notInThisVersion('groups');
  if (operation === 'Part') return effectsOf(words, 'a', ['pjrm']);
  throw sdxUsage('sdxproxy', `${operation} takes no -a`);
}
