/** A server that is watched: what curl reads on the control socket, and what stands in the log. */

import fs from 'node:fs';
import net from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { cases, run, tell } from '../interop/support.ts';
import { type Scraped, sampleOf, scrape } from '../support/exposition.ts';
import { RUNTIMES } from '../support/runtimes.ts';
import { inWorld, Running, randomBytes, sleep, until, type World } from '../support/world.ts';
import { NbdClient, type Server, serve } from './serve-support.ts';

const test = suite('a server that is watched');
const check = cases(test, 'a server that is watched');
const MIB = 1024 * 1024;
const SIZE = 8 * MIB;
const REGION = 64 * 1024;

/** GET on the control socket, without any program. */
async function get(w: World, path: string): Promise<{ status: number; body: string }> {
  const socket = net.connect(w.path('home', 'control.sock'));
  let said = '';
  socket.on('data', (bytes) => {
    said += bytes;
  });
  socket.write(`GET ${path} HTTP/1.1\r\nHost: kage\r\n\r\n`);
  await new Promise((resolve, reject) => socket.once('end', resolve).once('error', reject));
  const [, status, body] = /^HTTP\/1\.1 (\d+) [\s\S]*?\r\n\r\n([\s\S]*)$/.exec(said) ?? [];
  return { status: Number(status), body };
}

async function metrics(w: World): Promise<readonly Scraped[]> {
  return scrape((await get(w, '/metrics')).body);
}

/** The objects of a log that is JSON, without their times. */
// biome-ignore lint/suspicious/noExplicitAny: the fields of any event
function logOf(server: Server): any[] {
  return server.process.stderr
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const { time, ...event } = JSON.parse(line);
      assert.match(time, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
      return event;
    });
}

async function partedPair(w: World): Promise<void> {
  w.image('vm.img', SIZE);
  await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
  await w.ok(['part', 'vm-proxy']);
}

