/**
 * `kage copy` as a whole program against those one would use instead. Everything is in the page
 * cache; all sides of a work end with the same durability. Not measured: cold reads, slow disks.
 *
 * Beside the peers, without a floor, the least that any program has to do here: bringing all bytes
 * of both files out of the cache on all cores; writing all of the target by one call at a time, since a
 * file system lets only one writer at a time into a file; and the copy itself by two native programs,
 * half each, which is what two cores gain over one.
 */

import path from 'node:path';
import { type Parameter, pick } from '../harness.ts';
import { hashOf, makeImage, type Place, requireSpace, sync, within } from '../place.ts';
import { WORKS } from '../report/floors.ts';
import type { Absence, Entry } from '../report/result.ts';
import { runProgram, versionOf } from '../runtimes.ts';
import { type Contender, takeTurns } from '../turns.ts';

const SIZE: Parameter<number> = { smoke: 24 * 2 ** 20 + 4096, real: 2 * 2 ** 30 };
const EQUAL_ROUNDS: Parameter<number> = { smoke: 1, real: 4 };
const FULL_ROUNDS: Parameter<number> = { smoke: 2, real: 3 };

export const PEERS = ['cmp', 'rsync', 'dd', 'nbdcopy', 'nbdkit', 'qemu-img'];

type Outcome = { entries: Entry[]; absences: Absence[] };

const kage = (place: Place, home: string, ...words: string[]): void => {
  const env = { KAGE_HOME: home };
  runProgram([process.execPath, place.kage, ...words], { env });
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
      {
        name: 'only reading, two dd',
        needs: ['dd'],
        run: () => {
          const read = (file: string) => `dd if="${file}" of=/dev/null bs=256k status=none`;
          runProgram(['sh', '-c', `${read('$1')} & ${read('$2')}; wait`, 'sh', a, b]);
        },
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

/** What `fullCopies` lets its contenders do. */
type Copier = { name: string; needs: readonly string[]; copy(source: string): void };

/**
 * Two sources that differ everywhere are copied in turn over one target, so that each run has all
 * to write, whoever ran before. The target's blocks are allocated: no side grows a file.
 */
export function fullCopies(place: Place): Outcome {
  const size = pick(SIZE, place);
  requireSpace(place.dir, 3.5 * size);
  return within(place, 'full', (dir) => {
    const sources = [path.join(dir, 'a.img'), path.join(dir, 'b.img')];
    const target = path.join(dir, 'target.img');
    makeImage(sources[0], size, 1);
    makeImage(sources[1], size, 2);
    makeImage(target, size, 3);
    const hashes = sources.map((source) => hashOf(source));
    hashOf(target);
    let turn = 0;
    const run = (work: string, copiers: readonly Copier[], alone: readonly Contender[]) => {
      const { here, absences } = installed(
        work,
        copiers.map(({ copy, ...rest }) => ({
          ...rest,
          run: () => copy(sources[turn % 2]),
          checksum: () => {
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
        contenders: [...here, ...alone],
        before: () => {
          turn++;
          // What an earlier run left dirty is written in nobody's time.
          sync(target);
        },
      });
      return { entries, absences };
    };
    const outcomes = [
      run(WORKS.full, unsynced(place, target), [
        onlyWriting(target, size),
        halves(() => sources[turn % 2], target, size),
      ]),
      run(WORKS.synced, synced(place, target, path.join(dir, 'home')), []),
    ];
    return {
      entries: outcomes.flatMap(({ entries }) => entries),
      absences: outcomes.flatMap(({ absences }) => absences),
    };
  });
}

function onlyWriting(target: string, size: number): Contender {
  const words = ['if=/dev/zero', `of=${target}`, 'bs=256k', `count=${size}`, 'iflag=count_bytes'];
  return {
    name: 'only writing, dd of zeros',
    run: () => runProgram(['dd', ...words, 'conv=notrunc', 'status=none']),
  };
}

function halves(source: () => string, target: string, size: number): Contender {
  const part = (place: string) =>
    'dd if="$1" of="$2" bs=1M conv=notrunc status=none iflag=count_bytes,skip_bytes ' +
    `oflag=seek_bytes ${place}`;
  const half = Math.floor(size / 2);
  const first = part(`count=${half}`);
  const second = part(`skip=${half} seek=${half}`);
  return {
    name: 'two dd, half each',
    run: () => runProgram(['sh', '-c', `${first} & ${second}; wait`, 'sh', source(), target]),
  };
}

const dd = (source: string, target: string, conv: string) =>
  runProgram(['dd', `if=${source}`, `of=${target}`, 'bs=1M', `conv=${conv}`, 'status=none']);

const qemuImg = (source: string, target: string) =>
  runProgram([
    ...['qemu-img', 'convert', '-n', '-W', '-m', '8', '-f', 'raw', '-O', 'raw'],
    ...[source, target],
  ]);

function unsynced(place: Place, target: string): Copier[] {
  return [
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
  ];
}

function synced(place: Place, target: string, home: string): Copier[] {
  return [
    {
      name: 'kage copy',
      needs: [],
      copy: (source) => kage(place, home, 'copy', source, target),
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
  ];
}
