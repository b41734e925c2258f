/**
 * Other people's tools copy whole images into and out of `kage serve`, while the pair behind it is
 * joined or parted; what they find is compared by them and by us.
 */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { serve } from '../e2e/serve-support.ts';
import { RUNTIMES } from '../support/runtimes.ts';
import { NODE, type Runtime, type World } from '../support/world.ts';
import { cases, MIB, run, tell } from './support.ts';
import { storageDaemon } from './support-qmp.ts';

const test = suite('interop: kage serve, copying');
const check = cases(test, 'interop: kage serve, copying');

/** No multiple of a region. */
const SIZE = 24 * MIB + 4096;

/** A server with the joined pair `vm` and `vm-proxy`, and a file `in.raw` with runs of zeros. */
async function joined(w: World, runtime: Runtime = NODE) {
  w.image('vm.img', SIZE, 1);
  w.image('in.raw', SIZE, 2);
  w.scribble('in.raw', 3 * MIB + 5, Buffer.alloc(9 * MIB));
  await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
  const server = await serve(w, [], runtime);
  return { server, vm: server.uri('default/vm'), proxy: server.uri('default/vm-proxy') };
}

const raw = ['-f', 'raw'];

async function inAndOut(w: World, runtime: Runtime): Promise<void> {
  const { server, vm, proxy } = await joined(w, runtime);
  await run('nbdcopy', '--flush', w.path('in.raw'), vm);
  assert.is(w.hash('vm.proxy.img'), w.hash('in.raw'), 'a joined proxy has all of it');
  await run('nbdcopy', vm, w.path('out.raw'));
  assert.is(w.hash('out.raw'), w.hash('in.raw'));
  await w.ok(['part', 'vm-proxy']);

  w.image('second.raw', SIZE, 3);
  const convert = ['convert', '-n', '-W', '-m', '8', ...raw, '-O', 'raw'];
  await run('qemu-img', ...convert, w.path('second.raw'), vm);
  await run('qemu-img', 'compare', ...raw, '-F', 'raw', w.path('second.raw'), vm);
  await run('qemu-img', 'compare', ...raw, '-F', 'raw', w.path('in.raw'), proxy);
  assert.is((await tell('qemu-img', 'compare', ...raw, '-F', 'raw', vm, proxy)).status, 1);
  await run('nbdcopy', '--flush', vm, proxy);
  assert.is(w.hash('vm.proxy.img'), w.hash('second.raw'), 'from one export to the other');
  await w.ok(['verify', 'vm-proxy']);

  const rejoined = await w.ok(['rejoin', 'vm-proxy']);
  assert.is(rejoined.pairs[0].copy.method, 'differential');
  await server.stop();
  assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
}

for (const { name, command } of RUNTIMES) {
  check(['nbdcopy', 'qemu-img'], `images go in and out, server on ${name}`, (w) =>
    inAndOut(w, command),
  );
}

check(
  ['nbdkit', 'nbdcopy'],
  "nbdkit's checkwrite finds what was written, and a change",
  async (w) => {
    const { server, vm, proxy } = await joined(w);
    await run('nbdcopy', '--flush', w.path('in.raw'), vm);
    await w.ok(['part', 'vm-proxy']);
    const checked = (uri: string) =>
      tell(
        ...['nbdkit', '-U', '-', '--filter=checkwrite', 'nbd', `uri=${uri}`],
        ...['--run', `nbdcopy ${w.path('in.raw')} "$uri"`],
      );
    assert.is((await checked(vm)).status, 0);
    assert.is((await checked(proxy)).status, 0);
    await w.ok(['write', 'vm', '--offset', '12345678'], { input: 'x' });
    assert.is.not((await checked(vm)).status, 0);
    assert.is((await checked(proxy)).status, 0, 'the snapshot stays');
    await server.stop();
  },
);

check(
  ['qemu-storage-daemon', 'qemu-img'],
  'a push backup of QEMU goes into a volume',
  async (w) => {
    const { server, vm } = await joined(w);
    const file = `driver=file,filename=${w.path('in.raw')},node-name=source,read-only=on`;
    const qmp = await storageDaemon(w, ['--blockdev', file]);
    await qmp.ask('blockdev-add', {
      driver: 'nbd',
      'node-name': 'target',
      export: 'default/vm',
      server: { type: 'unix', path: w.path('home', 'nbd.sock') },
    });
    const job = { 'job-id': 'b', device: 'source', target: 'target', sync: 'full' };
    await qmp.ask('blockdev-backup', job);
    await qmp.event('the end of the job', ({ event }) => event === 'BLOCK_JOB_COMPLETED');
    const [done] = qmp.heard.filter(({ event }) => event === 'BLOCK_JOB_COMPLETED');
    assert.is(done.data.error, undefined);
    await qmp.quit();
    await run('qemu-img', 'compare', ...raw, '-F', 'raw', w.path('in.raw'), vm);
    await w.ok(['part', 'vm-proxy']);
    assert.is(w.hash('vm.proxy.img'), w.hash('in.raw'));
    await server.stop();
  },
);

