/**
 * How long a client of one volume waits while the disk of another volume of the same server takes 20 ms
 * for each request. That disk is a file of a FUSE file system, which keeps a thread that reads or
 * writes it waiting exactly as a slow disk does; beside it the same client of a file system of the same
 * kind that does not stall, at the rate at which the stalling one answers.
 */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { type Parameter, pick } from '../harness.ts';
import { hashOf, makeImage, type Place, requireSpace, sync } from '../place.ts';
import { SIDES, WORKS } from '../report/floors.ts';
import { type Meter, measureInTurns } from '../turns.ts';
import { fio, type Load, paramsOf, startFio } from './fio.ts';
import { latencies, STEADY } from './latency.ts';
import { FIO, leftOut, needing, type Outcome } from './needs.ts';
import { type KageServer, onStage, type Stage } from './stage.ts';

const SIZE: Parameter<number> = { smoke: 8 * 2 ** 20, real: 256 * 2 ** 20 };
const ROUNDS: Parameter<number> = { smoke: 1, real: 3 };
const STALL_MS = 20;
const MOUNTED_MS = 10_000;

/** Four requests at a time, of 20 ms each: 200 a second. */
const OTHERS: Load = { rw: 'randrw', bytes: 4096, depth: 4, rate: 100 };

const READ_AND_WRITE = { read: WORKS.stallRead, write: WORKS.stallWrite };
const WORKS_HERE = Object.values(READ_AND_WRITE);

export function stall(place: Place): Promise<Outcome> {
  const needs = [FIO, 'nbdfuse', '/dev/fuse', 'nbdkit with its delay filter'] as const;
  return needing(needs, WORKS_HERE, () =>
    onStage(place, 'stall', async (stage) => {
      const size = pick(SIZE, place);
      requireSpace(place.dir, 1.2 * size);
      const image = stage.path('vm.img');
      makeImage(image, size, 1);
      hashOf(image);
      let disks: { calm: string; stalling: string };
      try {
        disks = {
          calm: await mountDisk(stage, 'calm', size, 0),
          stalling: await mountDisk(stage, 'stalling', size, STALL_MS),
        };
      } catch (error) {
        return leftOut(WORKS_HERE, `no FUSE here: ${(error as Error).message}`);
      }
      const meters: Meter[] = [];
      for (const server of await stage.serveAll()) {
        await server.disks.add([
          { path: image, name: 'vm' },
          { path: disks.calm, name: 'calm' },
          { path: disks.stalling, name: 'stalling' },
        ]);
        meters.push(meterOf(place, server, SIDES.calm, 'calm'));
        meters.push(meterOf(place, server, SIDES.stalling, 'stalling'));
      }
      const entries = await measureInTurns(meters, {
        rounds: pick(ROUNDS, place),
        smoke: place.smoke,
        params: { bytes: size, stallMs: STALL_MS, ...paramsOf(STEADY) },
        before: () => sync(image),
      });
      return { entries, absences: [] };
    }),
  );
}

function meterOf(place: Place, server: KageServer, name: string, other: string): Meter {
  return {
    name,
    runtime: server.runtime,
    async measure() {
      // It is still at work when the client that counts has ended.
      const seconds = place.smoke ? undefined : 60;
      const others = startFio(server.uri(other), { ...OTHERS, seconds }, place);
      try {
        return latencies(READ_AND_WRITE, await fio(server.uri('vm'), STEADY, place));
      } finally {
        others.kill();
        await others.gone();
      }
    },
  };
}

/** A file of zeros in memory behind FUSE, which takes so long for each request. */
async function mountDisk(stage: Stage, name: string, size: number, ms: number): Promise<string> {
  const folder = stage.path(name);
  fs.mkdirSync(folder);
  const file = `${folder}/disk.img`;
  const delays = [`delay-read=${ms}ms`, `delay-write=${ms}ms`];
  const server = ['nbdkit', '-s', '--filter=delay', 'memory', `${size}`, ...delays];
  const mount = stage.start(['nbdfuse', file, '--command', ...server]);
  mount.undo = () => spawnSync('fusermount3', ['-u', '-z', folder]);
  const limit = performance.now() + MOUNTED_MS;
  await mount.until(() => {
    if (performance.now() > limit) throw new Error('nbdfuse does not mount');
    return fs.existsSync(file);
  });
  return file;
}
