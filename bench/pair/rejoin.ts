/**
 * `node rejoin.mjs DIR BYTES ROUNDS LIBRARY`: joins an image of so many bytes to a new proxy (our
 * own full copy), then parts, changes one region of a hundred through the engine and rejoins, some
 * rounds. Prints the times of the calls, ms: the process has long started.
 *
 * The changes are single sectors in regions far apart: the most seeks that 1 % can cost.
 */

import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type * as Library from '../../src/index.ts';
import { makeImage } from '../place.ts';

const [dir, bytes, rounds, library] = process.argv.slice(2);
const { openClass, diffImages }: typeof Library = await import(pathToFileURL(library).href);
const size = Number(bytes);
const master = path.join(dir, 'vm.img');
const proxy = path.join(dir, 'proxy.img');
const home = path.join(dir, 'home');
makeImage(master, size, 1);

const times = { join: [] as number[], rejoin: [] as number[], regions: 0, written: 0 };
const opened = await openClass('bench', { home, create: true });

async function timed<T>(list: number[], work: () => Promise<T>): Promise<T> {
  const began = performance.now();
  const result = await work();
  list.push(performance.now() - began);
  return result;
}

const first = await timed(times.join, () => opened.join(master, proxy));
const { regions } = first.pairs[0].copy!;
times.regions = Math.max(1, Math.round(regions / 100));
const regionSize = Math.ceil(size / regions);
for (let round = 0; round < Number(rounds); round++) {
  await opened.part([proxy]);
  for (let i = 0; i < times.regions; i++) {
    // One in each stretch of so many regions, elsewhere in every round.
    const stretch = Math.floor(regions / times.regions);
    const region = i * stretch + ((i * 9973 + round * 31) % stretch);
    await opened.write(master, region * regionSize, Buffer.alloc(512, round + i));
  }
  await opened.flush(master);
  const report = await timed(times.rejoin, () => opened.rejoin([proxy]));
  const { method, regions: looked, bytesWritten } = report.pairs[0].copy!;
  if (method !== 'differential' || looked !== times.regions) {
    throw new Error(`rejoin: ${method} copy of ${looked} regions, ${times.regions} changed`);
  }
  times.written = bytesWritten;
}
await opened.close();
const { differing } = await diffImages(master, proxy, { home });
if (differing !== 0) throw new Error(`rejoin: ${differing} regions differ`);
console.log(JSON.stringify(times));
