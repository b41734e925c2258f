/**
 * How long clients stand still at a part. A client writes 4 KiB after 4 KiB, one at a time, to the
 * master of a pair of 16 TiB, and notes how long each write took; the pair is parted and rejoined
 * meanwhile, and of each part the longest write counts that was under way between the call and its
 * answer. That includes whatever else makes a write wait then; beside it, without a limit, the
 * longest write in as many stretches of the same length in which no verb ran.
 *
 * A pair of this size cannot be equal, since its copy would take minutes: it is parted
 * with `instant` while nearly all is pending. The copy is held back (a byte a second), and has brought
 * the stretch that the client writes, so that no write has to preserve a region first.
 */

import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Parameter, pick } from '../harness.ts';
import type { Place } from '../place.ts';
import { SIDES, WORKS } from '../report/floors.ts';
import type { Entry } from '../report/result.ts';
import { entryOf } from '../turns.ts';
import { type Load, startFio } from './fio.ts';
import { FIO, needing, type Outcome } from './needs.ts';
import { makeHoles } from './sparse.ts';
import { type KageServer, onEach, onStage, type Stage } from './stage.ts';

const SIZE: Parameter<number> = { smoke: 2 ** 36, real: 16 * 2 ** 40 };
/** Fewer where the rejoins between them, each of which writes all of a map, take too long. */
const PARTS: Parameter<number> = { smoke: 2, real: 30 };
const PARTS_MIN: Parameter<number> = { smoke: 2, real: 5 };
const TIME_MS = 35_000;
const LIMIT_MS = 5;

const COPY = { rateBytesPerSec: 1, wait: false } as const;
/** The copier's first piece, which is not held back. */
const STRETCH = 1024 * 1024;
/** Until it has brought it. */
const COPIED_MS = 300;
/** Between an answer and the next call. */
const REST_MS = 200;

const CLIENT: Load = { rw: 'randwrite', bytes: 4096, depth: 1, seconds: 600 };

/** Time of day, ms. */
type Span = { from: number; to: number };
type Write = { at: number; ms: number };

export function pause(place: Place): Promise<Outcome> {
  return needing([FIO], [WORKS.pause], () =>
    onStage(place, 'pause', async (stage) => {
      const entries = await onEach(place, async (runtime) => {
        const server = await stage.serve(runtime);
        const images = ['vm', 'proxy'].map((name) => stage.path(`${runtime.name}-${name}.img`));
        const size = makeHoles(images, pick(SIZE, place));
        await server.disks.add([
          { path: images[0], name: 'vm' },
          { path: images[1], name: 'proxy' },
        ]);
        const measured = await measurePauses(stage, server, images[0], size);
        await server.stop();
        return measured;
      });
      entries.push(
        entryOf({ work: WORKS.pause, runtime: '', params: {} }, SIDES.limit, [LIMIT_MS], ''),
      );
      return { entries, absences: [] };
    }),
  );
}

async function measurePauses(
  stage: Stage,
  server: KageServer,
  master: string,
  bytes: number,
): Promise<Entry[]> {
  const { runtime, disks } = server;
  await disks.join('vm', 'proxy', COPY);
  const name = stage.path(runtime);
  const more = [`--size=${STRETCH}`, `--write_lat_log=${name}`, '--log_unix_epoch=1'];
  const changedAt = () => fs.statSync(master).mtimeMs;
  const untouched = changedAt();
  // Also in a smoke run for as long as there are parts.
  const client = startFio(server.uri('vm'), { ...CLIENT, more }, { smoke: false });
  await client.until(() => changedAt() !== untouched);
  const parts: Span[] = [];
  const rests: Span[] = [];
  const limit = performance.now() + TIME_MS;
  const few = () => parts.length < pick(PARTS_MIN, stage.place);
  while (parts.length < pick(PARTS, stage.place) && (few() || performance.now() < limit)) {
    await sleep(COPIED_MS);
    const from = Date.now();
    await disks.part(['proxy'], { ...COPY, instant: true });
    const to = Date.now();
    parts.push({ from, to });
    await sleep(REST_MS + to - from);
    rests.push({ from: Date.now() - (to - from), to: Date.now() });
    await disks.rejoin(['proxy'], COPY);
  }
  await client.stop();
  const writes = readLog(`${name}_clat.1.log`);
  const work = { work: WORKS.pause, runtime, params: { bytes } };
  return [
    latencyEntry(
      work,
      SIDES.serve,
      parts.map((span) => worstIn(span, writes)),
    ),
    latencyEntry(
      work,
      SIDES.noPart,
      rests.map((span) => worstIn(span, writes)),
    ),
    latencyEntry(
      work,
      SIDES.allWrites,
      writes.map(({ ms }) => ms),
    ),
  ];
}

/** Lines of fio's log: time of the answer in ms since 1970, latency in ns, and more. */
function readLog(file: string): Write[] {
  return fs
    .readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => {
      const [at, ns] = line.split(',', 2).map(Number);
      return { at, ms: ns / 1e6 };
    });
}

/** Of the writes that were under way in a span. */
function worstIn({ from, to }: Span, writes: readonly Write[]): number {
  let worst = 0;
  for (const { at, ms } of writes) {
    if (at >= from && at - ms <= to) worst = Math.max(worst, ms);
  }
  if (worst === 0) throw new Error(`${WORKS.pause}: the client wrote nothing meanwhile`);
  return worst;
}

function latencyEntry(
  work: Pick<Entry, 'work' | 'runtime' | 'params'>,
  name: string,
  values: readonly number[],
): Entry {
  const sorted = [...values].sort((a, b) => a - b);
  const rank = (part: number) => sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)];
  const params = { ...work.params, p50: rank(0.5), p999: rank(0.999) };
  return { ...entryOf({ ...work, params }, name, [rank(0.99)], ''), rounds: values.length };
}
