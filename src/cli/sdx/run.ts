/** Runs a command of the manual: `sdxproxy Join …`, by that name or as `kage sdxproxy Join …`. */

import { EXIT } from '../../base/errors.ts';
import { nearest } from '../../base/units.ts';
import type { CliEnvironment } from '../environment.ts';
import { Printer } from '../print.ts';
import { Session } from '../session.ts';
import { LATER_COMMANDS, SDX_COMMANDS, type SdxCommand } from './commands.ts';
import { notInThisVersion } from './effects.ts';
import { parseSdx, sdxUsage } from './getopt.ts';
import { line, objectOf } from './report.ts';

export function isSdx(word: string | undefined): word is string {
  return word?.startsWith('sdx') === true;
}

/** Never throws; gives the exit status. */
export async function runSdx(
  name: string,
  argv: readonly string[],
  env: CliEnvironment,
): Promise<number> {
  const has = (option: string) => argv.includes(`--${option}`);
  const printer = new Printer(env, {
    json: has('json'),
    quiet: has('quiet'),
    verbose: has('verbose'),
  });
  try {
    const command = commandOf(name);
    if (has('help')) {
      await printer.data({ help: command.usage.join('\n') }, helpLines(command));
      return EXIT.done;
    }
    const words = parseSdx(name, argv, command);
    const session = new Session(env, printer, words.args, [name, ...argv].join(' '));
    return (await command.run(words, session)) ?? EXIT.done;
  } catch (error) {
    return printer.error(error, (text) => line('ERROR', objectOf(error, name), text));
  }
}

function commandOf(name: string): SdxCommand {
  const command = SDX_COMMANDS.find((c) => c.name === name);
  if (command) return command;
  if (Object.hasOwn(LATER_COMMANDS, name)) throw notInThisVersion(LATER_COMMANDS[name]);
  const near = nearest(
    name,
    SDX_COMMANDS.map((c) => c.name),
  );
  throw sdxUsage(near ?? 'kage', `there is no command ${name}`);
}

function helpLines(command: SdxCommand): string[] {
  return [
    ...command.usage,
    '',
    `${command.summary}.`,
    'Also: --home DIR, --json, --dry-run, --quiet, --verbose, --rate SIZE, --compare,',
    '--differential-only, as `kage --help` explains them.',
  ];
}
