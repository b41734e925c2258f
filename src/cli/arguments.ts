/**
 * Words of the user to checked arguments of one verb, by yargs; every mistake becomes one `usage`
 * error. Yargs neither prints nor exits here, and is not even set up for plain words.
 */

import type { Argv } from 'yargs';
import { KageError } from '../base/errors.ts';
import { nearest } from '../base/units.ts';
import { type Args, EVERYWHERE, type OptionRow, type OptionRows } from './options.ts';
import { plainWords } from './plain-words.ts';
import type { Verb } from './verbs/verb.ts';

const PARSER = {
  'camel-case-expansion': false,
  'dot-notation': false,
  'parse-numbers': false,
  'parse-positional-numbers': false,
  'boolean-negation': false,
  'greedy-arrays': false,
} as const;

export function usageError(message: string, verb?: string): KageError {
  const hint = verb === undefined ? 'kage --help' : `kage ${verb} --help`;
  return new KageError('usage', message, { hint });
}

/** Leading options (`kage --home DIR join …`) apart from the verb and what follows it. */
export function splitVerb(argv: readonly string[]): {
  readonly before: readonly string[];
  readonly verb: string | undefined;
  readonly after: readonly string[];
} {
  let at = 0;
  for (; at < argv.length && argv[at].startsWith('-'); at++) {
    if (takesValue(argv[at])) at++;
  }
  return { before: argv.slice(0, at), verb: argv[at], after: argv.slice(at + 1) };
}

function takesValue(word: string): boolean {
  return Object.entries(EVERYWHERE).some(
    ([name, row]) =>
      row.value !== undefined && (word === `--${name}` || word === `-${row.alias ?? name}`),
  );
}

export async function parseVerb(verb: Verb, words: readonly string[]): Promise<Args> {
  if (verb.command !== undefined) return await parseBoth(verb, words);
  return plainWords(verb, words) ?? (await parseWords(verb, words));
}

/** Our words, then `--`, then a command that is none of our business. */
async function parseBoth(verb: Verb, words: readonly string[]): Promise<Args> {
  const end = words.indexOf('--');
  const { command: _, ...plain } = verb;
  const args = await parseVerb(plain, end < 0 ? words : words.slice(0, end));
  const command = end < 0 ? [] : words.slice(end + 1);
  if (command.length > 0) return { ...args, command };
  throw usageError(`${verb.name} needs -- ${verb.command}`, verb.name);
}

/** Any words, by yargs. */
export async function parseWords(verb: Verb, words: readonly string[]): Promise<Args> {
  const parsed = await (await parser(verb, 80, words)).parseAsync([verb.name, ...words]);
  const { _, $0, ...args } = parsed;
  for (const [name, row] of Object.entries({ ...EVERYWHERE, ...verb.options })) {
    const values = [args[name]].flat();
    if (Array.isArray(args[name]) && !row.several) {
      throw usageError(`--${name} is given more than once`, verb.name);
    }
    if (row.value !== undefined && values.includes('')) {
      throw usageError(`--${name} needs a value: ${row.value}`, verb.name);
    }
  }
  return args as Args;
}

/** Help of one verb, `columns` wide. */
export async function verbHelp(verb: Verb, columns: number): Promise<string> {
  let text = '';
  await (await parser(verb, columns)).parse([verb.name, '--help'], {}, (_error, _argv, output) => {
    text = output;
  });
  if (verb.command === undefined) return text;
  // The parser has no notation for what follows `--`.
  return text.replace(verb.takes, `${verb.takes} -- ${verb.command}`);
}

async function parser(verb: Verb, columns: number, words: readonly string[] = []) {
  const { default: yargs } = await import('yargs/yargs');
  return yargs([], '/')
    .scriptName('kage')
    .parserConfiguration(PARSER)
    .detectLocale(false)
    .exitProcess(false)
    .showHelpOnFail(false)
    .version(false)
    .help('help')
    .alias('help', 'h')
    .group('help', 'Everywhere:')
    .wrap(Math.min(columns, 100))
    .strict()
    .fail((message, error) => {
      throw failure(verb, words, message, error);
    })
    .command(
      `${verb.name} ${verb.takes}`.trim(),
      verb.summary,
      (command) => {
        for (const [name, describe] of Object.entries(verb.arguments)) {
          command.positional(name, { describe, type: 'string' });
        }
        addOptions(command, verb.options, 'Options:');
        const others = Object.entries(EVERYWHERE).filter(([name]) => !(name in verb.options));
        addOptions(command, Object.fromEntries(others), 'Everywhere:');
        for (const [example, what] of verb.examples) command.example(example, what);
        if (verb.details !== undefined) command.epilogue(verb.details);
        return command;
      },
      () => {},
    );
}

function addOptions(command: Argv, rows: OptionRows, group: string): void {
  for (const [name, row] of Object.entries(rows)) {
    command.option(name, {
      ...(row.alias === undefined ? {} : { alias: row.alias }),
      describe: describe(row),
      type: row.value === undefined ? 'boolean' : 'string',
      requiresArg: row.value !== undefined,
      group,
    });
  }
}

function describe(row: OptionRow): string {
  return row.value === undefined ? row.describe : `${row.value}: ${row.describe}`;
}

/** What yargs says, in our words. */
function failure(
  verb: Verb,
  words: readonly string[],
  message: string | null,
  error: Error | undefined,
): unknown {
  if (error !== undefined && error.name !== 'YError') return error;
  const text = message ?? error?.message ?? 'wrong arguments';
  if (text.startsWith('Not enough non-option') || text.startsWith('Missing required')) {
    return usageError(`${verb.name} needs ${verb.takes.toUpperCase()}`, verb.name);
  }
  const following = /^Not enough arguments following: (\S+)/.exec(text)?.[1];
  if (following !== undefined) return usageError(`${dashed(following)} needs a value`, verb.name);
  const unknown = /^Unknown arguments?: (.*)$/.exec(text)?.[1].split(', ')[0];
  if (unknown !== undefined) return unknownWord(verb, words, unknown);
  return usageError(text, verb.name);
}

/** Yargs drops the dashes of an unknown option, so look for it among the words. */
function unknownWord(verb: Verb, words: readonly string[], word: string): KageError {
  const isOption = words.some((w) =>
    word.length === 1
      ? w.startsWith('-') && !w.startsWith('--') && w.includes(word)
      : w === `--${word}` || w.startsWith(`--${word}=`),
  );
  if (!isOption) return usageError(`${verb.name}: one argument too many: ${word}`, verb.name);
  const near = nearest(word, Object.keys({ ...EVERYWHERE, ...verb.options }));
  const guess = near === undefined ? '' : `; did you mean --${near}?`;
  return usageError(`${verb.name} has no option ${dashed(word)}${guess}`, verb.name);
}

function dashed(name: string): string {
  return name.length === 1 ? `-${name}` : `--${name}`;
}
