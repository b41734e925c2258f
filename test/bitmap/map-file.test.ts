/** Region maps on disk: what was saved comes back, and damage is doubt and never a missing bit. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { MapFile, type MapFileFacts } from '../../src/bitmap/map-file.ts';
import { PAGE_BITS, RegionMap } from '../../src/bitmap/region-map.ts';
import { type MemoryDisk, MemoryHost } from '../../src/device/memory-host.ts';
import { createKernel } from '../../src/kernel/select.ts';

const test = suite('bitmap: map file');
const kernel = createKernel('wasm');
const PAGE = 4096;
const REGIONS = 2 * PAGE_BITS + 100;
const FACTS: MapFileFacts = { name: 'pair3-changed-7', regions: REGIONS, regionSize: 65536 };

class World {
  readonly host: MemoryHost;

  constructor(seed = 1) {
    this.host = new MemoryHost(seed);
  }

  get folder() {
    return this.host.folder('/state');
  }

  get disk(): MemoryDisk {
    return this.host.folders.get('/state')!.names.get(FACTS.name)!;
  }

  async create(bits: readonly number[], facts = FACTS): Promise<{ map: RegionMap; file: MapFile }> {
    const map = mapOf(bits, facts.regions);
    const file = await MapFile.create(this.folder, facts, map);
    await this.folder.sync();
    return { map, file };
  }

  /** What is found: the doubt, how many bits, and (without doubt) which. */
  async found(options: { tornIsOld?: boolean; facts?: MapFileFacts } = {}) {
    const { tornIsOld = false, facts = FACTS } = options;
    const { file, map, doubt } = await MapFile.open(this.folder, facts, kernel, { tornIsOld });
    const bits = doubt === null ? [...setOf(map)] : [];
    const count = map.count();
    await file?.close();
    map.release();
    return { doubt, bits, count };
  }
}

function mapOf(bits: readonly number[], regions = REGIONS): RegionMap {
  const map = new RegionMap(kernel, regions);
  for (const bit of bits) map.set(bit);
  return map;
}

function setOf(map: RegionMap): Set<number> {
  const set = new Set<number>();
  for (const { first, count } of map.runs()) for (let i = 0; i < count; i++) set.add(first + i);
  return set;
}

const bitsOf = (regions: number) =>
  fc.uniqueArray(
    fc.oneof(fc.nat(regions - 1), fc.constantFrom(0, regions - 1, (PAGE_BITS - 1) % regions)),
    { maxLength: 20 },
  );

test('what is saved comes back, whatever the size', async () => {
  const sizes = [1, 7, 8, 9, 64, PAGE_BITS - 1, PAGE_BITS, PAGE_BITS + 1, 2 * PAGE_BITS + 3];
  const change = fc.record({ first: fc.nat(), count: fc.nat(300), on: fc.boolean() });
  const cases = fc.tuple(
    fc.constantFrom(...sizes).chain((n) => fc.tuple(fc.constant(n), bitsOf(n))),
    fc.boolean(),
    fc.array(fc.array(change, { maxLength: 3 }), { maxLength: 4 }),
  );
  await fc.assert(
    fc.asyncProperty(cases, async ([[regions, bits], inverse, saves]) => {
      const facts = { ...FACTS, regions };
      const world = new World();
      const map = mapOf(bits, regions);
      if (inverse) {
        map.setAll();
        for (const bit of bits) map.clear(bit);
      }
      const file = await MapFile.create(world.folder, facts, map);
      for (const changes of saves) {
        for (const { first, count, on } of changes) {
          const at = first % regions;
          map[on ? 'set' : 'clear'](at, Math.min(count, regions - at));
        }
        await file.save(map);
        const { doubt, bits: found } = await world.found({ facts });
        assert.is(doubt, null);
        assert.equal(found, [...setOf(map)]);
      }
      await file.close();
      const { doubt, bits: found } = await world.found({ facts });
      assert.is(doubt, null);
      assert.equal(found, [...setOf(map)]);
      map.release();
    }),
    { numRuns: 80 },
  );
});

test('a map all clear or all set is a header and a hole', async () => {
  for (const full of [false, true]) {
    const world = new World();
    const map = mapOf([]);
    if (full) map.setAll();
    await (await MapFile.create(world.folder, FACTS, map)).close();
    assert.ok(world.disk.content.subarray(PAGE).every((byte) => byte === 0));
    assert.is(world.disk.writes, 1);
    assert.is((await world.found()).count, full ? REGIONS : 0);
    map.release();
  }
});

test('a map of which most is set costs what is clear in it', async () => {
  const w = new World();
  const map = new RegionMap(kernel, REGIONS);
  map.setAll();
  map.clear(PAGE_BITS + 5);
  let writes = 0;
  w.host.onOperation = (operation) => {
    if (operation === 'write') writes++;
  };
  const file = await MapFile.create(w.folder, FACTS, map);
  assert.is(writes, 2, 'the header and the page with the clear bit');
  await file.close();
  const { doubt, count } = await w.found();
  assert.equal([doubt, count], [null, REGIONS - 1]);
  map.release();
});

