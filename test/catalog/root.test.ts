/** The catalog: two roots, of which one is always good, and damage that is never taken for content. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { type Step, setFaultHook } from '../../src/base/faults.ts';
import { type ClassRecord, emptyClass, SCHEMA } from '../../src/catalog/records.ts';
import { commitRoot, decodeRoot, encodeRoot, loadRoots } from '../../src/catalog/root.ts';
import { MemoryHost, PowerCut } from '../../src/device/memory-host.ts';
import { createKernel } from '../../src/kernel/select.ts';

const test = suite('catalog: root');
test.after.each(() => setFaultHook());
const kernel = createKernel('wasm');

/** A class with a disk and a volume; its path is not ASCII. */
function sample(): ClassRecord {
  const record = emptyClass('tests');
  record.disks.push({
    name: 'd1',
    type: 'keep',
    path: '/data/größe-磁盘 "1".img',
    size: 1_000_001,
    exclusive: false,
    creating: false,
    stamp: null,
  });
  record.volumes.push({
    id: 1,
    name: 'v1',
    disk: 'd1',
    offset: 0,
    size: 1_000_001,
    started: true,
    readOnly: false,
    locked: false,
    invalid: { reason: 'the copy to it failed', since: 5 },
  });
  return record;
}

/** A folder with `commits` commits; the nextId of each is its generation times ten. */
async function committed(commits: number, seed = 1): Promise<MemoryHost> {
  const host = new MemoryHost(seed);
  const record = sample();
  for (let i = 1; i <= commits; i++) {
    record.nextId = i * 10;
    await commitRoot(host.folder('/c'), kernel, record, host.now());
  }
  return host;
}

async function load(host: MemoryHost) {
  return await loadRoots(host.folder('/c'), kernel);
}

