/**
 * Disks and a state folder of the live simulation that fail: an operation, once or from some moment on.
 * Keeps what has failed, so that nothing else may go wrong for it: what a proxy's disk does is no
 * matter of the master's clients, unless the master is being restored from there.
 */

import { KageError } from '../../src/base/errors.ts';
import type { MemoryDisk, MemoryHost, Operation } from '../../src/device/memory-host.ts';

/** What a fault may be told as, and nothing else. */
const TOLD = ['io-error', 'disk-full', 'partly', 'wrong-state', 'interrupted', 'failed'];

type Plan = {
  /** A disk's path, or `state`. */
  readonly where: string;
  readonly operation: Operation;
  readonly error: () => KageError;
  /** Operations that go well before it. */
  left: number;
  readonly lasts: boolean;
};

export class Faults {
  readonly #host: MemoryHost;
  readonly #random: () => number;
  #plan: Plan | undefined;
  /** What has failed since `forget`, as `DISK OPERATION`. */
  readonly fired = new Set<string>();
  /** Whether clients of the master may hear of it. */
  reachesMaster = false;
  /** Called when something fails, with the disk's path or `state`. */
  onFire: (where: string) => void = () => {};

  constructor(host: MemoryHost, random: () => number) {
    this.#host = host;
    this.#random = random;
    host.syncsFailForGood = true;
    host.stateFault = (operation) => this.#strike('state', operation);
    for (const [path, disk] of host.disks) {
      disk.fault = (operation: Operation, _disk: MemoryDisk) => this.#strike(path, operation);
    }
  }

  /** Something will fail soon. */
  plan(): string {
    const paths = [...this.#host.disks.keys(), 'state'];
    const where = paths[Math.floor(this.#random() * paths.length)];
    const operations: Operation[] =
      where === 'state' ? ['write', 'flush'] : ['write', 'flush', 'read'];
    const operation = operations[Math.floor(this.#random() * operations.length)];
    const full = operation === 'write' && this.#random() < 0.5;
    const text = full ? 'no room left on the disk' : `${operation} failed: EIO`;
    this.#plan = {
      where,
      operation,
      error: () => new KageError(full ? 'disk-full' : 'io-error', `${where}: ${text}`),
      left: Math.floor(this.#random() * 25),
      lasts: this.#random() < 0.5,
    };
    return `${where} ${text}${this.#plan.lasts ? ', from then on' : ''}`;
  }

  /** From now on nothing fails; what has is remembered. */
  clear(): void {
    this.#plan = undefined;
  }

  /** Nobody may feel any of it any more. */
  forget(): void {
    this.clear();
    this.fired.clear();
    this.reachesMaster = false;
  }

  /** Whether a sync of some disk has failed. */
  get lostData(): boolean {
    return [...this.fired].some((what) => what.endsWith('flush'));
  }

  /** Throws an error that no fault explains. */
  excuse(error: unknown, ofMaster: boolean): void {
    const told = error instanceof KageError && TOLD.includes(error.code);
    if (!told || this.fired.size === 0 || (ofMaster && !this.reachesMaster)) throw error;
  }

  #strike(where: string, operation: Operation): void {
    const plan = this.#plan;
    if (plan?.where !== where || plan.operation !== operation || plan.left-- > 0) return;
    if (!plan.lasts) this.#plan = undefined;
    this.fired.add(`${where} ${operation}`);
    this.onFire(where);
    throw plan.error();
  }
}
