/**
 * Verbs that are killed at a named step and run again: what each does, what must hold afterwards.
 * After the second run everything is as if nothing had happened, and nothing is left behind.
 */

import fs from 'node:fs';
import path from 'node:path';
import * as assert from 'uvu/assert';
import type { ClassInfo } from '../../src/engine/api.ts';
import { readClass } from '../../src/engine/open.ts';
import { traceOf } from '../support/here.ts';
import { bringTo, type StateName } from '../support/states.ts';

import { inWorld, type World } from '../support/world.ts';

const INPUT = 'written by the command that was killed';

type Images = { readonly master: Buffer; readonly proxy: Buffer };

export type Scenario = {
  readonly name: string;
  readonly state: StateName;
  readonly copies?: true;
  /** More preparation, once the state is reached. */
  readonly prepare?: (w: World) => Promise<void>;
  readonly args: (w: World) => readonly string[];
  /** Statuses of the second run besides 0: the first one had been finished. */
  readonly finished: readonly number[];
  /** State afterwards as `info` calls it; `-` when there is no pair. */
  readonly ends: string;
  /** What both images must hold afterwards, from what they held before. */
  readonly holds?: (before: Images) => Images;
  /** Looks at the class, and at what lies beside it, as the kill left them. */
  readonly killed?: (info: ClassInfo, w: World) => void;
  /** Runs before anything is looked at. */
  readonly settle?: (w: World, info: ClassInfo) => Promise<void>;
  readonly check?: (w: World, info: ClassInfo) => void | Promise<void>;
  /** Only with volumes of which stamps are not asked. */
  readonly exclusiveOnly?: boolean;
  /** There is no class afterwards. */
  readonly endsClass?: true;
};

/** The image with the input of `write` at an offset. */
function withInput(image: Buffer, offset: number): Buffer {
  const copy = Buffer.from(image);
  copy.write(INPUT, offset);
  return copy;
}

const both = (image: Buffer): Images => ({ master: image, proxy: image });
const untouched = (before: Images): Images => before;
const verb =
  (...words: string[]) =>
  () =>
    words;

function statusOf(info: ClassInfo, name: string): string | undefined {
  return info.volumes.find((v) => v.name === name)?.status;
}

