/**
 * The servers one would use instead, on the image that ours serves: no one but the server whose turn it
 * is writes to it. All leave the data in the page cache until a flush.
 */

import type { Absence } from '../report/result.ts';
import { versionOf } from '../runtimes.ts';
import type { Stage } from './stage.ts';

interface Peer {
  name: string;
  program: string;
  command(image: string, socket: string): string[];
}

/** Programs whose versions belong to the figures. */
export const SERVER_PEERS = ['qemu-nbd', 'qemu-storage-daemon', 'fio', 'nbdfuse'];

/** Several servers share one image, which QEMU's locks would not allow. */
const quoted = (file: string) => file.replaceAll(',', ',,');

const PEERS: readonly Peer[] = [
  {
    name: 'qemu-nbd',
    program: 'qemu-nbd',
    command: (image, socket) => [
      ...['qemu-nbd', '-t', '-k', socket, '-x', 'disk', '--cache=writeback', '--image-opts'],
      `driver=raw,file.driver=file,file.locking=off,file.filename=${quoted(image)}`,
    ],
  },
  {
    name: 'nbdkit file',
    program: 'nbdkit',
    command: (image, socket) => ['nbdkit', '-f', '-U', socket, 'file', image],
  },
  {
    name: 'qemu-storage-daemon',
    program: 'qemu-storage-daemon',
    command: (image, socket) => [
      'qemu-storage-daemon',
      ...['--blockdev', `driver=file,node-name=file,locking=off,filename=${quoted(image)}`],
      ...['--blockdev', 'driver=raw,node-name=disk,file=file'],
      ...['--nbd-server', `addr.type=unix,addr.path=${quoted(socket)}`],
      ...['--export', 'type=nbd,id=disk,node-name=disk,name=disk,writable=on'],
    ],
  },
];

export interface Served {
  name: string;
  runtime: string;
  uri: string;
}

/** Our server on each runtime and the peers that are here, with the same image. */
export async function everyServer(
  stage: Stage,
  image: string,
  works: readonly string[],
  ours: string,
): Promise<{ served: Served[]; absences: Absence[] }> {
  const served: Served[] = [];
  for (const { runtime, disks, uri } of await stage.serveAll()) {
    await disks.add([{ path: image, name: 'vm' }]);
    served.push({ name: ours, runtime, uri: uri('vm') });
  }
  const absences: Absence[] = [];
  for (const { name, program, command } of PEERS) {
    if (versionOf(program) === undefined) {
      const reason = `not installed: ${program}`;
      absences.push(...works.map((work) => ({ work, runtime: '', name, reason })));
      continue;
    }
    const socket = stage.path(`${program}.sock`);
    await stage.startPeer(command(image, socket), socket);
    served.push({ name, runtime: '', uri: `nbd+unix:///disk?socket=${socket}` });
  }
  return { served, absences };
}
