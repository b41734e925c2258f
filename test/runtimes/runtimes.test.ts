/** The bundle does and says the same on Node, Deno and Bun, and one state folder serves them all. */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type NamedRuntime, RUNTIMES } from '../support/runtimes.ts';
import {
  type Ended,
  each,
  inWorld,
  randomBytes,
  sleep,
  until,
  type World,
} from '../support/world.ts';

const test = suite('runtimes');
const MIB = 1024 * 1024;

/** What a command says, without what differs from run to run: times, places, processes. */
function plain(w: World, text: string): string {
  return text
    .replaceAll(w.folder, 'W')
    .replace(/\b\d+(\.\d+)? s\b/g, 'T s')
    .replace(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?/g, 'DATE')
    .replace(/"(seconds|since|at)":[\d.e-]+/g, '"$1":T')
    .replace(/\b\d+ (bytes|B|KiB|MiB)\/s/g, 'RATE');
}

type Step = {
  readonly args: readonly string[];
  readonly input?: Uint8Array | string;
  readonly status?: number;
};

const NEW = randomBytes(70_000, 5);

/** The main job, with what goes wrong most. */
function job(w: World): Step[] {
  const [vm, copy] = [w.path('vm.img'), w.path('copy.img')];
  return [
    { args: ['join', vm, w.path('vm.proxy.img')] },
    { args: ['part', 'vm-proxy'] },
    { args: ['write', 'vm', '--offset', '100000'], input: NEW },
    { args: ['write', 'vm-proxy', '--offset', '20M', '--json'], input: 'on the proxy' },
    { args: ['info', '--json'] },
    { args: ['info'] },
    { args: ['verify', 'vm-proxy'] },
    { args: ['rejoin', 'vm-proxy', '--differential-only'] },
    { args: ['part', 'vm-proxy'] },
    { args: ['part', 'vm-proxy'], status: 13 },
    { args: ['write', 'vm', '--offset', '99999999'], input: 'x', status: 2 },
    { args: ['write', 'vm', '--offset', '7'], input: NEW },
    { args: ['restore', 'vm-proxy', '--differential-only'] },
    { args: ['part', 'vm-proxy'] },
    { args: ['write', 'vm'], input: 'a last change' },
    { args: ['diff', vm, w.path('vm.proxy.img')] },
    { args: ['copy', vm, copy, '--json'] },
    { args: ['diff', vm, copy, '--exit-code'] },
    { args: ['read', 'vm', '--length', '13'] },
    { args: ['sdxproxy', 'Rejoin', '-c', 'default', '-p', 'vm-proxy'], status: 13 },
    { args: ['stop', 'vm-proxy'] },
    { args: ['sdxproxy', 'Rejoin', '-c', 'default', '-p', 'vm-proxy'] },
    { args: ['sdxinfo', '-c', 'default'] },
    { args: ['join', w.path('nothing.img'), 'vm-proxy'], status: 10 },
    { args: ['info', '--help'] },
    { args: ['--version'] },
  ];
}

/** The part of the job in which the kernel has something to do. */
function short(w: World): Step[] {
  return job(w)
    .filter(({ args }) => /^(join|part|write|rejoin|restore|verify|diff)$/.test(args[0]))
    .slice(0, 13);
}

type Way = { readonly runtime: NamedRuntime; readonly kernel?: 'js' };

async function run({ runtime, kernel }: Way, steps = job): Promise<string[]> {
  return await inWorld(async (w) => {
    // Large enough for copies in threads, and no multiple of anything.
    w.image('vm.img', 24 * MIB + 777, 1);
    const said: string[] = [];
    for (const { args, input, status = 0 } of steps(w)) {
      const ended = await w.run(args, {
        runtime: runtime.command,
        input,
        env: { KAGE_KERNEL: kernel },
      });
      const all = `${ended.stdout}${ended.stderr}`;
      assert.is(ended.status, status, `${runtime.name}: ${args.join(' ')}: ${all}`);
      said.push(plain(w, `${args.join(' ')}\n${ended.stdout}--\n${ended.stderr}`));
    }
    said.push(w.hash('vm.img'), w.hash('vm.proxy.img'));
    return said;
  });
}

function same(found: readonly string[], expected: readonly string[]): void {
  for (const [i, text] of found.entries()) assert.is(text, expected[i]);
  assert.is(found.length, expected.length);
}

test('every runtime says and does the same', async () => {
  const [expected, ...others] = RUNTIMES;
  const reference = await run({ runtime: expected });
  await each(
    others,
    (r) => r.name,
    async (runtime) => same(await run({ runtime }), reference),
  );
});

