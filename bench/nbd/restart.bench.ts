/**
 * From the start of `kage serve` to its line, after a kill -9 in the midst of work that had filled the set
 * of hot extents: half of them of a parted pair, half of a joined one, each some GiB wide.
 * Beside it, without a limit, the same start after an orderly end.
 */

import fs from 'node:fs';
import { EXTENT_SIZE, EXTENTS_MAX } from '../../src/base/limits.ts';
import { type Parameter, pick } from '../harness.ts';
import type { Place } from '../place.ts';
import { SIDES, WORKS } from '../report/floors.ts';
import type { Runtime } from '../runtimes.ts';
import { entryOf } from '../turns.ts';
import { type Load, startFio } from './fio.ts';
import { FIO, needing, type Outcome } from './needs.ts';
import { type KageServer, onEach, onStage, type Stage } from './stage.ts';

const ROUNDS: Parameter<number> = { smoke: 1, real: 3 };
const LIMIT_MS = 2000;
/** Hot extents of each pair: every fourth of the volume, and a few more than fit. */
const HOT: Parameter<number> = { smoke: 8, real: EXTENTS_MAX / 2 + 8 };
const STRIDE = 4 * EXTENT_SIZE;
const PAIRS = ['parted', 'joined'];
/** 4 KiB in each hot extent, round and round. */
const CLIENT: Load = {
  rw: `write:${STRIDE - 4096}`,
  bytes: 4096,
  depth: 1,
  seconds: 600,
};

export function restart(place: Place): Promise<Outcome> {
  return needing([FIO], [WORKS.restart], () =>
    onStage(place, 'restart', async (stage) => {
      const work = (runtime: string) => ({ work: WORKS.restart, runtime, params: {} });
      const limit = entryOf(work(''), SIDES.limit, [LIMIT_MS], '');
      const entries = await onEach(place, async (runtime) => {
        const { killed, stopped } = await restartTimes(stage, runtime);
        return [
          entryOf(work(runtime.name), SIDES.serve, killed, ''),
          entryOf(work(runtime.name), SIDES.stopped, stopped, ''),
        ];
      });
      return { entries: [limit, ...entries], absences: [] };
    }),
  );
}

async function restartTimes(stage: Stage, runtime: Runtime) {
  const times = { killed: [] as number[], stopped: [] as number[] };
  const { place } = stage;
  let server = await stage.serve(runtime);
  await makePairs(stage, server);
  for (let round = 0; round < pick(ROUNDS, place); round++) {
    await heat(stage, server);
    server = await stage.serve(runtime);
    times.killed.push(server.readyMs);
    await server.stop();
    server = await stage.serve(runtime);
    times.stopped.push(server.readyMs);
  }
  await server.stop();
  return times;
}

async function makePairs(stage: Stage, { runtime, disks }: KageServer): Promise<void> {
  for (const name of PAIRS) {
    const image = stage.path(`${runtime}-${name}.img`);
    fs.writeFileSync(image, '');
    fs.truncateSync(image, pick(HOT, stage.place) * STRIDE);
    await disks.add([{ path: image, name }]);
    await disks.join(name, stage.path(`${runtime}-${name}-proxy.img`));
  }
  await disks.part([`${runtime}-${PAIRS[0]}-proxy`]);
}

/** Writes to both masters until the set is full, and goes on until the server is killed. */
async function heat(stage: Stage, server: KageServer): Promise<void> {
  const extents = Math.min(EXTENTS_MAX, PAIRS.length * pick(HOT, stage.place));
  const intent = stage.path(server.runtime, 'classes/default/intent');
  const clients = PAIRS.map((name) => startFio(server.uri(name), CLIENT, { smoke: false }));
  await clients[0].until(() => hotExtents(intent) >= extents);
  await server.kill();
  for (const client of clients) await client.gone();
}

/** As the newer slot of the intent log says; the format is that of `src/bitmap/intent-log.ts`. */
function hotExtents(file: string): number {
  const log = fs.readFileSync(file);
  const slots = [0, log.length / 2];
  const newer = log.readBigUInt64LE(slots[0] + 8) > log.readBigUInt64LE(slots[1] + 8) ? 0 : 1;
  return log.readUInt32LE(slots[newer] + 16);
}