export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'join',
    copies: true,
    state: 'unrelated',
    args: verb('join', 'vm', 'vm-proxy'),
    finished: [13],
    ends: 'joined',
    holds: ({ master }) => both(master),
  },
  {
    name: 'join that makes the proxy',
    copies: true,
    state: 'unrelated',
    prepare: async (w) => {
      await w.engine((disks) => disks.remove(['vm', 'vm-proxy']));
      fs.rmSync(w.path('vm-proxy.img'));
    },
    args: (w) => ['join', w.path('vm.img'), w.path('vm-proxy.img')],
    finished: [13],
    ends: 'joined',
    holds: ({ master }) => both(master),
  },
  {
    name: 'join, continued',
    copies: true,
    state: 'joining',
    args: verb('join', 'vm', 'vm-proxy'),
    finished: [13],
    ends: 'joined',
    holds: ({ master }) => both(master),
  },
  {
    name: 'relate',
    state: 'unrelated',
    args: verb('relate', 'vm', 'vm-proxy'),
    finished: [13],
    ends: 'parted',
    holds: untouched,
  },
  {
    name: 'rejoin',
    copies: true,
    state: 'parted',
    args: verb('rejoin', 'vm-proxy'),
    finished: [13],
    ends: 'joined',
    holds: ({ master }) => both(master),
  },
  {
    name: 'rejoin by comparison',
    copies: true,
    state: 'parted',
    args: verb('rejoin', 'vm-proxy', '--compare'),
    finished: [13],
    ends: 'joined',
    holds: ({ master }) => both(master),
  },
  {
    name: 'part',
    state: 'joined',
    args: verb('part', 'vm-proxy'),
    finished: [13],
    ends: 'parted',
    holds: untouched,
    check: (_, info) => assert.is(statusOf(info, 'vm-proxy'), 'ACTIVE'),
  },
  {
    name: 'part that finishes a copy first',
    copies: true,
    state: 'joining',
    args: verb('part', 'vm-proxy'),
    finished: [13],
    ends: 'parted',
    holds: ({ master }) => both(master),
  },
  {
    name: 'part of two at one instant',
    state: 'joined',
    prepare: async (w) => {
      w.image('second.img', 1024 * 1024, 3);
      await w.engine((disks) => disks.join('vm', w.path('second.img')));
    },
    args: verb('part', 'vm-proxy', 'second'),
    finished: [13],
    ends: 'parted',
    holds: untouched,
    killed(info) {
      const [one, two] = info.pairs.map((pair) => pair.state);
      assert.is(one, two, 'both or none');
    },
    check(w, info) {
      assert.is(info.pairs[1].state, 'parted');
      assert.is(w.hash('second.img'), w.hash('vm.img'));
    },
  },
  {
    name: 'restore',
    copies: true,
    state: 'parted',
    args: verb('restore', 'vm-proxy'),
    finished: [13],
    ends: 'joined',
    holds: ({ proxy }) => both(proxy),
  },
  {
    name: 'restore --keep',
    copies: true,
    state: 'parted',
    args: verb('restore', 'vm-proxy', '--keep'),
    finished: [],
    ends: 'parted',
    holds: ({ proxy }) => both(proxy),
  },
  {
    name: 'update',
    copies: true,
    state: 'parted',
    args: verb('update', 'vm-proxy'),
    finished: [],
    ends: 'parted',
    holds: ({ master }) => both(master),
  },
  {
    name: 'write to the master, joined',
    state: 'joined',
    args: verb('write', 'vm', '--offset', '65530'),
    finished: [],
    ends: 'joined',
    holds: ({ master }) => both(withInput(master, 65530)),
    async settle(w, info) {
      // What was in flight is pending again, and copied by the next verb.
      if (info.pairs[0].state === 'joining') await w.engine((d) => d.join('vm', 'vm-proxy'));
    },
  },
  {
    name: 'write to the master, parted',
    state: 'parted',
    args: verb('write', 'vm', '--offset', '500000'),
    finished: [],
    ends: 'parted',
    holds: ({ master, proxy }) => ({ master: withInput(master, 500000), proxy }),
  },
  {
    name: 'write to the proxy, parted',
    state: 'parted',
    args: verb('write', 'vm-proxy', '--offset', '500000'),
    finished: [],
    ends: 'parted',
    holds: ({ master, proxy }) => ({ master, proxy: withInput(proxy, 500000) }),
  },
  {
    name: 'write to a master whose snapshot is unfinished',
    state: 'copying',
    // Byte 70000 is in a region that is still to be taken from the master.
    args: verb('write', 'vm', '--offset', '70000'),
    finished: [],
    ends: 'copying',
    exclusiveOnly: true,
    async check(w) {
      const snapshot = w.read('expected-proxy');
      await w.engine((disks) => disks.update(['vm-proxy']));
      assert.ok(w.read('vm-proxy.img').equals(snapshot), 'the snapshot is the one of its moment');
    },
  },
  {
    name: 'write to a proxy from which the master is restored',
    state: 'restoring-keep',
    args: verb('write', 'vm-proxy', '--offset', '70000'),
    finished: [],
    ends: 'restoring',
    exclusiveOnly: true,
  },
  {
    name: 'swap',
    state: 'joined',
    args: verb('swap', 'vm-proxy'),
    finished: [13],
    ends: 'joined',
    holds: untouched,
    // Swapped once, or, if the first run had come to its commit, back again: the two are equal.
    check(w, info) {
      const images = ['vm', 'vm-proxy'].map((n) => info.volumes.find((v) => v.name === n)?.path);
      assert.equal(images.sort(), [w.path('vm-proxy.img'), w.path('vm.img')]);
    },
  },
  {
    name: 'cancel',
    state: 'copying',
    args: verb('cancel', 'vm-proxy'),
    finished: [],
    ends: 'invalid',
    holds: untouched,
    check: (_, info) => assert.is(statusOf(info, 'vm-proxy'), 'INVALID'),
  },
  {
    name: 'break',
    state: 'parted',
    args: verb('break', 'vm-proxy'),
    finished: [13],
    ends: '-',
    holds: untouched,
  },
  {
    name: 'break of an unfinished copy',
    state: 'copying',
    args: verb('break', 'vm-proxy'),
    finished: [13],
    ends: '-',
    holds: untouched,
    check: (_, info) => assert.is(statusOf(info, 'vm-proxy'), 'INVALID'),
  },
  {
    name: 'add',
    state: 'unrelated',
    prepare: async (w) => void w.image('new.img', 4096, 7),
    args: (w) => ['add', w.path('new.img')],
    finished: [12],
    ends: '-',
    holds: untouched,
    check: (_, info) => assert.is(statusOf(info, 'new'), 'ACTIVE'),
  },
  {
    name: 'create',
    state: 'unrelated',
    args: (w) => ['create', 'new', w.path('new.img'), '-s', '5000'],
    finished: [12],
    ends: '-',
    holds: untouched,
    check(w, info) {
      assert.is(statusOf(info, 'new'), 'ACTIVE');
      assert.is(fs.statSync(w.path('new.img')).size, 5000);
    },
  },
  {
    name: 'remove',
    state: 'unrelated',
    args: verb('remove', 'vm-proxy'),
    finished: [10],
    ends: '-',
    holds: untouched,
    check: (_, info) => assert.is(statusOf(info, 'vm-proxy'), undefined),
  },
  {
    name: 'sdxclass -R',
    state: 'unrelated',
    prepare: (w) => w.engine((disks) => disks.remove(['vm', 'vm-proxy'])),
    args: verb('sdxclass', '-R', '-c', 'default'),
    finished: [10],
    ends: '-',
    endsClass: true,
    killed: (info) => assert.is(info.closed, null, 'the class, or nothing'),
  },
  {
    name: 'copy to a new image',
    state: 'unrelated',
    args: (w) => ['copy', w.path('vm.img'), w.path('new.img')],
    finished: [],
    ends: '-',
    holds: untouched,
    killed(_, w) {
      if (!fs.existsSync(w.path('new.img'))) return;
      assert.is(w.hash('new.img'), w.hash('vm.img'), 'what has the name is whole');
    },
    check(w) {
      assert.is(w.hash('new.img'), w.hash('vm.img'));
      const left = fs.readdirSync(w.folder).filter((name) => /\.part$/.test(name));
      assert.equal(left, []);
    },
  },
  {
    name: 'part after a write that was killed between its two sides',
    copies: true,
    state: 'joined',
    async prepare(w) {
      const killed = await w.run(['write', 'vm', '--offset', '1000'], {
        input: INPUT,
        env: { KAGE_FAULT: 'write:one-side' },
      });
      assert.is(killed.signal, 'SIGKILL');
    },
    args: verb('part', 'vm-proxy'),
    finished: [13],
    ends: 'parted',
    holds: ({ master }) => both(master),
  },
];

