/**
 * Options in the manual's style: single letters that may be clustered (`-SVc Class1`), values as
 * comma lists, repeated options adding up; our own long options (`--home DIR`) among them.
 */

import { KageError } from '../../base/errors.ts';
import { type Args, COPYING, EVERYWHERE, type OptionRows } from '../options.ts';

export type SdxWords = {
  readonly command: string;
  /** Letters without a value. */
  readonly flags: ReadonlySet<string>;
  /** Comma lists of letters with a value, split. */
  readonly lists: ReadonlyMap<string, readonly string[]>;
  /** Words that are no options: the operation of sdxproxy. */
  readonly operands: readonly string[];
  /** Our long options, and `class` from `-c`. */
  readonly args: Args;
};

/** The short forms `-q` and `-v` of our own options mean other things here. */
const LONG: OptionRows = { ...EVERYWHERE, ...COPYING };

export function sdxUsage(command: string, message: string): KageError {
  return new KageError('usage', message, { hint: `${command} --help` });
}

/** `flags` and `valued` are the letters that the command knows, `long` what only it has. */
export function parseSdx(
  command: string,
  words: readonly string[],
  { flags, valued, long }: { flags: string; valued: string; long?: OptionRows },
): SdxWords {
  const known: OptionRows = { ...LONG, ...long };
  const seen = new Set<string>();
  const lists = new Map<string, string[]>();
  const operands: string[] = [];
  const args: Record<string, string | boolean> = {};
  const queue = [...words];
  const takeValue = (name: string, attached: string): string => {
    const value = attached !== '' ? attached : queue.shift();
    if (value === undefined || value === '') throw sdxUsage(command, `${name} needs a value`);
    return value;
  };
  for (let word = queue.shift(); word !== undefined; word = queue.shift()) {
    if (word.startsWith('--')) {
      const [, name, , attached] = /^--([^=]+)(=(.*))?$/.exec(word) ?? [];
      const row = Object.hasOwn(known, name) ? known[name] : undefined;
      if (row === undefined) throw sdxUsage(command, `unknown option ${word}`);
      args[name] = row.value === undefined ? true : takeValue(`--${name}`, attached ?? '');
    } else if (!word.startsWith('-') || word === '-') {
      operands.push(word);
    } else {
      for (let at = 1; at < word.length; at++) {
        const letter = word[at];
        if (flags.includes(letter)) {
          seen.add(letter);
          continue;
        }
        if (!valued.includes(letter)) throw sdxUsage(command, `unknown option -${letter}`);
        const values = takeValue(`-${letter}`, word.slice(at + 1)).split(',');
        if (values.includes('')) throw sdxUsage(command, `-${letter}: an empty name in the list`);
        lists.set(letter, [...(lists.get(letter) ?? []), ...values]);
        break;
      }
    }
  }
  const className = one(command, lists, 'c');
  if (className !== undefined) args.class = className;
  return { command, flags: seen, lists, operands, args };
}

function one(
  command: string,
  lists: ReadonlyMap<string, readonly string[]>,
  letter: string,
): string | undefined {
  const values = lists.get(letter);
  if (values !== undefined && values.length > 1) {
    throw sdxUsage(command, `-${letter} takes exactly one name`);
  }
  return values?.[0];
}

/** The one value of `-letter`; undefined when absent. */
export function single(words: SdxWords, letter: string): string | undefined {
  return one(words.command, words.lists, letter);
}

export function required(words: SdxWords, letter: string, what: string): string {
  const value = single(words, letter);
  if (value === undefined) throw sdxUsage(words.command, `-${letter} ${what} is missing`);
  return value;
}

export function requiredList(words: SdxWords, letter: string, what: string): readonly string[] {
  const values = words.lists.get(letter);
  if (values === undefined) throw sdxUsage(words.command, `-${letter} ${what} is missing`);
  return values;
}

/** The one operation among `letters`, such as `-M` or `-R`. */
export function operationOf(words: SdxWords, letters: string): string {
  const given = [...letters].filter((letter) => words.flags.has(letter));
  if (given.length === 1 && words.operands.length === 0) return given[0];
  const wanted = [...letters].map((letter) => `-${letter}`).join(', ');
  if (words.operands.length > 0) {
    throw sdxUsage(words.command, `unexpected ${words.operands[0]}`);
  }
  throw sdxUsage(words.command, `exactly one of ${wanted} is needed`);
}
