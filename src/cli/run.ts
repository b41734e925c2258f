/** One call of the command line, from words to exit status. Never throws, never exits. */

import { EXIT } from '../base/errors.ts';
import { nearest } from '../base/units.ts';
import { parseVerb, splitVerb, usageError, verbHelp } from './arguments.ts';
import { complete } from './completion.ts';
import type { CliEnvironment } from './environment.ts';
import { exitText, helpText } from './help.ts';
import { Printer } from './print.ts';
import { SDX_COMMANDS } from './sdx/commands.ts';
import { isSdx, runSdx } from './sdx/run.ts';
import { Session } from './session.ts';
import { VERBS } from './verbs/index.ts';
import type { Verb } from './verbs/verb.ts';

/** `argv` without the runtime and the script; `sdxproxy …` when called by that name. */
export async function runCli(argv: readonly string[], env: CliEnvironment): Promise<number> {
  const { before, verb: word, after } = splitVerb(argv);
  if (isSdx(word) && after[0] !== '__complete') return runSdx(word, [...before, ...after], env);
  const printer = new Printer(env, {
    json: hasFlag(argv, '--json'),
    quiet: hasFlag(argv, '--quiet', '-q'),
    verbose: hasFlag(argv, '--verbose', '-v'),
  });
  try {
    if (isSdx(word)) return await printCandidates([word, ...after.slice(1)], env);
    if (word === '__complete') return await printCandidates(after, env);
    if (word === undefined || word === 'help') {
      return await answerWithout(before, word, after, env, printer);
    }
    const verb = VERBS.find((v) => v.name === word);
    if (verb === undefined) throw unknownVerb(word);
    const words = [...before, ...after];
    if (hasFlag(words, '--help', '-h')) return await printHelp(verb, env, printer);
    const args = await parseVerb(verb, words);
    const session = new Session(env, printer, args, ['kage', ...argv].join(' '));
    return (await verb.run(args, session)) ?? EXIT.done;
  } catch (error) {
    return printer.error(error);
  }
}

function hasFlag(argv: readonly string[], ...names: string[]): boolean {
  const end = argv.indexOf('--');
  return (end < 0 ? argv : argv.slice(0, end)).some((word) => names.includes(word));
}

/** `kage`, `kage --help`, `kage --version`, `kage help [VERB|exit]`. */
async function answerWithout(
  before: readonly string[],
  word: string | undefined,
  after: readonly string[],
  env: CliEnvironment,
  printer: Printer,
): Promise<number> {
  const topic = after.find((w) => !w.startsWith('-'));
  if (hasFlag(before, '--version')) {
    await printer.data({ version: env.version }, [`kage ${env.version}`]);
    return EXIT.done;
  }
  if (topic === 'exit') {
    await printer.data({ help: exitText() }, [exitText()]);
    return EXIT.done;
  }
  if (topic !== undefined) {
    if (SDX_COMMANDS.some((c) => c.name === topic)) return runSdx(topic, ['--help'], env);
    const verb = VERBS.find((v) => v.name === topic);
    if (verb === undefined) throw unknownVerb(topic);
    return printHelp(verb, env, printer);
  }
  if (word === undefined && !hasFlag(before, '--help', '-h')) {
    const unknown = before.find((w) => w.startsWith('-') && !isGlobal(w));
    throw usageError(unknown === undefined ? 'a verb is missing' : `unknown option ${unknown}`);
  }
  await printer.data({ help: helpText() }, [helpText()]);
  return EXIT.done;
}

function isGlobal(word: string): boolean {
  return /^(--(json|dry-run|quiet|verbose|home|class)(=.*)?|-[qvc])$/.test(word);
}

function unknownVerb(word: string) {
  const near = nearest(word, [...VERBS.map((v) => v.name), ...SDX_COMMANDS.map((c) => c.name)]);
  const guess = near === undefined ? '' : `; did you mean ${near}?`;
  return usageError(`there is no verb ${word}${guess}`);
}

async function printHelp(verb: Verb, env: CliEnvironment, printer: Printer): Promise<number> {
  const text = await verbHelp(verb, env.stdout.columns);
  await printer.data({ help: text }, [text]);
  return EXIT.done;
}

async function printCandidates(words: readonly string[], env: CliEnvironment): Promise<number> {
  const found = await complete(words, env);
  if (found.length > 0) await env.stdout.write(`${found.join('\n')}\n`);
  return EXIT.done;
}
