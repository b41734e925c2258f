/**
 * `kage __complete WORD…`: candidates for the last word, from verbs, options and the names in the
 * classes. Answers nothing rather than an error: it runs while the user types.
 */

import type { ClassInfo } from '../engine/api.ts';
import { splitVerb } from './arguments.ts';
import {
  type CliEnvironment,
  type EngineOptions,
  resolveHome,
  resolveKernel,
} from './environment.ts';
import { COPYING, EVERYWHERE, type OptionRow, type OptionRows } from './options.ts';
import { SDX_COMMANDS } from './sdx/commands.ts';
import { DEFAULT_CLASS } from './session.ts';
import { VERBS } from './verbs/index.ts';
import type { Completes, Verb } from './verbs/verb.ts';

type Candidate = readonly [word: string, what: string];
const FILES: Candidate = [':files', ''];

export async function complete(words: readonly string[], env: CliEnvironment): Promise<string[]> {
  const merged = words.filter((w, i) => !(w === '=' && words[i - 1]?.startsWith('--')));
  if (words.at(-1) === '=') merged.push('');
  const current = merged.at(-1) ?? '';
  const found = await candidates(merged.slice(0, -1), current, env).catch(() => []);
  return found
    .filter((c) => c === FILES || c[0].startsWith(current))
    .map(([word, what]) => (what === '' ? word : `${word}\t${what}`));
}

async function candidates(
  before: readonly string[],
  current: string,
  env: CliEnvironment,
): Promise<readonly Candidate[]> {
  const row = optionBefore(before, verbOf(before));
  if (row?.value !== undefined) return valuesOf(row, before, env);
  const name = splitVerb(before).verb;
  if (name === undefined) {
    if (current.startsWith('-')) return optionNames(EVERYWHERE);
    return [...VERBS.map((v): Candidate => [v.name, v.summary]), ['help', 'Help of a verb']];
  }
  const sdx = SDX_COMMANDS.find((c) => c.name === name);
  if (sdx) return sdxCandidates(sdx.operations, before, env);
  if (name === 'help') return VERBS.map((v) => [v.name, v.summary]);
  const verb = verbOf(before);
  if (!verb) return [];
  if (verb.command !== undefined && before.includes('--')) return [FILES];
  if (current.startsWith('-')) return optionNames({ ...verb.options, ...EVERYWHERE });
  return argumentsOf(verb, before, env);
}

function verbOf(before: readonly string[]): Verb | undefined {
  const { verb } = splitVerb(before);
  return VERBS.find((v) => v.name === verb);
}

/** The option whose value comes next, if the last finished word is one. */
function optionBefore(before: readonly string[], verb: Verb | undefined): OptionRow | undefined {
  const last = before.at(-1);
  const rows = { ...verb?.options, ...EVERYWHERE, ...COPYING };
  return Object.entries(rows).find(
    ([name, row]) => last === `--${name}` || (row.alias !== undefined && last === `-${row.alias}`),
  )?.[1];
}

function optionNames(rows: OptionRows): Candidate[] {
  return [...Object.entries(rows), ['help', { describe: 'Show help' }] as const].map(
    ([name, row]) => [`--${name}`, row.describe],
  );
}

async function valuesOf(row: OptionRow, before: readonly string[], env: CliEnvironment) {
  if (row.completes === 'folder') return [FILES];
  return row.completes === 'class' ? classNames(before, env) : [];
}

async function classNames(before: readonly string[], env: CliEnvironment): Promise<Candidate[]> {
  const names = await env.engine.listClasses(engineOptions(before, env));
  return names.map((name) => [name, 'class']);
}

async function argumentsOf(verb: Verb, before: readonly string[], env: CliEnvironment) {
  const given = positionals(before, verb);
  const kinds = verb.completes[Math.min(given.length, verb.completes.length - 1)] ?? [];
  const found: Candidate[] = [];
  for (const kind of kinds) found.push(...(await ofKind(kind, before, env)));
  // What is there already is not offered again; a flag for files is no name.
  return found.filter((c) => c === FILES || !given.includes(c[0]));
}

async function ofKind(kind: Completes, before: readonly string[], env: CliEnvironment) {
  if (kind === 'image') return [FILES];
  if (kind === 'verb') return VERBS.map((v): Candidate => [v.name, v.summary]);
  if (typeof kind !== 'string') return kind.map((word): Candidate => [word, '']);
  return volumeNames(before, env, kind === 'proxy');
}

async function volumeNames(before: readonly string[], env: CliEnvironment, proxies: boolean) {
  // In a folder without the class there is still the rest to complete.
  const info: ClassInfo | undefined = await env.engine
    .readClass(valueAfter(before, 'class', 'c') ?? DEFAULT_CLASS, engineOptions(before, env))
    .catch(() => undefined);
  return (info?.volumes ?? [])
    .filter((v) => !proxies || v.role === 'proxy')
    .map((v): Candidate => [v.name, `${v.role ?? 'volume'}, ${v.status}`]);
}

/** The arguments after the verb that are neither options nor their values. */
function positionals(before: readonly string[], verb: Verb): string[] {
  const { after } = splitVerb(before);
  return after.filter((word, i) => {
    if (word.startsWith('-')) return false;
    return optionBefore(after.slice(0, i), verb)?.value === undefined;
  });
}

async function sdxCandidates(
  operations: readonly string[],
  before: readonly string[],
  env: CliEnvironment,
): Promise<Candidate[]> {
  const last = before.at(-1);
  if (last === '-c') return classNames(before, env);
  if (last === '-m' || last === '-v') return volumeNames(before, env, false);
  if (last === '-p')
    return volumeNames(before, env, true).then(async (proxies) =>
      proxies.length > 0 ? proxies : volumeNames(before, env, false),
    );
  const begun = splitVerb(before).after.length > 0;
  return begun ? [] : operations.map((word) => [word, '']);
}

function engineOptions(before: readonly string[], env: CliEnvironment): EngineOptions {
  const kernel = resolveKernel(env);
  const home = resolveHome(valueAfter(before, 'home'), env);
  return { home, ...(kernel === undefined ? {} : { kernel }) };
}

function valueAfter(words: readonly string[], name: string, alias?: string): string | undefined {
  const at = words.findIndex((w) => w === `--${name}` || (alias && w === `-${alias}`));
  if (at >= 0) return words[at + 1];
  const joined = words.find((w) => w.startsWith(`--${name}=`));
  return joined?.slice(name.length + 3);
}
