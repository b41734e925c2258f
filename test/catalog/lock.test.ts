/** The lock in a world in memory, where every order of steps can be tried: never two holders. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { acquireLock, currentHolder, type Lock } from '../../src/catalog/lock.ts';
import type { Folder } from '../../src/device/host.ts';
import { MemoryHost, seededRandom } from '../../src/device/memory-host.ts';

const test = suite('catalog: lock');
const ME = { pid: 1, command: 'kage join', machine: 'memory' };
const zero = async () => 0;

async function failure(work: Promise<unknown>): Promise<KageError> {
  try {
    await work;
  } catch (error) {
    assert.instance(error, KageError);
    return error as KageError;
  }
  throw new Error('it did not fail');
}

test('one holder at a time, who is named', async () => {
  const host = new MemoryHost(1);
  const folder = host.folder('/c');
  assert.is(await currentHolder(folder), undefined);
  const lock = await acquireLock(folder, host, ME, zero);
  await lock.check();
  const error = await failure(acquireLock(folder, host, { ...ME, pid: 2 }, zero));
  assert.is(error.code, 'in-use');
  assert.match(error.message, 'in use by process 1 (kage join)');
  assert.is(error.data.pid, 1);
  const holder = await currentHolder(folder);
  assert.equal([holder?.pid, holder?.command], [1, 'kage join']);
  await lock.release();
  assert.is(await currentHolder(folder), undefined);
  const next = await acquireLock(folder, host, { ...ME, pid: 2 }, zero);
  await next.release();
});

test('nothing is left when it is given back, or was never had', async () => {
  const host = new MemoryHost(1);
  const folder = host.folder('/c');
  const lock = await acquireLock(folder, host, ME, zero);
  await failure(acquireLock(folder, host, { ...ME, pid: 2 }, zero));
  assert.is(host.beacons.size, 1);
  await lock.release();
  assert.equal(await folder.list(), []);
  assert.is(host.beacons.size, 0);
});

test('the lock of a dead process is taken over, and the dead one would notice', async () => {
  const host = new MemoryHost(1);
  const folder = host.folder('/c');
  const lock = await acquireLock(folder, host, ME, zero);
  host.beacons.clear();
  assert.is(await currentHolder(folder), undefined);
  const next = await acquireLock(folder, host, { ...ME, pid: 2 }, zero);
  assert.ok(next.epoch > lock.epoch);
  await next.check();
  assert.is((await failure(lock.check())).code, 'in-use');
  await next.release();
  assert.equal(await folder.list(), []);
});

test('epochs grow above those of the lock files and of the catalog', async () => {
  const host = new MemoryHost(1);
  const folder = host.folder('/c');
  await folder.write('lock.41', new TextEncoder().encode('no holder at all'));
  await folder.write('lock.7', new TextEncoder().encode('{"beacon":"lock-gone.sock"}'));
  await folder.write('lock.8', new TextEncoder().encode('null'));
  await folder.write('lock.9', new Uint8Array(0));
  const lock = await acquireLock(folder, host, ME, async () => 12);
  assert.is(lock.epoch, 42);
  assert.equal(await folder.list(), ['lock.42'], 'what others left is gone');
  await lock.release();
  assert.is((await acquireLock(folder, host, ME, async () => 99)).epoch, 100);
});

test('files that only look like it are let alone', async () => {
  const host = new MemoryHost(1);
  const folder = host.folder('/c');
  const names = ['lock.', 'lock.1x', 'lock-a.socket', 'xlock.1', 'root.0'];
  for (const name of names) await folder.write(name, Uint8Array.of(1));
  const lock = await acquireLock(folder, host, ME, zero);
  assert.is(lock.epoch, 1);
  await lock.release();
  assert.equal(await folder.list(), [...names].sort());
});

test('what was left by who was killed before it claimed anything is swept, not who lives', async () => {
  const host = new MemoryHost(1);
  const folder = host.folder('/c');
  for (const name of ['lock-dead.sock', 'lock-live.sock', 'lock.3.77.123']) {
    await folder.write(name, Uint8Array.of(1));
  }
  const putOut = await folder.beacon('lock-live.sock');
  const lock = await acquireLock(folder, host, ME, zero);
  assert.ok(await folder.alive('lock-live.sock'));
  const names = await folder.list();
  assert.ok(names.includes('lock-live.sock') && names.includes(`lock.${lock.epoch}`));
  assert.not.ok(names.includes('lock-dead.sock') || names.includes('lock.3.77.123'));
  await putOut();
});

/** Runs `meanwhile` once, just before the claim of a lock file. */
function interruptedAt(folder: Folder, meanwhile: () => Promise<void>): Folder {
  let once = false;
  return Object.assign(Object.create(folder) as Folder, {
    path: folder.path,
    read: (name: string) => folder.read(name),
    list: () => folder.list(),
    remove: (name: string) => folder.remove(name),
    alive: (name: string) => folder.alive(name),
    beacon: (name: string) => folder.beacon(name),
    async claim(name: string, bytes: Uint8Array) {
      if (!once) {
        once = true;
        await meanwhile();
      }
      return await folder.claim(name, bytes);
    },
  });
}

