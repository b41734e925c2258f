/** `--freeze` and `--thaw` with the real command: each freeze has one thaw, whatever becomes of the command. */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { exists, sleep, until } from '../support/world.ts';
import { REGION, withPair } from './quiesce-support.ts';

const test = suite('quiesce');

for (const served of [true, false]) {
  const how = served ? 'with a server' : 'without a server';

  test(`${how}: the commands know what they are for, and print to standard error`, () =>
    withPair(
      async (c) => {
        const says = 'echo $KAGE_CLASS $KAGE_MASTERS $KAGE_PROXIES; pwd; echo $MINE';
        const words = ['part', 'vm-proxy', '--freeze', says, '--thaw', 'echo done', '--json'];
        const ended = await c.w.run(words, { env: { MINE: 'mine' } });
        assert.is(ended.status, 0, ended.stderr);
        const { pairs, quiesce } = JSON.parse(ended.stdout);
        assert.is(pairs[0].state, 'parted');
        assert.is(quiesce.thawError, null);
        const said = `default vm vm-proxy\n${process.cwd()}\nmine\ndone\n`;
        assert.ok(ended.stderr.replace(/^part: .*\n/gm, '') === said, ended.stderr);
        assert.match(ended.stderr, /^part: the service stood still for \d+ ms$/m);
      },
      { served },
    ));

  test(`${how}: a freeze that fails parts nothing and is thawed`, () =>
    withPair(
      async (c) => {
        const ended = await c.run(c.words('exit 3'));
        assert.is(ended.status, 1);
        assert.match(ended.stderr, /^kage: the freeze ended with status 3: exit 3;/m);
        assert.is(c.log, 'thawed\n');
        assert.is(await c.state(), 'joined');
        const nowhere = await c.run(c.words(c.w.path('absent')));
        assert.is(nowhere.status, 0, 'its last command counts');
        assert.is(c.log, 'thawed\nfrozen\nthawed\n');
      },
      { served },
    ));

  test(`${how}: commands that hang are ended with all that they started`, () =>
    withPair(
      async (c) => {
        // The group of the shell, not only the shell.
        const late = `(sleep 3; echo late >> '${c.w.path('log')}') & wait`;
        const freezing = await c.run(c.words(late, 'true', '--timeout', '0.5'));
        assert.is(freezing.status, 1);
        assert.match(freezing.stderr, /the freeze took longer than 0\.5 s and was ended/);
        assert.is(c.log, 'thawed\n');
        assert.is(await c.state(), 'joined');
        const thawing = await c.run(c.words('true', late, '--timeout', '1', '--json', '-q'));
        assert.is(thawing.status, 3);
        assert.match(thawing.stderr, /^part: THE THAW FAILED.* took longer than 1\.0 s/);
        const report = JSON.parse(thawing.stdout);
        assert.is(report.pairs[0].state, 'parted');
        assert.match(report.quiesce.thawError, /took longer/);
        assert.is(await c.state(), 'parted');
        await sleep(2500);
        assert.is(c.log, 'thawed\nfrozen\n');
      },
      { served },
    ));
}

for (const [name, apart] of [
  ['timeout', 'timeout 60'],
  ['setsid', 'setsid -w'],
] as const) {
  test(`what a freeze runs in a group of its own (${name}) is ended before the thaw`, () =>
    withPair(async (c) => {
      for (const trap of ['true', "trap '' TERM"]) {
        const late = `${trap}; echo begun >> "$0"; sleep 4; echo late >> "$0"`;
        const freeze = `${apart} sh -c '${late.replaceAll("'", "'\\''")}' '${c.w.path('log')}'`;
        const ended = await c.run(c.words(freeze, 'true', '--timeout', '0.5'));
        assert.is(ended.status, 1);
        assert.match(ended.stderr, /the freeze took longer than 0\.5 s and was ended/);
        assert.is(c.log, 'begun\nthawed\n', trap);
        await sleep(4500);
        assert.is(c.log, 'begun\nthawed\n', 'it is really over');
        fs.rmSync(c.w.path('log'));
      }
      assert.is(await c.state(), 'joined');
    }));
}

for (const [signal, served] of [
  ['SIGINT', false],
  ['SIGINT', true],
  ['SIGTERM', true],
] as const) {
  test(`${signal} during the freeze, ${served ? 'with' : 'without'} a server: thawed, then 130`, () =>
    withPair(
      async (c) => {
        const part = c.start(c.words(c.halt('halt'), 'sleep 0.3'));
        await until('the freeze runs', () => exists(c.w.path('halt')));
        part.child.kill(signal);
        const ended = await part.ended;
        assert.is(ended.status, 130, ended.stderr);
        assert.match(ended.stderr, /interrupted during the freeze/);
        assert.is(c.log, 'thawed\n');
        assert.is(await c.state(), 'joined');
      },
      { served },
    ));
}

test('an impatient second Ctrl-C is thawed, too', () =>
  withPair(async (c) => {
    // It does not end when it is told to.
    const part = c.start(c.words(`trap '' TERM; ${c.halt('halt')}`));
    await until('the freeze runs', () => exists(c.w.path('halt')));
    part.child.kill('SIGINT');
    await sleep(300);
    part.child.kill('SIGINT');
    assert.is((await part.ended).status, 130);
    assert.is(c.log, 'thawed\n');
    fs.rmSync(c.w.path('halt'));
    await sleep(300);
    assert.is(c.log, 'thawed\n', 'the freeze does not go on');
    assert.is(await c.state(), 'joined');
  }));

test('a thaw is not interrupted, and a terminal that goes away ends nothing', () =>
  withPair(
    async (c) => {
      const part = c.start(c.words(c.halt('halt'), c.halt('thaw')));
      await until('the freeze runs', () => exists(c.w.path('halt')));
      part.child.kill('SIGHUP');
      await sleep(300);
      fs.rmSync(c.w.path('halt'));
      await until('the thaw runs', () => exists(c.w.path('thaw')));
      part.child.kill('SIGINT');
      await sleep(300);
      fs.rmSync(c.w.path('thaw'));
      const ended = await part.ended;
      assert.is(ended.status, 0, ended.stderr);
      assert.is(c.log, 'frozen\nthawed\n');
      assert.is(await c.state(), 'parted');
    },
    { served: false },
  ));

test('an update takes the state of the freeze', () =>
  withPair(async (c) => {
    await c.w.ok(['part', 'vm-proxy']);
    const client = await c.attach();
    const updating = c.start(['update', ...c.words(c.halt('halt')).slice(1)]);
    await until('the freeze runs', () => exists(c.w.path('halt')));
    await client.write(new Uint8Array(REGION).fill(7), 3 * REGION);
    fs.rmSync(c.w.path('halt'));
    const ended = await updating.ended;
    assert.is(ended.status, 0, ended.stderr);
    await client.flush();
    assert.is(c.w.hash('vm.proxy.img'), c.w.hash('vm.img'));
    assert.is(c.log, 'frozen\nthawed\n');
    await client.close();
    await c.server.stop();
  }));

test.run();
