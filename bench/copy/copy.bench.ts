/**
 * `kage copy` as a whole program against those one would use instead. Everything is in the page
 * cache; all sides of a work end with the same durability. Not measured: cold reads, slow disks.
 */

import path from 'node:path';
import { type Parameter, pick } from '../harness.ts';
import { hashOf, makeImage, type Place, requireSpace, sync, within } from '../place.ts';
import { WORKS } from '../report/floors.ts';
import type { Absence, Entry } from '../report/result.ts';
import { runProgram, versionOf } from '../runtimes.ts';
import { type Contender, takeTurns } from '../turns.ts';

const SIZE: Parameter<number> = { smoke: 24 * 2 ** 20 + 4096, real: 2 * 2 ** 30 };
const EQUAL_ROUNDS: Parameter<number> = { smoke: 1, real: 5 };
const FULL_ROUNDS: Parameter<number> = { smoke: 2, real: 4 };

export const PEERS = ['cmp', 'rsync', 'dd', 'nbdcopy', 'nbdkit', 'qemu-img'];

type Outcome = { entries: Entry[]; absences: Absence[] };

const kage = (place: Place, home: string, ...words: string[]): void => {
  const env = { KAGE_HOME: home };
  runProgram([process.execPath, `${place.root}dist/kage.js`, ...words], { env });
};

/** Splits contenders by whether their programs are here. */
function installed(
  work: string,
  contenders: readonly (Contender & { needs: readonly string[] })[],
): { here: Contender[]; absences: Absence[] } {
  const missing = (needs: readonly string[]) => needs.filter((n) => versionOf(n) === undefined);
  return {
    here: contenders.filter(({ needs }) => missing(needs).length === 0),
    absences: contenders
      .filter(({ needs }) => missing(needs).length > 0)
      .map(({ name, needs }) => ({
        work,
        runtime: 'node',
        name,
        reason: `not installed: ${missing(needs).join(', ')}`,
      })),
  };
}

function requireHash(file: string, hash: string): void {
  if (hashOf(file) !== hash) throw new Error(`${path.basename(file)}: not what it should hold`);
}

/** Two equal images: all read both and find nothing to write. */
export function equalPair(place: Place): Outcome {
  const size = pick(SIZE, place);
  requireSpace(place.dir, 2.5 * size);
  return within(place, 'equal', (dir) => {
    const [a, b] = [path.join(dir, 'a.img'), path.join(dir, 'b.img')];
    makeImage(a, size, 1);
    makeImage(b, size, 1);
    const before = hashOf(a);
    const checksum = () => {
      requireHash(a, before);
      return hashOf(b);
    };
    const { here, absences } = installed(WORKS.equal, [
      {
        name: 'kage copy',
        needs: [],
        run: () => kage(place, path.join(dir, 'home'), 'copy', a, b),
        checksum,
      },
      { name: 'cmp', needs: ['cmp'], run: () => runProgram(['cmp', a, b]), checksum },
      {
        name: 'rsync',
        needs: ['rsync'],
        run: () => runProgram(['rsync', '--inplace', '--no-whole-file', '-I', a, b]),
        checksum,
      },
    ]);
    const entries = takeTurns({
      work: WORKS.equal,
      runtime: 'node',
      rounds: pick(EQUAL_ROUNDS, place),
      params: { bytes: size },
      contenders: here,
      before: () => sync(b),
    });
    return { entries, absences };
  });
}

/**
 * Two sources that differ everywhere are copied in turn over one target, so that each run has all
 * to write, whoever ran before. The target's blocks are allocated: no side grows a file.
 */
function fullCopy(
  place: Place,
  work: string,
  contendersOf: (
    target: string,
    dir: string,
  ) => (Omit<Contender, 'run'> & {
    needs: readonly string[];
    copy(source: string): void;
  })[],
): Outcome {
  const size = pick(SIZE, place);
  requireSpace(place.dir, 3.5 * size);
  return within(place, 'full', (dir) => {
    const sources = [path.join(dir, 'a.img'), path.join(dir, 'b.img')];
    const target = path.join(dir, 'target.img');
    makeImage(sources[0], size, 1);
    makeImage(sources[1], size, 2);
    makeImage(target, size, 2);
    const hashes = sources.map((source) => hashOf(source));
    hashOf(target);
    const { here, absences } = installed(
      work,
      contendersOf(target, dir).map(({ copy, ...rest }) => ({
        ...rest,
        run: (turn: number) => copy(sources[turn % 2]),
        checksum: (turn: number) => {
          requireHash(target, hashes[turn % 2]);
          return hashes.join(' ');
        },
      })),
    );
    const entries = takeTurns({
      work,
      runtime: 'node',
      rounds: pick(FULL_ROUNDS, place),
      params: { bytes: size },
      contenders: here,
      // What an earlier run left dirty is written by nobody's time.
      before: () => sync(target),
    });
    return { entries, absences };
  });
}

const dd = (source: string, target: string, conv: string) =>
  runProgram(['dd', `if=${source}`, `of=${target}`, 'bs=1M', `conv=${conv}`, 'status=none']);

const qemuImg = (source: string, target: string) =>
  runProgram([
    ...['qemu-img', 'convert', '-n', '-W', '-m', '8', '-f', 'raw', '-O', 'raw'],
    ...[source, target],
  ]);

export function fullUnsynced(place: Place): Outcome {
  return fullCopy(place, WORKS.full, (target) => [
    {
      name: 'kage, no sync',
      needs: [],
      copy: (source) => {
        const program = `${place.code}/unsynced.mjs`;
        runProgram([process.execPath, program, source, target]);
      },
    },
    { name: 'dd', needs: ['dd'], copy: (source) => dd(source, target, 'notrunc') },
    {
      // Into a server: into a file it writes through to the disk as it goes.
      name: 'nbdcopy',
      needs: ['nbdcopy', 'nbdkit'],
      copy: (source) => {
        const server = ['[', 'nbdkit', '--exit-with-parent', 'file', target, ']'];
        runProgram(['nbdcopy', '--', source, ...server]);
      },
    },
    {
      name: 'qemu-img convert',
      needs: ['qemu-img'],
      copy: (source) => qemuImg(source, target),
    },
  ]);
}

export function fullSynced(place: Place): Outcome {
  return fullCopy(place, WORKS.synced, (target, dir) => [
    {
      name: 'kage copy',
      needs: [],
      copy: (source) => kage(place, path.join(dir, 'home'), 'copy', source, target),
    },
    { name: 'dd', needs: ['dd'], copy: (source) => dd(source, target, 'notrunc,fdatasync') },
    {
      name: 'nbdcopy',
      needs: ['nbdcopy'],
      copy: (source) => {
        runProgram(['nbdcopy', source, target]);
        runProgram(['sync', target]);
      },
    },
    {
      name: 'qemu-img convert',
      needs: ['qemu-img'],
      copy: (source) => {
        qemuImg(source, target);
        runProgram(['sync', target]);
      },
    },
  ]);
}
