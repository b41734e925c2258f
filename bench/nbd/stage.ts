/** Where a bench of servers plays: a folder, the servers that it starts there, and their end. */

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { openServed } from '../../src/control/client.ts';
import type { DiskClass } from '../../src/engine/api.ts';
import type { Place } from '../place.ts';
import type { Runtime } from '../runtimes.ts';
import { Background } from './background.ts';

/** `kage serve`, and a connection to it by which verbs come without the start of a program. */
export interface KageServer {
  readonly runtime: string;
  readonly pid: number;
  /** From the start of the program to its line, ms. */
  readonly readyMs: number;
  readonly disks: DiskClass;
  /** Of a volume of class `default`. */
  uri(volume: string): string;
  stop(): Promise<void>;
  /** kill -9 */
  kill(): Promise<void>;
}

export class Stage {
  readonly dir: string;
  readonly place: Place;
  readonly #ends: (() => void | Promise<void>)[] = [];

  constructor(place: Place, dir: string) {
    this.place = place;
    this.dir = dir;
  }

  path(...names: string[]): string {
    return path.join(this.dir, ...names);
  }

  /** `kage serve` with a state folder of its own, which may be there already. */
  async serve({ name, command }: Runtime): Promise<KageServer> {
    const home = this.path(name);
    const began = performance.now();
    const server = this.start([...command, this.place.kage, 'serve'], { KAGE_HOME: home });
    await server.until(() => server.stdout.startsWith('ready '));
    const readyMs = performance.now() - began;
    const disks = await server.until(() => openServed('default', { home, create: true }));
    return {
      runtime: name,
      pid: server.pid,
      readyMs,
      disks,
      uri: (volume) => `nbd+unix:///default/${volume}?socket=${home}/nbd.sock`,
      async stop() {
        await disks.close();
        await server.stop();
      },
      async kill() {
        server.kill();
        await server.gone();
      },
    };
  }

  /** One server for each runtime, all at once. */
  async serveAll(): Promise<KageServer[]> {
    return await Promise.all(this.place.runtimes.map((runtime) => this.serve(runtime)));
  }

  /** A program that ends with the stage; what was started last ends first. */
  start(command: readonly string[], env?: Record<string, string>): Background {
    const program = new Background(command, env);
    this.#ends.unshift(() => program.stop());
    return program;
  }

  /** Somebody else's server; ready when its socket can be connected to. */
  async startPeer(command: readonly string[], socket: string): Promise<void> {
    const program = this.start(command);
    await program.until(() => listens(socket));
  }

  async end(): Promise<void> {
    for (const end of this.#ends) await end();
  }
}

/** One runtime after the other; in a smoke run, whose figures mean nothing, all at once. */
export async function onEach<T>(
  { runtimes, smoke }: Place,
  work: (runtime: Runtime) => Promise<T[]>,
): Promise<T[]> {
  if (smoke) return (await Promise.all(runtimes.map(work))).flat();
  const found: T[] = [];
  for (const runtime of runtimes) found.push(...(await work(runtime)));
  return found;
}

/** Runs `work` on a stage of its own and clears it away. */
export async function onStage<T>(
  place: Place,
  name: string,
  work: (stage: Stage) => Promise<T>,
): Promise<T> {
  const stage = new Stage(place, path.join(place.dir, name));
  fs.mkdirSync(stage.dir);
  try {
    return await work(stage);
  } finally {
    await stage.end();
    fs.rmSync(stage.dir, { recursive: true, force: true });
  }
}

function listens(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect(socket);
    probe.once('error', () => resolve(false));
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
  });
}
