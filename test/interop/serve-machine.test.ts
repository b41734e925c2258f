/**
 * A machine that boots from a volume of `kage serve` and writes to it through its BIOS: what snapshots
 * and restores mean to it, and that it outlives its server. No guest system: a boot sector counts.
 */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { serve } from '../e2e/serve-support.ts';
import { NODE, Running, until, type World } from '../support/world.ts';
import { cases, MIB, run } from './support.ts';
import { Qmp } from './support-qmp.ts';

const test = suite('interop: kage serve, a machine');
const check = cases(test, 'interop: kage serve, a machine');

const SECTOR = 512;
const SIZE = 4 * MIB;
/** What the machine ends with when its disk fails it. */
const FAILED = 0x7f;

/**
 * Adds 1 to the word at the start of sector 1, `rounds` times (1 to 65535), each time from and to the
 * disk; then ends the machine with the low seven bits of the word.
 */
function bootSector(rounds: number): Buffer {
  const code = [
    ...[0x31, 0xc0], // xor ax, ax
    ...[0x8e, 0xd8], // mov ds, ax
    ...[0x8e, 0xc0], // mov es, ax
    ...[0xbb, 0x00, 0x7e], // mov bx, 0x7e00: the buffer, behind this sector
    ...[0xb9, 0x02, 0x00], // mov cx, 2: cylinder 0, the second sector
    ...[0xb6, 0x00], // mov dh, 0: head 0; dl is the disk we come from
    ...[0xbe, rounds & 0xff, rounds >> 8], // mov si, rounds
    // round:
    ...[0xb8, 0x01, 0x02], // mov ax, 0x0201: read one sector
    ...[0xcd, 0x13], // int 0x13
    ...[0x72, 0x15], // jc failed
    ...[0xff, 0x06, 0x00, 0x7e], // inc word [0x7e00]
    ...[0xb8, 0x01, 0x03], // mov ax, 0x0301: write one sector
    ...[0xcd, 0x13], // int 0x13
    ...[0x72, 0x0a], // jc failed
    ...[0x4e], // dec si
    ...[0x75, 0xeb], // jnz round
    ...[0xa0, 0x00, 0x7e], // mov al, [0x7e00]
    ...[0x24, 0x7f], // and al, 0x7f
    ...[0xeb, 0x02], // jmp end: over the next
    // failed:
    ...[0xb0, FAILED], // mov al, FAILED
    // end:
    ...[0xba, 0x01, 0x05], // mov dx, 0x501: isa-debug-exit
    ...[0xee], // out dx, al
    ...[0xf4], // hlt
    ...[0xeb, 0xfd], // jmp to the hlt
  ];
  const sector = Buffer.alloc(SECTOR);
  sector.set(code);
  sector.set([0x55, 0xaa], SECTOR - 2); // bootable
  return sector;
}

/** A disk of a machine: the boot sector, a count of zero, and something behind. */
function machineImage(w: World, rounds = 1): void {
  w.image('vm.img', SIZE);
  w.scribble('vm.img', 0, Buffer.concat([bootSector(rounds), Buffer.alloc(SECTOR)]));
}

/** What the machine has counted up to, in an image. */
function count(w: World, name: string): number {
  const fd = fs.openSync(w.path(name), 'r');
  try {
    const word = Buffer.alloc(2);
    fs.readSync(fd, word, 0, 2, SECTOR);
    return word.readUInt16LE();
  } finally {
    fs.closeSync(fd);
  }
}

const MACHINE = [
  ...['qemu-system-x86_64', '-accel', 'tcg', '-m', '64', '-nodefaults', '-display', 'none'],
  ...['-device', 'isa-debug-exit,iobase=0x501,iosize=2'],
];

function power(w: World, ...disk: string[]): Running {
  const running = new Running([...MACHINE, '-no-reboot', ...disk], process.env, '');
  w.atEnd(() => running.child.kill('SIGKILL'));
  return running;
}

/** The number that the machine ended with; QEMU makes an odd exit status of it. */
async function ended(machine: Running): Promise<number> {
  const { status, stderr } = await machine.ended;
  assert.ok(status !== null && status % 2 === 1 && status > 1, `${status}: ${stderr}`);
  return (status - 1) / 2;
}

check(
  ['qemu-system-x86_64'],
  'a machine boots, is parted, and sees what was restored',
  async (w) => {
    machineImage(w);
    await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
    const server = await serve(w);
    const boot = (name: string, more = '') =>
      ended(
        power(w, '-drive', `file=${server.uri(`default/${name}`)},format=raw,if=virtio${more}`),
      );
    assert.is(await boot('vm'), 1);
    assert.is(count(w, 'vm.proxy.img'), 1, 'a joined proxy has what the machine wrote');
    await w.ok(['part', 'vm-proxy']);
    assert.is(await boot('vm'), 2);
    assert.is(await boot('vm'), 3);
    assert.is(await boot('vm', ',readonly=on'), FAILED);
    assert.equal([count(w, 'vm.img'), count(w, 'vm.proxy.img')], [3, 1]);

    assert.is(await boot('vm-proxy'), 2, 'another machine boots from the snapshot');
    const [restored] = (await w.ok(['restore', 'vm-proxy', '--instant'])).pairs;
    assert.ok(['restoring', 'joined'].includes(restored.state));
    assert.is(await boot('vm'), 3, 'it goes on from what the proxy held');
    await w.ok(['part', 'vm-proxy']);
    await w.ok(['verify', 'vm-proxy']);
    await server.stop();
    assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
    assert.is(count(w, 'vm.proxy.img'), 3);
  },
);

