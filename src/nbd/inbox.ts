/**
 * Bytes that arrived and were not looked at yet, in whatever pieces they came. What lies in one
 * piece is handed on without a copy. It keeps what it is given: whoever fills it has to stop filling.
 */

const NOTHING = new Uint8Array(0);

export class Inbox {
  #bytes: Uint8Array = NOTHING;
  #at = 0;
  /** Pieces behind the current one. While there are any, the current one is not used up. */
  #more: Uint8Array[] = [];
  /** Where they begin: those in front of it are used up. */
  #first = 0;
  #moreBytes = 0;

  /** The current piece; what was not looked at begins at `at`. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  get at(): number {
    return this.#at;
  }

  /** Bytes that are here. */
  get size(): number {
    return this.#bytes.byteLength - this.#at + this.#moreBytes;
  }

  push(piece: Uint8Array): void {
    if (piece.byteLength === 0) return;
    if (this.#at === this.#bytes.byteLength) {
      this.#bytes = piece;
      this.#at = 0;
    } else {
      this.#more.push(piece);
      this.#moreBytes += piece.byteLength;
    }
  }

  /**
   * Whether the next `length` bytes are here; if so they lie in one piece at `at`. Copies those that
   * come from several pieces, so it is for headers.
   */
  has(length: number): boolean {
    if (this.inOnePiece(length)) return true;
    if (this.size < length) return false;
    const joined = new Uint8Array(length);
    this.moveInto(joined);
    if (this.#at < this.#bytes.byteLength) {
      const rest = this.#bytes.subarray(this.#at);
      if (this.#first > 0) this.#more[--this.#first] = rest;
      else this.#more.unshift(rest);
      this.#moreBytes += rest.byteLength;
    }
    this.#bytes = joined;
    this.#at = 0;
    return true;
  }

  inOnePiece(length: number): boolean {
    return this.#bytes.byteLength - this.#at >= length;
  }

  /** The next bytes as a view, which must lie in one piece; they count as looked at. */
  take(length: number): Uint8Array {
    const taken = this.#bytes.subarray(this.#at, this.#at + length);
    this.#pass(length);
    return taken;
  }

  /** Passes over at most `length` bytes; returns how many there were. */
  skip(length: number): number {
    let done = 0;
    while (done < length) {
      const step = Math.min(length - done, this.#bytes.byteLength - this.#at);
      if (step === 0) break;
      this.#pass(step);
      done += step;
    }
    return done;
  }

  /** Copies what is here, as much as there is room for; returns how many bytes that was. */
  moveInto(into: Uint8Array): number {
    let done = 0;
    while (done < into.byteLength) {
      const step = Math.min(into.byteLength - done, this.#bytes.byteLength - this.#at);
      if (step === 0) break;
      into.set(this.#bytes.subarray(this.#at, this.#at + step), done);
      this.#pass(step);
      done += step;
    }
    return done;
  }

  /** Forgets everything. */
  clear(): void {
    this.#bytes = NOTHING;
    this.#at = 0;
    this.#more = [];
    this.#first = 0;
    this.#moreBytes = 0;
  }

  #pass(length: number): void {
    this.#at += length;
    if (this.#at < this.#bytes.byteLength) return;
    this.#bytes = NOTHING;
    this.#at = 0;
    if (this.#first === this.#more.length) return;
    this.#bytes = this.#more[this.#first];
    this.#more[this.#first++] = NOTHING;
    this.#moreBytes -= this.#bytes.byteLength;
    if (this.#first === this.#more.length) {
      this.#more = [];
      this.#first = 0;
    }
  }
}
