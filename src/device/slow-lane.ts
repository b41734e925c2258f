/**
 * What the disks of a process let the runtime's few threads do for them. Owners take turns, and one
 * that keeps its threads long gets half of them at most, so that a stalling disk never has them all.
 */

/** Whose work it is; the same object each time. */
export type Owner = {
  /** Its calls take long, for whatever reason. */
  readonly isStalling: boolean;
};

type Job = { readonly work: () => Promise<void>; readonly begin: (done: Promise<void>) => void };

type Line = { running: number; readonly waiting: Job[] };

export class SlowLane {
  readonly #slots: number;
  #busy = 0;
  /** In the order in which they get the next free slot. */
  readonly #lines = new Map<Owner, Line>();

  /** `slots`: calls at a time, at least 1. */
  constructor(slots: number) {
    this.#slots = slots;
  }

  /** Runs `work` when there is room; settles as it does. */
  run(owner: Owner, work: () => Promise<void>): Promise<void> {
    let line = this.#lines.get(owner);
    if (line === undefined) {
      line = { running: 0, waiting: [] };
      this.#lines.set(owner, line);
    }
    if (line.waiting.length === 0 && this.#hasRoom(owner, line)) {
      return this.#start(owner, line, work);
    }
    const { waiting } = line;
    return new Promise<void>((resolve) => waiting.push({ work, begin: resolve }));
  }

  /** True when `run` would begin at once. */
  isFree(owner: Owner): boolean {
    const line = this.#lines.get(owner) ?? { running: 0, waiting: [] };
    return line.waiting.length === 0 && this.#hasRoom(owner, line);
  }

  #hasRoom({ isStalling }: Owner, { running }: Line): boolean {
    const most = isStalling ? Math.max(1, Math.floor(this.#slots / 2)) : this.#slots;
    return this.#busy < this.#slots && running < most;
  }

  async #start(owner: Owner, line: Line, work: () => Promise<void>): Promise<void> {
    this.#busy++;
    line.running++;
    try {
      await work();
    } finally {
      this.#busy--;
      line.running--;
      if (line.running === 0 && line.waiting.length === 0) this.#lines.delete(owner);
      this.#next();
    }
  }

  #next(): void {
    for (const [owner, line] of this.#lines) {
      if (line.waiting.length === 0 || !this.#hasRoom(owner, line)) continue;
      const job = line.waiting.shift()!;
      // Behind all others.
      this.#lines.delete(owner);
      this.#lines.set(owner, line);
      job.begin(this.#start(owner, line, job.work));
      return;
    }
  }
}
