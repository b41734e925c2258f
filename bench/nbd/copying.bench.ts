/**
 * How long a client waits while its volume is copied in the background: a first join of the whole, to a
 * new image, again and again for as long as the client asks. Against the same volume in no pair.
 *
 * The client stays within a quarter of the volume, which the set of hot extents has room for. Not
 * measured: one that roams, whose writes wait for extents to make room, that is for syncs of both sides.
 */

import fs from 'node:fs';
import { type Parameter, pick } from '../harness.ts';
import { hashOf, makeImage, type Place, requireSpace, sync } from '../place.ts';
import { SIDES, WORKS } from '../report/floors.ts';
import { type Meter, measureInTurns } from '../turns.ts';
import { fio, paramsOf } from './fio.ts';
import { latencies, STEADY } from './latency.ts';
import { FIO, needing, type Outcome } from './needs.ts';
import { type KageServer, onStage } from './stage.ts';

const SIZE: Parameter<number> = { smoke: 16 * 2 ** 20, real: 2 * 2 ** 30 };
const ROUNDS: Parameter<number> = { smoke: 1, real: 3 };

const CLIENT = { ...STEADY, more: ['--size=25%'] };

const READ_AND_WRITE = { read: WORKS.copyingRead, write: WORKS.copyingWrite };

export function copying(place: Place): Promise<Outcome> {
  return needing([FIO], Object.values(READ_AND_WRITE), () =>
    onStage(place, 'copying', async (stage) => {
      const size = pick(SIZE, place);
      requireSpace(place.dir, 2.2 * size);
      const image = stage.path('vm.img');
      makeImage(image, size, 1);
      hashOf(image);
      const meters: Meter[] = [];
      for (const server of await stage.serveAll()) {
        const { runtime } = server;
        await server.disks.add([{ path: image, name: 'vm' }]);
        const measure = async () =>
          latencies(READ_AND_WRITE, await fio(server.uri('vm'), CLIENT, place));
        meters.push({ name: SIDES.plain, runtime, measure });
        meters.push({
          name: SIDES.copying,
          runtime,
          measure: () => whileCopying(server, stage.path('proxy.img'), measure),
        });
      }
      const entries = await measureInTurns(meters, {
        rounds: pick(ROUNDS, place),
        params: { bytes: size, ...paramsOf(CLIENT) },
        before: () => sync(image),
      });
      return { entries, absences: [] };
    }),
  );
}

/** Throws when nothing was copied meanwhile. */
async function whileCopying<T>(
  { disks }: KageServer,
  proxy: string,
  work: () => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  let copied = 0;
  const round = async () => {
    const onProgress = ({ bytesWritten }: { bytesWritten: number }) => {
      copied += bytesWritten;
    };
    try {
      await disks.join('vm', proxy, { signal: over.signal, onProgress });
    } catch (error) {
      if (!over.signal.aborted) throw error;
    }
    await disks.break('proxy');
    await disks.remove(['proxy']);
    fs.rmSync(proxy);
  };
  const rounds = (async () => {
    do await round();
    while (!over.signal.aborted);
  })();
  try {
    const failed = rounds.then(() => Promise.reject(new Error(`${SIDES.copying}: no copy`)));
    const result = await Promise.race([work(), failed]);
    if (copied === 0) throw new Error(`${SIDES.copying}: nothing was copied meanwhile`);
    return result;
  } finally {
    over.abort();
    await rounds;
  }
}
