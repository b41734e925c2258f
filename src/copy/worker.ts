/** The body of a copy thread: opens its own devices, answers each list of ranges with a result. */

import fs from 'node:fs';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { KageError } from '../base/errors.ts';
import type { BlockDevice } from '../device/device.ts';
import { FileDevice } from '../device/file.ts';
import { isSparse } from '../device/file-host.ts';
import { OffsetLayer } from '../device/layers/offset.ts';
import { createKernel } from '../kernel/select.ts';
import type { FileSpec, WorkerReply, WorkerStart } from './crew.ts';
import { Buffers, type Range, runTask, sideOf } from './task.ts';

/** True in a thread that was started to copy. */
export function isCopyWorker(): boolean {
  return !isMainThread && (workerData as WorkerStart | undefined)?.role === 'kage-copy';
}

export function serveCopies(): void {
  const port = parentPort;
  if (port === null) return;
  const start = workerData as WorkerStart;
  const say = (reply: WorkerReply) => port.postMessage(reply);
  try {
    const source = open(start.source, true);
    const target = open(start.target, start.mode === 'diff');
    const buffers = new Buffers(createKernel(start.kernel), start.regionSize);
    say({ result: { bytesRead: 0, bytesWritten: 0, regions: [], regionCount: 0 } });
    port.on('message', async (ranges: Range[]) => {
      try {
        say({ result: await runTask(buffers, source, target, ranges, start.mode) });
      } catch (error) {
        say(describe(error));
      }
    });
  } catch (error) {
    say(describe(error));
  }
}

function open(spec: FileSpec, readOnly: boolean): BlockDevice {
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
  return new OffsetLayer(device, spec.offset, spec.size);
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
