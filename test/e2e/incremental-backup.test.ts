/**
 * Increments pulled with other people's tools from a real server: the commands of
 * docs/incremental-backup.md as they are printed there, what the tools are told, and what is refused.
 */

import fs from 'node:fs';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { cases, run, tell } from '../interop/support.ts';
import { RUNTIMES } from '../support/runtimes.ts';
import { BUNDLE, randomBytes, type World } from '../support/world.ts';
import { NbdClient, type Server, serve } from './serve-support.ts';

const test = suite('incremental backup');
const check = cases(test, 'incremental backup');
const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const REGION = 64 * 1024;
const SIZE = 8 * MIB;
const CONTEXT = 'qemu:dirty-bitmap:increment';
const TOOLS = ['nbdinfo', 'qemu-img', 'qemu-io', 'xargs', 'awk'];

async function joinedPair(w: World): Promise<void> {
  w.image('vm.img', SIZE);
  await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
}

/** The commands of the page, by the order of their blocks. */
function blocksOfThePage() {
  const page = path.join(process.env.KAGE_ROOT ?? process.cwd(), 'docs/incremental-backup.md');
  const blocks = [...fs.readFileSync(page, 'utf8').matchAll(/^```sh\n(.*?)^```$/gms)];
  const [setUp, full, increment, compare, restore] = blocks.map(([, text]) => text);
  assert.is(blocks.length, 5);
  const rejoin = 'kage rejoin vm-proxy\n';
  assert.ok(increment.endsWith(rejoin));
  const [part, ...pull] = increment.slice(0, -rejoin.length).split('\n');
  return { setUp, full, part: `${part}\n`, pull: pull.join('\n'), compare, rejoin, restore };
}

/** Runs commands in bash, in the world's folder, where `kage` is this tree's. */
async function bash(w: World, setUp: string, commands: string, n = 0): Promise<string> {
  const bin = w.path('bin');
  if (!fs.existsSync(bin)) {
    fs.mkdirSync(bin);
    const script = `#!/bin/sh\nexec '${process.execPath}' '${BUNDLE}' "$@"\n`;
    fs.writeFileSync(path.join(bin, 'kage'), script, { mode: 0o755 });
  }
  const world = `cd '${w.folder}'; PATH='${bin}':$PATH; export KAGE_HOME='${w.home}' N=${n}\n`;
  return await run('bash', '-c', world + setUp + commands);
}

/** A client of a volume that writes a byte all over a range. */
async function fill(server: Server, volume: string, byte: string, offset: number, length: number) {
  const code = byte.charCodeAt(0);
  const command = `write -P ${code} ${offset} ${length}`;
  await run('qemu-io', '-f', 'raw', '-c', command, '-c', 'flush', server.uri(`default/${volume}`));
}

type Extent = { offset: number; length: number; type: number; description: string };

/** What nbdinfo finds dirty, as `offset+length`. */
async function dirtyOf(uri: string): Promise<string[]> {
  const extents: Extent[] = JSON.parse(await run('nbdinfo', '--json', `--map=${CONTEXT}`, uri));
  return extents.filter(({ type }) => type === 1).map((e) => `${e.offset}+${e.length}`);
}

check(TOOLS, 'the commands of the page, four increments one on the other', async (w) => {
  const { setUp, full, part, pull, compare, rejoin, restore } = blocksOfThePage();
  await joinedPair(w);
  let server = await serve(w);
  const expected = randomBytes(SIZE, 1);
  assert.is(Buffer.compare(w.read('vm.img'), expected), 0);
  const change = async (volume: string, byte: string, offset: number, length: number) => {
    await fill(server, volume, byte, offset, length);
    expected.fill(byte, offset, offset + length);
  };
  const back = async (n: number) => {
    await bash(w, setUp, restore, n);
    assert.is(Buffer.compare(w.read('restored.img'), expected), 0, `backup ${n}`);
  };
  await bash(w, setUp, full);
  await back(0);

  await change('vm', 'a', MIB, 100_000);
  await change('vm', 'b', 5 * MIB + 7, 1);
  await bash(w, setUp, part);
  assert.equal(await dirtyOf(server.uri('default/vm-proxy')), [
    `${MIB}+${2 * REGION}`,
    `${5 * MIB}+${REGION}`,
  ]);
  // What comes later is not in it.
  await fill(server, 'vm', 'c', 2 * MIB, REGION);
  await bash(w, setUp, pull + compare, 1);
  await bash(w, setUp, rejoin, 1);
  expected.fill('c', 2 * MIB, 2 * MIB + REGION);

  await change('vm', 'd', 3 * MIB, 10);
  await bash(w, setUp, part + pull + compare, 2);
  assert.ok(fs.statSync(w.path('2.qcow2')).size < MIB, 'an increment is small');
  await back(2);
  // Written before the rejoin, and undone by it.
  await bash(w, setUp, 'kage start vm-proxy');
  await fill(server, 'vm-proxy', 'e', 6 * MIB, REGION);
  await bash(w, setUp, 'kage start vm-proxy --read-only');
  assert.equal(await dirtyOf(server.uri('default/vm-proxy')), [
    `${2 * MIB}+${REGION}`,
    `${3 * MIB}+${REGION}`,
    `${6 * MIB}+${REGION}`,
  ]);
  await bash(w, setUp, rejoin);

  await change('vm', 'f', 4 * MIB, MIB);
  await bash(w, setUp, part);
  await server.kill();
  server = await serve(w);
  await bash(w, setUp, pull + compare + rejoin, 3);
  await back(3);
  await change('vm', 'g', SIZE - 1, 1);
  await bash(w, setUp, part + pull + compare + rejoin, 4);
  await back(4);
  await server.stop();
});

