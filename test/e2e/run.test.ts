/** `kage run`: what the command finds, how it ends, and what is left behind. */

import fs from 'node:fs';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { cases } from '../interop/support.ts';
import { RUNTIMES } from '../support/runtimes.ts';
import { BUNDLE, inWorld, NODE, type Runtime, until, type World } from '../support/world.ts';
import { NbdClient, serve } from './serve-support.ts';

const test = suite('run');
const check = cases(test, 'run');
const SIZE = 2 * 1024 * 1024;

/** `kage` for scripts of a case. */
const KAGE = `${process.execPath} ${BUNDLE}`;

/** Runs a script of the shell in `kage run`. */
function script(w: World, words: readonly string[], text: string, runtime: Runtime = NODE) {
  const env = { ...process.env, KAGE_HOME: w.home };
  return w.start(['run', ...words, '--', 'sh', '-c', text], { runtime, env });
}

async function statusOf(w: World, name: string): Promise<string | undefined> {
  return (await w.info()).volumes.find((v) => v.name === name)?.status;
}

for (const { name, command } of RUNTIMES) {
  test(`it ends as its command does: ${name}`, () =>
    inWorld(async (w) => {
      w.image('vm.img', SIZE);
      await w.ok(['add', w.path('vm.img')]);
      fs.writeFileSync(w.path('text'), 'no program');
      const rows: readonly (readonly [words: readonly string[], status: number, out: string])[] = [
        [['sh', '-c', 'echo "$1" --json; exit 7', 'sh', '-c'], 7, '-c --json\n'],
        [['sh', '-c', 'kill -9 $$'], 137, ''],
        [['no-such-command'], 127, ''],
        [[w.path('text')], 126, ''],
      ];
      for (const [words, status, stdout] of rows) {
        const ended = await w.run(['run', 'vm', '--', ...words], { runtime: command });
        assert.equal([ended.status, ended.stdout], [status, stdout], ended.stderr);
        assert.is(ended.stderr === '', status === 7 || status === 137, ended.stderr);
      }
      const input = await w.run(['run', 'vm', '--', 'cat'], { runtime: command, input: 'given' });
      assert.equal([input.status, input.stdout], [0, 'given']);
    }));

  test(`signals go to the command, and it is waited for: ${name}`, () =>
    inWorld(async (w) => {
      w.image('vm.img', SIZE);
      await w.ok(['add', w.path('vm.img')]);
      for (const signal of ['TERM', 'INT'] as const) {
        const trap = `trap 'echo got; exit 5' ${signal}; echo here; while :; do sleep 0.1; done`;
        const running = w.start(['run', 'vm', '--', 'bash', '-c', trap], { runtime: command });
        w.atEnd(() => running.child.kill('SIGKILL'));
        await until('the command runs', () => running.stdout === 'here\n');
        running.child.kill(`SIG${signal}`);
        const { status, stdout, stderr } = await running.ended;
        assert.equal([status, stdout, stderr], [5, 'here\ngot\n', ''], signal);
      }
    }));
}

check(['nbdcopy'], 'the command reads and writes its volumes, and only those', async (w) => {
  for (const [i, name] of ['a-1.img', 'b.img', 'c.img'].entries()) w.image(name, SIZE, i + 1);
  await w.ok(['add', ...['a-1', 'b', 'c'].map((name) => w.path(`${name}.img`))]);
  await w.ok(['stop', 'b']);
  const content = w.image('content', SIZE, 9);
  const text = `
    test "$KAGE_URI" = "$KAGE_URI_A_1" || exit 90
    test "$KAGE_HOME" = '${w.home}' || exit 91
    nbdcopy --flush '${content}' "$KAGE_URI_B" || exit 92
    nbdcopy "$KAGE_URI_A_1" '${w.path('out')}' || exit 93
    nbdcopy "$(echo "$KAGE_URI" | sed s,/a-1,/c,)" - > /dev/null 2>&1 && exit 94
    ${KAGE} join b '${w.path('b.proxy.img')}' -q && ${KAGE} part b-proxy -q || exit 95
    echo "$KAGE_URI_B"`;
  const { status, stdout, stderr } = await script(w, ['a-1', w.path('b.img')], text).ended;
  assert.is(status, 0, `${status} ${stderr}`);
  assert.is(w.hash('b.img'), w.hash('content'), 'written');
  assert.is(w.hash('b.proxy.img'), w.hash('content'), 'a snapshot by a command within');
  assert.is(w.hash('out'), w.hash('a-1.img'), 'read');
  const socket = /socket=(.*)$/.exec(stdout.trim())![1];
  assert.not.ok(fs.existsSync(path.dirname(socket)), 'the folder of the socket is gone');
  assert.not.ok(fs.existsSync(w.path('home', 'control.sock')));
  assert.is(await statusOf(w, 'b'), 'STOP', 'as it was before');
  assert.is(await statusOf(w, 'a-1'), 'ACTIVE');
  assert.is((await w.info()).holder, null);
});

