/** `rejoin` of a tracked pair against our own full copy of it: engine time, process start left out. */

import { type Parameter, pick } from '../harness.ts';
import { type Place, requireSpace, within } from '../place.ts';
import { WORKS } from '../report/floors.ts';
import type { Entry } from '../report/result.ts';
import { runProgram } from '../runtimes.ts';
import { entryOf } from '../turns.ts';

const SIZE: Parameter<number> = { smoke: 64 * 2 ** 20, real: 8 * 2 ** 30 };
const ROUNDS: Parameter<number> = { smoke: 1, real: 5 };

export function rejoin(place: Place): { entries: Entry[] } {
  const size = pick(SIZE, place);
  requireSpace(place.dir, 2.2 * size);
  return within(place, 'rejoin', (dir) => {
    const rounds = pick(ROUNDS, place);
    const words = [dir, size, rounds, place.library].map(String);
    const text = runProgram([process.execPath, `${place.code}/rejoin.mjs`, ...words]);
    const times = JSON.parse(text);
    const params = { bytes: size, regions: times.regions, written: times.written };
    const work = { work: WORKS.rejoin, runtime: 'node', params };
    return {
      entries: [
        entryOf(work, 'rejoin', times.rejoin, ''),
        entryOf(work, 'our full copy', times.join, ''),
      ],
    };
  });
}
