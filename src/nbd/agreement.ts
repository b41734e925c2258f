/** What the handshake ends with, and what a connection is given by the world around it. */

import type { Budget } from './budget.ts';
import type { OpenExport } from './export.ts';
import type { NbdMetrics } from './metrics.ts';
import type { SlabStore } from './slabs.ts';

/** A metadata context; `id` is its place in the export's list. */
export type Context = { readonly id: number; readonly name: string };

export type Agreed = {
  readonly open: OpenExport;
  readonly structured: boolean;
  /** The selected metadata contexts. */
  readonly contexts: readonly Context[];
};

export type Surroundings = {
  readonly store: SlabStore;
  /** Of all connections of the server. */
  readonly budget: Budget;
  readonly metrics: NbdMetrics;
  /** ms, never going back. */
  readonly clock: () => number;
  /** Resolves once other work had its turn. */
  readonly turn: () => Promise<void>;
};