test('a save writes the touched pages only, and syncs once or not at all', async () => {
  const world = new World();
  const { map, file } = await world.create([]);
  const counts = { write: 0, flush: 0 };
  world.disk.fault = (operation) => {
    if (operation !== 'read') counts[operation]++;
  };
  await file.save(map);
  assert.equal(counts, { write: 0, flush: 0 });
  map.set(5);
  map.set(2 * PAGE_BITS);
  await file.save(map);
  assert.equal(counts, { write: 2, flush: 1 });
  await file.save(map);
  assert.equal(counts, { write: 2, flush: 1 });
});

test('a page is never written over its newest good state', async () => {
  const world = new World();
  const { map, file } = await world.create([1, PAGE_BITS]);
  const durable: number[][] = [[1, PAGE_BITS]];
  for (let i = 2; i < 7; i++) {
    const before = world.disk.content.slice();
    map.set(i);
    await file.save(map);
    const slots = [0, 1].map((slot) => PAGE + slot * PAGE);
    const kept = slots.filter((at) =>
      before.subarray(at, at + PAGE).every((byte, j) => byte === world.disk.content[at + j]),
    );
    assert.is(kept.length, 1, 'one of the two slots of page 0 is as it was');
    durable.push([...setOf(map)]);
  }
  assert.equal((await world.found()).bits, durable.at(-1));
});

test('power fails in the middle of a save: the state before or after it, page by page', async () => {
  let [old, fresh] = [0, 0];
  for (let seed = 1; seed <= 60; seed++) {
    const world = new World(seed);
    const { map, file } = await world.create([1, 2, 3, PAGE_BITS + 1]);
    map.clear(2);
    map.clear(PAGE_BITS + 1);
    let left = seed % 4;
    world.disk.fault = () => {
      if (left-- === 0) {
        world.host.cutPower();
        throw new Error('cut');
      }
    };
    await file.save(map).catch(() => {});
    world.host.cutPower();
    world.disk.fault = undefined;
    const { doubt, bits } = await world.found({ tornIsOld: true });
    assert.is(doubt, null, `seed ${seed}`);
    const first = bits.filter((bit) => bit < PAGE_BITS).join();
    const second = bits.filter((bit) => bit >= PAGE_BITS).join();
    assert.ok(['1,2,3', '1,3'].includes(first), `seed ${seed}: ${first}`);
    assert.ok([String(PAGE_BITS + 1), ''].includes(second), `seed ${seed}: ${second}`);
    if (first === '1,3') fresh++;
    else old++;
  }
  assert.ok(old > 0 && fresh > 0, 'both were seen');
});

test('after a power cut the next save is found', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const world = new World(seed);
    const { map, file } = await world.create([1, 2, 3]);
    map.clear(2);
    world.disk.fault = (operation) => {
      if (operation === 'flush') {
        world.host.cutPower();
        throw new Error('cut');
      }
    };
    await file.save(map).catch(() => {});
    world.disk.fault = undefined;
    const again = await MapFile.open(world.folder, FACTS, kernel, { tornIsOld: true });
    again.map.set(50);
    await again.file!.save(again.map);
    const { doubt, bits } = await world.found({ tornIsOld: true });
    assert.is(doubt, null);
    assert.equal(bits, [...setOf(again.map)], `seed ${seed}`);
    assert.ok(bits.includes(50));
  }
});

test('a failed save leaves its pages touched, and the durable slot alone', async () => {
  for (const operation of ['write', 'flush'] as const) {
    const world = new World();
    const { map, file } = await world.create([1]);
    map.set(2);
    world.disk.fault = (op) => {
      if (op === operation) throw new KageError('io-error', 'fault');
    };
    for (let i = 0; i < 3; i++) {
      let failed = false;
      await file.save(map).catch(() => {
        failed = true;
      });
      assert.ok(failed);
      const { bits } = await (async () => {
        const copy = new World();
        const { map: other, file: its } = await copy.create([]);
        await its.close();
        other.release();
        copy.disk.content.set(world.disk.durable);
        return await copy.found({ tornIsOld: true });
      })();
      assert.equal(bits, [1], `what is durable after ${i + 1} failed saves`);
    }
    world.disk.fault = undefined;
    await file.save(map);
    assert.equal((await world.found()).bits, [1, 2]);
  }
});

/** A file whose pages have had one, two and three states. */
async function sample(): Promise<{ world: World; bits: number[] }> {
  const world = new World();
  const { map, file } = await world.create([3, 4, 5, PAGE_BITS - 1, PAGE_BITS, PAGE_BITS + 7]);
  map.set(1000, 20);
  map.clear(4);
  map.set(PAGE_BITS + 9);
  await file.save(map);
  map.set(6);
  await file.save(map);
  await file.close();
  const bits = [...setOf(map)];
  map.release();
  return { world, bits };
}

