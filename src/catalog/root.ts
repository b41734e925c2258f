/**
 * The catalog of a class on disk: two roots, `root.0` and `root.1`, whole JSON files that a person
 * can read, each with a schema version, a generation and an XXH64 over its own bytes. A commit
 * writes the next generation beside them, syncs it, renames it over the older root and syncs the
 * folder. A crash therefore never leaves a bad root: one that does not check out was damaged
 * later, and then the class is closed until somebody looks (`kage fix --catalog`), because the older
 * root may describe a state long gone.
 */

import { KageError } from '../base/errors.ts';
import { reach } from '../base/faults.ts';
import { ROOT_LENGTH_MAX } from '../base/limits.ts';
import type { Folder } from '../device/host.ts';
import { HASH_STATE_BYTES, type Kernel } from '../kernel/kernel.ts';
import { type ClassRecord, SCHEMA } from './records.ts';

const SLOTS = ['root.0', 'root.1'] as const;
const NO_CHECKSUM = '0000000000000000';
const CHECKSUM =
  /^\{\n "kagemusha": "class catalog",\n "schema": (\d+),\n "checksum": "([0-9a-f]{16})"/;

export type Loaded = {
  /** The newest good root; undefined when there is no class here. */
  readonly record: ClassRecord | undefined;
  /** Null, or why the newest root cannot be read: the class is closed. */
  readonly closed: string | null;
};

/** Reads the roots. Throws `catalog-newer`; damage is reported in `closed`. */
export async function loadRoots(folder: Folder, kernel: Kernel): Promise<Loaded> {
  const good: ClassRecord[] = [];
  const problems: string[] = [];
  for (const name of SLOTS) {
    const bytes = await folder.read(name);
    if (bytes === undefined) continue;
    const result = decodeRoot(bytes, kernel);
    if (typeof result !== 'string') good.push(result);
    else if (result.startsWith('newer')) throw newer(folder, name, result);
    else problems.push(`${name} ${result}`);
  }
  good.sort((a, b) => b.generation - a.generation);
  const record = good[0];
  if (problems.length > 0) return { record, closed: problems.join(', ') };
  if (record === undefined) return { record, closed: null };
  const before = good[1]?.generation;
  const expected = record.generation - 1;
  if (before !== expected && !(expected === 0 && before === undefined)) {
    return { record, closed: `a root beside generation ${record.generation} is missing` };
  }
  return { record, closed: null };
}

function newer(folder: Folder, name: string, what: string): KageError {
  return new KageError('catalog-newer', `${folder.path}/${name}: ${what}`, {
    hint: 'use the version of kagemusha that wrote it, or a later one',
    data: { path: folder.path },
  });
}

/**
 * Commits `record` as the next generation (which it sets). Durable when it returns. Until `decisive` is
 * called a failure leaves everything as it was.
 */
export async function commitRoot(
  folder: Folder,
  kernel: Kernel,
  record: ClassRecord,
  now: number,
  decisive: () => void = () => {},
): Promise<void> {
  record.generation++;
  record.written = new Date(now).toISOString();
  const name = SLOTS[record.generation % 2];
  await folder.write(`${name}.new`, encodeRoot(record, kernel));
  reach('commit:root-written');
  decisive();
  await folder.rename(`${name}.new`, name);
  reach('commit:root-renamed');
  await folder.sync();
  reach('commit:done');
}

export function encodeRoot(record: ClassRecord, kernel: Kernel): Uint8Array {
  const envelope = { kagemusha: 'class catalog', schema: SCHEMA, checksum: NO_CHECKSUM, ...record };
  const text = `${JSON.stringify(envelope, null, 1)}\n`;
  const checksum = hashBytes(new TextEncoder().encode(text), kernel);
  return new TextEncoder().encode(text.replace(NO_CHECKSUM, checksum));
}

/** The record, or what is wrong with the bytes, for people. */
export function decodeRoot(bytes: Uint8Array, kernel: Kernel): ClassRecord | string {
  if (bytes.byteLength > ROOT_LENGTH_MAX) return 'is too large to be a catalog root';
  const text = new TextDecoder().decode(bytes);
  const match = CHECKSUM.exec(text);
  if (match === null) return 'is truncated or damaged';
  const [, schema, checksum] = match;
  const at = match[0].length - 17;
  const blank = text.slice(0, at) + NO_CHECKSUM + text.slice(at + 16);
  const blanked = new TextEncoder().encode(blank);
  // Bytes that are not UTF-8 decode to something longer: then the text is not what was written.
  if (blanked.byteLength !== bytes.byteLength) return 'is damaged';
  if (hashBytes(blanked, kernel) !== checksum) return 'is truncated or damaged (checksum)';
  if (Number(schema) > SCHEMA) return `newer: schema ${schema}, this version knows ${SCHEMA}`;
  try {
    const { kagemusha, schema: _, checksum: __, ...record } = JSON.parse(text);
    return completed(record as ClassRecord);
  } catch {
    return 'is no JSON';
  }
}

/** What records of before do not say. */
function completed(record: ClassRecord): ClassRecord {
  for (const volume of record.volumes) volume.readOnly ??= false;
  return record;
}

function hashBytes(bytes: Uint8Array, kernel: Kernel): string {
  const state = kernel.allocate(HASH_STATE_BYTES);
  const data = kernel.allocate(Math.max(1, bytes.byteLength));
  try {
    kernel.bytes(data, bytes.byteLength).set(bytes);
    kernel.hashReset(state);
    kernel.hashUpdate(state, data, bytes.byteLength);
    return kernel.hashDigest(state);
  } finally {
    kernel.release(data);
    kernel.release(state);
  }
}
