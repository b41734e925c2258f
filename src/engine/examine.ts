/** Is this path an image that the engine can work on? Each kind of no has its own plain words. */

import { KageError } from '../base/errors.ts';
import { IMAGE_SIZE_MAX } from '../base/limits.ts';
import { formatSize } from '../base/units.ts';
import { containerFormat, HEAD_LENGTH } from '../device/format.ts';
import type { Host, ImageFacts } from '../device/host.ts';

/** Facts about a usable raw image. Throws the error for what it is otherwise. */
export async function examineImage(host: Host, path: string): Promise<ImageFacts> {
  const facts = await host.inspect(path);
  const data = { path };
  if (facts === undefined) {
    throw new KageError('image-missing', `${path}: no such file`, { data });
  }
  if (facts.kind === 'directory') {
    throw new KageError('image-directory', `${path}: is a directory, not an image`, { data });
  }
  if (facts.kind === 'other') {
    throw new KageError('image-directory', `${path}: is neither a file nor a block device`, {
      data,
    });
  }
  if (!facts.readable) {
    throw new KageError('image-unreadable', `${path}: no permission to read it`, { data });
  }
  if (facts.size === 0) {
    throw new KageError('image-empty', `${path}: the image is empty`, {
      hint: 'an image needs at least one byte; `kage create NAME -s SIZE IMAGE` makes one',
      data,
    });
  }
  if (facts.size > IMAGE_SIZE_MAX) {
    throw new KageError('not-permitted', `${path}: larger than ${formatSize(IMAGE_SIZE_MAX)}`, {
      data,
    });
  }
  await refuseContainer(host, facts, path);
  return facts;
}

async function refuseContainer(host: Host, facts: ImageFacts, path: string): Promise<void> {
  const device = await host.openDevice(facts.path, { readOnly: true });
  let format: string | null;
  try {
    const head = new Uint8Array(Math.min(HEAD_LENGTH, facts.size));
    await device.read(head, 0);
    const tail = new Uint8Array(Math.min(512, facts.size));
    await device.read(tail, facts.size - tail.byteLength);
    format = containerFormat(head, tail);
  } finally {
    await device.close();
  }
  if (format === null) return;
  throw new KageError('image-format', `${path}: is a ${format} file, not a raw image`, {
    hint: `convert it: qemu-img convert -O raw ${path} ${path.replace(/\.[^./]*$/, '')}.img`,
    data: { path, format },
  });
}

/** True when writing one writes the other: one file, or a loop device and the file behind it. */
export function sameStorage(a: ImageFacts, b: ImageFacts): boolean {
  return a.identity === b.identity || (a.behind ?? a.identity) === (b.behind ?? b.identity);
}

/** Throws `image-readonly` unless the image may be written, `not-permitted` while it is mounted. */
export function requireWritable(facts: ImageFacts, path: string): void {
  if (facts.busy) {
    throw new KageError('not-permitted', `${path}: is mounted or in use by the system`, {
      hint: 'unmount it first: what uses it would not see what is written',
      data: { path },
    });
  }
  if (facts.writable) return;
  throw new KageError('image-readonly', `${path}: no permission to write it`, {
    hint: 'give yourself write permission, or use another image',
    data: { path },
  });
}
