#!/usr/bin/env node
/**
 * A snapshot run over a real file system, command by command. Every line after `$` could be typed by
 * the reader, in the folder that the first line names; the folder stays.
 */

import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const kage = path.join(root, 'dist/kage.js');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kagemusha-demo-'));
const env = {
  ...process.env,
  KAGE_HOME: path.join(folder, 'state'),
  PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
};
const IMAGE_MIB = 192;

function has(tool) {
  return spawnSync(tool, ['-V'], { env }).error === undefined;
}

function say(text) {
  console.log(`\n# ${text}`);
}

/** Prints and runs one line; its exit status is returned. `kage` is this build's bundle. */
function run(line, { stdin, expect = [0] } = {}) {
  console.log(`$ ${line}`);
  const kageOf = `kage() { "${process.execPath}" "${kage}" "$@"; }; `;
  return new Promise((resolve) => {
    const child = spawn('bash', ['-c', kageOf + line], {
      cwd: folder,
      env,
      stdio: [stdin === undefined ? 'ignore' : 'pipe', 'inherit', 'inherit'],
    });
    if (stdin !== undefined) child.stdin.end(stdin);
    child.on('close', (status) => {
      if (!expect.includes(status)) {
        console.error(`\nthe demo stops: exit status ${status}`);
        process.exit(1);
      }
      resolve(status);
    });
  });
}

function sha256(file) {
  return createHash('sha256')
    .update(fs.readFileSync(path.join(folder, file)))
    .digest('hex');
}

function requireEqual(a, b, what) {
  const same = a === b;
  console.log(`  ${same ? 'equal' : 'DIFFERENT'}: ${what}\n  ${a}\n  ${b}`);
  if (!same) process.exit(1);
}

const ext3 = has('mke2fs') && has('debugfs') && has('e2fsck');
console.log(`cd ${folder}`);
console.log(`export KAGE_HOME=$PWD/state; alias kage='node ${path.relative(folder, kage)}'`);

if (ext3) {
  say('An image with an ext3 file system, filled from a folder of real files');
  fs.cpSync(path.join(root, 'node_modules/typescript'), path.join(folder, 'files/typescript'), {
    recursive: true,
    dereference: true,
  });
  fs.cpSync(path.join(root, 'src'), path.join(folder, 'files/src'), { recursive: true });
  await run(`mke2fs -q -t ext3 -d files vm.img ${IMAGE_MIB}M`);
} else {
  say('e2fsprogs is not installed, so a generated image has to do (apt install e2fsprogs)');
  await run(`head -c ${IMAGE_MIB}M /dev/urandom > vm.img`);
}

/** Changes the master behind the engine's back, as a virtual machine would. */
async function change(name) {
  if (ext3) {
    fs.writeFileSync(path.join(folder, `${name}.txt`), `${name}\n`.repeat(5000));
    await run(`debugfs -w -R 'write ${name}.txt ${name}.txt' vm.img 2>/dev/null`);
  } else {
    const at = 4096 * (1 + (createHash('md5').update(name).digest()[0] % 200));
    await run(`printf ${name} | dd of=vm.img bs=4096 seek=${at} conv=notrunc status=none`);
  }
}

say('Make it known, give it a proxy: the first copy is a full one');
await run('kage add vm.img');
await run('kage join vm vm.proxy.img');

say('Somebody changes the master, nobody tells the engine');
await change('before');
say('Part: the engine sees that it was not told, makes the two equal, and splits them');
const atPart = sha256.bind(null, 'vm.img');
await run('kage part vm-proxy');
const snapshot = atPart();

say('The master lives on; the proxy stays what it was');
await change('after');
await run('kage info vm-proxy');
await run('kage diff vm.img vm.proxy.img');

say('The proxy is a plain image: check it, compare it with the master at the moment of part');
if (ext3) await run('e2fsck -fn vm.proxy.img');
await run('sha256sum vm.proxy.img');
requireEqual(sha256('vm.proxy.img'), snapshot, 'the proxy now, the master at the part');

say('Rejoin: nobody tracked those writes, so both sides are read and only what differs is written');
await run('kage rejoin vm-proxy --dry-run');
await run('kage rejoin vm-proxy');

// In the image's last group, where the file system has nothing yet.
say('Writes through the engine are tracked: the next rejoin reads only what changed');
await run('kage part vm-proxy');
await run('kage write vm --offset 190M', { stdin: Buffer.alloc(300_000, 'tracked ') });
await run('kage info vm-proxy');
await run('kage rejoin vm-proxy');

say('A restore point before something goes wrong with the master');
await run('kage part vm-proxy');
const good = sha256('vm.img');
if (ext3) await run(`debugfs -w -R 'rm before.txt' vm.img 2>/dev/null`);
else await change('disaster');
say('Back to the restore point; the pair is joined again afterwards');
await run('kage restore vm-proxy');
requireEqual(sha256('vm.img'), good, 'the master now, the master at the part');
await run('kage verify vm-proxy');
if (ext3) await run('e2fsck -fn vm.img');
console.log(`\nThat was it. The folder stays: rm -r ${folder}`);