test('what is encoded is decoded, and a person can read it', () => {
  const record = sample();
  const bytes = encodeRoot(record, kernel);
  assert.equal(decodeRoot(bytes, kernel), record);
  const text = new TextDecoder().decode(bytes);
  assert.match(text, /^\{\n "kagemusha": "class catalog",\n "schema": \d+,\n "checksum": /);
  assert.match(text, 'größe-磁盘');
  assert.ok(text.endsWith('}\n'));
});

test('a root from before the access mode is read: its volumes are for reading and writing', () => {
  const record = sample();
  delete (record.volumes[0] as { readOnly?: boolean }).readOnly;
  assert.equal(decodeRoot(encodeRoot(record, kernel), kernel), sample());
});

test('both kernels write the same root', () => {
  const [a, b] = (['wasm', 'js'] as const).map((kind) => encodeRoot(sample(), createKernel(kind)));
  assert.is(Buffer.compare(a, b), 0);
});

test('any flipped bit is damage', () => {
  const bytes = encodeRoot(sample(), kernel);
  for (let at = 0; at < bytes.byteLength; at++) {
    for (let bit = 0; bit < 8; bit++) {
      bytes[at] ^= 1 << bit;
      assert.type(decodeRoot(bytes, kernel), 'string', `bit ${bit} of byte ${at}`);
      bytes[at] ^= 1 << bit;
    }
  }
  assert.type(decodeRoot(bytes, kernel), 'object');
});

test('any truncation, and anything behind the end, is damage', () => {
  const bytes = encodeRoot(sample(), kernel);
  for (let length = 0; length < bytes.byteLength; length++) {
    assert.type(decodeRoot(bytes.subarray(0, length), kernel), 'string', `${length} bytes`);
  }
  assert.type(decodeRoot(Uint8Array.of(...bytes, 10), kernel), 'string');
  assert.type(decodeRoot(Uint8Array.of(0xef, 0xbb, 0xbf, ...bytes), kernel), 'string', 'a mark');
  assert.type(decodeRoot(new Uint8Array(bytes.byteLength), kernel), 'string', 'zeros');
});

test('a folder without roots is no class', async () => {
  assert.equal(await load(new MemoryHost(1)), { record: undefined, closed: null });
});

test('commits alternate between the roots, and the newest counts', async () => {
  for (let commits = 1; commits <= 5; commits++) {
    const host = await committed(commits);
    const { record, closed } = await load(host);
    assert.is(closed, null);
    assert.equal([record?.generation, record?.nextId], [commits, commits * 10]);
    assert.equal(await host.folder('/c').list(), commits === 1 ? ['root.1'] : ['root.0', 'root.1']);
  }
});

test('a damaged root closes the class, the older one or the newer', async () => {
  for (const name of ['root.0', 'root.1']) {
    for (const damage of ['flip', 'truncate', 'empty'] as const) {
      const host = await committed(4);
      const bytes = (await host.folder('/c').read(name))!;
      if (damage === 'flip') bytes[200] ^= 1;
      const length = { flip: bytes.byteLength, truncate: 100, empty: 0 }[damage];
      await host.folder('/c').write(name, bytes.subarray(0, length));
      const { record, closed } = await load(host);
      assert.match(closed ?? '', name, damage);
      assert.is(record?.generation, name === 'root.0' ? 3 : 4, 'the good one can be looked at');
    }
  }
});

test('both damaged: closed, and nothing to look at', async () => {
  const host = await committed(4);
  for (const name of ['root.0', 'root.1']) await host.folder('/c').write(name, Uint8Array.of(1));
  const { record, closed } = await load(host);
  assert.is(record, undefined);
  assert.match(closed ?? '', /root\.0.*root\.1/);
});

test('a root that is missing closes the class', async () => {
  for (const commits of [3, 4, 5]) {
    for (const name of ['root.0', 'root.1']) {
      const host = await committed(commits);
      await host.folder('/c').remove(name);
      const { closed } = await load(host);
      assert.match(closed ?? '', /missing/, `${name} of generation ${commits}`);
    }
  }
});

test('a root of another generation than its neighbour expects closes the class', async () => {
  const host = await committed(3);
  const old = (await host.folder('/c').read('root.0'))!;
  const later = await committed(5);
  await later.folder('/c').write('root.0', old);
  assert.match((await load(later)).closed ?? '', /missing/);
});

test('a newer schema is refused, whichever root has it', async () => {
  for (const name of ['root.0', 'root.1']) {
    const host = await committed(2);
    const text = new TextDecoder().decode(encodeRoot(sample(), kernel));
    // As a later version would write it: with its own checksum.
    const newer = text.replace(`"schema": ${SCHEMA}`, `"schema": ${SCHEMA + 1}`);
    await host.folder('/c').write(name, withChecksum(newer));
    let error: unknown;
    await load(host).catch((thrown) => {
      error = thrown;
    });
    assert.is((error as KageError).code, 'catalog-newer');
    assert.match((error as KageError).message, `schema ${SCHEMA + 1}`);
  }
});

/** The checksum is of the text with sixteen zeros in its place; `encodeRoot` of nothing shows how. */
function withChecksum(text: string): Uint8Array {
  const blank = text.replace(/"checksum": "[0-9a-f]{16}"/, `"checksum": "${'0'.repeat(16)}"`);
  const bytes = new TextEncoder().encode(blank);
  const state = kernel.allocate(256);
  const data = kernel.allocate(bytes.byteLength);
  kernel.bytes(data, bytes.byteLength).set(bytes);
  kernel.hashReset(state);
  kernel.hashUpdate(state, data, bytes.byteLength);
  const digest = kernel.hashDigest(state);
  kernel.release(data);
  kernel.release(state);
  return new TextEncoder().encode(blank.replace('0'.repeat(16), digest));
}

const STEPS: readonly Step[] = ['commit:root-written', 'commit:root-renamed', 'commit:done'];

test('power fails at any step of a commit: the state before or after it, never closed', async () => {
  for (const step of STEPS) {
    const seen = new Set<number>();
    for (let seed = 1; seed <= 40; seed++) {
      const before = seed % 3; // Also the very first commit.
      const host = await committed(before, seed);
      setFaultHook((name) => {
        if (name !== step) return;
        host.cutPower();
        throw new PowerCut();
      });
      const { record: current } = await load(host);
      const record = current ?? sample();
      record.nextId = 999;
      let cut = false;
      await commitRoot(host.folder('/c'), kernel, record, host.now()).catch(() => {
        cut = true;
      });
      setFaultHook();
      assert.ok(cut);
      const { record: found, closed } = await load(host);
      assert.is(closed, null, `${step}, seed ${seed}`);
      const generation = found?.generation ?? 0;
      assert.ok([before, before + 1].includes(generation), `${step}: ${generation}`);
      if (generation > 0) assert.is(found?.nextId, generation === before ? before * 10 : 999);
      if (step === 'commit:done') assert.is(generation, before + 1);
      seen.add(generation - before);
      // And the class goes on from there.
      const next = found ?? sample();
      next.nextId = 5;
      await commitRoot(host.folder('/c'), kernel, next, host.now());
      const { record: last, closed: then } = await load(host);
      assert.equal([then, last?.nextId, last?.generation], [null, 5, generation + 1]);
    }
    const possible = {
      'commit:root-written': [0],
      'commit:root-renamed': [0, 1],
      'commit:done': [1],
    };
    assert.equal([...seen].sort(), possible[step as keyof typeof possible], step);
  }
});

test('a commit that fails leaves the roots as they were', async () => {
  const host = await committed(3);
  const folder = host.folder('/c');
  const full = Object.assign(Object.create(folder), {
    write: async () => {
      throw new KageError('disk-full', 'full');
    },
  });
  let code = '';
  await commitRoot(full, kernel, sample(), 0).catch((error: KageError) => {
    code = error.code;
  });
  assert.is(code, 'disk-full');
  const { record, closed } = await load(host);
  assert.equal([closed, record?.generation], [null, 3]);
});

test.run();
