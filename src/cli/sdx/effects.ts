/**
 * The `-e` and `-a` words of the manual that we accept, and what becomes of each. A word that has
 * no effect here is accepted silently when nobody is misled by it; otherwise with a warning.
 */

import { KageError } from '../../base/errors.ts';
import { parseDelay } from '../options.ts';
import { type SdxWords, sdxUsage } from './getopt.ts';

export type Effect =
  | { readonly kind: 'switch'; readonly name: 'instant' | 'unlock' | 'restore' }
  | { readonly kind: 'delay' }
  /** No effect, and none missed; `why` is for the reader of this table. */
  | { readonly kind: 'nothing'; readonly why: string }
  | { readonly kind: 'warning'; readonly text: string }
  /** `key=value` with a fixed set of values; those named in `warn` have no effect here. */
  | {
      readonly kind: 'choice';
      readonly of: readonly string[];
      readonly warn: Warnings;
      /** The value that means `readOnly`. */
      readonly readOnly?: string;
    };

type Warnings = Readonly<Record<string, string>>;

const HERE = 'there is one node here';

export const EFFECTS: Readonly<Record<string, Effect>> = {
  instant: { kind: 'switch', name: 'instant' },
  unlock: { kind: 'switch', name: 'unlock' },
  restore: { kind: 'switch', name: 'restore' },
  delay: { kind: 'delay' },
  softcopy: { kind: 'nothing', why: 'there are no copy functions of disk arrays: always so' },
  syncmode: { kind: 'nothing', why: 'a write to a joined pair waits for both sides: always so' },
  force: { kind: 'nothing', why: 'there is no array session that could not be stopped' },
  waitsync: { kind: 'nothing', why: 'the row of the operation looks for it' },
  nowaitsync: { kind: 'nothing', why: 'the row of the operation looks for it' },
  mode: { kind: 'choice', of: ['rw', 'ro'], warn: {}, readOnly: 'ro' },
  pjrm: {
    kind: 'choice',
    of: ['on', 'off'],
    warn: { off: 'pjrm=off: changes are tracked all the same, the next copy stays differential' },
  },
  jrm: {
    kind: 'choice',
    of: ['on', 'off'],
    warn: { off: 'jrm=off: changes are tracked all the same' },
  },
  pslice: { kind: 'choice', of: ['on', 'off'], warn: {} },
  nosync: { kind: 'nothing', why: 'no mirrors here: nothing is copied at start' },
  allnodes: { kind: 'nothing', why: HERE },
  node: { kind: 'nothing', why: HERE },
  chkps: { kind: 'nothing', why: 'images have no private slice to check' },
};

export type Effects = {
  readonly instant?: boolean;
  readonly unlock?: boolean;
  readonly restore?: boolean;
  readonly delayMs?: number;
  readonly readOnly?: boolean;
  readonly warnings: readonly string[];
};

/** What the words of `-letter` ask for; only those in `allowed` are known to the operation. */
export function effectsOf(words: SdxWords, letter: string, allowed: readonly string[]): Effects {
  const effects: Record<string, boolean | number> = {};
  const warnings: string[] = [];
  for (const word of words.lists.get(letter) ?? []) {
    const [key, value] = word.split(/=(.*)/);
    if (!allowed.includes(key)) {
      throw sdxUsage(words.command, `-${letter} ${key} is not known here`);
    }
    const effect = EFFECTS[key];
    if (effect.kind === 'switch') effects[effect.name] = true;
    if (effect.kind === 'warning') warnings.push(effect.text);
    if (effect.kind === 'delay') effects.delayMs = parseDelay(`-${letter} delay`, value ?? '');
    if (effect.kind === 'choice') {
      if (!effect.of.includes(value)) {
        throw sdxUsage(words.command, `-${letter} ${key}= must be ${effect.of.join(' or ')}`);
      }
      if (effect.warn[value] !== undefined) warnings.push(effect.warn[value]);
      if (effect.readOnly === value) effects.readOnly = true;
    }
  }
  return { ...effects, warnings };
}

/** What a GDS site knows and this version does not have yet (exit 12). */
export function notInThisVersion(what: string): KageError {
  return new KageError('not-permitted', `${what} are not part of this version`);
}
