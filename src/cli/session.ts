/**
 * One call of the command line: its environment, printer and common options, and the way from the
 * user's words to an open class. A class opened here is closed again, whatever happens.
 */

import { KageError } from '../base/errors.ts';
import { nearest } from '../base/units.ts';
import type { DiskClass, RunOptions, VolumeInfo } from '../engine/api.ts';
import {
  type CliEnvironment,
  type EngineApi,
  type EngineOptions,
  resolveHome,
  resolveKernel,
} from './environment.ts';
import { type Args, isSet, textOf } from './options.ts';
import type { Printer } from './print.ts';

export const DEFAULT_CLASS = 'default';

/** A reference with `/` or `.` is the path of an image; names have neither. */
export function isPath(ref: string): boolean {
  return /[/.]/.test(ref);
}

export class Session {
  readonly env: CliEnvironment;
  readonly engine: EngineApi;
  readonly printer: Printer;
  readonly dryRun: boolean;
  readonly engineOptions: EngineOptions;
  readonly #class: string | undefined;
  #served = false;

  constructor(env: CliEnvironment, printer: Printer, args: Args, command: string) {
    this.env = env;
    this.engine = env.engine;
    this.printer = printer;
    this.dryRun = isSet(args, 'dry-run');
    this.#class = textOf(args, 'class');
    const kernel = resolveKernel(env);
    const home = resolveHome(textOf(args, 'home'), env);
    this.engineOptions = { home, command, ...(kernel === undefined ? {} : { kernel }) };
  }

  /** The class named by `-c`, if it was given. */
  get givenClass(): string | undefined {
    return this.#class;
  }

  /** The class that was opened last is a server's: copies go on when this process ends. */
  get served(): boolean {
    return this.#served;
  }

  /** Options of every engine call that takes time. */
  get runOptions(): RunOptions {
    return {
      dryRun: this.dryRun,
      signal: this.env.signal,
      onProgress: this.printer.progress,
    };
  }

  /** `-c`, else the class that holds the images among `refs`, else the default. */
  async classOf(refs: readonly string[]): Promise<string> {
    if (this.#class !== undefined) return this.#class;
    const found = new Map<string, string>();
    for (const ref of refs.filter(isPath)) {
      const owner = await this.engine.findImage(ref, this.engineOptions);
      if (owner) found.set(owner.class, ref);
    }
    if (found.size > 1) {
      const [[classA, imageA], [classB, imageB]] = found;
      throw new KageError(
        'usage',
        `${imageA} is in class ${classA} and ${imageB} in class ${classB}`,
        { hint: 'one command works in one class' },
      );
    }
    return found.keys().next().value ?? DEFAULT_CLASS;
  }

  /**
   * Opens a class, through the server if one serves it, runs `work`, closes the class; the first error is
   * the one that counts. `needsServer`: the option that means nothing without one.
   */
  async withClass<T>(
    name: string,
    work: (diskClass: DiskClass) => Promise<T>,
    { needsServer, ...create }: { create?: boolean; needsServer?: string } = {},
  ): Promise<T> {
    const options = { ...this.engineOptions, ...create };
    const served = await this.env.server?.openServed(name, options);
    this.#served = served !== undefined;
    if (served === undefined && needsServer !== undefined) {
      throw new KageError('usage', `${needsServer} needs a server for class ${name}`, {
        hint: 'start one with `kage serve`, or leave the option out',
      });
    }
    const diskClass = served ?? (await this.engine.openClass(name, options));
    let result: T;
    try {
      result = await work(diskClass);
    } catch (error) {
      await diskClass.close().catch(() => {});
      throw error;
    }
    await diskClass.close();
    return result;
  }

  /** The volume that `ref` names, by name or by image. */
  async volumeOf(volumes: readonly VolumeInfo[], ref: string, className: string) {
    let name = ref;
    if (isPath(ref)) {
      const owner = await this.engine.findImage(ref, this.engineOptions);
      if (owner?.class !== className) {
        throw new KageError('no-such-object', `${ref} is no image of class ${className}`, {
          hint: owner ? `it is in class ${owner.class}` : `\`kage add ${ref}\` makes it a volume`,
          data: { image: ref, class: className },
        });
      }
      name = owner.volume;
    }
    const volume = volumes.find((v) => v.name === name);
    if (volume) return volume;
    const names = volumes.map((v) => v.name);
    const near = nearest(name, names);
    const some = names.length > 0 ? `its volumes: ${names.slice(0, 8).join(', ')}; ` : '';
    throw new KageError('no-such-object', `class ${className} has no volume ${name}`, {
      hint: near ? `did you mean ${near}?` : `${some}for a file in this folder write ./${name}`,
      data: { volume: name, class: className },
    });
  }
}
