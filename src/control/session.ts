/**
 * One client of the control socket, without a socket: bytes come in by `receive`, lines go out by a
 * function. When the client is gone, what it waited for is stopped at a safe point, as Ctrl-C does
 * without a server; what it did not wait for goes on.
 */

import { KageError } from '../base/errors.ts';
import type { DiskClass, Progress, Quiesce, RunOptions } from '../engine/api.ts';
import type { Served, ServedClasses } from './classes.ts';
import {
  asRequest,
  DATA_LENGTH_MAX,
  decodeError,
  encodeError,
  encodeLine,
  lineReader,
  METHODS,
  PROTOCOL,
  pack,
  type Question,
  type Reply,
  type Request,
  unpack,
  type Whereabouts,
} from './protocol.ts';

/** Requests of one client at a time. */
const REQUESTS_MAX = 64;
/** What a server says first, to whoever it is. */
export const GREETING = encodeLine({ kage: 'control', protocol: PROTOCOL });

export type SessionOptions = {
  readonly classes: ServedClasses;
  /** Resolves when the server has opened its classes; requests wait for that. */
  readonly ready: Promise<unknown>;
  /** `optional`: may be left out when the client does not keep up. */
  readonly send: (line: Uint8Array, optional: boolean) => void;
  readonly where?: () => Whereabouts;
  /** Before a call; what it gives is called after it, when the exports know what the call did. */
  readonly makeWay?: (diskClass: DiskClass, call: Call) => Promise<() => Promise<void>>;
  /** A verb that changes something has ended; `error` undefined: well. */
  readonly onCall?: (call: Extract<Request, { class: string }>, error: unknown) => void;
};

export type ControlSession = {
  /** The client has said hello. */
  readonly greeted: boolean;
  /** False: the client talks nonsense, and nothing more is to be expected of it. */
  receive(bytes: Uint8Array): boolean;
  /** Stops what runs at a safe point; resolves when all is answered and the classes are left. */
  end(): Promise<void>;
};

type Call = Extract<Request, { class: string }>;
/** Options that hold functions: they do not travel. */
type Own = RunOptions & { quiesce?: Quiesce };