/** The disk as `-blockdev`; requests wait up to a minute for a server that is gone. */
function lasting(w: World, name: string): string[] {
  const node = {
    driver: 'nbd',
    'node-name': 'disk',
    export: `default/${name}`,
    server: { type: 'unix', path: w.path('home', 'nbd.sock') },
    'reconnect-delay': 60,
  };
  return ['-blockdev', JSON.stringify(node), '-device', 'virtio-blk-pci,drive=disk'];
}

check(['qemu-system-x86_64'], 'a machine goes on after its server was killed', async (w) => {
  // Its BIOS wants every write durable at once: some milliseconds each.
  const rounds = 250;
  machineImage(w, rounds);
  await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
  let server = await serve(w);
  const machine = power(w, ...lasting(w, 'vm'));
  for (const least of [25, 120]) {
    await until('it counts', () => machine.child.exitCode !== null || count(w, 'vm.img') > least);
    await server.kill();
    assert.is(machine.child.exitCode, null, 'it waits');
    server = await serve(w);
  }
  assert.is(await ended(machine), rounds & 0x7f);
  assert.is(count(w, 'vm.img'), rounds);
  await w.ok(['part', 'vm-proxy']);
  await w.ok(['verify', 'vm-proxy']);
  assert.is(count(w, 'vm.proxy.img'), rounds);
  await server.stop();
});

check(
  ['qemu-system-x86_64'],
  'a machine that runs is put back: stop, restore, reset, go on',
  async (w) => {
    machineImage(w, 60_000);
    await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
    const server = await serve(w);
    const words = ['read', 'vm', '--offset', `${SECTOR}`, '--length', '2', '--home', w.home];
    const od = ['sh', '-c', '"$@" | od -An -tu2', 'sh', ...NODE, ...words];
    const machine = new Qmp(w, [...MACHINE, '-qmp', 'stdio', ...lasting(w, 'vm')]);
    await machine.ask('qmp_capabilities');
    await until('it counts', () => count(w, 'vm.img') >= 5);
    await w.ok(['part', 'vm-proxy']);
    const held = count(w, 'vm.proxy.img');
    assert.ok(held >= 5);
    await until('it counts on', () => count(w, 'vm.img') >= held + 20);
    await machine.ask('stop');
    const refused = await w.run(['restore', 'vm-proxy']);
    assert.is(refused.status, 13, refused.stderr);
    await w.ok(['restore', 'vm-proxy', '--live', '--instant']);
    assert.is(Number(await run(...od)), held);
    await machine.ask('system_reset');
    await machine.ask('cont');
    await until('it counts from there', () => count(w, 'vm.img') > held);
    await machine.quit();
    await w.ok(['verify', 'vm-proxy']);
    await server.stop();
    assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
  },
);

check(['qemu-io'], 'qemu-io goes on too, and what it had flushed is there', async (w) => {
  machineImage(w);
  await w.ok(['join', w.path('vm.img'), w.path('vm.proxy.img')]);
  let server = await serve(w);
  const image = `driver=nbd,export=default/vm,reconnect-delay=60,server.type=unix,server.path=${w.path('home', 'nbd.sock')}`;
  const running = new Running(['qemu-io', '-t', 'writeback', '--image-opts', image], process.env);
  w.atEnd(() => running.child.kill('SIGKILL'));
  /** Gives a command; resolves with what was said about it up to the next prompt. */
  const say = async (command: string) => {
    const before = running.stdout.length;
    running.child.stdin!.write(`${command}\n`);
    const heard = () => running.stdout.slice(before);
    await until(command, () => /qemu-io> $/.test(heard()) || running.child.exitCode !== null);
    assert.not.match(heard(), /fail|error/i, command);
    return heard();
  };
  await until('it asks', () => /qemu-io> $/.test(running.stdout));
  assert.match(await say('write -P 0x61 1M 1M'), /wrote 1048576/);
  await say('flush');
  await server.kill();
  const read = say('read -P 0x61 1M 1M');
  server = await serve(w);
  assert.match(await read, /read 1048576/);
  await say('write -P 0x62 1536k 1M');
  await say('flush');
  await say('read -P 0x61 1M 512k');
  running.child.stdin!.end('quit\n');
  assert.is((await running.ended).status, 0);
  await w.ok(['part', 'vm-proxy']);
  await server.stop();
  assert.is(w.hash('vm.proxy.img'), w.hash('vm.img'));
  assert.ok(
    w
      .read('vm.proxy.img')
      .subarray(1536 * 1024, 2560 * 1024)
      .equals(Buffer.alloc(MIB, 0x62)),
  );
});

test.run();
