/** What the tests of the NBD client have its program do, and what they are told. */

import type { NbdDeviceOptions } from '../../src/nbd/client-device.ts';

/** A device that is opened, used and closed. */
export type Case = {
  readonly uri: string;
  readonly steps: readonly Step[];
  readonly options?: Partial<Omit<NbdDeviceOptions, 'clock'>>;
};

export type Step =
  | readonly ['write', offset: number, length: number, seed: number]
  | readonly ['zero', offset: number, length: number]
  | readonly ['read', offset: number, length: number]
  | readonly ['status', offset: number, length: number]
  | readonly ['flush']
  /** Says that it has come so far by making a file, and waits for another. */
  | readonly ['meet', made: string, awaited: string];

export type Outcome = {
  readonly size?: number;
  /** Of connecting. */
  readonly error?: { readonly code: string; readonly message: string };
  /** 'ok', the hash of what was read, extents, or the code of an error with its message. */
  readonly steps: readonly unknown[];
  readonly generation?: number;
};

/** Bytes that depend on `seed` only, and repeat nowhere near. */
export function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let a = (seed * 2_654_435_761) >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    a = (Math.imul(a, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = a >>> 24;
  }
  return bytes;
}
