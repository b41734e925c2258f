/**
 * What an instant snapshot costs the disk: bytes that the server writes for each byte that a client
 * writes, 4 KiB at random places of a master whose whole content is still pending to its snapshot; the
 * first write to a region copies it. The background copy is held back, its bytes are no client's.
 * Beside it the same when the copy is done.
 *
 * Counted is what the server hands to the kernel (`wchar`), images, maps and log, and the few bytes of
 * its answers. What the kernel counts as going to the disk is no measure: a page that lies in a large
 * folio counts as all of that.
 */

import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Parameter, pick } from '../harness.ts';
import { makeImage, type Place, requireSpace, sync } from '../place.ts';
import { SIDES, WORKS } from '../report/floors.ts';
import { type Figure, type Meter, measureInTurns } from '../turns.ts';
import { fio, type Load, paramsOf } from './fio.ts';
import { FIO, needing, type Outcome } from './needs.ts';
import { type KageServer, onStage, type Stage } from './stage.ts';

const SIZE: Parameter<number> = { smoke: 8 * 2 ** 20, real: 512 * 2 ** 20 };
const LOAD: Load = { rw: 'randwrite', bytes: 4096, depth: 16, seconds: 3 };
/** Until the copier has done what it does before it is held back. */
const COPIED_MS = 300;
const HELD_BACK = { rateBytesPerSec: 1, wait: false } as const;

export function amplification(place: Place): Promise<Outcome> {
  return needing([FIO, 'accounting in /proc'], [WORKS.amplification], () =>
    onStage(place, 'amplification', async (stage) => {
      const size = pick(SIZE, place);
      requireSpace(place.dir, 2.2 * place.runtimes.length * size);
      const meters: Meter[] = [];
      const images: string[] = [];
      for (const server of await stage.serveAll()) {
        const image = stage.path(`${server.runtime}-vm.img`);
        makeImage(image, size, 1);
        images.push(image);
        await server.disks.add([{ path: image, name: 'vm' }]);
        meters.push(...metersOf(stage, server));
      }
      const entries = await measureInTurns(meters, {
        rounds: 1,
        params: { bytes: size, ...paramsOf(LOAD) },
        before: () => {
          for (const image of images) sync(image);
        },
      });
      return { entries, absences: [] };
    }),
  );
}

function metersOf(stage: Stage, server: KageServer): Meter[] {
  const { runtime, disks } = server;
  const proxy = stage.path(`${runtime}-proxy.img`);
  const name = `${runtime}-proxy`;
  const snapshot = async (instant: boolean) => {
    const how = instant ? HELD_BACK : {};
    await disks.join('vm', proxy, how);
    await disks.part([name], { ...how, instant });
    const figures = await amplified(stage.place, server);
    await disks.break(name);
    await disks.remove([name]);
    fs.rmSync(proxy);
    return figures;
  };
  return [
    { name: SIDES.pending, runtime, measure: () => snapshot(true) },
    { name: SIDES.settled, runtime, measure: () => snapshot(false) },
  ];
}

async function amplified(place: Place, server: KageServer): Promise<Figure[]> {
  await sleep(COPIED_MS);
  const before = bytesWritten(server.pid);
  const { write } = await fio(server.uri('vm'), LOAD, place);
  const written = bytesWritten(server.pid) - before;
  const value = written / (write.requests * LOAD.bytes);
  return [
    {
      work: WORKS.amplification,
      unit: '×',
      value,
      beside: { requestsPerSec: write.requestsPerSec, requests: write.requests },
    },
  ];
}

function bytesWritten(pid: number): number {
  const text = fs.readFileSync(`/proc/${pid}/io`, 'utf8');
  return Number(/^wchar: (\d+)$/m.exec(text)![1]);
}
