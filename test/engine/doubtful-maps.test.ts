/** A map that is damaged on disk: doubt, and the pair is compared; never fewer bits than there were. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type MemoryDisk, MemoryHost } from '../../src/device/memory-host.ts';
import type { DiskClass, PairInfo } from '../../src/engine/api.ts';
import { openClass } from '../../src/engine/open.ts';

const test = suite('engine: doubtful maps');
const REGION = 4096;
const REGIONS = 20;
const SLOTS = [4096, 8192] as const;
/** So small that the changed bits of a region are durable soon after it was written. */
const tuning = { extentSize: REGION, extentsMax: 1 };

async function open(host: MemoryHost): Promise<DiskClass> {
  return await openClass('c', { home: '/home', host, kernel: 'js', create: true, tuning });
}

/** A pair that is parted, and on whose master the first regions were written one by one. */
async function parted(host: MemoryHost, exclusive = false): Promise<DiskClass> {
  for (const name of ['m', 'p']) host.addDisk(`/${name}.img`, REGIONS * REGION);
  const disks = await open(host);
  await disks.add(['m', 'p'].map((name) => ({ path: `/${name}.img`, name, exclusive })));
  await disks.join('m', 'p', { regionSize: REGION });
  await disks.part(['p']);
  for (let region = 0; region < 5; region++)
    await disks.write('m', region * REGION, Uint8Array.of(1));
  return disks;
}

function mapFile(host: MemoryHost, map: string): MemoryDisk {
  const { names } = host.folders.get('/home/classes/c')!;
  const [file] = [...names].filter(([name]) => name.includes(`-${map}-`)).map(([, disk]) => disk);
  return file;
}

/** Flips a bit in the slot that was written last. */
function damageNewest(file: MemoryDisk): void {
  const sequence = (slot: number) => new DataView(file.content.buffer).getUint32(slot + 8, true);
  const newest = sequence(SLOTS[0]) > sequence(SLOTS[1]) ? SLOTS[0] : SLOTS[1];
  assert.ok(sequence(newest) > 1, 'there is an older state');
  file.content[newest + 60] ^= 4;
}

async function pairOf(disks: DiskClass): Promise<PairInfo> {
  return (await disks.info()).pairs[0];
}

for (const end of ['closed', 'killed'] as const) {
  test(`changed is damaged, the class was ${end}: the next copy compares`, async () => {
    const host = new MemoryHost(1);
    const disks = await parted(host);
    if (end === 'closed') await disks.close();
    else host.killProcesses();
    damageNewest(mapFile(host, 'changed'));
    const again = await open(host);
    const pair = await pairOf(again);
    assert.match(pair.doubt ?? '', /page 0 of the map is damaged/);
    assert.is(pair.next?.method, 'compare');
    await again.rejoin(['p']);
    const { pairs } = await again.verify(['p']);
    assert.is(pairs[0].differing, 0);
  });
}

test('pending is torn, the class was killed: what had been copied is copied again', async () => {
  const host = new MemoryHost(1);
  // Whose stamps are not asked: else the unclean end alone is reason for doubt.
  const disks = await parted(host, true);
  const stop = new AbortController();
  let pieces = 0;
  const onProgress = () => {
    if (++pieces === 3) stop.abort();
  };
  await disks
    .update(['p'], { rateBytesPerSec: 700, signal: stop.signal, onProgress })
    .catch(() => {});
  assert.is((await pairOf(disks)).pendingRegions, 2);
  host.killProcesses();
  damageNewest(mapFile(host, 'pending'));
  const again = await open(host);
  const pair = await pairOf(again);
  assert.ok(pair.pendingRegions > 2, String(pair.pendingRegions));
  await again.update(['p']);
  assert.is((await again.verify(['p'])).pairs[0].differing, 0);
});

test('pending is damaged, the class was closed: the snapshot that needs it is INVALID', async () => {
  const host = new MemoryHost(1);
  const disks = await parted(host);
  const stop = new AbortController();
  stop.abort();
  await disks.update(['p'], { signal: stop.signal }).catch(() => {});
  await disks.close();
  mapFile(host, 'pending').content[SLOTS[0] + 60] ^= 4;
  const again = await open(host);
  const pair = await pairOf(again);
  assert.is(pair.state, 'invalid');
  assert.ok(pair.doubt !== null);
  const { volumes } = await again.info();
  assert.is(volumes.find((v) => v.name === 'p')?.status, 'INVALID');
  assert.is(volumes.find((v) => v.name === 'm')?.status, 'ACTIVE');
});

test.run();
