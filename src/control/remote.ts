/**
 * The client's side of the control socket, without a socket: a `DiskClass` whose calls travel as lines.
 * Paths are made absolute, for the server has a folder of its own.
 */

import { KageError } from '../base/errors.ts';
import type { AddRequest, DiskClass, Progress, Quiesce, RunOptions } from '../engine/api.ts';
import {
  DATA_LENGTH_MAX,
  decodeError,
  encodeError,
  encodeLine,
  lineReader,
  METHODS,
  type Method,
  PROTOCOL,
  pack,
  type Question,
  type Request,
  unpack,
  type Whereabouts,
  type WireError,
} from './protocol.ts';

/** What a remote class needs of its connection. */
export type Transport = {
  send(line: Uint8Array): void;
  /** Closes it; `ended` need not be called. */
  close(): Promise<void>;
  /** Absolute form of a path in the folder of this process. */
  resolve(path: string): string;
};

export type Remote = {
  /** Bytes from the server. */
  receive(bytes: Uint8Array): void;
  /** The connection is gone: whatever is still waited for has failed, with `why` if that is known. */
  ended(why?: KageError): void;
  /** Resolves with the greeting; throws when it is no server of ours, or of another version. */
  readonly greeted: Promise<void>;
  /** A class of the server; undefined when it does not serve that one. */
  openClass(name: string, options: { create: boolean }): Promise<DiskClass | undefined>;
  where(): Promise<Whereabouts>;
};

type Waiting = {
  resolve(result: unknown): void;
  reject(error: unknown): void;
  onProgress?: (progress: Progress) => void;
  quiesce?: Quiesce;
};

/** Options that hold functions: they do not travel. */
type Own = RunOptions & { readonly quiesce?: Quiesce };

/** Says hello at once. */
export function remote(transport: Transport): Remote {
  const lines = lineReader();
  const waiting = new Map<number, Waiting>();
  let lastId = 0;
  let failure: KageError | undefined;
  let greet: { resolve(): void; reject(error: unknown): void } | undefined;
  const greeted = new Promise<void>((resolve, reject) => {
    greet = { resolve, reject };
  });
  greeted.catch(() => {});

  const fail = (error: KageError) => {
    failure ??= error;
    greet?.reject(failure);
    for (const { reject } of waiting.values()) reject(failure);
    waiting.clear();
  };

  const take = (message: Record<string, unknown>) => {
    if (greet !== undefined) {
      const problem = greetingProblem(message);
      if (problem !== undefined) throw problem;
      greet.resolve();
      greet = undefined;
      return;
    }
    const id = message.id as number;
    const wait = waiting.get(id);
    if (wait === undefined) return;
    if (message.progress !== undefined) {
      wait.onProgress?.(message.progress as Progress);
      return;
    }
    if (message.ask !== undefined) {
      void answer(id, message.ask as Question, wait.quiesce);
      return;
    }
    waiting.delete(id);
    if (message.error !== undefined) wait.reject(decodeError(message.error as WireError));
    else wait.resolve(unpack(message.result));
  };

  const answer = async (id: number, of: Question, quiesce: Quiesce | undefined) => {
    let error: WireError | undefined;
    try {
      await quiesce?.[of]();
    } catch (thrown) {
      error = encodeError(thrown);
    }
    if (failure !== undefined) return;
    transport.send(encodeLine({ answer: id, of, ...(error === undefined ? {} : { error }) }));
  };

  const request = (make: (id: number) => Request, options: Own = {}): Promise<unknown> =>
    new Promise((resolve, reject) => {
      if (failure !== undefined) throw failure;
      const id = ++lastId;
      const { signal, onProgress, quiesce } = options;
      const abort = () => transport.send(encodeLine({ abort: id }));
      const settled = () => signal?.removeEventListener('abort', abort);
      waiting.set(id, {
        resolve(result) {
          settled();
          resolve(result);
        },
        reject(error) {
          settled();
          reject(error);
        },
        ...(onProgress === undefined ? {} : { onProgress }),
        ...(quiesce === undefined ? {} : { quiesce }),
      });
      transport.send(encodeLine(make(id)));
      signal?.addEventListener('abort', abort);
      if (signal?.aborted) abort();
    });

  transport.send(encodeLine({ kage: 'hello', protocol: PROTOCOL }));
  return {
    greeted,
    receive(bytes) {
      try {
        for (const message of lines.push(bytes)) take(message);
      } catch (error) {
        fail(error as KageError);
      }
    },
    ended: (why = gone()) => fail(why),
    async openClass(name, { create }) {
      const served = await request((id) => ({ id, open: name, create }));
      return served === true ? remoteClass(name, request, transport) : undefined;
    },
    where: async () => (await request((id) => ({ id, where: true }))) as Whereabouts,
  };
}

