/**
 * Memory of the server with pairs of 16 TiB that clients write to: with one pair, and what each of two
 * further ones adds. The pairs are `relate`d: all their maps are there, and nothing is copied. All
 * resident pages count, those of the runtime too, and the most there ever were (`VmHWM`).
 */

import fs from 'node:fs';
import { type Parameter, pick } from '../harness.ts';
import type { Place } from '../place.ts';
import { SIDES, WORKS } from '../report/floors.ts';
import type { Entry } from '../report/result.ts';
import { entryOf } from '../turns.ts';
import { fio, type Load } from './fio.ts';
import { FIO, needing, type Outcome } from './needs.ts';
import { makeHoles } from './sparse.ts';
import { type KageServer, onEach, onStage, type Stage } from './stage.ts';

const SIZE: Parameter<number> = { smoke: 2 ** 36, real: 16 * 2 ** 40 };
const PAIRS = 3;
const LIMIT_MIB = 300;
const LIMIT_MORE_MIB = 100;
/** Written to after it was related, so that it is tracked. */
const LOAD: Load = { rw: 'randwrite', bytes: 4096, depth: 16, seconds: 1, more: ['--size=64m'] };

export function memory(place: Place): Promise<Outcome> {
  const works = [WORKS.memory, WORKS.memoryMore];
  return needing([FIO, 'accounting in /proc'], works, () =>
    onStage(place, 'memory', async (stage) => {
      const entries = [
        entryOf(
          { work: WORKS.memory, runtime: '', params: {} },
          SIDES.limit,
          [LIMIT_MIB],
          '',
          'MiB',
        ),
        entryOf(
          { work: WORKS.memoryMore, runtime: '', params: {} },
          SIDES.limit,
          [LIMIT_MORE_MIB],
          '',
          'MiB',
        ),
      ];
      const measured = await onEach(place, async (runtime) => {
        const server = await stage.serve(runtime);
        const filled = await fill(stage, server);
        await server.stop();
        return filled;
      });
      return { entries: [...entries, ...measured], absences: [] };
    }),
  );
}

async function fill(stage: Stage, server: KageServer): Promise<Entry[]> {
  const { place } = stage;
  const { runtime, disks, pid } = server;
  const empty = memoryOf(pid);
  const after: { now: number; most: number }[] = [];
  let bytes = pick(SIZE, place);
  for (let pair = 0; pair < PAIRS; pair++) {
    const names = [`vm${pair}`, `proxy${pair}`];
    const paths = names.map((name) => stage.path(`${runtime}-${name}.img`));
    bytes = makeHoles(paths, bytes);
    await disks.add(names.map((name, i) => ({ path: paths[i], name })));
    await disks.relate(names[0], names[1]);
    await fio(server.uri(names[0]), LOAD, place);
    after.push(memoryOf(pid));
  }
  const work = (work: string) => ({
    work,
    runtime,
    params: { bytes, empty: empty.now, most: after[0].most, mostOfAll: after[PAIRS - 1].most },
  });
  const entry = (name: string, side: string, value: number) =>
    entryOf(work(name), side, [value], '', 'MiB');
  const each = (key: 'now' | 'most') => (after[PAIRS - 1][key] - after[0][key]) / (PAIRS - 1);
  return [
    entry(WORKS.memory, SIDES.serve, after[0].now),
    entry(WORKS.memory, SIDES.most, after[0].most),
    entry(WORKS.memory, SIDES.empty, empty.now),
    entry(WORKS.memoryMore, SIDES.serve, each('now')),
    entry(WORKS.memoryMore, SIDES.most, each('most')),
  ];
}

/** Resident now, and at most since the start; MiB. */
function memoryOf(pid: number): { now: number; most: number } {
  const text = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)![1]);
  return { now: kib('VmRSS') / 1024, most: kib('VmHWM') / 1024 };
}
