/**
 * What the server needs of a volume. The engine builds one for each started volume; a test one over
 * a `BlockDevice`.
 *
 * The server has checked every range before it calls: [offset, offset + length) lies within [0, size),
 * and nothing is written to a read-only export. Calls overlap freely; whoever implements this orders
 * what has to be ordered. A call that returns nothing instead of a promise is done: that is the fast
 * way for warm data. An error is thrown or rejected, a `KageError` with its errno where it has one.
 */
export interface NbdExport {
  /** `<class>/<volume>`. */
  readonly name: string;
  /** For people, at most 4096 bytes; '' without one. */
  readonly description: string;
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  /** What a client should move at once at least, bytes: a power of two, 512 to 64 KiB. */
  readonly preferredBlockSize: number;
  /** Names of the metadata contexts, `base:allocation` first. */
  readonly contexts: readonly string[];
  read(into: Uint8Array, offset: number): void | Promise<void>;
  /** The bytes belong to the caller again when this is done. */
  write(from: Uint8Array, offset: number): void | Promise<void>;
  /** Reads as zeros afterwards. `punch`: the space may be given back. */
  zero(offset: number, length: number, punch: boolean): void | Promise<void>;
  /** Every write answered before this call is durable afterwards, whichever connection sent it. */
  flush(): Promise<void>;
  /**
   * What the context says from `offset` on: at least one extent, lengths above 0, neighbours differ;
   * together they begin at `offset` and reach at most to the end of the export. May end before
   * `offset + length`, and may reach beyond it.
   */
  status(context: string, offset: number, length: number): Extent[] | Promise<Extent[]>;
}

/** Bytes that have the same flags (`ALLOCATION`, or bit 0 = dirty). */
export type Extent = { length: number; flags: number };

/** What a server offers, looked up anew at each handshake. */
export interface NbdExports {
  list(): readonly { name: string; description: string }[];
  /**
   * Opens an export for a connection; '' is the default one. Undefined: there is none of that name.
   * A `KageError` says why it cannot be had now.
   */
  open(name: string): OpenExport | undefined | Promise<OpenExport | undefined>;
}

export interface OpenExport {
  readonly target: NbdExport;
  /** The connection is gone, and all its requests are done. */
  close(): void;
}
