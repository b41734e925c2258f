/**
 * The intent log among concurrent writers (DESIGN section 5, rule 1). A write *pins* the extents it
 * touches: they are durably hot before it begins and stay so until it has ended. Pinning what is hot
 * costs nothing; several writers that need new extents share one write of the log. An extent that
 * has to make room is out of the set before anything is done for it, so that no write slips in
 * between: whoever needs it next enters it anew.
 */

import { assert } from '../base/assert.ts';
import { reach } from '../base/faults.ts';
import { type HotExtent, type IntentLog, keyOf } from '../bitmap/intent-log.ts';

export type IntentGround = {
  log(): Promise<IntentLog>;
  /** Makes durable what the log would have to remember of these extents. */
  secure(extents: readonly HotExtent[]): Promise<void>;
};

type Request = {
  readonly extents: readonly HotExtent[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
};

export class Intents {
  readonly #ground: IntentGround;
  #log: IntentLog | undefined;
  readonly #pins = new Map<string, number>();
  readonly #waiting: Request[] = [];
  #working: Promise<void> | undefined;
  #evicting: Promise<void> | undefined;
  /** Verbs that have switched and not committed yet: no extent may leave. */
  #frozen = 0;

  constructor(ground: IntentGround) {
    this.#ground = ground;
  }

  /** Pins all of them at once if they are hot; otherwise does nothing and answers false. */
  tryPin(extents: readonly HotExtent[]): boolean {
    if (extents.length === 0) return true;
    if (this.#log?.covers(extents) !== true) return false;
    this.#count(extents, 1);
    return true;
  }

  async pin(extents: readonly HotExtent[]): Promise<void> {
    if (this.tryPin(extents)) return;
    this.#log ??= await this.#ground.log();
    if (this.tryPin(extents)) return;
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ extents, resolve, reject });
      this.#work();
    });
  }

  unpin(extents: readonly HotExtent[]): void {
    this.#count(extents, -1);
    this.#work();
  }

  /** Nothing leaves the log until `thaw`; what was on its way out has left when this returns. */
  async freeze(): Promise<void> {
    this.#frozen++;
    await this.#evicting?.catch(() => {});
  }

  thaw(): void {
    this.#frozen--;
    assert(this.#frozen >= 0, 'thawed more often than frozen');
    this.#work();
  }

  /** Everything that no write has pinned leaves the log. */
  async empty(): Promise<void> {
    this.#log ??= await this.#ground.log();
    await this.#working?.catch(() => {});
    await this.#evict(
      this.#log,
      this.#log.extents.filter((extent) => !this.#isPinned(extent)),
    );
    await this.#log.save();
  }

  /** Serves those who wait, unless somebody does or nothing can leave for them: then the next unpin calls. */
  #work(): void {
    if (this.#waiting.length === 0 || this.#working !== undefined || !this.#canServe()) return;
    this.#working = this.#serve().finally(() => {
      this.#working = undefined;
      this.#work();
    });
    // Nobody but the requests hears of errors.
    this.#working.catch(() => {});
  }

  /** Until nobody waits any more, or nothing can leave for those who do. */
  async #serve(): Promise<void> {
    while (this.#waiting.length > 0 && this.#canServe()) {
      const log = this.#log!;
      const batch = this.#batch(log);
      const extents = batch.flatMap((request) => request.extents);
      try {
        await this.#evict(log, this.#victims(log, extents));
        if (!log.covers(extents)) await log.enter(extents);
      } catch (error) {
        for (const request of batch) request.reject(error);
        continue;
      }
      for (const request of batch) {
        this.#count(request.extents, 1);
        request.resolve();
      }
    }
  }

  /** Takes the requests out of the line that fit together, at least the first. */
  #batch(log: IntentLog): Request[] {
    let count = 0;
    while (count < this.#waiting.length && this.#fits(log, this.#waiting.slice(0, count + 1))) {
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  #canServe(): boolean {
    return this.#log !== undefined && this.#fits(this.#log, this.#waiting.slice(0, 1));
  }

  #fits(log: IntentLog, requests: readonly Request[]): boolean {
    const extents = requests.flatMap((request) => request.extents);
    return log.surplus(extents) <= this.#victims(log, extents).length;
  }

  #victims(log: IntentLog, extents: readonly HotExtent[]): readonly HotExtent[] {
    if (this.#frozen > 0) return [];
    return log.victims(extents, (extent) => this.#isPinned(extent));
  }

  async #evict(log: IntentLog, extents: readonly HotExtent[]): Promise<void> {
    if (extents.length === 0) return;
    log.leave(extents);
    try {
      this.#evicting = this.#ground.secure(extents);
      await this.#evicting;
      reach('evict:done');
    } catch (error) {
      log.comeBack(extents);
      throw error;
    } finally {
      this.#evicting = undefined;
    }
  }

  #isPinned(extent: HotExtent): boolean {
    return this.#pins.has(keyOf(extent));
  }

  #count(extents: readonly HotExtent[], by: 1 | -1): void {
    for (const extent of extents) {
      const key = keyOf(extent);
      const count = (this.#pins.get(key) ?? 0) + by;
      assert(count >= 0, 'an extent was unpinned more often than pinned');
      if (count === 0) this.#pins.delete(key);
      else this.#pins.set(key, count);
    }
  }
}