test("who slept through somebody's whole session does not act on what was before it", async () => {
  const host = new MemoryHost(1);
  const folder = host.folder('/c');
  let epoch = 0;
  const lastEpoch = async () => epoch;
  const slow = interruptedAt(folder, async () => {
    const other = await acquireLock(folder, host, { ...ME, pid: 2 }, lastEpoch);
    epoch = other.epoch; // It commits.
    await other.release();
  });
  const lock = await acquireLock(slow, host, ME, lastEpoch);
  assert.ok(lock.epoch > epoch, `${lock.epoch} after ${epoch}`);
});

test('who wakes up while another holds it steps back', async () => {
  const host = new MemoryHost(1);
  const folder = host.folder('/c');
  let other: Lock | undefined;
  const slow = interruptedAt(folder, async () => {
    other = await acquireLock(folder, host, { ...ME, pid: 2 }, zero);
  });
  assert.match((await failure(acquireLock(slow, host, ME, zero))).message, 'process 2');
  await other!.check();
  assert.equal(await folder.list(), [`lock.${other!.epoch}`]);
});

test('a holder on another machine cannot be asked, so nothing is taken from it', async () => {
  const host = new MemoryHost(1);
  const folder = host.folder('/c');
  const holder = { ...ME, pid: 77, since: 5, boot: 'theirs', beacon: 'lock-a.sock' };
  const write = (more: object) =>
    folder.write('lock.3', new TextEncoder().encode(JSON.stringify({ ...holder, ...more })));
  await write({ machine: 'far away' });
  const error = await failure(acquireLock(folder, host, ME, zero));
  assert.is(error.code, 'in-use');
  assert.match(error.message, 'process 77 of another machine, far away');
  assert.match(error.hint ?? '', 'lock.*');
  assert.equal(await folder.list(), ['lock.3']);
  await write({ machine: 'memory' });
  const lock = await acquireLock(folder, host, ME, zero);
  assert.is(lock.epoch, 4, 'the same machine after a new start: that process is dead');
});

test('a power cut or a kill frees it', async () => {
  for (const end of ['cutPower', 'killProcesses'] as const) {
    for (let seed = 1; seed <= 10; seed++) {
      const host = new MemoryHost(seed);
      await acquireLock(host.folder('/c'), host, ME, zero);
      host[end]();
      const lock = await acquireLock(host.folder('/c'), host, { ...ME, pid: 2 }, zero);
      await lock.release();
    }
  }
});

/** Every step of this process takes a while, so that those of the others come in between. */
function slowed(folder: Folder, random: () => number): Folder {
  return new Proxy(folder, {
    get(target, key) {
      const value = target[key as keyof Folder];
      if (typeof value !== 'function') return value;
      return async (...args: unknown[]) => {
        for (let i = Math.floor(random() * 6); i > 0; i--) await null;
        const result = await (value as (...a: unknown[]) => unknown).apply(target, args);
        for (let i = Math.floor(random() * 3); i > 0; i--) await null;
        return result;
      };
    },
  });
}

test('many contenders in any order of steps: never two holders, epochs that grow', async () => {
  let had = 0;
  let died = 0;
  for (let seed = 1; seed <= 80; seed++) {
    const host = new MemoryHost(seed);
    const random = seededRandom(seed);
    const folder = host.folder('/c');
    let epoch = 0;
    let holder = 0;
    const contender = async (pid: number) => {
      for (let round = 0; round < 3; ) {
        let lock: Lock;
        try {
          lock = await acquireLock(slowed(folder, random), host, { ...ME, pid }, async () => {
            await null;
            return epoch;
          });
        } catch (error) {
          assert.is((error as KageError).code, 'in-use');
          await null;
          continue;
        }
        round++;
        had++;
        assert.is(holder, 0, `seed ${seed}: ${pid} and ${holder}`);
        holder = pid;
        assert.ok(lock.epoch > epoch, `seed ${seed}: epoch ${lock.epoch} after ${epoch}`);
        if (random() < 0.7) epoch = lock.epoch;
        for (let i = Math.floor(random() * 20); i > 0; i--) await null;
        await lock.check();
        holder = 0;
        if (random() < 0.3) {
          died++;
          const { beacon } = JSON.parse(
            new TextDecoder().decode(await folder.read(`lock.${lock.epoch}`)),
          );
          host.beacons.delete(`/c/${beacon}`);
        } else {
          await lock.release();
        }
      }
    };
    await Promise.all([1, 2, 3, 4, 5, 6].map(contender));
  }
  assert.is(had, 80 * 6 * 3);
  assert.ok(died > 50);
});

test.run();
