/**
 * Extents for one BLOCK_STATUS request, whatever the export returns: they cover at least the first
 * byte asked for and no byte behind the range, neighbours differ, none is empty. The answer may end
 * before the range does; the client goes on from there.
 */

import { KageError } from '../base/errors.ts';
import type { Extent, NbdExport } from './export.ts';
import { ALLOCATION, BASE_ALLOCATION } from './wire.ts';

/** What the export is asked for at a time, bytes: bounds the list it has to make. */
const SLICE_BYTES = 256 * 1024 * 1024;
/** What one answer holds: 512 KiB. */
const EXTENTS_MAX = 64 * 1024;
/** An answer of `base:allocation` ends here: an export may have to read what it tells of, bytes. */
const ENOUGH_BYTES = 32 * 1024 * 1024;

export type StatusQuestion = {
  readonly context: string;
  readonly offset: number;
  readonly length: number;
  /** Only the first extent is wanted. */
  readonly one: boolean;
};

/**
 * Returns at once when the export does and the first slice is enough; does not throw but reject.
 * `turn` lets others go on.
 */
export function statusExtents(
  target: NbdExport,
  question: StatusQuestion,
  turn: () => Promise<void>,
): Extent[] | Promise<Extent[]> {
  try {
    const first = ask(target, question, 0);
    if (!Array.isArray(first)) return collect(target, question, first, turn);
    const extents: Extent[] = [];
    const covered = add(extents, first, question, 0);
    if (isEnough(extents, question, covered)) return finish(target, extents, question);
    return collect(target, question, first, turn);
  } catch (error) {
    return Promise.reject(error);
  }
}

async function collect(
  target: NbdExport,
  question: StatusQuestion,
  first: Extent[] | Promise<Extent[]>,
  turn: () => Promise<void>,
): Promise<Extent[]> {
  const extents: Extent[] = [];
  let covered = add(extents, await first, question, 0);
  while (covered > 0 && !isEnough(extents, question, covered)) {
    await turn();
    const before = covered;
    covered = add(extents, await ask(target, question, covered), question, covered);
    if (covered === before) break;
  }
  return finish(target, extents, question);
}

function ask(
  target: NbdExport,
  { context, offset, length }: StatusQuestion,
  covered: number,
): Extent[] | Promise<Extent[]> {
  return target.status(context, offset + covered, Math.min(length - covered, SLICE_BYTES));
}

/** Appends what is inside the range; returns how many of its bytes are covered now. */
function add(
  extents: Extent[],
  more: readonly Extent[],
  { context, length }: StatusQuestion,
  covered: number,
): number {
  let at = covered;
  for (const extent of more) {
    if (at >= length || extents.length > EXTENTS_MAX) break;
    const part = Math.min(extent.length, length - at);
    if (part <= 0) continue;
    const flags = honest(context, extent.flags);
    const last = extents.at(-1);
    if (last !== undefined && last.flags === flags) last.length += part;
    else extents.push({ length: part, flags });
    at += part;
  }
  return at;
}

/** Backup programs skip a hole unread: one that does not read as zeros is told as data. */
function honest(context: string, flags: number): number {
  if (context !== BASE_ALLOCATION || (flags & ALLOCATION.zero) !== 0) return flags;
  return flags & ~ALLOCATION.hole;
}

function isEnough(extents: readonly Extent[], question: StatusQuestion, covered: number): boolean {
  if (covered === 0) return false;
  const isRead = question.context === BASE_ALLOCATION;
  const enough = isRead ? Math.min(question.length, ENOUGH_BYTES) : question.length;
  return question.one || covered >= enough || extents.length > EXTENTS_MAX;
}

function finish(target: NbdExport, extents: Extent[], question: StatusQuestion): Extent[] {
  if (extents.length === 0) {
    throw new KageError('failed', `${target.name}: nothing is known of byte ${question.offset}`);
  }
  return extents.slice(0, question.one ? 1 : EXTENTS_MAX);
}