test('one flipped bit anywhere is doubt, never a missing bit', async () => {
  const { world, bits } = await sample();
  const { disk } = world;
  const places: number[] = [];
  for (let byte = 0; byte < 104; byte++) places.push(byte);
  for (let at = PAGE; at < disk.content.byteLength; at += PAGE) {
    for (let byte = 0; byte < 40; byte++) places.push(at + byte);
    for (let byte = 40; byte < PAGE; byte += 97) places.push(at + byte);
    places.push(at + PAGE - 1);
  }
  for (const place of places) {
    for (const bit of place % 3 === 0 ? [0, 1, 2, 3, 4, 5, 6, 7] : [place % 8]) {
      disk.content[place] ^= 1 << bit;
      const { doubt, count } = await world.found();
      assert.ok(doubt !== null, `bit ${bit} of byte ${place}`);
      assert.is(count, REGIONS, 'a doubtful map is all set');
      disk.content[place] ^= 1 << bit;
    }
  }
  const { doubt, bits: found } = await world.found();
  assert.is(doubt, null);
  assert.equal(found, bits);
});

test('after an unclean end one torn slot is the older state, two are doubt', async () => {
  const { world } = await sample();
  const { disk } = world;
  const slot = (index: number) => PAGE + index * PAGE;
  // Page 0 was written three times: slot 0 holds the third state, slot 1 the second.
  disk.content[slot(0) + 100] ^= 1;
  const torn = await world.found({ tornIsOld: true });
  assert.is(torn.doubt, null);
  assert.ok(!torn.bits.includes(6) && torn.bits.includes(1000) && !torn.bits.includes(4));
  disk.content[slot(1) + 100] ^= 1;
  const both = await world.found({ tornIsOld: true });
  assert.match(both.doubt ?? '', /page 0 of the map is damaged/);
  assert.is(both.count, REGIONS);
});

test('a page in the place of another is damage', async () => {
  const { world } = await sample();
  const { disk } = world;
  disk.content.copyWithin(PAGE + 2 * PAGE, PAGE, PAGE + 2 * PAGE);
  assert.match((await world.found()).doubt ?? '', /page 1 of the map is damaged/);
});

test('truncated, longer, empty or missing is doubt', async () => {
  const { world } = await sample();
  const whole = world.disk.content;
  const sizes = [0, 1, 103, PAGE, whole.length - 1, whole.length + 1, whole.length + 2 * PAGE];
  for (const size of sizes) {
    const bytes = new Uint8Array(size);
    bytes.set(whole.subarray(0, size));
    await world.folder.write(FACTS.name, bytes);
    const { doubt, count } = await world.found();
    assert.ok(doubt !== null, `${size} bytes`);
    assert.is(count, REGIONS);
  }
  await world.folder.remove(FACTS.name);
  assert.match((await world.found()).doubt ?? '', /cannot be opened/);
});

test("another pair's, map's or generation's file, size or region is doubt", async () => {
  const { world } = await sample();
  const file = await world.folder.read(FACTS.name);
  const others: MapFileFacts[] = [
    { ...FACTS, name: 'pair4-changed-7' },
    { ...FACTS, name: 'pair3-pending-7' },
    { ...FACTS, name: 'pair3-changed-8' },
    { ...FACTS, regions: REGIONS - 1 },
    { ...FACTS, regions: REGIONS + 1 },
    { ...FACTS, regionSize: 4096 },
  ];
  for (const facts of others) {
    await world.folder.write(facts.name, file!);
    assert.match((await world.found({ facts })).doubt ?? '', /damaged or of another pair/);
  }
});

test('a file that cannot be read is doubt', async () => {
  const { world } = await sample();
  let reads = 0;
  world.disk.fault = (operation) => {
    if (operation === 'read' && ++reads === 2) throw new KageError('io-error', 'fault');
  };
  assert.match((await world.found()).doubt ?? '', /cannot be read/);
});

test('all memory is given back', async () => {
  const before = kernel.allocate(1);
  kernel.release(before);
  const { world } = await sample();
  await world.found();
  world.disk.content[0] ^= 1;
  await world.found();
  const after = kernel.allocate(1);
  kernel.release(after);
  assert.is(after, before);
});

test('what changes while a file is made is in it after the next save', async () => {
  const world = new World();
  const map = mapOf([3, PAGE_BITS + 5]);
  let writes = 0;
  world.host.onOperation = (operation) => {
    // The header, then the two pages: the first one is written by now.
    if (operation === 'write' && ++writes === 3) map.set(4);
  };
  const file = await MapFile.create(world.folder, FACTS, map);
  world.host.onOperation = undefined;
  assert.is(writes, 3);
  assert.ok(map.hasTouched, 'the page that was written already is to be saved again');
  await world.folder.sync();
  await file.save(map);
  await file.close();
  assert.equal((await world.found()).bits, [3, 4, PAGE_BITS + 5]);
});

test.run();
