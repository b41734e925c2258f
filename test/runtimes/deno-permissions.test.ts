/** The tables of docs/deno.md: each verb runs with the listed rights, and says what is missing. */

import fs from 'node:fs';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BUNDLE, DENO, inWorld, type Runtime, type World } from '../support/world.ts';

const test = suite('runtimes: Deno with few permissions');
const SIZE = 1_000_000;
const has = fs.existsSync(DENO[0]);
if (!has) console.log('SKIP runtimes: Deno with few permissions: deno is not installed');
const check = has ? test : test.skip;

const OTHERS = [
  '--allow-env=KAGE_HOME,KAGE_FAULT,KAGE_KERNEL',
  '--allow-net',
  '--allow-sys=statfs,hostname',
];

function deno(read: string[], write: string[], others = OTHERS): Runtime {
  const list = (kind: string, paths: string[]) =>
    paths.length > 0 ? [`--allow-${kind}=${paths.join(',')}`] : [];
  return [
    DENO[0],
    'run',
    '--no-prompt',
    ...others,
    ...list('read', read),
    ...list('write', write),
    BUNDLE,
  ];
}

async function world(work: (w: World, m: string, p: string) => Promise<void>): Promise<void> {
  await inWorld(async (w) => {
    w.image('vm.img', SIZE, 1);
    w.image('vm.proxy.img', SIZE, 2);
    fs.mkdirSync(w.home);
    await work(w, w.path('vm.img'), w.path('vm.proxy.img'));
  });
}

check('a join reads the master and writes the proxy and the state, no more', () =>
  world(async (w, m, p) => {
    const runtime = deno([m, p, w.home], [p, w.home]);
    const report = await w.ok(['join', m, p], { runtime });
    assert.is(report.pairs[0].state, 'joined');
    assert.is(w.hash('vm.img'), w.hash('vm.proxy.img'));
    assert.is((await w.ok(['part', 'vm-proxy'], { runtime })).pairs[0].state, 'parted');
    assert.is((await w.ok(['verify', 'vm-proxy'], { runtime })).pairs[0].differing, 0);
    assert.is(
      (await w.ok(['rejoin', 'vm-proxy'], { runtime })).pairs[0].copy.method,
      'differential',
    );
    await w.ok(['part', 'vm-proxy'], { runtime });
  }),
);

check('a restore writes the master and not the proxy; a write writes its volume', () =>
  world(async (w, m, p) => {
    // Without `stat` Deno cannot tell a second write in one second from none: it waits the second
    // out, but young stamps of those who need not wait don't count for it.
    const maker = { runtime: deno([m, p, w.home], [p, w.home]) };
    await w.ok(['join', m, p], maker);
    await w.ok(['part', 'vm-proxy'], maker);
    const runtime = deno([m, p, w.home], [m, w.home]);
    await w.ok(['write', 'vm'], { runtime, input: 'damage' });
    const report = await w.ok(['restore', 'vm-proxy'], { runtime });
    assert.is(report.pairs[0].copy.method, 'differential', report.pairs[0].copy.reason);
    assert.is(w.hash('vm.img'), w.hash('vm.proxy.img'));
  }),
);

(fs.existsSync('/usr/bin/stat') ? check : test.skip)(
  'with the right to run stat, it goes on after Node without a compare',
  () =>
    world(async (w, m, p) => {
      await w.ok(['join', m, p]);
      await w.ok(['part', 'vm-proxy']);
      const stat = [...OTHERS, '--allow-run=/usr/bin/stat'];
      const runtime = deno([m, p, w.home], [m, p, w.home], stat);
      for (let i = 0; i < 3; i++) {
        await w.ok(['write', 'vm'], { runtime, input: `round ${i}` });
        const report = await w.ok(['rejoin', 'vm-proxy'], { runtime });
        assert.is(report.pairs[0].copy.method, 'differential', report.pairs[0].copy.reason);
        await w.ok(['part', 'vm-proxy']);
      }
    }),
);

check('an image is made with rights to its folder', () =>
  world(async (w, m) => {
    fs.mkdirSync(w.path('out'));
    const runtime = deno([m, w.path('out'), w.home], [w.path('out'), w.home]);
    await w.ok(['join', m, w.path('out/new.img')], { runtime });
    assert.is(w.hash('vm.img'), w.hash('out/new.img'));
  }),
);

check('a copy to a new image needs rights to its folder, and no lock', () =>
  world(async (w, m) => {
    fs.mkdirSync(w.path('out'));
    const noNet = ['--allow-env=KAGE_HOME,KAGE_FAULT,KAGE_KERNEL', '--allow-sys=statfs,hostname'];
    const left = w.path('out/new.img.kage-1-0123456789abcdef.part');
    fs.writeFileSync(left, 'of a copy that was killed');
    const only = deno([m, w.path('out'), w.home], [w.path('out/new.img')], noNet);
    const refused = await w.run(['copy', m, w.path('out/new.img')], { runtime: only });
    assert.ok(refused.status !== 0);
    assert.match(refused.stderr, /^kage: .*(permission|access)/);
    assert.equal(fs.readdirSync(w.path('out')), [path.basename(left)]);
    const runtime = deno([m, w.path('out'), w.home], [w.path('out')], noNet);
    await w.ok(['copy', m, w.path('out/new.img')], { runtime });
    assert.equal(fs.readdirSync(w.path('out')), ['new.img']);
    assert.is(w.hash('vm.img'), w.hash('out/new.img'));
  }),
);

check('info, diff and copy need no lock', () =>
  world(async (w, m, p) => {
    await w.ok(['add', m]);
    const noNet = ['--allow-env=KAGE_HOME,KAGE_FAULT,KAGE_KERNEL', '--allow-sys=statfs,hostname'];
    const reader = deno([m, p, w.home], [], noNet);
    assert.is((await w.ok(['info'], { runtime: reader })).volumes.length, 1);
    assert.ok((await w.ok(['diff', m, p], { runtime: reader })).differing > 0);
    await w.ok(['copy', m, p], { runtime: deno([m, p, w.home], [p], noNet) });
    assert.is(w.hash('vm.img'), w.hash('vm.proxy.img'));
  }),
);

check('a missing right is named in one line, and nothing is changed', () =>
  world(async (w, m, p) => {
    await w.ok(['join', m, p]);
    await w.ok(['part', 'vm-proxy']);
    await w.ok(['write', 'vm'], { input: 'news' });
    const before = w.photograph();
    for (const runtime of [
      deno([m, p, w.home], [w.home]),
      deno([m, p, w.home], [p]),
      deno([p, w.home], [p, w.home]),
      deno([m, p, w.home], [p, w.home], ['--allow-env=KAGE_HOME,KAGE_FAULT,KAGE_KERNEL']),
    ]) {
      const ended = await w.run(['rejoin', 'vm-proxy'], { runtime });
      assert.ok(ended.status !== 0, ended.stdout);
      assert.match(ended.stderr, /^kage: .*(permission|access)/);
      assert.not.match(ended.stderr, /\n {4}at |internal error/);
      assert.equal(w.photograph(), before);
    }
  }),
);

test.run();
