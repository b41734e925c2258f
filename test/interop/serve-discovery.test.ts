/** What other people's tools see of `kage serve`: exports, metadata, extents, refusals; on every runtime. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Server, serve } from '../e2e/serve-support.ts';
import { RUNTIMES } from '../support/runtimes.ts';
import { NODE, type Runtime, type World } from '../support/world.ts';
import { cases, MIB, run, tell } from './support.ts';

const test = suite('interop: kage serve, discovery');
const check = cases(test, 'interop: kage serve, discovery');

const SIZE = 40 * MIB;

/** A server with `vm` and its parted proxy; the image is data but for these ranges in MiB. */
async function parted(w: World, runtime: Runtime = NODE, zeros: [number, number][] = []) {
  w.image('vm.img', SIZE);
  for (const [at, length] of zeros) w.scribble('vm.img', at * MIB, Buffer.alloc(length * MIB));
  await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
  await w.ok(['part', 'vm-proxy']);
  return serve(w, [], runtime);
}

type Extent = { offset: number; length: number; type: number; description: string };

/** Fails unless extents cover the image, and what they call zero is zero; bytes told as zeros. */
function judge(extents: readonly Extent[], image: Buffer): number {
  let at = 0;
  let zeros = 0;
  for (const { offset, length, type, description } of extents) {
    assert.is(offset, at);
    at += length;
    assert.equal(description, type === 0 ? 'data' : 'zero', 'no holes');
    if (type === 0) continue;
    assert.ok(image.subarray(offset, at).equals(Buffer.alloc(length)), `zeros at ${offset}`);
    zeros += length;
  }
  assert.is(at, image.length);
  return zeros;
}

const FLAGS = {
  is_rotational: false,
  is_read_only: false,
  can_cache: true,
  can_df: true,
  can_fast_zero: false,
  can_flush: true,
  can_fua: true,
  can_multi_conn: true,
  can_trim: true,
  can_zero: true,
  block_size_minimum: 1,
  block_size_preferred: 4096,
  block_size_maximum: 32 * MIB,
  'export-size': SIZE,
  'export-size-str': '40M',
};

async function discovered(w: World, server: Server): Promise<void> {
  const vm = server.uri('default/vm');
  const one = JSON.parse(await run('nbdinfo', '--json', vm));
  assert.equal([one.protocol, one.TLS, one.structured], ['newstyle-fixed', false, true]);
  const { uri: _, content: __, ...told } = one.exports[0];
  const names = { 'export-name': 'default/vm', description: 'master' };
  assert.equal(told, { ...names, contexts: ['base:allocation'], ...FLAGS });
  const all = JSON.parse(await run('nbdinfo', '--json', '--list', server.uri(''))).exports;
  assert.equal(
    all.map((e: Record<string, unknown>) => [e['export-name'], e.description]),
    [
      ['default/vm', 'master'],
      ['default/vm-proxy', 'proxy'],
    ],
  );
  assert.is((await run('nbdinfo', '--size', vm)).trim(), `${SIZE}`);
  const map = JSON.parse(await run('nbdinfo', '--json', '--map', vm));
  assert.ok(judge(map, w.read('vm.img')) >= 12 * MIB);
}

check(['nbdinfo'], 'nbdinfo sees all there is to see', async (w) => {
  const server = await parted(w, NODE, [[20, 16]]);
  await discovered(w, server);
  const vm = server.uri('default/vm');
  const can: Record<string, boolean> = { 'fast-zero': false };
  for (const what of 'cache connect df fast-zero flush fua multi-conn read structured-reply trim zero'.split(
    ' ',
  )) {
    const { status } = await tell('nbdinfo', '--can', what, vm);
    assert.is(status, (can[what] ?? true) ? 0 : 2, what);
  }
  for (const what of ['read-only', 'rotational', 'tls']) {
    assert.is((await tell('nbdinfo', '--is', what, vm)).status, 2, what);
  }
  assert.match(await run('nbdinfo', vm), /^\tcontent: data$/m);
  assert.match(await run('nbdinfo', '--map', '--totals', vm), /^\s*\d+\s+\d+\.\d%\s+2 zero$/m);
  const depth = await tell('nbdinfo', '--map=qemu:allocation-depth', vm);
  assert.is(depth.status, 1);
  assert.match(depth.all, /does not support metadata context/);
  await w.ok(['rejoin', 'vm-proxy']);
  assert.not.match(await run('nbdinfo', '--list', server.uri('')), /vm-proxy/, 'it is stopped');
  await server.stop();
});

