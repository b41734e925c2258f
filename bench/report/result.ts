/** What the bench writes down: raw times, and what they say about us and a peer. */

import type { Machine } from './machine.ts';

/** `×`: bytes written for each byte that a client wrote. Times and sizes are the better the less they are. */
export type Unit = 'ms' | 'GB/s' | 'IOPS' | 'MiB/s' | 'MiB' | '×';

/** One contender of one work. */
export interface Entry {
  /** `copy of an equal pair`; the same words for all that took turns. */
  work: string;
  /** Empty: a program that runs on none of the three, or a limit for all of them. */
  runtime: string;
  name: string;
  unit: Unit;
  /** In the unit, from the best round: what a busy machine disturbs least. */
  best: number;
  /** In the unit, the middle round. */
  median: number;
  rounds: number;
  /** Of what the work left behind: equal for all contenders of a work. Empty: nothing to check. */
  checksum: string;
  params: Record<string, string | number>;
}

/** Why a contender has no entry. */
export interface Absence {
  work: string;
  runtime: string;
  name: string;
  reason: string;
}

/** We against one peer, both from their best rounds, or both from their middle ones. */
export interface Ratio {
  work: string;
  runtime: string;
  ours: string;
  peer: string;
  /** `speed`: how many times the peer's speed; `time`: our time as a part of the peer's. */
  kind: 'speed' | 'time';
  value: number;
  /** Least speed, or most time, that the plan asks for. */
  floor: number;
  reached: boolean;
}

export interface Results {
  machine: Machine;
  smoke: boolean;
  entries: Entry[];
  absences: Absence[];
  ratios: Ratio[];
}

/** True for units of which more is better. */
export function isRate(unit: Unit): boolean {
  return unit === 'GB/s' || unit === 'IOPS' || unit === 'MiB/s';
}

/** How far above its floor a ratio is: 1 is the floor itself. */
export function score(ratio: Ratio): number {
  return ratio.kind === 'speed' ? ratio.value / ratio.floor : ratio.floor / ratio.value;
}

/** `2.61 ×`, or as a part of the peer's time `2.3 %`. */
export function formatRatio(kind: Ratio['kind'], value: number): string {
  if (kind === 'time' && value < 1.5) return `${(value * 100).toFixed(value < 0.1 ? 1 : 0)} %`;
  return `${value.toFixed(value < 10 ? 2 : 0)} ×`;
}

export function formatFloor({ kind, floor }: Ratio): string {
  if (kind === 'speed') return `≥ ${floor} ×`;
  return floor <= 1 ? `≤ ${floor * 100} %` : `≤ ${floor} ×`;
}

export function formatMeasure({ unit }: Entry, value: number): string {
  if (unit === 'GB/s') return `${value.toFixed(value < 10 ? 2 : 1)} GB/s`;
  if (unit !== 'ms') return `${value.toFixed(value < 100 ? 1 : 0)} ${unit}`;
  if (value < 1) return `${value.toFixed(3)} ms`;
  if (value < 1000) return `${value.toFixed(value < 10 ? 2 : 0)} ms`;
  return `${(value / 1000).toFixed(2)} s`;
}
