/** `--freeze` and `--thaw` on the command line: what is run when, and what is said of it. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import type { Shell } from '../../src/cli/environment.ts';
import type { Quiesce } from '../../src/engine/api.ts';
import { type WorldOptions, world } from './fake.ts';

const test = suite('cli freezer');

/** A shell that runs nothing: how each command ends, by its text; `log` has what happened. */
function fakeShell(log: string[], ends: Readonly<Record<string, string>> = {}): Shell {
  return {
    start(text, { KAGE_CLASS, KAGE_PROXIES, KAGE_MASTERS }) {
      log.push(`${text} ${KAGE_CLASS}: ${KAGE_PROXIES} of ${KAGE_MASTERS}`);
      return { ended: Promise.resolve(ends[text]), stop() {}, kill() {} };
    },
    runNow: (text) => void log.push(`now ${text}`),
    atEnd: () => {
      log.push('guarded');
      return () => void log.push('free');
    },
  };
}

type How = { readonly dryRun: boolean; readonly quiesce?: Quiesce };
type Steps = (quiesce: Quiesce) => Promise<void>;

/** `kage part` with commands; `steps` is what the engine does with them. */
async function part(
  steps: Steps,
  {
    ends,
    more = [],
    ...options
  }: WorldOptions & { ends?: Record<string, string>; more?: string[] } = {},
) {
  const log: string[] = [];
  const run = async (_refs: unknown, { dryRun, quiesce }: How) => {
    log.push(dryRun ? 'plan' : 'engine');
    if (quiesce !== undefined) await steps(quiesce);
    const pair = { master: 'vm', proxy: 'vm-proxy', state: 'parted', notes: [] };
    return { verb: 'part', class: 'default', dryRun, pairs: [pair] };
  };
  const shell = async () => fakeShell(log, ends);
  const w = world({ on: { part: run }, shell, ...options });
  const words = ['part', 'vm-proxy', '--freeze', 'FREEZE', '--thaw', 'THAW', ...more];
  return { status: await w.run(...words), log, w };
}

const inOrder: Steps = async (quiesce) => {
  await quiesce.freeze();
  await quiesce.thaw();
};
const FREEZE = 'FREEZE default: vm-proxy of vm';
const THAW = 'THAW default: vm-proxy of vm';

test('the commands run where the engine wants them, once', async () => {
  const { status, log, w } = await part(inOrder);
  assert.is(status, 0);
  assert.equal(log, ['plan', 'engine', FREEZE, 'guarded', THAW, 'free']);
  assert.is(w.out(), 'vm-proxy: parted\n');
  assert.is(w.err(), 'part: freezing: FREEZE\npart: the service stood still for 0 ms\n');
  const quiet = await part(inOrder, { more: ['-q', '--timeout', '2.5'] });
  assert.is(quiet.w.err(), '');
});

test('whatever the engine throws, and whatever it forgets: one thaw for a freeze, none without', async () => {
  const fails: Steps = async (quiesce) => {
    await quiesce.freeze();
    throw new KageError('io-error', 'a disk failed');
  };
  const failed = await part(fails);
  assert.is(failed.status, 20);
  assert.equal(failed.log.slice(-4), [FREEZE, 'guarded', THAW, 'free']);
  const refused: Steps = async () => {
    throw new KageError('wrong-state', 'it is parted already');
  };
  assert.equal((await part(refused)).log, ['plan', 'engine']);
  const never = await part(async () => {}, { more: ['--json'] });
  assert.equal(never.log, ['plan', 'engine']);
  assert.is(JSON.parse(never.w.out()).quiesce, undefined);
});

test('a freeze that fails is an error of the verb, and is thawed', async () => {
  let heard: unknown;
  const steps: Steps = async (quiesce) => {
    heard = await quiesce.freeze().catch((error) => error);
    throw heard;
  };
  const { status, log, w } = await part(steps, { ends: { FREEZE: 'ended with status 3' } });
  assert.is(status, 1);
  assert.is((heard as KageError).code, 'failed');
  assert.match(
    w.err(),
    /kage: the freeze ended with status 3: FREEZE\n {2}nothing has changed; the/,
  );
  assert.equal(log.slice(-2), [THAW, 'free']);
});

test('a thaw that fails is loud, and the snapshot is reported: 3', async () => {
  const ends = { THAW: 'ended with status 4' };
  const { status, w } = await part(inOrder, { ends, more: ['-q', '--json'] });
  assert.is(status, 3);
  assert.match(w.err(), /^part: THE THAW FAILED, .* it ended with status 4: THAW\n$/);
  const { pairs, quiesce } = JSON.parse(w.out());
  assert.is(pairs[0].state, 'parted');
  assert.equal(quiesce, { seconds: 0, thawError: 'ended with status 4' });
});

test('nobody who reads what is said is no reason not to thaw', async () => {
  const write = async () => {
    throw Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
  };
  const { log } = await part(inOrder, { stderr: { write } });
  assert.equal(log.slice(-4), [FREEZE, 'guarded', THAW, 'free']);
});

test('a dry run runs neither, and says what it would run', async () => {
  const text = await part(inOrder, { more: ['--dry-run'] });
  assert.equal(text.log, ['plan']);
  assert.match(text.w.out(), /would be parted\nbefore the instant: FREEZE\nafter it: THAW\n$/);
  const json = await part(inOrder, { more: ['--dry-run', '--json'] });
  assert.equal(JSON.parse(json.w.out()).quiesce, { freeze: 'FREEZE', thaw: 'THAW' });
});

test('where no commands can be run nothing is parted', async () => {
  const { status, log } = await part(inOrder, { shell: undefined });
  assert.is(status, 12);
  assert.equal(log, ['plan']);
});

test('the limit reaches the engine; words that look like values are commands', async () => {
  const limits: number[] = [];
  const steps: Steps = async ({ limitMs }) => void limits.push(limitMs);
  await part(steps);
  await part(steps, { more: ['--timeout', '0.25'] });
  assert.equal(limits, [30_000, 250]);
  const w = world();
  assert.is(await w.run('part', 'vm-proxy', '--freeze', 'true', '--thaw', 'a --b', '--dry-run'), 0);
  assert.match(w.out(), /before the instant: true\nafter it: a --b\n$/);
});

test.run();