check(['nbdsh'], 'a living server is used, whatever it serves beside', async (w) => {
  for (const [i, name] of ['a.img', 'b.img'].entries()) w.image(name, SIZE, i + 1);
  await w.ok(['add', w.path('a.img'), w.path('b.img')]);
  await w.ok(['stop', 'b']);
  const server = await serve(w);
  const text = `nbdinfo --size "$KAGE_URI"; echo "$KAGE_URI"; ${KAGE} stop a`;
  const { status, stdout } = await script(w, ['b'], text).ended;
  assert.is(status, 0);
  assert.equal(stdout.split('\n').slice(0, 2), [`${SIZE}`, server.uri('default/b')]);
  assert.is(await statusOf(w, 'b'), 'STOP');
  assert.is(await statusOf(w, 'a'), 'STOP', 'a command within found the server');
  // Whoever still uses it keeps it, and the command's status is not lost for that.
  const held = script(w, ['b'], `echo up; while ! test -e '${w.path('go')}'; do sleep 0.1; done`);
  await until('the command runs', () => held.stdout !== '');
  const client = new NbdClient(w, server.uri('default/b'));
  await client.fill('x', 0, 512);
  fs.writeFileSync(w.path('go'), '');
  const ended = await held.ended;
  assert.is(ended.status, 13);
  assert.match(ended.stderr, /b: is in use/);
  await client.close();
  const other = await w.run(['run', 'a', '--devices', w.path('dev'), '--', 'true']);
  assert.is(other.status, 12, other.stderr);
  assert.match(other.stderr, /its server has no devices/);
  server.process.child.kill('SIGTERM');
  assert.is((await server.process.ended).status, 0);
});

check(['qemu-io'], 'a disk is reset by what the last command changed', async (w) => {
  w.image('db.img', SIZE);
  await w.ok(['join', w.path('db.img'), w.path('db.golden.img')]);
  await w.ok(['part', 'db-golden']);
  for (const round of [1, 2]) {
    const write = `qemu-io -f raw -c 'write -P ${round} 1M 192k' -c flush "$KAGE_URI"`;
    assert.is((await script(w, ['db'], write).ended).status, 0);
    assert.is.not(w.hash('db.img'), w.hash('db.golden.img'));
    const { copy } = (await w.ok(['restore', 'db-golden', '--keep'])).pairs[0];
    assert.equal([copy.method, copy.regions], ['differential', 3], copy.reason);
    assert.is(w.hash('db.img'), w.hash('db.golden.img'));
  }
});

check(['nbdinfo'], 'a server of other classes keeps its socket', async (w) => {
  w.image('a.img', SIZE, 1);
  w.image('b.img', SIZE, 2);
  await w.ok(['add', w.path('a.img')]);
  await w.ok(['add', w.path('b.img'), '-c', 'db']);
  const server = await serve(w, ['-c', 'db']);
  const { status, stdout, stderr } = await script(w, ['a'], 'nbdinfo --size "$KAGE_URI"').ended;
  assert.equal([status, stdout], [0, `${SIZE}\n`], stderr);
  assert.is((await w.run(['stop', 'b', '-c', 'db'])).status, 0);
  assert.match(server.process.stderr, /stop b/, 'the server was asked');
  await server.stop();
});

test('what cannot be run is refused before anything is served', () =>
  inWorld(async (w) => {
    w.image('a-1.img', SIZE, 1);
    fs.copyFileSync(w.path('a-1.img'), w.path('a_1.img'));
    await w.ok(['join', w.path('a-1.img'), w.path('p.img')]);
    await w.ok(['add', w.path('a_1.img')]);
    const ran = ['--', 'touch', w.path('ran')];
    const rows: readonly (readonly [words: readonly string[], status: number, what: RegExp])[] = [
      [['a-1'], 2, /run needs -- COMMAND/],
      [['a-1', '--'], 2, /run needs -- COMMAND/],
      [ran, 2, /run needs <VOLUME/],
      [['a-1', 'nothing', ...ran], 10, /no volume nothing/],
      [[w.path('ran'), ...ran], 10, /is no image/],
      [['a-1', 'a-1', ...ran], 2, /named twice/],
      [['a-1', 'a_1', ...ran], 2, /a-1 and a_1 would both be KAGE_URI_A_1/],
      [['p', ...ran], 13, /joined proxy/],
      [['a-1', '--dry-run', ...ran], 2, /dry-run/],
      [['a-1', '--freeze', ...ran], 2, /freeze/],
    ];
    for (const [words, status, what] of rows) {
      const ended = await w.run(['run', ...words]);
      assert.is(ended.status, status, `${words}: ${ended.stderr}`);
      assert.match(ended.stderr, what);
      assert.is(ended.stdout, '');
    }
    assert.not.ok(fs.existsSync(w.path('ran')));
  }));

test.run();
