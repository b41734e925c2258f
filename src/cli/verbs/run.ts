/** `kage run`: serves volumes for as long as a command runs, and ends as that does. */

import { EXIT, KageError } from '../../base/errors.ts';
import type { Captive } from '../../serve/captive.ts';
import { DEVICES, listOf, textOf } from '../options.ts';
import { logEvent } from '../serve-log.ts';
import type { Session } from '../session.ts';
import type { Verb } from './verb.ts';

export const run: Verb = {
  name: 'run',
  group: 'server',
  takes: '<volume..>',
  command: 'COMMAND [ARG…]',
  summary: 'Serve volumes over NBD for as long as COMMAND runs, and end with its exit status',
  details:
    'COMMAND finds the URI of the first volume in KAGE_URI, that of each in KAGE_URI_NAME (upper case, ' +
    '- as _), with --devices their files in KAGE_DEVICE and KAGE_DEVICE_NAME; KAGE_HOME is set, so that ' +
    'kage commands within it find the server. A volume that is stopped is started for the time. If ' +
    '`kage serve` has the class, it is used.',
  arguments: { volume: 'Volume names or images' },
  options: DEVICES,
  examples: [
    ['kage run db -- sh -c \'nbdinfo "$KAGE_URI"\'', 'a volume for one command'],
    [
      'kage restore db-golden --keep -q && kage run db -- ./test.sh',
      'reset the disk of a test database, then test with it',
    ],
  ],
  completes: [['volume']],

  async run(args, session) {
    const command = listOf(args, 'command');
    const { env, engine, printer, engineOptions, dryRun } = session;
    if (dryRun)
      throw new KageError('usage', 'run has nothing to try: --dry-run does not go with it');
    if (env.server === undefined) throw new KageError('not-permitted', 'no server can be had here');
    const refs = listOf(args, 'volume');
    const name = await session.classOf(refs);
    const info = await engine.readClass(name, engineOptions);
    const volumes: string[] = [];
    for (const ref of refs) volumes.push((await session.volumeOf(info.volumes, ref, name)).name);
    requireDistinct(volumes);
    const devices = textOf(args, 'devices');
    const captive = await env.server.hold({
      ...engineOptions,
      command: 'kage run',
      class: name,
      volumes,
      ...(devices === undefined ? {} : { devices }),
      log: (event) => {
        if (event.failed || printer.options.verbose) logEvent(event, printer, 'kage run');
      },
    });
    let status: number;
    try {
      status = await runWith(captive, command, session);
    } catch (error) {
      await captive.close().catch(() => {});
      throw error;
    }
    try {
      await captive.close();
    } catch (error) {
      const own = await printer.error(error);
      return status === EXIT.done ? own : status;
    }
    return status;
  },
};

async function runWith(captive: Captive, command: readonly string[], session: Session) {
  const { env, printer } = session;
  if (env.signal.aborted) throw new KageError('interrupted', 'interrupted before the command ran');
  const { status, problem } = await env.execute(command, variablesOf(captive));
  if (problem !== undefined) await printer.warn(`kage: ${problem}`);
  return status;
}

function variablesOf({ home, volumes }: Captive): Record<string, string> {
  const variables: Record<string, string> = { KAGE_HOME: home };
  const set = (key: string, value: string | undefined, name: string) => {
    if (value === undefined) return;
    variables[key] ??= value;
    variables[`${key}_${suffixOf(name)}`] = value;
  };
  for (const { name, uri, device } of volumes) {
    set('KAGE_URI', uri, name);
    set('KAGE_DEVICE', device, name);
  }
  return variables;
}

/** Names of variables have no `-`, and by custom no small letters. */
function suffixOf(name: string): string {
  return name.toUpperCase().replaceAll('-', '_');
}

function requireDistinct(names: readonly string[]): void {
  names.forEach((name, i) => {
    const other = names.slice(0, i).find((n) => suffixOf(n) === suffixOf(name));
    if (other === undefined) return;
    const what = other === name ? `${name} is named twice` : `${other} and ${name} would both be`;
    const where = other === name ? '' : ` KAGE_URI_${suffixOf(name)}`;
    throw new KageError('usage', `${what}${where}`, { hint: 'name each volume once' });
  });
}
