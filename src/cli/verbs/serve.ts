/** `kage serve`: keeps classes open, exports their volumes over NBD, answers the other commands. */

import { KageError } from '../../base/errors.ts';
import type { Place, ServeOptions } from '../../serve/serve.ts';
import type { CliEnvironment } from '../environment.ts';
import { type Args, DEVICES, isSet, listOf, SERVER, textOf } from '../options.ts';
import { logEvent } from '../serve-log.ts';
import type { Session } from '../session.ts';
import type { Verb } from './verb.ts';

/** A larger number of sockets is a mistake. */
const INHERITED_MAX = 64;

export const serve: Verb = {
  name: 'serve',
  group: 'server',
  takes: '',
  summary: 'Export started volumes over NBD, copy in the background, answer the other commands',
  details:
    'Runs until SIGTERM or Ctrl-C. Each started volume is the NBD export CLASS/VOLUME; what its ' +
    'clients write is tracked. While it runs, the other commands work through it, also while ' +
    'clients are connected. A line that begins with `ready` on standard output has the URIs.',
  arguments: {},
  options: {
    class: {
      alias: 'c',
      value: 'CLASS',
      several: true,
      completes: 'class',
      describe: 'Serve only this class (default: all, also new ones)',
    },
    nbd: {
      value: 'PLACE',
      several: true,
      describe:
        'unix:PATH, tcp:HOST:PORT, or fd:N, a socket handed over (default: what LISTEN_FDS says, ' +
        'else nbd.sock in the state folder)',
    },
    'tls-cert': {
      value: 'FILE',
      completes: 'folder',
      describe: 'Certificate of this server, PEM: clients over TCP have to use TLS',
    },
    'tls-key': { value: 'FILE', completes: 'folder', describe: 'Its private key, PEM' },
    'tls-client-ca': {
      value: 'FILE',
      completes: 'folder',
      describe: 'Clients have to show a certificate that this authority has signed',
    },
    'tls-psk': {
      value: 'FILE',
      completes: 'folder',
      describe: 'TLS with pre-shared keys, a line IDENTITY:HEX each (on Node)',
    },
    'insecure-tcp': {
      describe:
        'TCP beyond this machine without TLS: whoever reaches the port reads and writes all ' +
        'volumes, and whoever is between reads along',
    },
    ...DEVICES,
  },
  examples: [
    ['kage serve', 'all classes, on nbd.sock and control.sock in the state folder'],
    ['kage serve -c db --nbd tcp:127.0.0.1:10809', 'one class, on a port of this machine'],
    [
      'kage serve --nbd tcp:0.0.0.0:10809 --tls-cert cert.pem --tls-key key.pem --tls-client-ca ca.pem',
      'for other machines that have a certificate',
    ],
    ['kage serve --devices /dev/sfdsk', 'for `mount`, `dd`, `fsck` (as root)'],
    ['nbdinfo --list "nbd+unix:///?socket=$KAGE_HOME/nbd.sock"', 'what is exported'],
  ],
  completes: [[]],

  async run(args, session) {
    const { env, printer, dryRun } = session;
    const inherited = inheritedPlaces(env);
    const places = [...inherited, ...listOf(args, 'nbd').map(placeOf)];
    const classes = listOf(args, 'class');
    const safety = safetyOf(args, places);
    const devices = textOf(args, 'devices');
    if (dryRun) {
      throw new KageError('usage', 'serve has nothing to try: --dry-run does not go with it');
    }
    if (env.server === undefined) throw new KageError('not-permitted', 'no server can be had here');
    const server = await env.server.start({
      ...session.engineOptions,
      command: SERVER,
      ...(classes.length === 0 ? {} : { classes }),
      ...(places.length === 0 ? {} : { places }),
      ...safety,
      ...(devices === undefined ? {} : { devices }),
      log: (event) => logEvent(event, printer, SERVER),
    });
    try {
      // Whoever made the sockets needs no sign, and its own output may be the same stream.
      if (inherited.length === 0) await env.stdout.write(`ready ${server.uris.join(' ')}\n`);
      await interrupted(session);
    } finally {
      await server.stop();
    }
    return undefined;
  },
};

/** What the options say of TLS, if they go together. */
function safetyOf(args: Args, places: readonly Place[]): Pick<ServeOptions, 'tls' | 'insecure'> {
  const [cert, key, clientCa, psk] = ['tls-cert', 'tls-key', 'tls-client-ca', 'tls-psk'].map(
    (name) => textOf(args, name),
  );
  const insecure = isSet(args, 'insecure-tcp');
  const wrong = (text: string, hint?: string) => new KageError('usage', text, { hint });
  if ((cert === undefined) !== (key === undefined)) {
    throw wrong('--tls-cert and --tls-key go together');
  }
  if (clientCa !== undefined && cert === undefined) {
    throw wrong('--tls-client-ca needs --tls-cert and --tls-key');
  }
  if (cert === undefined && psk === undefined) return insecure ? { insecure } : {};
  if (insecure) throw wrong('--insecure-tcp is for TCP without TLS: leave one of them out');
  if (places.every((place) => place.kind === 'unix')) {
    throw wrong('TLS is for TCP, and there is none here', 'add --nbd tcp:HOST:PORT');
  }
  const certificate =
    cert === undefined || key === undefined
      ? undefined
      : { cert, key, ...(clientCa === undefined ? {} : { clientCa }) };
  return {
    tls: { ...(certificate && { certificate }), ...(psk === undefined ? {} : { psk }) },
  };
}

/** Sockets by the convention of systemd: the first is descriptor 3. Of another process: none. */
function inheritedPlaces(env: CliEnvironment): Place[] {
  if (env.env('LISTEN_PID') !== String(env.processId)) return [];
  const count = Number(env.env('LISTEN_FDS') ?? 0);
  if (!Number.isInteger(count) || count < 0 || count > INHERITED_MAX) {
    throw new KageError('usage', `LISTEN_FDS is ${count}: no number of sockets`);
  }
  return Array.from({ length: count }, (_, i) => ({ kind: 'fd', fd: 3 + i }) as const);
}

/** `unix:PATH`, `tcp:HOST:PORT` (a port of 0 is any free one) or `fd:N`. */
function placeOf(text: string): Place {
  const [, path] = /^unix:(.+)$/.exec(text) ?? [];
  if (path !== undefined) return { kind: 'unix', path };
  const [, fd] = /^fd:(\d{1,4})$/.exec(text) ?? [];
  if (fd !== undefined && Number(fd) > 2) return { kind: 'fd', fd: Number(fd) };
  const [, host, digits] = /^tcp:(.+):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (host !== undefined && port <= 65_535) return { kind: 'tcp', host, port };
  throw new KageError('usage', `--nbd ${text}: no place to listen`, {
    hint: 'unix:PATH, tcp:HOST:PORT with a port from 0 to 65535, or fd:N with N from 3 on',
  });
}

function interrupted({ env }: Session): Promise<void> {
  return new Promise((resolve) => {
    if (env.signal.aborted) resolve();
    env.signal.addEventListener('abort', () => resolve());
  });
}
