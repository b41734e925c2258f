/**
 * A process that wants the lock of a folder, for `lock-processes.test.ts`:
 * `contend FOLDER ROUNDS` takes it so many times, each time making sure to be alone;
 * `hold FOLDER` takes it once, says so, and sits on it.
 */

import fs from 'node:fs';
import path from 'node:path';
import { KageError } from '../../src/base/errors.ts';
import { acquireLock, type Lock } from '../../src/catalog/lock.ts';
import { FileHost } from '../../src/device/file-host.ts';

const [, , mode, at, rounds] = process.argv;
const host = new FileHost();
const folder = host.folder(at);
const marker = path.join(at, 'marker');
const epochFile = path.join(at, 'epoch');

async function lastEpoch(): Promise<number> {
  try {
    return Number(fs.readFileSync(epochFile, 'utf8'));
  } catch {
    return 0;
  }
}

async function take(): Promise<Lock> {
  for (;;) {
    try {
      return await acquireLock(folder, host, { ...host.self(), command: mode }, lastEpoch);
    } catch (error) {
      if (!(error instanceof KageError) || error.code !== 'in-use') throw error;
      await host.sleep(1 + (Number.parseInt(host.randomId().slice(0, 2), 16) % 20));
    }
  }
}

async function contend(): Promise<void> {
  for (let round = 0; round < Number(rounds); round++) {
    const lock = await take();
    // Fails when somebody else is between these lines.
    fs.writeFileSync(marker, String(process.pid), { flag: 'wx' });
    const before = await lastEpoch();
    if (lock.epoch <= before) throw new Error(`epoch ${lock.epoch} after ${before}`);
    fs.writeFileSync(epochFile, String(lock.epoch));
    await host.sleep(Number.parseInt(host.randomId().slice(0, 1), 16) % 4);
    await lock.check();
    fs.unlinkSync(marker);
    await lock.release();
    console.log(`held ${lock.epoch}`);
  }
}

if (mode === 'contend') {
  await contend();
} else {
  const lock = await take();
  console.log(`held ${lock.epoch}`);
  setInterval(() => {}, 1000);
}