check(['nbdinfo', 'qemu-img', 'nbdsh'], 'tools find the context and its extents', async (w) => {
  await joinedPair(w);
  await w.ok(['part', 'vm-proxy']);
  const server = await serve(w);
  const proxy = server.uri('default/vm-proxy');
  await fill(server, 'vm', 'a', 2 * MIB, 2 * REGION);
  await w.ok(['update', 'vm-proxy']);

  const absent = await tell('nbdinfo', `--map=${CONTEXT}`, proxy);
  assert.is.not(absent.status, 0, 'clients may write to it');
  await w.ok(['start', 'vm-proxy', '--read-only']);
  const { exports } = JSON.parse(await run('nbdinfo', '--json', proxy));
  assert.equal(exports[0].contexts, ['base:allocation', CONTEXT]);
  assert.ok(exports[0].is_read_only);
  assert.not(exports[0].can_trim || exports[0].can_zero);
  assert.equal(await dirtyOf(proxy), [`${2 * MIB}+${2 * REGION}`]);

  const options = [
    'driver=nbd,export=default/vm-proxy,server.type=unix',
    `server.path=${w.path('home', 'nbd.sock')},x-dirty-bitmap=${CONTEXT}`,
  ].join(',');
  const map = JSON.parse(await run('qemu-img', 'map', '--output=json', '--image-opts', options));
  // What is dirty looks like a hole to this option.
  const extents = map.map((e: { start: number; data: boolean }) => [e.start, e.data]);
  assert.equal(extents, [
    [0, true],
    [2 * MIB, false],
    [2 * MIB + 2 * REGION, true],
  ]);
  const listed = await run('nbdsh', '-c', LISTING.replace('URI', proxy));
  assert.equal(JSON.parse(listed), {
    '': ['base:allocation', CONTEXT],
    'qemu:': [CONTEXT],
    'qemu:dirty-bitmap:': [CONTEXT],
    'qemu:dirty-bitmap:other': [],
  });
  const both = await run('nbdsh', '-c', BOTH.replace('URI', proxy));
  assert.equal(JSON.parse(both), {
    'base:allocation': [SIZE - 2 * MIB, 0],
    [CONTEXT]: [2 * REGION, 1, 6 * MIB - 2 * REGION, 0],
    [`${CONTEXT} one`]: [4096, 1],
  });
  await server.stop();
});

/** Which names each query lists, as JSON. */
const LISTING = `
import json
found = {}
for query in ["", "qemu:", "qemu:dirty-bitmap:", "qemu:dirty-bitmap:other"]:
    found[query] = []
    own = nbd.NBD()
    own.set_opt_mode(True)
    own.connect_uri("URI")
    if query: own.add_meta_context(query)
    own.opt_list_meta_context(found[query].append)
    own.opt_abort()
print(json.dumps(found))
`;

/** Both contexts of one connection, from 2 MiB on; and the first extent of a shorter question. */
const BOTH = `
import json
found = {}
h.add_meta_context("base:allocation")
h.add_meta_context("${CONTEXT}")
h.connect_uri("URI")
def see(name, offset, entries, error):
    found.setdefault(name, entries)
h.block_status(${SIZE - 2 * MIB}, ${2 * MIB}, see)
def one(name, offset, entries, error):
    found[name + " one"] = entries
    found.pop("base:allocation one", None)
h.block_status(4096, ${2 * MIB}, one, nbd.CMD_FLAG_REQ_ONE)
print(json.dumps(found))
`;