for (const { name, command } of RUNTIMES) {
  check(['curl', 'nbdinfo', 'nbdcopy'], `what curl reads, on ${name}`, async (w) => {
    await partedPair(w);
    const server = await serve(w, [], command);
    const at = (path: string) => [
      ...['--silent', '--show-error', '--max-time', '20'],
      ...['--unix-socket', w.path('home', 'control.sock'), `http://kage/${path}`],
    ];
    assert.is(await run('curl', '--fail', ...at('healthz')), 'ok\n');
    const head = await run('curl', '--head', ...at('metrics'));
    assert.match(head, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(head, /\r\nContent-Type: text\/plain; version=0\.0\.4; charset=utf-8\r\n/);
    assert.is((await tell('curl', '--fail', ...at('nothing'))).status, 22);
    assert.match(
      await run('curl', '--include', '--data', 'x', ...at('metrics')),
      /^HTTP\/1\.1 405 /,
    );

    fs.writeFileSync(w.path('content'), randomBytes(SIZE, 7));
    await run('nbdcopy', '--flush', w.path('content'), server.uri('default/vm'));
    const samples = scrape(await run('curl', '--fail', ...at('metrics')));
    assert.is(sampleOf(samples, 'kage_nbd_bytes_total', { command: 'write' }), SIZE);
    assert.is(sampleOf(samples, 'kage_pair_changed_bytes', { proxy: 'vm-proxy' }), SIZE);
    assert.is(sampleOf(samples, 'kage_pair_state', { state: 'parted' }), 1);
    const age = sampleOf(samples, 'kage_proxy_age_seconds', { master: 'vm' })!;
    assert.ok(age > 0 && age < 600, `${age}`);
    const latency = { command: 'write', le: '+Inf' };
    const count = sampleOf(samples, 'kage_nbd_request_duration_seconds_bucket', latency)!;
    assert.ok(count > 0);
    assert.is(sampleOf(samples, 'kage_nbd_requests_total', { command: 'write' }), count);
    await server.stop();
  });
}

test('a scrape waits neither for a copy nor for verify', () =>
  inWorld(async (w) => {
    w.image('vm.img', SIZE);
    const server = await serve(w);
    const [master, proxy] = [w.path('vm.img'), w.path('vm.proxy.img')];
    await w.run(['join', master, proxy, '--rate', '1M', '--no-wait']);
    await until('the copy has come somewhere', () =>
      /vm -> vm-proxy: full copy of 8 MiB begins/.test(server.process.stderr),
    );
    let done = 0;
    while (done === 0) {
      const samples = await metrics(w);
      assert.is(sampleOf(samples, 'kage_pair_copy_running'), 1);
      assert.is(sampleOf(samples, 'kage_pair_copy_total_bytes'), SIZE);
      assert.is(sampleOf(samples, 'kage_pair_state', { state: 'joining' }), 1);
      done = sampleOf(samples, 'kage_pair_copy_done_bytes')!;
    }
    await w.ok(['join', 'vm', 'vm-proxy']);
    const verifying = w.start(['verify', 'vm-proxy', '--rate', '2M', '--json']);
    await sleep(500);
    const samples = await metrics(w);
    assert.is(sampleOf(samples, 'kage_pair_copy_running'), 0);
    const copies = (result: string) =>
      sampleOf(samples, 'kage_pair_copies_total', { method: 'full', result });
    assert.equal([copies('done'), copies('stopped'), copies('failed')], [1, 1, 0]);
    const whole = { method: 'full', proxy: 'vm-proxy' };
    assert.is(sampleOf(samples, 'kage_pair_last_whole_copy_info', whole), 1);
    assert.is(verifying.child.exitCode, null, 'it runs still');
    // So do verbs.
    await w.ok(['part', 'vm-proxy']);
    assert.is(verifying.child.exitCode, null);
    const { stdout, status } = await verifying.ended;
    assert.is(status, 0);
    assert.is(JSON.parse(stdout).pairs[0].unexpected, 0);
    await server.stop();
  }));

check(
  ['nbdsh', 'nbdinfo'],
  'verify beside a writer finds what a stranger did, no more',
  async (w) => {
    w.image('vm.img', SIZE);
    await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
    const server = await serve(w);
    const client = new NbdClient(w, server.uri('default/vm'));
    let rounds = 0;
    let stop = false;
    const writer = (async () => {
      for (; !stop; rounds++) await client.fill('ab'[rounds % 2], (rounds % 100) * REGION, REGION);
    })();
    const verify = () => w.run(['verify', 'vm-proxy', '--rate', '8M', '--json']);
    const clean = verify();
    // A new client is let in meanwhile.
    assert.is((await run('nbdinfo', '--size', server.uri('default/vm'))).trim(), `${SIZE}`);
    const first = await clean;
    assert.is(first.status, 0, first.stdout);
    const [pair] = JSON.parse(first.stdout).pairs;
    assert.equal([pair.unexpected, pair.masterHash, pair.proxyHash], [0, null, null]);
    assert.ok(rounds > 1);
    w.scribble('vm.proxy.img', 120 * REGION + 5, 'a stranger was here');
    const second = await verify();
    assert.is(second.status, 4, second.stdout);
    assert.is(JSON.parse(second.stdout).pairs[0].unexpected, 1);
    stop = true;
    await writer;
    await client.close();
    assert.is(sampleOf(await metrics(w), 'kage_pair_doubtful'), 1);
    assert.match(
      server.process.stderr,
      /FAILED: vm-proxy: 1 region that was believed equal differs/,
    );
    server.process.child.kill('SIGTERM');
    assert.is((await server.process.ended).status, 0);
  },
);

check(['qemu-io', 'nbdinfo'], 'the log, as JSON, has a line for all of it', async (w) => {
  await partedPair(w);
  const server = await serve(w, ['--json']);
  const vm = server.uri('default/vm');
  await run('qemu-io', '-f', 'raw', '-c', 'write 1M 64k', '-c', 'flush', vm);
  assert.is((await tell('nbdinfo', '--size', server.uri('default/none'))).status, 1);
  assert.is((await w.run(['rejoin', 'vm-proxy', '--no-wait'])).status, 0);
  await until('the copy has ended', () => /"phase":"end"/.test(server.process.stderr));
  const log = logOf(server);
  const of = (event: string) => log.filter((line) => line.event === event);
  assert.equal(of('class')[0], {
    ...{ event: 'class', class: 'default', text: 'open, 2 volumes', failed: false },
  });
  const clients = of('client').map(({ phase, peer, tls, export: name, reason }) => [
    ...[phase, peer, tls, name, reason],
  ]);
  assert.equal(clients.slice(0, 2), [
    ['connected', 'unix', false, 'default/vm', null],
    ['disconnected', 'unix', false, 'default/vm', null],
  ]);
  assert.ok(
    clients.some(([phase, , , name, reason]) => {
      return phase === 'refused' && name === 'default/none' && reason === 'no export of that name';
    }),
    JSON.stringify(clients),
  );
  const [begun, ended] = of('copy');
  assert.equal(
    [begun.phase, begun.verb, begun.method, begun.direction, begun.totalBytes],
    ['begin', 'rejoin', 'differential', 'toProxy', REGION],
  );
  assert.equal(
    [ended.phase, ended.result, ended.bytesWritten, ended.error, ended.failed],
    ['end', 'done', REGION, null, false],
  );
  assert.equal(of('call')[0], {
    ...{ event: 'call', class: 'default', verb: 'rejoin', text: 'rejoin vm-proxy', failed: false },
  });
  server.process.child.kill('SIGTERM');
  assert.is((await server.process.ended).status, 0);
});

check(
  ['nbdkit', 'nbdsh'],
  'a proxy that is lost under a client, and a copy that fails later',
  async (w) => {
    w.image('vm.img', SIZE);
    fs.writeFileSync(w.path('store.img'), '');
    fs.truncateSync(w.path('store.img'), SIZE);
    const socket = w.path('store.sock');
    const kit = () => {
      const words = ['nbdkit', '-f', '-U', socket, '--filter=error', 'file', w.path('store.img')];
      const more = ['error-pwrite-rate=100%', `error-file=${w.path('fail')}`];
      const running = new Running([...words, ...more], process.env, '');
      w.atEnd(() => running.child.kill('SIGKILL'));
      return running;
    };
    kit();
    await until('the store is there', () => fs.existsSync(socket));
    const server = await serve(w);
    const proxy = `nbd+unix:///?socket=${socket}`;
    await w.ok(['join', w.path('vm.img'), proxy]);
    const [{ proxy: name }] = (await w.info()).pairs;
    const client = new NbdClient(w, server.uri('default/vm'));
    fs.writeFileSync(w.path('fail'), '');
    await client.fill('x', MIB, REGION);
    await until('it is in the log', () =>
      new RegExp(`default: FAILED: ${name} is INVALID: writing to it failed`).test(
        server.process.stderr,
      ),
    );
    const health = await get(w, '/healthz');
    assert.is(health.status, 200);
    assert.match(health.body, new RegExp(`^ok\nwarning: default/${name} is INVALID: `));
    const samples = await metrics(w);
    assert.is(sampleOf(samples, 'kage_volume_status', { volume: name, status: 'INVALID' }), 1);
    assert.is(sampleOf(samples, 'kage_pair_state', { state: 'invalid' }), 1);

    const begun = await w.run(['rejoin', name, '--no-wait']);
    assert.is(begun.status, 0, begun.stderr);
    await until('the copy that nobody waits for is FAILED, with its reason', () =>
      /default: FAILED: vm -> \S+: \w+ copy failed: .*store\.sock/.test(server.process.stderr),
    );
    fs.rmSync(w.path('fail'));
    await w.ok(['rejoin', name]);
    assert.is((await get(w, '/healthz')).body, 'ok\n');
    await client.close();
    server.process.child.kill('SIGTERM');
    assert.is((await server.process.ended).status, 0);
    assert.is(w.hash('store.img'), w.hash('vm.img'));
  },
);

test('a class that somebody else has open is unhealthy', () =>
  inWorld(async (w) => {
    await partedPair(w);
    await w.engine(async () => {
      const server = await serve(w);
      const { status, body } = await get(w, '/healthz');
      assert.is(status, 503);
      assert.match(body, /^class default is not served: /);
      assert.is(sampleOf(await metrics(w), 'kage_class_open', { class: 'default' }), 0);
      server.process.child.kill('SIGTERM');
      assert.is((await server.process.ended).status, 0);
    });
    const server = await serve(w);
    assert.equal(await get(w, '/healthz'), { status: 200, body: 'ok\n' });
    await server.stop();
  }));

test.run();
