/** Where the state lives, and which kernel is asked for. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { resolveHome, resolveKernel } from '../../src/cli/environment.ts';
import { type WorldOptions, world } from './fake.ts';

const test = suite('cli home');

function home(option: string | undefined, env: Record<string, string>, userId?: number): string {
  const fake = world({ userId } as WorldOptions).env;
  return resolveHome(option, { ...fake, env: (name) => env[name] });
}

test('the first of --home, KAGE_HOME, root, XDG_STATE_HOME, HOME counts', () => {
  const all = { KAGE_HOME: '/k', XDG_STATE_HOME: '/x', HOME: '/h' };
  assert.is(home('/o', all, 0), '/o');
  assert.is(home(undefined, all, 0), '/k');
  assert.is(home(undefined, { XDG_STATE_HOME: '/x', HOME: '/h' }, 0), '/var/lib/kagemusha');
  assert.is(home(undefined, { XDG_STATE_HOME: '/x', HOME: '/h' }, 1000), '/x/kagemusha');
  assert.is(home(undefined, { HOME: '/h' }, 1000), '/h/.local/state/kagemusha');
});

test('a relative XDG_STATE_HOME and an empty KAGE_HOME are ignored', () => {
  const env = { KAGE_HOME: '', XDG_STATE_HOME: 'x', HOME: '/h' };
  assert.is(home(undefined, env, 1000), '/h/.local/state/kagemusha');
});

test('nothing may be looked at: a clear usage error', () => {
  assert.throws(
    () => home(undefined, {}),
    (e: { code: string }) => e.code === 'usage',
  );
});

test('KAGE_KERNEL must be wasm or js', async () => {
  assert.is(resolveKernel(world().env), undefined);
  assert.is(resolveKernel(world({ env: { KAGE_KERNEL: 'js' } }).env), 'js');
  const w = world({ env: { KAGE_KERNEL: 'fast' } });
  assert.is(await w.run('info'), 2);
  assert.match(w.err(), /KAGE_KERNEL is fast/);
});

test('the engine is told home, kernel and who we are', async () => {
  const w = world({ env: { KAGE_KERNEL: 'js' } });
  await w.run('part', 'vm-proxy');
  assert.equal(w.last('openClass')![1], {
    home: '/state',
    kernel: 'js',
    command: 'kage part vm-proxy',
    create: false,
  });
});

test.run();
