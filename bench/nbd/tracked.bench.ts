/**
 * What tracking costs a client: random writes to the master of a parted pair, all within the hot set,
 * beside those to a plain volume of the same server.
 */

import { type Parameter, pick } from '../harness.ts';
import { makeImage, type Place, requireSpace, sync } from '../place.ts';
import { SIDES, WORKS } from '../report/floors.ts';
import { type Meter, measureInTurns } from '../turns.ts';
import { fio, type Load, paramsOf } from './fio.ts';
import { FIO, needing, type Outcome } from './needs.ts';
import { type KageServer, onStage, type Stage } from './stage.ts';

/** 64 extents of the 240 that can be hot. */
const SIZE: Parameter<number> = { smoke: 8 * 2 ** 20, real: 256 * 2 ** 20 };
const LOAD: Load = { rw: 'randwrite', bytes: 4096, depth: 16 };
const ROUNDS: Parameter<number> = { smoke: 1, real: 3 };

export function tracked(place: Place): Promise<Outcome> {
  return needing([FIO], [WORKS.tracked], () =>
    onStage(place, 'tracked', async (stage) => {
      const size = pick(SIZE, place);
      requireSpace(place.dir, 3.5 * place.runtimes.length * size);
      const meters: Meter[] = [];
      const images: string[] = [];
      for (const server of await stage.serveAll()) {
        const own = ['plain', 'vm'].map((name) => stage.path(`${server.runtime}-${name}.img`));
        for (const image of own) makeImage(image, size, 1);
        images.push(...own);
        await prepare(stage, server, own);
        meters.push(meterOf(place, server, SIDES.plain, 'plain'));
        meters.push(meterOf(place, server, SIDES.tracked, 'vm'));
      }
      const entries = await measureInTurns(meters, {
        rounds: pick(ROUNDS, place),
        smoke: place.smoke,
        params: { bytes: size, ...paramsOf(LOAD) },
        before: () => {
          for (const image of images) sync(image);
        },
      });
      return { entries, absences: [] };
    }),
  );
}

async function prepare(stage: Stage, server: KageServer, images: readonly string[]): Promise<void> {
  const { disks, runtime } = server;
  const [plain, vm] = images;
  await disks.add([
    { path: plain, name: 'plain' },
    { path: vm, name: 'vm' },
  ]);
  await disks.join('vm', stage.path(`${runtime}-proxy.img`));
  await disks.part([`${runtime}-proxy`]);
}

function meterOf(place: Place, server: KageServer, name: string, volume: string): Meter {
  return {
    name,
    runtime: server.runtime,
    async measure() {
      const { write } = await fio(server.uri(volume), LOAD, place);
      return [{ work: WORKS.tracked, unit: 'IOPS', value: write.requestsPerSec }];
    },
  };
}