function photographOf(w: World): Images {
  const read = (name: string) =>
    fs.existsSync(w.path(name)) ? w.read(name) : Buffer.alloc(1024 * 1024);
  return { master: read('vm.img'), proxy: read('vm-proxy.img') };
}

/** Once the class has changed again, its folder holds roots, maps of the pairs and the log alone. */
async function requireTidy(w: World): Promise<void> {
  const info = await w.engine(async (disks) => {
    for (let i = 0; i < 2; i++) await disks.lock(['vm']);
    return await disks.info();
  });
  const names = fs.readdirSync(path.join(w.home, 'classes/default'));
  const maps = names.filter((name) => /^pair\d+-(changed|pending|increment)-\d+$/.test(name));
  assert.is(maps.length, 3 * info.pairs.length, names.join());
  const others = names.filter((n) => !maps.includes(n) && !/^(root\.[01]|intent)$/.test(n));
  assert.equal(others, [], 'left over');
}

export type Kill = { readonly step: string; readonly arrival: number; readonly exclusive: boolean };

async function prepared(w: World, s: Scenario, exclusive: boolean): Promise<Images> {
  await bringTo(w, s.state, { exclusive });
  if (s.state === 'copying') fs.copyFileSync(w.path('vm.img'), w.path('expected-proxy'));
  await s.prepare?.(w);
  return photographOf(w);
}

