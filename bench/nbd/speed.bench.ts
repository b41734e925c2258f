/**
 * Requests a second and bytes a second of a plain volume, our server on each runtime beside the peers.
 * One client, one connection, no flush on any side. Not measured: several clients, TCP, TLS.
 */

import { type Parameter, pick } from '../harness.ts';
import { hashOf, makeImage, type Place, requireSpace, sync } from '../place.ts';
import { SIDES, WORKS } from '../report/floors.ts';
import { runProgram } from '../runtimes.ts';
import { type Figure, type Meter, measureInTurns } from '../turns.ts';
import { fio, type Load, paramsOf, type Result } from './fio.ts';
import { FIO, needing, type Outcome } from './needs.ts';
import { everyServer } from './peers.ts';
import { onStage } from './stage.ts';

const MIB = 2 ** 20;
const WARM: Parameter<number> = { smoke: 16 * MIB, real: 512 * MIB };
/** More than a client reads within its time, each place once. */
const COLD: Parameter<number> = { smoke: 16 * MIB, real: 1024 * MIB };
const ROUNDS: Parameter<number> = { smoke: 1, real: 3 };

interface Course {
  work: string;
  load: Load;
  figureOf(result: Result): Omit<Figure, 'work'>;
  /** Nothing of the image is in the page cache when the turn begins. */
  cold?: boolean;
}

const RANDOM: readonly Course[] = [
  {
    work: WORKS.randomRead,
    load: { rw: 'randread', bytes: 4096, depth: 16 },
    figureOf: ({ read }) => ({ unit: 'IOPS', value: read.requestsPerSec }),
  },
  {
    work: WORKS.randomWrite,
    load: { rw: 'randwrite', bytes: 4096, depth: 16 },
    figureOf: ({ write }) => ({ unit: 'IOPS', value: write.requestsPerSec }),
  },
];

const SEQUENTIAL: readonly Course[] = [
  {
    work: WORKS.sequentialRead,
    load: { rw: 'read', bytes: MIB, depth: 4 },
    figureOf: ({ read }) => ({ unit: 'MiB/s', value: read.bytesPerSec / MIB }),
  },
  {
    work: WORKS.sequentialWrite,
    load: { rw: 'write', bytes: MIB, depth: 4 },
    figureOf: ({ write }) => ({ unit: 'MiB/s', value: write.bytesPerSec / MIB }),
  },
];

const COLD_READ: readonly Course[] = [
  {
    work: WORKS.coldRead,
    load: { rw: 'randread', bytes: 4096, depth: 16, once: true, seconds: 3 },
    figureOf: ({ read }) => ({ unit: 'IOPS', value: read.requestsPerSec }),
    cold: true,
  },
];

export const random = (place: Place) => race(place, 'random', WARM, RANDOM);
export const cold = (place: Place) => race(place, 'cold', COLD, COLD_READ);
export const sequential = (place: Place) => race(place, 'sequential', WARM, SEQUENTIAL);

function race(
  place: Place,
  name: string,
  bytes: Parameter<number>,
  courses: readonly Course[],
): Promise<Outcome> {
  const works = courses.map(({ work }) => work);
  return needing([FIO], works, () =>
    onStage(place, name, async (stage) => {
      const size = pick(bytes, place);
      requireSpace(place.dir, 1.2 * size);
      const image = stage.path('vm.img');
      makeImage(image, size, 1);
      hashOf(image);
      const { served, absences } = await everyServer(stage, image, works, SIDES.serve);
      const entries = [];
      for (const { work, load, figureOf, cold } of courses) {
        const meters: Meter[] = served.map(({ name, runtime, uri }) => ({
          name,
          runtime,
          measure: async () => [{ work, ...figureOf(await fio(uri, load, place)) }],
        }));
        entries.push(
          ...(await measureInTurns(meters, {
            rounds: pick(ROUNDS, place),
            smoke: place.smoke,
            params: { bytes: size, ...paramsOf(load) },
            before: () => {
              // What an earlier turn left dirty is written in nobody's time.
              sync(image);
              if (cold) forget(image);
            },
          })),
        );
      }
      return { entries, absences };
    }),
  );
}

/** Takes a file out of the page cache; it has just been synced. */
function forget(file: string): void {
  runProgram(['dd', `if=${file}`, 'iflag=nocache', 'count=0', 'status=none']);
}
