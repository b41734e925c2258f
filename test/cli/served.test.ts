/** What a server changes for the other commands: who waits, what they say, which class is asked. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { PairReport } from '../../src/engine/api.ts';
import { classInfo, world } from './fake.ts';

const test = suite('cli with a server');

/** Whether the verb, not its dry run before, was told not to wait. */
async function waits(served: boolean, line: string, verb: string): Promise<boolean | undefined> {
  const w = world({ served });
  assert.is(await w.run(...line.split(' ')), 0, w.err());
  return (w.last(verb)!.at(-1) as { wait?: boolean }).wait;
}

const ROWS: readonly (readonly [line: string, verb: string, wait: boolean | undefined])[] = [
  ['join vm vm-proxy', 'join', undefined],
  ['join vm vm-proxy --no-wait', 'join', false],
  ['rejoin vm-proxy', 'rejoin', undefined],
  ['rejoin vm-proxy --no-wait', 'rejoin', false],
  ['update vm-proxy', 'update', undefined],
  ['update vm-proxy --instant', 'update', false],
  ['update vm-proxy --no-wait', 'update', false],
  ['restore vm-proxy --keep', 'restore', undefined],
  ['restore vm-proxy --live --instant', 'restore', false],
  ['restore vm-proxy --no-wait', 'restore', false],
  ['part vm-proxy', 'part', undefined],
  ['part vm-proxy --instant', 'part', false],
  ['sdxproxy Join -c default -m vm -p vm-proxy', 'join', false],
  ['sdxproxy Join -c default -m vm -p vm-proxy -e waitsync', 'join', undefined],
  ['sdxproxy Rejoin -c default -p vm-proxy', 'rejoin', false],
  ['sdxproxy Update -c default -p vm-proxy', 'update', undefined],
  ['sdxproxy Update -c default -p vm-proxy -e nowaitsync', 'update', false],
  ['sdxproxy Restore -c default -p vm-proxy -e instant', 'restore', false],
];

for (const [line, verb, wait] of ROWS) {
  test(`${line}: ${wait === false ? 'comes back at once' : 'waits'}`, async () => {
    assert.is(await waits(true, line, verb), wait);
    if (!line.includes('--no-wait')) assert.is(await waits(false, line, verb), undefined);
  });
}

test('serve is told of the folder of devices', async () => {
  const stop = AbortSignal.abort();
  const w = world({ signal: stop });
  await w.run('serve', '--devices', '/dev/sfdsk');
  assert.is((w.last('start')![0] as { devices?: string }).devices, '/dev/sfdsk');
});

test('the dry run before a verb that overwrites is waited for', async () => {
  const w = world({ served: true });
  await w.run('rejoin', 'vm-proxy', '--no-wait');
  const [dry, real] = w.calls.filter((call) => call.name === 'rejoin');
  assert.equal(dry.args[1], { dryRun: true });
  assert.equal(real.args[1], { dryRun: false, wait: false });
});

test('--live reaches the engine', async () => {
  const w = world();
  await w.run('restore', 'vm-proxy', '--live');
  assert.is((w.last('restore')![1] as { live?: boolean }).live, true);
});

test('a copy that goes on is told as such', async () => {
  const going = (verb: string, state: PairReport['state']) => (_refs: unknown, how: object) => ({
    verb,
    class: 'default',
    dryRun: (how as { dryRun: boolean }).dryRun,
    pairs: [{ master: 'vm', proxy: 'vm-proxy', state, notes: [] }],
  });
  const w = world({ served: true, on: { restore: going('restore', 'restoring') } });
  await w.run('restore', 'vm-proxy', '--instant');
  assert.is(w.out(), 'vm: being restored from vm-proxy; see `kage info`\n');
  const sdx = world({ served: true, on: { rejoin: going('rejoin', 'joining') } });
  await sdx.run('sdxproxy', 'Rejoin', '-c', 'default', '-p', 'vm-proxy');
  assert.is(sdx.out(), 'INFO: vm-proxy: copying started\nINFO: vm-proxy: joined to vm again\n');
});

test('info names a server as one', async () => {
  const since = Date.UTC(2026, 0, 31);
  for (const [command, word] of [
    ['kage serve', 'served'],
    ['kage join serve x', 'open'],
  ] as const) {
    const w = world({ classes: [classInfo({ holder: { pid: 7, command, since } })] });
    await w.run('info');
    assert.match(w.out(), new RegExp(`^  ${word} since 2026-01-31 00:00:00 UTC by process 7`, 'm'));
  }
});

test('serve hands on what it was given, and says ready', async () => {
  const stop = new AbortController();
  const w = world({ signal: stop.signal, on: { start: () => setTimeout(() => stop.abort(), 5) } });
  const words = '-c a -c b --nbd unix:/x/n.sock --nbd tcp:[::1]:0'.split(' ');
  assert.is(await w.run('serve', ...words), 0, w.err());
  assert.is(w.out(), 'ready nbd://there\n');
  assert.equal(w.last('start'), [
    {
      home: '/state',
      command: 'kage serve',
      classes: ['a', 'b'],
      places: [
        { kind: 'unix', path: '/x/n.sock' },
        { kind: 'tcp', host: '[::1]', port: 0 },
      ],
    },
  ]);
});

test('serve hands on what is said of TLS', async () => {
  const started = async (line: string) => {
    const stop = new AbortController();
    const w = world({
      signal: stop.signal,
      on: { start: () => setTimeout(() => stop.abort(), 5) },
    });
    assert.is(await w.run('serve', '--nbd', 'tcp:0.0.0.0:1', ...line.split(' ')), 0, w.err());
    const { tls, insecure } = w.last('start')![0] as { tls?: object; insecure?: boolean };
    return { tls, insecure };
  };
  const certificate = { cert: 'c', key: 'k' };
  const words = '--tls-cert c --tls-key k';
  assert.equal(await started(words), { tls: { certificate }, insecure: undefined });
  assert.equal(await started(`${words} --tls-client-ca a --tls-psk p`), {
    tls: { certificate: { ...certificate, clientCa: 'a' }, psk: 'p' },
    insecure: undefined,
  });
  assert.equal(await started('--tls-psk p'), { tls: { psk: 'p' }, insecure: undefined });
  assert.equal(await started('--insecure-tcp'), { tls: undefined, insecure: true });
});

test('sockets that were handed over are places, for the process that is meant', async () => {
  const serve = async (env: Record<string, string>, ...words: string[]) => {
    const stop = new AbortController();
    const on = { start: () => setTimeout(() => stop.abort(), 5) };
    const w = world({ signal: stop.signal, env, on });
    const status = await w.run('serve', ...words);
    return { status, w, places: (w.last('start')?.[0] as { places?: unknown })?.places };
  };
  const fds = { LISTEN_FDS: '2', LISTEN_PID: '77' };
  const { places, w } = await serve(fds, '--nbd', 'fd:9');
  assert.equal(places, [
    { kind: 'fd', fd: 3 },
    { kind: 'fd', fd: 4 },
    { kind: 'fd', fd: 9 },
  ]);
  assert.equal([w.out(), w.err()], ['', '']);
  const other = await serve({ ...fds, LISTEN_PID: '78' });
  assert.is(other.places, undefined);
  assert.is(other.w.out(), 'ready nbd://there\n');
  const wrong = await serve({ ...fds, LISTEN_FDS: 'two' });
  assert.equal([wrong.status, wrong.places], [2, undefined]);
});

test.run();
