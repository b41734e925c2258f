/**
 * What a disk is to the engine: a dozen members, positional, bounds known. Files, memory and layers
 * are all one; an NBD client will be another.
 *
 * Laws: a write that returned is seen by every later read of the same device; it is durable only
 * after a `flush` that began later has returned. A failed flush is never retried and called good.
 * Offsets and lengths are bytes, [offset, offset + length) lies within [0, size), and a transfer is
 * whole or it throws. `read`, `write` and `zero` may return nothing (done at once) or a promise.
 */
export interface BlockDevice {
  /** What messages call it: a path, or the test's name. */
  readonly name: string;
  /** Bytes; any number, also one that is no multiple of 512. */
  readonly size: number;
  readonly readOnly: boolean;
  read(into: Uint8Array, offset: number): void | Promise<void>;
  write(from: Uint8Array, offset: number): void | Promise<void>;
  /** Makes a range read as zeros. */
  zero(offset: number, length: number): void | Promise<void>;
  /** Makes every earlier write durable, whoever issued it. Allowed on a read-only device too. */
  flush(): Promise<void>;
  close(): Promise<void>;
}