test('with the plain kernel too', async () => {
  const reference = await run({ runtime: RUNTIMES[0] }, short);
  await each(
    RUNTIMES,
    (r) => r.name,
    async (runtime) => same(await run({ runtime, kernel: 'js' }, short), reference),
  );
});

for (const name of RUNTIMES) {
  test(`${name.name}: Ctrl-C in a join stops with 130, and the join goes on`, () =>
    inWorld(async (w) => {
      w.image('vm.img', 24 * MIB, 1);
      const command = { runtime: name.command };
      const join = w.start(['join', w.path('vm.img'), w.path('p.img'), '--rate', '6M'], command);
      await until('the copy runs', () => {
        return fs.existsSync(w.path('p.img')) && fs.statSync(w.path('p.img')).blocks > 0;
      });
      join.child.kill('SIGINT');
      const ended = await join.ended;
      assert.is(ended.status, 130, ended.stderr);
      assert.match(ended.stderr, /stopped at a safe point\n {2}run the same command again/);
      const pair = await w.pair('p');
      assert.is(pair.state, 'joining');
      assert.ok(pair.pendingRegions < pair.regions, 'what was copied is kept');
      const { pairs } = await w.ok(['join', 'vm', 'p'], command);
      assert.ok(pairs[0].copy.regions < pair.regions, 'only the rest is copied');
      assert.is(w.hash('p.img'), w.hash('vm.img'));
    }));
}

const hasStat = fs.existsSync('/usr/bin/stat');
if (!hasStat)
  console.log('SKIP one state folder goes from runtime to runtime: needs /usr/bin/stat');

(hasStat ? test : test.skip)(
  'one state folder goes from runtime to runtime without a compare',
  () =>
    inWorld(async (w) => {
      w.image('vm.img', MIB, 1);
      await w.ok(['join', w.path('vm.img'), w.path('p.img')]);
      const order = RUNTIMES.map((r) => r.command);
      for (const [i, command] of order.entries()) {
        const next = { runtime: order[(i + 1) % order.length] };
        await w.ok(['part', 'p'], { runtime: command });
        await w.ok(['write', 'vm', '--offset', `${i * 65_536}`], { ...next, input: `step ${i}` });
        const { pairs } = await w.ok(['rejoin', 'p'], { runtime: command });
        assert.is(pairs[0].copy.method, 'differential', pairs[0].copy.reason);
        assert.is(pairs[0].copy.regions, 1);
        assert.is(w.hash('p.img'), w.hash('vm.img'));
      }
    }),
);

test('a write of others between two runtimes is noticed', () =>
  inWorld(async (w) => {
    w.image('vm.img', MIB, 1);
    await w.ok(['join', w.path('vm.img'), w.path('p.img')]);
    for (const { command } of RUNTIMES) {
      await w.ok(['part', 'p'], { runtime: command });
      const { atime, mtime } = fs.statSync(w.path('vm.img'));
      w.scribble('vm.img', 5, randomBytes(10, Date.now()));
      fs.utimesSync(w.path('vm.img'), atime, mtime);
      const next =
        RUNTIMES[(RUNTIMES.findIndex((r) => r.command === command) + 1) % RUNTIMES.length];
      const { pairs } = await w.ok(['rejoin', 'p'], { runtime: next.command });
      assert.is(pairs[0].copy.method, 'compare');
      assert.is(w.hash('p.img'), w.hash('vm.img'));
    }
  }));

test('a holder on one runtime is seen on every other', () =>
  inWorld(async (w) => {
    w.image('vm.img', 8 * MIB, 1);
    for (const holder of RUNTIMES) {
      const args = ['join', '-c', holder.name, w.path('vm.img'), w.path(`${holder.name}.img`)];
      const join = w.start([...args, '--rate', '1M'], { runtime: holder.command });
      await until(`${holder.name} copies`, () => fs.existsSync(w.path(`${holder.name}.img`)));
      const others: Ended[] = [];
      for (const { command } of RUNTIMES) {
        others.push(await w.run(['part', '-c', holder.name, holder.name], { runtime: command }));
      }
      join.child.kill('SIGKILL');
      await join.ended;
      for (const { status, stderr } of others) assert.is(status, 11, `${holder.name}: ${stderr}`);
      await w.ok(['break', '-c', holder.name, holder.name], { runtime: RUNTIMES.at(-1)?.command });
      await w.ok(['remove', '-c', holder.name, 'vm']);
      await sleep(0);
    }
  }));

test.run();