/** As virtnbdbackup asks: one context, a few bytes short of 4 GiB at a time, all extents that come. */
const PULL = `
import json
h.add_meta_context("${CONTEXT}")
h.connect_uri("URI")
size = h.get_size()
step = 4294967295 // 4096 * 4096
extents = []
asked = 0
def see(name, offset, entries, error):
    assert name == "${CONTEXT}" and error.value == 0
    for length, flags in zip(entries[::2], entries[1::2]):
        if extents and extents[-1][1] == flags: extents[-1][0] += length
        else: extents.append([length, flags])
while sum(length for length, _ in extents) < size:
    at = sum(length for length, _ in extents)
    h.block_status(min(step, size - at), at, see)
    asked += 1
print(json.dumps([asked, extents]))
`;

check(['nbdsh', 'qemu-io'], 'a volume above 4 GiB, asked in the largest steps', async (w) => {
  const size = 5 * GIB;
  fs.closeSync(fs.openSync(w.path('vm.img'), 'w'));
  fs.truncateSync(w.path('vm.img'), size);
  await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
  await w.ok(['part', 'vm-proxy', '--read-only']);
  const server = await serve(w);
  const proxy = server.uri('default/vm-proxy');
  const pulled = async () => JSON.parse(await run('nbdsh', '-c', PULL.replace('URI', proxy)));
  assert.equal(await pulled(), [2, [[size, 1]]], 'of the first part all is new');
  await w.ok(['rejoin', 'vm-proxy']);
  await fill(server, 'vm', 'a', 0, 1);
  // On both sides of 4 GiB, where two answers meet.
  await fill(server, 'vm', 'b', 4 * GIB - REGION, 2 * REGION);
  await fill(server, 'vm', 'c', size - 1, 1);
  await w.ok(['part', 'vm-proxy', '--read-only']);
  const [, extents] = await pulled();
  assert.equal(extents, [
    [REGION, 1],
    [4 * GIB - 2 * REGION, 0],
    [2 * REGION, 1],
    [GIB - 2 * REGION, 0],
    [REGION, 1],
  ]);
  await server.stop();
});

/** What the server says to a client that writes all the same. */
const WRITING = `
h.set_strict_mode(0)
h.connect_uri("URI")
for call in [lambda: h.pwrite(b"x" * 512, 0), lambda: h.trim(65536, 0), lambda: h.zero(512, 0)]:
    try:
        call()
        print("done")
    except nbd.Error as error:
        print(error.errno)
`;

check(['nbdsh'], 'nobody writes to it, and it stays while it is used', async (w) => {
  await joinedPair(w);
  await w.ok(['part', 'vm-proxy', '--read-only']);
  const before = w.hash('vm.proxy.img');
  const server = await serve(w);
  const proxy = server.uri('default/vm-proxy');
  assert.is(await run('nbdsh', '-c', WRITING.replace('URI', proxy)), 'EPERM\n'.repeat(3));
  const client = new NbdClient(w, proxy);
  const words = await w.run(['write', 'vm-proxy'], { input: 'data' });
  assert.is(words.status, 12, words.stderr);
  assert.match(words.stderr, /vm-proxy: is started read-only\n.*kage start vm-proxy/);
  for (const line of [
    ['start', 'vm-proxy'],
    ['rejoin', 'vm-proxy'],
    ['update', 'vm-proxy'],
  ]) {
    const refused = await w.run(line);
    assert.is(refused.status, 13, `${line}: ${refused.stderr}`);
    assert.match(refused.stderr, /vm-proxy: is in use \(1 user\)/);
  }
  await client.close();
  assert.is(w.hash('vm.proxy.img'), before);
  server.process.child.kill('SIGTERM');
  assert.is((await server.process.ended).status, 0);
});

for (const { name, command } of RUNTIMES) {
  check(['nbdinfo', 'qemu-io'], `an increment from a server on ${name}`, async (w) => {
    await joinedPair(w);
    await w.ok(['part', 'vm-proxy']);
    const server = await serve(w, [], command);
    const proxy = server.uri('default/vm-proxy');
    await fill(server, 'vm', 'a', MIB, REGION);
    await w.ok(['rejoin', 'vm-proxy'], { runtime: command });
    await w.ok(['part', 'vm-proxy', '--read-only'], { runtime: command });
    assert.equal(await dirtyOf(proxy), [`${MIB}+${REGION}`]);
    const written = await tell('qemu-io', '-f', 'raw', '-c', 'write 0 512', proxy);
    assert.is.not(written.status, 0);
    await server.stop();
    const again = await serve(w, [], command);
    assert.equal(await dirtyOf(proxy), [`${MIB}+${REGION}`], 'the mode outlives the server');
    await again.stop();
  });
}

test.run();
