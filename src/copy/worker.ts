/**
 * The body of a copy thread: opens its own devices, answers each list of ranges with a result. The
 * bundler embeds it as text, apart from the command: a thread starts twice as fast without that.
 */

import fs from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { KageError } from '../base/errors.ts';
import type { BlockDevice } from '../device/device.ts';
import { FileDevice, isSparse } from '../device/file.ts';
import { OffsetLayer } from '../device/layers/offset.ts';
import { RightOfWay, YieldingFile } from '../device/right-of-way.ts';
import { createKernel } from '../kernel/select.ts';
import type { FileSpec, WorkerReply, WorkerStart } from './crew.ts';
import { Buffers, type Range, runTask, sideOf } from './task.ts';

const say = (reply: WorkerReply) => parentPort?.postMessage(reply);

try {
  const start = workerData as WorkerStart;
  const source = open(start.source, true);
  const target = open(start.target, start.mode === 'diff', start.clients);
  const buffers = new Buffers(createKernel(start.kernel), start.regionSize, start.mode);
  const serve = async (ranges: Range[]) => {
    try {
      say({ result: await runTask(buffers, source, target, ranges, start.mode) });
    } catch (error) {
      say(describe(error));
    }
  };
  // One after the other: they share the buffers.
  let last = Promise.resolve();
  parentPort?.on('message', (ranges: Range[]) => {
    last = last.then(() => serve(ranges));
  });
  say({ result: { bytesRead: 0, bytesWritten: 0, regions: [], regionCount: 0 } });
} catch (error) {
  say(describe(error));
}

function open(spec: FileSpec, readOnly: boolean, clients?: Int32Array): BlockDevice {
  const device = new FileDevice(spec.path, {
    readOnly,
    direct: isSparse(spec.path),
    size: spec.offset + spec.size,
  });
  const stat = fs.statSync(spec.path, { bigint: true });
  const identity = stat.isBlockDevice() ? `block ${stat.rdev}` : `${stat.dev}:${stat.ino}`;
  if (identity !== spec.identity) {
    throw new KageError('image-changed', `${spec.path}: was replaced by another file`);
  }
  if (clients === undefined) return new OffsetLayer(device, spec.offset, spec.size);
  return new YieldingFile(device, spec.offset, spec.size, new RightOfWay(clients));
}

function describe(error: unknown): WorkerReply {
  const side = sideOf(error);
  if (error instanceof KageError) {
    return { code: error.code, message: error.message, data: error.data, side };
  }
  return {
    code: '',
    message: error instanceof Error ? error.message : String(error),
    data: {},
    side,
  };
}
