/** `kage join` of an image that is nearly all hole: how fast nothing is read, and that none is made. */

import fs from 'node:fs';
import path from 'node:path';
import { type Parameter, pick } from '../harness.ts';
import { hashOf, makeImage, type Place, requireSpace, within } from '../place.ts';
import { WORKS } from '../report/floors.ts';
import type { Entry } from '../report/result.ts';
import { runProgram } from '../runtimes.ts';
import { entryOf } from '../turns.ts';

const MIB = 2 ** 20;
const SIZE: Parameter<number> = { smoke: 512 * MIB, real: 2 ** 40 };
const PIECES: Parameter<number> = { smoke: 4, real: 32 };
const PIECE_BYTES: Parameter<number> = { smoke: MIB, real: 64 * MIB };
const LIMIT_MS = 60_000;

export function sparseJoin(place: Place): { entries: Entry[] } {
  const size = pick(SIZE, place);
  const length = pick(PIECE_BYTES, place);
  const count = pick(PIECES, place);
  requireSpace(place.dir, 2.5 * count * length);
  return within(place, 'sparse', (dir) => {
    const [master, proxy] = [path.join(dir, 'vm.img'), path.join(dir, 'proxy.img')];
    const ranges = Array.from({ length: count }, (_, i) => ({
      offset: Math.floor(((i + 0.5) * size) / count / length) * length,
      length,
    }));
    makeImage(master, size, 1, ranges);
    const hashes = (file: string) =>
      ranges.map((range) => hashOf(file, range.offset, range.length)).join(' ');
    const wanted = hashes(master);
    const program = [process.execPath, place.kage, 'join', master, proxy];
    const began = performance.now();
    runProgram(program, { env: { KAGE_HOME: path.join(dir, 'home') } });
    const elapsed = performance.now() - began;
    if (hashes(proxy) !== wanted) throw new Error(`${WORKS.sparse}: the proxy differs`);
    const allocated = fs.statSync(proxy).blocks * 512;
    if (allocated > 1.1 * count * length) {
      throw new Error(`${WORKS.sparse}: the proxy takes ${allocated} bytes`);
    }
    const reading = performance.now();
    runProgram(['sh', '-c', `${readHalf(0, size)} & ${readHalf(1, size)}; wait`, 'sh', master]);
    const read = performance.now() - reading;
    const params = { bytes: size, dataBytes: count * length, allocatedBytes: allocated };
    const work = { work: WORKS.sparse, runtime: 'node', params };
    return {
      entries: [
        entryOf(work, 'kage join', [elapsed], ''),
        entryOf(work, 'limit', [LIMIT_MS], ''),
        entryOf(work, 'only reading, two dd', [read], ''),
      ],
    };
  });
}

/** With direct I/O, as we read: what a program has to wait for that asks no map of the holes. */
function readHalf(index: 0 | 1, size: number): string {
  const half = Math.floor(size / 2 / MIB) * MIB;
  const place = index === 0 ? `count=${half}` : `skip=${half}`;
  return `dd if="$1" of=/dev/null bs=256k iflag=direct,count_bytes,skip_bytes status=none ${place}`;
}