export async function killAndRepeat(s: Scenario, kill: Kill): Promise<void> {
  await inWorld(async (w) => {
    const before = await prepared(w, s, kill.exclusive);
    const killed = await w.run(s.args(w), {
      input: INPUT,
      env: { KAGE_FAULT: `${kill.step}@${kill.arrival}` },
    });
    assert.is(killed.signal, 'SIGKILL', `the step is reached: ${killed.stderr}`);
    // Only a class that was not yet made may be unknown.
    const left = await readClass('default', { home: w.home }).catch((error) => {
      if (s.state !== 'unrelated') throw error;
    });
    if (left) s.killed?.(left, w);

    const again = await w.run([...s.args(w), '--json'], { input: INPUT });
    assert.ok(
      again.status === 0 || s.finished.includes(again.status ?? -1),
      `run again: ${again.status} ${again.stdout}${again.stderr}`,
    );
    if (s.endsClass) {
      assert.equal(fs.readdirSync(path.join(w.home, 'classes')), [], 'left over');
      return;
    }
    await s.settle?.(w, await w.engine((disks) => disks.info()));
    const info = await w.engine((disks) => disks.info());
    assert.is(info.pairs[0]?.state ?? '-', s.ends);
    await s.check?.(w, info);
    if (s.holds) {
      const wanted = s.holds(before);
      assert.ok(w.read('vm.img').equals(wanted.master), 'content of the master');
      assert.ok(w.read('vm-proxy.img').equals(wanted.proxy), 'content of the proxy');
    }
    await followUp(w, info);
    await requireTidy(w);
  });
}

/** The next verbs of the pair's life are right as well: nothing was believed equal that is not. */
async function followUp(w: World, info: ClassInfo): Promise<void> {
  if (info.pairs.length === 0) return;
  await w.engine(async (disks) => {
    const { pairs } = await disks.verify(['vm-proxy']);
    assert.is(pairs[0].unexpected, 0, 'unexpected differences');
  });
  if (!['joined', 'parted'].includes(info.pairs[0].state)) return;
  const master = w.hash('vm.img');
  const proxy = w.hash('vm-proxy.img');
  await w.engine((disks) =>
    info.pairs[0].joined ? disks.part(['vm-proxy']) : disks.rejoin(['vm-proxy']),
  );
  assert.is(w.hash('vm-proxy.img'), w.hash('vm.img'), 'equal after the next verb');
  // After a swap the master lives in the other image.
  assert.ok([master, proxy].includes(w.hash('vm.img')));
}

/** The steps that a scenario reaches, in order. */
export async function stepsOf(s: Scenario): Promise<string[]> {
  return await inWorld(async (w) => {
    await prepared(w, s, true);
    return await traceOf(w, s.args(w), INPUT);
  });
}

export function nameOfKill({ step, arrival, exclusive }: Kill): string {
  return `${step}@${arrival}${exclusive ? ', exclusive' : ''}`;
}

/** Every kill of a scenario, up to `arrivalsMax` arrivals at each step. */
export function killsOf(s: Scenario, steps: readonly string[], arrivalsMax: number): Kill[] {
  const kills: Kill[] = [];
  for (const step of new Set(steps)) {
    const arrivals = Math.min(arrivalsMax, steps.filter((x) => x === step).length);
    for (let arrival = 1; arrival <= arrivals; arrival++) {
      kills.push({ step, arrival, exclusive: true });
      // With stamps everything after the kill is compared: one arrival shows that.
      if (arrival === 1 && !s.exclusiveOnly) kills.push({ step, arrival, exclusive: false });
    }
  }
  return kills;
}
