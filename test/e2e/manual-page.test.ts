/**
 * The manual's page of online backup by synchronization and of the instant restore, line by line as it is
 * printed, with the devices in /dev/sfdsk and an ext3 file system that a service writes to. Only the
 * mount point and the tape are elsewhere.
 */

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { leaveOut, run } from '../interop/support.ts';
import {
  BUNDLE,
  chance,
  Running,
  randomBytes,
  seedOf,
  sleep,
  type World,
} from '../support/world.ts';
import { mounting, unmountAtEnd } from './devices-support.ts';
import { serve } from './serve-support.ts';

const test = suite('the manual’s page');
const DEVICES = '/dev/sfdsk';
const BLOCKS = 131_072;
/** Blocks of the disks: the volumes do not begin or end with them. */
const DISK_BLOCKS = BLOCKS + 4096;

/** Content of files by name, as hashes. */
type Content = ReadonlyMap<string, string>;

const hash = (data: Uint8Array) => createHash('sha1').update(data).digest('hex');

/** Writes, overwrites and removes files, and keeps a record of what must be there. */
class Service {
  readonly #folder: string;
  readonly #below: (most: number) => number;
  readonly #content = new Map<string, string>();
  #running: Promise<void> | undefined;
  #stopping = false;
  writes = 0;

  constructor(folder: string, seed: number) {
    this.#folder = folder;
    this.#below = chance(seed);
  }

  start(): void {
    this.#stopping = false;
    this.#running = this.#work();
  }

