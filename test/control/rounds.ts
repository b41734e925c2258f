/** A client and a server of the control socket without sockets, and a class that records its calls. */

import { type ServedClasses, serveClasses } from '../../src/control/classes.ts';
import { METHODS } from '../../src/control/protocol.ts';
import { type Remote, remote } from '../../src/control/remote.ts';
import {
  type ControlSession,
  controlSession,
  type SessionOptions,
} from '../../src/control/session.ts';
import type { OwnClass } from '../../src/engine/api.ts';

export type Call = { readonly method: string; readonly args: readonly unknown[] };
type Answer = (...args: never[]) => unknown;

export type FakeClass = { readonly diskClass: OwnClass; readonly calls: Call[]; closed: boolean };

/** Answers each method with `on`, else with its own name. */
export function fakeClass(name: string, on: Readonly<Record<string, Answer>> = {}): FakeClass {
  const calls: Call[] = [];
  const methods = [...Object.keys(METHODS), 'attach'].map((method) => [
    method,
    async (...args: unknown[]) => {
      calls.push({ method, args });
      if (on[method] !== undefined) return on[method](...(args as never[]));
      return method === 'info' ? { volumes: [{ name: 'vm', status: 'ACTIVE' }] } : method;
    },
  ]);
  const fake: FakeClass = {
    calls,
    closed: false,
    diskClass: {
      name,
      ...Object.fromEntries(methods),
      look: () => ({ class: name, broken: null, volumes: [], pairs: [] }),
      async close() {
        fake.closed = true;
      },
    } as OwnClass,
  };
  return fake;
}

/** Calls of one method that clients made: `info` of the server itself is among them. */
export function callsOf(fake: FakeClass, method: string): (readonly unknown[])[] {
  return fake.calls.filter((call) => call.method === method).map(({ args }) => args);
}

export type Line = { readonly far: Remote; readonly session: ControlSession; hangUp(): void };

/** Ties a client to a server; what is sent arrives a little later. */
export function connect(
  classes: ServedClasses,
  ready: Promise<unknown> = Promise.resolve(),
  piece = 1000,
  more: Partial<SessionOptions> = {},
): Line {
  let up = true;
  const deliver = (bytes: Uint8Array, to: (bytes: Uint8Array) => void) => {
    for (let at = 0; at < bytes.length; at += piece) {
      const part = bytes.slice(at, at + piece);
      queueMicrotask(() => up && to(part));
    }
  };
  const hangUp = () => {
    up = false;
    far.ended();
    void session.end();
  };
  const far = remote({
    send: (line) => deliver(line, (bytes) => void session.receive(bytes)),
    close: async () => hangUp(),
    resolve: (path) => (path.startsWith('/') ? path : `/here/${path}`),
  });
  const session = controlSession({
    classes,
    ready,
    send: (line) => deliver(line, (bytes) => far.receive(bytes)),
    ...more,
  });
  return { far, session, hangUp };
}

/** Classes out of a list of fakes; others do not exist. */
export function served(fakes: readonly FakeClass[], only?: readonly string[]) {
  const opened: string[] = [];
  const classes = serveClasses(
    async (name) => {
      opened.push(name);
      const fake = fakes.find((f) => f.diskClass.name === name);
      if (fake === undefined) throw new Error(`no class ${name}`);
      fake.closed = false;
      return fake.diskClass;
    },
    { classes: only },
  );
  return { classes, opened };
}
