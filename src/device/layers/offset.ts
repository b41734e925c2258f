/** A part of a device as a device of its own: how volumes lie on a disk. Closing it closes nothing. */

import { assert } from '../../base/assert.ts';
import type { BlockDevice } from '../device.ts';

export class OffsetLayer implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly readOnly: boolean;
  readonly below: BlockDevice;
  /** Byte of the device below at which this part begins. */
  readonly offset: number;
  #open = true;

  constructor(below: BlockDevice, offset: number, size: number) {
    assert(offset >= 0 && size >= 0 && offset + size <= below.size, 'part outside the device');
    this.name = below.name;
    this.size = size;
    this.readOnly = below.readOnly;
    this.below = below;
    this.offset = offset;
  }

  read(into: Uint8Array, offset: number): void | Promise<void> {
    this.#check(offset, into.byteLength);
    return this.below.read(into, this.offset + offset);
  }

  write(from: Uint8Array, offset: number): void | Promise<void> {
    this.#check(offset, from.byteLength);
    return this.below.write(from, this.offset + offset);
  }

  zero(offset: number, length: number): void | Promise<void> {
    this.#check(offset, length);
    return this.below.zero(this.offset + offset, length);
  }

  flush(): Promise<void> {
    this.#check(0, 0);
    return this.below.flush();
  }

  async close(): Promise<void> {
    this.#open = false;
  }

  #check(offset: number, length: number): void {
    assert(this.#open, 'device used after close');
    assert(
      Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= this.size,
      () => `range ${offset}+${length} outside the part of ${this.name}`,
    );
  }
}