  /** What is there now; nothing is written after that. */
  async stop(): Promise<Content> {
    this.#stopping = true;
    await this.#running;
    return new Map(this.#content);
  }

  /** Until it has written that much more. */
  async go(writes: number): Promise<void> {
    const goal = this.writes + writes;
    while (this.writes < goal && !this.#stopping) {
      await Promise.race([sleep(10), this.#running]);
    }
  }

  /** Starts from what is there now. */
  restored(content: Content): void {
    this.#content.clear();
    for (const [name, value] of content) this.#content.set(name, value);
  }

  async #work(): Promise<void> {
    while (!this.#stopping) {
      const name = `file-${this.#below(60)}`;
      const file = path.join(this.#folder, name);
      if (this.#below(5) === 0 && this.#content.has(name)) {
        fs.rmSync(file);
        this.#content.delete(name);
      } else {
        const data = randomBytes(1 + this.#below(200_000), ++this.writes);
        fs.writeFileSync(file, data, { flush: this.#below(10) === 0 });
        this.#content.set(name, hash(data));
      }
      await sleep(3);
    }
  }
}

function contentOf(folder: string): Content {
  const names = fs.readdirSync(folder).filter((name) => name !== 'lost+found');
  return new Map(
    names.sort().map((name) => [name, hash(fs.readFileSync(path.join(folder, name)))]),
  );
}

function same(what: string, found: Content, expected: Content): void {
  const text = (content: Content) => [...content].map((entry) => entry.join(' ')).sort();
  assert.equal(text(found), text(expected), what);
}

/** A shell with the commands of the manual on its path. */
function shell(w: World): (line: string) => Promise<string> {
  fs.mkdirSync(w.path('bin'));
  for (const name of ['sdxdisk', 'sdxvolume', 'sdxproxy', 'sdxinfo']) {
    fs.symlinkSync(BUNDLE, w.path('bin', name));
  }
  const PATH = [w.path('bin'), path.dirname(process.execPath), '/usr/sbin:/sbin', process.env.PATH];
  const env = { ...process.env, KAGE_HOME: w.home, PATH: PATH.join(':') };
  return async (printed) => {
    const line = printed.replaceAll('/DATA', w.path('DATA')).replaceAll('/dev/st0', w.path('tape'));
    const { status, stdout, stderr } = await new Running(['bash', '-c', line], env, '').ended;
    assert.is(status, 0, `${line}\n${stdout}${stderr}`);
    return stdout;
  };
}

/** The status in the table of slices, whenever it changes, until it is `last`. */
async function statusesUntil(
  last: string,
  line: string,
  sh: (line: string) => Promise<string>,
): Promise<string[]> {
  const seen: string[] = [];
  for (let i = 0; i < 600; i++) {
    const [header, , row] = (await sh(line)).split('\n');
    assert.match(header, /^OBJ +CLASS +GROUP +DISK +VOLUME +STATUS$/);
    const status = row.split(/ +/)[5];
    if (seen.at(-1) !== status) seen.push(status);
    if (status === last) return seen;
    await sleep(20);
  }
  assert.unreachable(`${line} does not come to ${last}, only to ${seen.join(', ')}`);
  return seen;
}

/** What is on the tape, as `dd` or `tar` wrote it. */
async function dumped(w: World): Promise<Content> {
  const folder = w.path('dumped');
  fs.mkdirSync(folder, { recursive: true });
  await run('mount', '-o', 'ro,loop', w.path('tape'), folder);
  const content = contentOf(folder);
  await run('umount', folder);
  return content;
}

async function archived(w: World): Promise<Content> {
  const folder = w.path('archived');
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder);
  await run('tar', 'xf', w.path('tape'), '-C', folder);
  return contentOf(folder);
}

const check = fs.existsSync(DEVICES)
  ? (_tools: readonly string[], name: string) =>
      leaveOut(test, `the manual’s page: ${name}`, name, `${DEVICES} exists already`)
  : mounting(test, 'the manual’s page');

check(
  ['mkfs.ext3', 'fsck.ext3', 'losetup', 'script', 'tar'],
  'online backup by synchronization, then the instant restore',
  async (w) => {
    w.atEnd(() => fs.rmSync(DEVICES, { recursive: true, force: true }));
    unmountAtEnd(w, DEVICES);
    const sh = shell(w);
    for (const name of ['DATA', 'TEMP']) fs.mkdirSync(w.path(name));
    const [one, two] = [w.path('one.img'), w.path('two.img')];
    fs.writeFileSync(one, randomBytes(DISK_BLOCKS * 512, 1));
    fs.writeFileSync(two, randomBytes(DISK_BLOCKS * 512, 2));
    const server = await serve(w, ['--devices', DEVICES]);
    await sh(`sdxdisk -M -c Class1 -d ${one}=Disk1:single,${two}=Disk2:single`);
    await sh(`sdxvolume -M -c Class1 -d Disk1 -v Volume1 -s ${BLOCKS}`);
    await sh(`sdxvolume -M -c Class1 -d Disk2 -v Volume2 -s ${BLOCKS}`);
    await sh('mkfs.ext3 -q /dev/sfdsk/Class1/dsk/Volume1');
    await sh('mount -t ext3 /dev/sfdsk/Class1/dsk/Volume1 /DATA');
    const service = new Service(w.path('DATA'), seedOf('the manual’s page'));
    service.start();
    await service.go(100);

    // 7.1, steps 1 to 7. The delay is for the one who watches.
    await sh('sdxvolume -F -c Class1 -v Volume2');
    await sh('sdxproxy Join -c Class1 -m Volume1 -p Volume2 -e delay=20');
    const slices = 'sdxinfo -S -c Class1 -o Volume2';
    assert.equal(await statusesUntil('STOP', slices, sh), ['COPY', 'STOP']);
    await service.go(50);
    const first = await service.stop();
    await sh('cd /; umount /DATA');
    await sh('sdxproxy Part -c Class1 -p Volume2');
    await sh('mount -t ext3 /dev/sfdsk/Class1/dsk/Volume1 /DATA');
    service.start();
    await service.go(50);
    await sh('dd if=/dev/sfdsk/Class1/dsk/Volume2 of=/dev/st0 bs=32768');
    same('the raw backup', await dumped(w), first);
    // It wants a terminal, if only to say that all is well.
    await sh('script -qec "fsck -t ext3 /dev/sfdsk/Class1/dsk/Volume2" /dev/null');
    await sh(`mount -t ext3 /dev/sfdsk/Class1/dsk/Volume2 ${w.path('TEMP')}`);
    await sh(`cd ${w.path('TEMP')}; tar cvf /dev/st0 .; cd /; umount ${w.path('TEMP')}`);
    same('the backup of files', await archived(w), first);

    // Step 8, as long as there are backups to make.
    await sh('sdxvolume -F -c Class1 -v Volume2');
    await sh('sdxproxy Rejoin -c Class1 -p Volume2');
    await service.go(20);
    await statusesUntil('STOP', slices, sh);
    const { lastCopy } = await w.pair('Volume2', 'Class1');
    assert.is(lastCopy?.method, 'differential', lastCopy?.reason);
    const second = await service.stop();
    await sh('cd /; umount /DATA');
    await sh('sdxproxy Part -c Class1 -p Volume2');
    await sh('mount -t ext3 /dev/sfdsk/Class1/dsk/Volume1 /DATA');
    service.start();
    await sh('dd if=/dev/sfdsk/Class1/dsk/Volume2 of=/dev/st0 bs=32768');
    same('the next raw backup', await dumped(w), second);

    // 7.3: files are destroyed.
    await service.go(20);
    await service.stop();
    await sh('rm -rf /DATA/*; dd if=/dev/urandom of=/DATA/file-1 bs=1M count=5 2>&1');
    await sh('cd /; umount /DATA');
    await sh('sdxvolume -F -c Class1 -v Volume1');
    await sh('sdxvolume -F -c Class1 -v Volume2');
    await sh('sdxproxy RejoinRestore -c Class1 -p Volume2 -e instant');
    await sh('sdxvolume -N -c Class1 -v Volume1');
    await sh('mount -t ext3 /dev/sfdsk/Class1/dsk/Volume1 /DATA');
    same('the restored master', contentOf(w.path('DATA')), second);
    service.restored(second);
    service.start();
    await service.go(20);
    await statusesUntil('ACTIVE', 'sdxinfo -S -c Class1 -o Volume1', sh);

    // Step 9: for good.
    await sh('sdxproxy Break -c Class1 -p Volume2');
    await service.go(20);
    const last = await service.stop();
    await sh('cd /; umount /DATA');
    await sh('fsck -t ext3 -fn /dev/sfdsk/Class1/dsk/Volume1');
    await sh('mount -t ext3 /dev/sfdsk/Class1/dsk/Volume1 /DATA');
    same('the master', contentOf(w.path('DATA')), last);
    await sh('cd /; umount /DATA');
    await server.stop();
    assert.not.ok(fs.existsSync(DEVICES));
    for (const [image, seed] of [
      [one, 1],
      [two, 2],
    ] as const) {
      const behind = fs.readFileSync(image).subarray(BLOCKS * 512);
      assert.ok(behind.equals(randomBytes(DISK_BLOCKS * 512, seed).subarray(BLOCKS * 512)));
    }
  },
);

test.run();