function gone(): KageError {
  return new KageError('failed', 'the server ended before it answered', {
    hint: 'look with `kage info`; the same command goes on where that one was',
  });
}

function greetingProblem(message: Record<string, unknown>): KageError | undefined {
  if (message.kage === 'control' && message.protocol === PROTOCOL) return undefined;
  const what =
    message.kage === 'control' ? 'is of another version' : 'is none of ours, whatever it is';
  return new KageError('failed', `the server on the control socket ${what}`, {
    hint: 'restart `kage serve` with the version of this command',
  });
}

type Ask = (make: (id: number) => Request, options?: Own) => Promise<unknown>;

function remoteClass(name: string, ask: Ask, transport: Transport): DiskClass {
  const forward = (method: Method, args: readonly unknown[]) => {
    const { options: at } = METHODS[method];
    const options = at === undefined ? undefined : (args[at] as Own | undefined);
    const packed = placed(method, args, transport).map(pack);
    if (at !== undefined && options !== undefined) {
      const { signal: _, onProgress: __, quiesce, ...plain } = options;
      const { limitMs } = quiesce ?? {};
      packed[at] = quiesce === undefined ? plain : { ...plain, quiesce: { limitMs } };
    }
    return ask((id) => ({ id, class: name, method, args: packed }), options);
  };
  const calls = Object.fromEntries(
    (Object.keys(METHODS) as Method[]).map((method) => [
      method,
      (...args: unknown[]) => forward(method, args),
    ]),
  );
  return {
    ...(calls as Omit<DiskClass, 'name' | 'attach' | 'close' | 'read' | 'write'>),
    name,
    async read(volume, offset, length) {
      const whole = new Uint8Array(length);
      // An empty read has its checks, too.
      let done = 0;
      do {
        const part = Math.min(DATA_LENGTH_MAX, length - done);
        const bytes = await forward('read', [volume, offset + done, part]);
        whole.set(bytes as Uint8Array, done);
        done += part;
      } while (done < length);
      return whole;
    },
    async write(volume, offset, data) {
      let done = 0;
      do {
        const part = data.subarray(done, done + DATA_LENGTH_MAX);
        await forward('write', [volume, offset + done, part]);
        done += part.byteLength;
      } while (done < data.byteLength);
    },
    async attach(volume) {
      throw new KageError('not-permitted', `${volume}: cannot be attached through a server`, {
        hint: `connect to its export ${name}/${volume} over NBD`,
      });
    },
    close: () => transport.close(),
  };
}

/** The arguments with every path absolute. */
function placed(method: Method, args: readonly unknown[], { resolve }: Transport): unknown[] {
  const { refs = [], paths = [] } = METHODS[method];
  const placeRef = (ref: string) => (/[/.]/.test(ref) ? resolve(ref) : ref);
  return args.map((value, i) => {
    if (paths.includes(i)) return resolve(value as string);
    if (refs.includes(i))
      return Array.isArray(value) ? value.map(placeRef) : placeRef(value as string);
    if (method !== 'add' || i !== 0) return value;
    return (value as AddRequest[]).map((image) => ({ ...image, path: resolve(image.path) }));
  });
}