/** Greets whoever has said hello, also in words of another version, and hears no more of those. */
export function controlSession(options: SessionOptions): ControlSession {
  const lines = lineReader();
  const classes = new Map<string, Served>();
  const running = new Map<number, AbortController>();
  const works = new Set<Promise<void>>();
  let greeted = false;
  /** What the client was asked for and has not answered, by request. */
  const asked = new Map<string, (error?: Error) => void>();
  let ending: Promise<void> | undefined;
  const reply = (message: Reply, optional = false) => options.send(encodeLine(message), optional);

  const answer = async (request: Extract<Request, { id: number }>, signal: AbortSignal) => {
    await options.ready;
    if ('open' in request) return await open(request);
    if ('where' in request) return options.where?.();
    const served = classes.get(request.class);
    if (served === undefined) throw new KageError('failed', `class ${request.class}: not opened`);
    const onProgress = (progress: Progress) => {
      if (ending === undefined) reply({ id: request.id, progress }, true);
    };
    const quiesce = quiesceOf(request, (question) => ask(request.id, question));
    const { diskClass } = served;
    let giveBack: (() => Promise<void>) | undefined;
    let failure: unknown;
    try {
      if (METHODS[request.method].changes) giveBack = await options.makeWay?.(diskClass, request);
      const own = { signal, onProgress, ...(quiesce === undefined ? {} : { quiesce }) };
      return pack(await call(diskClass, request, own));
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      await after(served, request, failure);
      await giveBack?.();
    }
  };

  const ask = (id: number, question: Question) =>
    new Promise<void>((resolve, reject) => {
      const done = (error?: Error) => (error === undefined ? resolve() : reject(error));
      if (ending !== undefined) return done(unanswered(question));
      asked.set(`${question} ${id}`, done);
      reply({ id, ask: question });
    });

  const answered = ({ answer: id, of, error }: Extract<Request, { answer: number }>) => {
    const done = asked.get(`${of} ${id}`);
    asked.delete(`${of} ${id}`);
    done?.(error === undefined ? undefined : decodeError(error));
  };

  const open = async ({ open: name, create }: Extract<Request, { open: string }>) => {
    if (classes.has(name)) return true;
    const served = await options.classes.enter(name, create);
    if (served === undefined) return false;
    // Another request of this client may have been faster.
    if (classes.has(name)) await served.leave();
    else classes.set(name, served);
    return true;
  };

  /** What the exports are told of must be right before the client is answered. */
  const after = async (served: Served, request: Call, failure: unknown) => {
    if (!METHODS[request.method].changes || isDryRun(request)) return;
    options.onCall?.(request, failure);
    if (request.method === 'removeClass' && failure === undefined) served.forget();
    else await served.refresh().catch(() => {});
  };

  const start = (request: Extract<Request, { id: number }>) => {
    const controller = new AbortController();
    running.set(request.id, controller);
    const work = answer(request, controller.signal).then(
      (result) => reply({ id: request.id, result: result ?? null }),
      (error) => reply({ id: request.id, error: encodeError(error) }),
    );
    const ended = work
      .catch(() => {})
      .then(() => {
        running.delete(request.id);
        works.delete(ended);
      });
    works.add(ended);
  };

  const greet = (hello: Record<string, unknown>): boolean => {
    if (hello.kage !== 'hello') return false;
    greeted = true;
    options.send(GREETING, false);
    return hello.protocol === PROTOCOL;
  };

  const take = (message: Record<string, unknown>): boolean => {
    if (!greeted) return greet(message);
    const request = asRequest(message);
    if (request === undefined) return false;
    if ('abort' in request) running.get(request.abort)?.abort();
    else if ('answer' in request) answered(request);
    else if (running.has(request.id) || running.size >= REQUESTS_MAX) return false;
    else start(request);
    return true;
  };

  return {
    get greeted() {
      return greeted;
    },
    receive(bytes) {
      if (ending !== undefined) return false;
      try {
        return lines.push(bytes).every(take);
      } catch {
        return false;
      }
    },
    end() {
      ending ??= (async () => {
        for (const controller of running.values()) controller.abort();
        for (const [key, done] of asked) done(unanswered(key.split(' ')[0] as Question));
        asked.clear();
        await Promise.all(works);
        for (const served of classes.values()) await served.leave().catch(() => {});
      })();
      return ending;
    },
  };
}

/** A client that is cut off thaws by itself; what it has not frozen is not frozen. */
function unanswered(question: Question): KageError | undefined {
  if (question === 'thaw') return undefined;
  return new KageError('interrupted', 'the connection ended during the freeze');
}

/** The freeze that a request is to have, in the hands of its client. */
function quiesceOf(
  { method, args }: Call,
  ask: (question: Question) => Promise<void>,
): Quiesce | undefined {
  const at = METHODS[method].options;
  const options = at === undefined ? undefined : (args[at] as { quiesce?: unknown } | null);
  const asked = options?.quiesce as { limitMs?: unknown } | null | undefined;
  if (asked === null || asked === undefined) return undefined;
  return {
    limitMs: Number(asked.limitMs),
    freeze: () => ask('freeze'),
    thaw: () => ask('thaw'),
  };
}

/** Calls the class; `RunOptions` are added to the options where the method has any. */
async function call(diskClass: DiskClass, request: Call, own: Own): Promise<unknown> {
  const args = request.args.map(unpack);
  const at = METHODS[request.method].options;
  if (at !== undefined) args[at] = { ...(args[at] as object | undefined), ...own };
  if (request.method === 'read' && !((args[2] as number) <= DATA_LENGTH_MAX)) {
    throw new KageError('usage', `read: at most ${DATA_LENGTH_MAX} bytes at a time`);
  }
  const method = diskClass[request.method] as (...args: unknown[]) => Promise<unknown>;
  return await method.apply(diskClass, args);
}

function isDryRun({ method, args }: Call): boolean {
  const at = METHODS[method].options;
  return at !== undefined && (args[at] as RunOptions | null | undefined)?.dryRun === true;
}