check(['qemu-nbd', 'qemu-img', 'nbd-client'], 'QEMU and nbd-client list and look', async (w) => {
  const server = await parted(w, NODE, [[20, 16]]);
  const socket = w.path('home', 'nbd.sock');
  const list = await run('qemu-nbd', '--list', '-k', socket);
  assert.match(list, /^exports available: 2$/m);
  assert.match(
    list,
    /export: 'default\/vm-proxy'\n {2}description: proxy\n {2}size: {2}41943040\n/,
  );
  assert.is(list.match(/flags: 0x5ed \( flush fua trim zeroes df multi cache \)/g)?.length, 2);
  assert.is(list.match(/ {3}base:allocation$/gm)?.length, 2);
  const names = await tell('nbd-client', '-l', '-unix', socket);
  assert.match(names.all, /^default\/vm: master\ndefault\/vm-proxy: proxy$/m);
  const vm = server.uri('default/vm');
  const info = JSON.parse(await run('qemu-img', 'info', '--output=json', vm));
  assert.equal([info['virtual-size'], info.format], [SIZE, 'raw']);
  const map = JSON.parse(await run('qemu-img', 'map', '--output=json', vm)).map(
    (e: { start: number; length: number; zero: boolean; data: boolean }) => ({
      offset: e.start,
      length: e.length,
      type: e.zero ? 2 : 0,
      description: e.zero ? 'zero' : 'data',
    }),
  );
  assert.ok(judge(map, w.read('vm.img')) >= 12 * MIB);
  await server.stop();
});

/** Python with the handle `h`, and what the client must be told: nothing, or an error's text. */
const REQUESTS: readonly [string, string | undefined][] = [
  ['h.pwrite(b"x"*512, S)', 'No space left'],
  ['h.pwrite(b"x"*512, S-511)', 'No space left'],
  ['h.pwrite(b"x", 2**63)', 'No space left'],
  ['h.zero(512, S)', 'No space left'],
  ['h.zero(2**32-1, 0)', 'No space left'],
  ['h.pread(512, S)', 'Invalid argument'],
  ['h.pread(512, S-511)', 'Invalid argument'],
  ['h.trim(512, S)', 'Invalid argument'],
  ['h.cache(512, S)', 'Invalid argument'],
  ['h.block_status(512, S, lambda *a: 0)', 'Invalid argument'],
  ['h.pread(0, 0)', undefined],
  ['h.pread(0, S)', undefined],
  ['h.pwrite(b"", 0)', undefined],
  ['h.zero(0, 0)', undefined],
  ['h.trim(0, S)', undefined],
  ['h.block_status(0, 0, lambda *a: 0)', 'Invalid argument'],
  ['h.pread(512, 0, 1<<9)', 'Invalid argument'],
  ['h.pwrite(b"x"*512, 0, nbd.CMD_FLAG_NO_HOLE)', 'Invalid argument'],
  ['h.pread(512, 0, nbd.CMD_FLAG_REQ_ONE)', 'Invalid argument'],
  ['h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO)', 'Invalid argument'],
  ['h.pread(512, 0, nbd.CMD_FLAG_FUA)', undefined],
  ['h.flush(nbd.CMD_FLAG_FUA)', undefined],
  ['h.trim(512, S-512, nbd.CMD_FLAG_FUA)', undefined],
  ['h.zero(512, S-512, nbd.CMD_FLAG_NO_HOLE)', undefined],
  ['h.pwrite(bytearray(33*1024*1024), 0)', 'Invalid argument'],
  ['h.pread(33*1024*1024, 0)', 'Invalid argument'],
  ['h.pwrite(bytearray(32*1024*1024), 0)', undefined],
];

/** Sends the requests one after the other on one connection, without libnbd's own checks. */
async function refused(
  uri: string,
  requests: readonly (readonly [string, string | undefined])[],
): Promise<void> {
  const script = [
    'h.set_strict_mode(0)',
    'h.add_meta_context("base:allocation")',
    `h.connect_uri("${uri}")`,
    'S = h.get_size()',
    'def attempt(work):',
    '    try:',
    '        work()',
    '        print("-")',
    '    except nbd.Error as error:',
    '        print(error.string)',
    ...requests.map(([text]) => `attempt(lambda: ${text})`),
    'h.shutdown()',
  ];
  const told = (await run('nbdsh', '-c', script.join('\n'))).trim().split('\n');
  for (const [i, [text, error]] of requests.entries()) {
    assert.ok(
      error === undefined ? told[i] === '-' : told[i].includes(error),
      `${text}: ${told[i]}`,
    );
  }
}

for (const { name, command } of RUNTIMES) {
  check(['nbdinfo', 'nbdsh'], `refusals and discovery on ${name}`, async (w) => {
    const server = await parted(w, command, [[20, 16]]);
    await discovered(w, server);
    const before = w.hash('vm.img');
    const reads = REQUESTS.filter(
      ([text, error]) => error !== undefined && !/bytearray/.test(text),
    );
    await refused(server.uri('default/vm'), reads);
    assert.is(w.hash('vm.img'), before, 'what was refused has changed nothing');
    await refused(server.uri('default/vm'), REQUESTS);
    await refused(server.uri('default/vm-proxy'), REQUESTS);
    await server.stop();
    const { differing } = (
      await w.run(['verify', 'vm-proxy', '--json']).then(({ stdout }) => JSON.parse(stdout))
    ).pairs[0];
    assert.is(differing, 0, 'both sides were asked the same');
  });
}

test.run();