/** Writes in flight on one connection, questions on another; what was written before is never zero. */
const BESIDE_A_WRITER = `
import nbd, random
random.seed(5)
def connect():
    h = nbd.NBD()
    h.add_meta_context("base:allocation")
    h.connect_uri(URI)
    return h
writer, asker = connect(), connect()
size, done, flying, zeros = writer.get_size(), [], [], 0
while len(done) < 300:
    for i in range(4):
        at, length = random.randrange(size - 9000), random.randrange(1, 9000)
        data = nbd.Buffer.from_bytearray(bytearray(b"x" * length))
        flying.append((writer.aio_pwrite(data, at), at, length))
    while writer.poll(0) > 0: pass
    landed = [f for f in flying if writer.aio_command_completed(f[0])]
    flying = [f for f in flying if f not in landed]
    done += [(at, length) for _, at, length in landed]
    told, start = [], random.randrange(size)
    def note(context, offset, entries, error):
        for i in range(0, len(entries), 2):
            if entries[i + 1] & 2: told.append((offset, offset + entries[i]))
            offset += entries[i]
    asker.block_status(size - start, start, note)
    for a, b in told:
        zeros += b - a
        for at, length in done:
            assert b <= at or at + length <= a, f"{at}+{length} is told as zeros {a}-{b}"
print(zeros)
`;

check(['nbdsh'], 'beside a writer nothing that was written is told as zeros', async (w) => {
  const size = '64M';
  await w.ok(['create', 'vm', '--size', size, w.path('vm.img')]);
  await w.ok(['join', 'vm', w.path('vm.proxy.img')]);
  const server = await serve(w);
  const uri = server.uri('default/vm');
  const ask = () => run('nbdsh', '-c', `URI = "${uri}"`, '-c', BESIDE_A_WRITER);
  assert.ok(Number(await ask()) > 0, 'joined');
  await w.ok(['part', 'vm-proxy']);
  assert.ok(Number(await ask()) > 0, 'parted');
  await w.ok(['verify', 'vm-proxy']);
  await w.ok(['rejoin', 'vm-proxy']);
  await server.stop();
  assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
});

check(['nbdsh', 'qemu-io'], 'what is trimmed is zeros, and holes stay holes', async (w) => {
  const size = 256 * MIB;
  await w.ok(['create', 'vm', '--size', `${size}`, w.path('vm.img')]);
  await w.ok(['join', 'vm', w.path('vm.proxy.img')]);
  await w.ok(['part', 'vm-proxy']);
  const server = await serve(w);
  const ask = (...lines: string[]) =>
    run('nbdsh', '-u', server.uri('default/vm'), ...lines.flatMap((line) => ['-c', line]));
  const allocated = () => fs.statSync(w.path('vm.img')).blocks * 512;
  const changed = async () => (await w.pair('vm-proxy')).changedRegions;
  const before = allocated();
  await ask(`h.trim(${size}, 0); h.zero(${size}, 0); h.flush()`);
  const node = 'driver=raw,discard=unmap,detect-zeroes=unmap,file.driver=nbd';
  const at = `file.export=default/vm,file.server.type=unix,file.server.path=${w.path('home', 'nbd.sock')}`;
  const zeros = ['-c', 'write -P 0 64M 8M', '-c', 'discard 80M 8M', '-c', 'read -P 0 64M 32M'];
  await run('qemu-io', ...zeros, '--image-opts', `${node},${at}`);
  assert.is(allocated(), before);
  assert.is(await changed(), 0);
  const told = await ask(
    'h.pwrite(b"x" * 1048576, 300000); h.trim(h.get_size() - 8, 5, nbd.CMD_FLAG_FUA)',
    'print(h.pread(2 * 1048576, 0) == bytes(2 * 1048576))',
  );
  assert.is(told.trim(), 'True');
  assert.ok(allocated() <= before + 3 * MIB);
  const NO_HOLE = 'nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA';
  await ask(`h.zero(4 * 1048576, 128 * 1048576, ${NO_HOLE})`);
  assert.ok(allocated() >= before + 4 * MIB, 'space that is asked for is there');
  await w.ok(['verify', 'vm-proxy']);
  await server.stop();
  const count = await changed();
  assert.ok(count >= 64 + 16 && count <= 64 + 48, `${count} regions`);
});

check(
  ['nbdcopy', 'nbdinfo'],
  'an instant snapshot is not zero where its source is not',
  async (w) => {
    w.image('vm.img', 8 * MIB, 4);
    w.scribble('vm.img', 2 * MIB, Buffer.alloc(2 * MIB));
    await w.ok(['create', 'copy', '--size', '8M', w.path('copy.img')]);
    const server = await serve(w);
    await w.ok(['relate', w.path('vm.img'), w.path('copy.img')]);
    const before = w.hash('vm.img');
    // One MiB a second: the questions come while nearly all is still to be copied.
    await w.ok(['update', 'copy', '--instant', '--rate', '1M']);
    assert.is((await w.pair('copy')).state, 'copying');
    const map = JSON.parse(await run('nbdinfo', '--json', '--map', server.uri('default/copy')));
    let zeros = 0;
    for (const { offset, length, type } of map) {
      if (type !== 2) continue;
      assert.ok(offset >= 2 * MIB && offset + length <= 4 * MIB, `${offset}+${length}`);
      zeros += length;
    }
    assert.ok(zeros > 0);
    await run('nbdcopy', server.uri('default/copy'), w.path('out.raw'));
    assert.is((await w.pair('copy')).state, 'copying', 'it was copied from its source');
    assert.is(w.hash('out.raw'), before);
    await server.stop();
  },
);

test.run();
