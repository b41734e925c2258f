/** A remote class does what the class does: every method, errors, progress, aborts, and the ends. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import { DATA_LENGTH_MAX, METHODS, type Method } from '../../src/control/protocol.ts';
import type { Progress, Quiesce, RunOptions } from '../../src/engine/api.ts';
import { callsOf, connect, fakeClass, served } from './rounds.ts';

const test = suite('control session');

async function thrown(work: Promise<unknown>): Promise<Error> {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was thrown');
}

/** Arguments of each method as a client gives them, and those that must arrive. */
const OPTIONS = { dryRun: true };
const ONE = [['p', './a.img'], OPTIONS];
const ONE_THERE = [['p', '/here/./a.img'], OPTIONS];
const TWO = ['vm', 'x/p.img', OPTIONS];
const TWO_THERE = ['vm', '/here/x/p.img', OPTIONS];
const ROUNDS: Readonly<Record<Method, readonly [unknown[], unknown[]]>> = {
  add: [
    [[{ path: 'vm' }, { path: '/a.img', name: 'a' }], OPTIONS],
    [[{ path: '/here/vm' }, { path: '/a.img', name: 'a' }], OPTIONS],
  ],
  create: [
    ['vm', 4096, 'plain', OPTIONS],
    ['vm', 4096, '/here/plain', OPTIONS],
  ],
  remove: [ONE, ONE_THERE],
  addDisk: [
    ['plain', 'd', 'keep', OPTIONS],
    ['/here/plain', 'd', 'keep', OPTIONS],
  ],
  removeDisk: [
    ['d', OPTIONS],
    ['d', OPTIONS],
  ],
  addVolume: [
    ['d', 'v', 512, OPTIONS],
    ['d', 'v', 512, OPTIONS],
  ],
  removeClass: [[OPTIONS], [OPTIONS]],
  start: [
    [['vm', 'a.img'], { unlock: true }],
    [['vm', '/here/a.img'], { unlock: true }],
  ],
  stop: [
    [['vm', 'a.img'], { force: true }],
    [['vm', '/here/a.img'], { force: true }],
  ],
  lock: [[['vm']], [['vm']]],
  unlock: [[['vm']], [['vm']]],
  fix: [['a.img'], ['/here/a.img']],
  join: [TWO, TWO_THERE],
  relate: [TWO, TWO_THERE],
  part: [ONE, ONE_THERE],
  rejoin: [ONE, ONE_THERE],
  restore: [ONE, ONE_THERE],
  update: [ONE, ONE_THERE],
  swap: [
    ['p', OPTIONS],
    ['p', OPTIONS],
  ],
  cancel: [
    ['p', OPTIONS],
    ['p', OPTIONS],
  ],
  break: [
    ['p', { ...OPTIONS, restore: true }],
    ['p', { ...OPTIONS, restore: true }],
  ],
  verify: [ONE, ONE_THERE],
  write: [
    ['vm', 7, Uint8Array.of(1, 2)],
    ['vm', 7, Uint8Array.of(1, 2)],
  ],
  read: [
    ['vm', 7, 4],
    ['vm', 7, 4],
  ],
  flush: [['vm'], ['vm']],
  info: [[], []],
};

for (const method of Object.keys(METHODS) as Method[]) {
  test(`${method} arrives with its arguments, and its answer comes back`, async () => {
    const fake = fakeClass('default', { read: () => Uint8Array.of(1, 2, 3, 4) });
    const { classes } = served([fake]);
    const { far } = connect(classes);
    await far.greeted;
    const diskClass = (await far.openClass('default', { create: false }))!;
    const before = fake.calls.length;
    const [given, there] = ROUNDS[method];
    const call = diskClass[method] as (...args: unknown[]) => Promise<unknown>;
    const result = await call(...given);
    const own = fake.calls[before];
    assert.is(own.method, method);
    const { options: at } = METHODS[method];
    const args = [...own.args];
    if (at !== undefined) {
      const { signal, onProgress, ...plain } = args[at] as RunOptions;
      assert.ok(signal instanceof AbortSignal && onProgress !== undefined);
      args[at] = plain;
    }
    assert.equal(args, there);
    if (method === 'read') assert.equal([...(result as Uint8Array)], [1, 2, 3, 4]);
    else if (method === 'write') assert.is(result, undefined);
    else if (method !== 'info') assert.is(result, method);
    const refreshed = fake.calls.length > before + 1;
    // A dry run changes nothing.
    const changes = METHODS[method].changes && at === undefined;
    assert.is(refreshed, changes, 'the exports look again');
  });
}

test('long data goes in pieces', async () => {
  const disk = new Uint8Array(3 * DATA_LENGTH_MAX).map((_, i) => i % 251);
  const written = new Uint8Array(disk.length);
  const fake = fakeClass('default', {
    read: (_: string, offset: number, length: number) => disk.subarray(offset, offset + length),
    write: (_: string, offset: number, data: Uint8Array) => written.set(data, offset),
  });
  const { far } = connect(served([fake]).classes, undefined, 100_000);
  const diskClass = (await far.openClass('default', { create: false }))!;
  const length = 2 * DATA_LENGTH_MAX + 5;
  const bytes = await diskClass.read('vm', 3, length);
  assert.is(Buffer.compare(bytes, disk.subarray(3, 3 + length)), 0);
  assert.is(callsOf(fake, 'read').length, 3);
  await diskClass.write('vm', 3, bytes);
  assert.is(Buffer.compare(written.subarray(3, 3 + length), bytes), 0);
  assert.is(callsOf(fake, 'write').length, 3);
  await diskClass.read('vm', 0, 0);
  await diskClass.write('vm', 0, new Uint8Array());
  assert.is(callsOf(fake, 'read').length + callsOf(fake, 'write').length, 8, 'empty ones, too');
});

test('errors come back with their code; a volume is not attached', async () => {
  const on = {
    part: () => {
      throw new KageError('wrong-state', 'p: it is parted', { hint: 'h', data: { proxy: 'p' } });
    },
    flush: () => {
      throw new TypeError('x is not a function');
    },
  };
  const { far } = connect(served([fakeClass('default', on)]).classes);
  const diskClass = (await far.openClass('default', { create: false }))!;
  const error = (await thrown(diskClass.part(['p']))) as KageError;
  assert.equal(error.toJSON(), {
    code: 'wrong-state',
    exitStatus: 13,
    message: 'p: it is parted',
    hint: 'h',
    proxy: 'p',
  });
  const internal = await thrown(diskClass.flush('vm'));
  assert.not.instance(internal, KageError);
  assert.is(internal.message, 'x is not a function');
  assert.match((await thrown(diskClass.attach('vm'))).message, /cannot be attached/);
  assert.match((await thrown(far.openClass('nothing', { create: false }))).message, /no class/);
});

test('progress comes before the result, to the one who asked', async () => {
  const on = {
    join: async (_m: string, _p: string, { onProgress }: RunOptions) => {
      for (const doneBytes of [1, 2]) onProgress!({ doneBytes } as Progress);
      return 'joined';
    },
  };
  const { far } = connect(served([fakeClass('default', on)]).classes);
  const diskClass = (await far.openClass('default', { create: false }))!;
  const seen: number[] = [];
  const other: number[] = [];
  const [first] = await Promise.all([
    diskClass.join('m', 'p', { onProgress: (p) => seen.push(p.doneBytes) }),
    diskClass.part(['p'], { onProgress: (p) => other.push(p.doneBytes) }),
  ]);
  assert.is(first as unknown, 'joined');
  assert.equal([seen, other], [[1, 2], []]);
});

/** A join that ends only when it is told to stop. */
function endless() {
  let started = () => {};
  const begun = new Promise<void>((resolve) => {
    started = resolve;
  });
  const join = (_m: string, _p: string, { signal }: RunOptions) =>
    new Promise((_, reject) => {
      const stop = () => reject(new KageError('interrupted', 'stopped'));
      signal!.addEventListener('abort', stop);
      if (signal!.aborted) stop();
      started();
    });
  return { begun, join };
}

test('an abort is forwarded, also one that was before', async () => {
  const { join, begun } = endless();
  const { far } = connect(served([fakeClass('default', { join })]).classes);
  const diskClass = (await far.openClass('default', { create: false }))!;
  const stop = new AbortController();
  const work = thrown(diskClass.join('m', 'p', { signal: stop.signal }));
  await begun;
  stop.abort();
  assert.is(((await work) as KageError).code, 'interrupted');
  const late = await thrown(diskClass.join('m', 'p', { signal: stop.signal }));
  assert.is((late as KageError).code, 'interrupted');
});

test('a client that is gone stops what it waited for, and leaves the class open', async () => {
  const { join, begun } = endless();
  const fake = fakeClass('default', { join });
  const { far, session, hangUp } = connect(served([fake]).classes);
  const diskClass = (await far.openClass('default', { create: false }))!;
  const work = thrown(diskClass.join('m', 'p'));
  await begun;
  hangUp();
  await session.end();
  const error = (await work) as KageError;
  assert.is(error.code, 'failed');
  assert.match(error.message, /the server ended/);
  assert.is(fake.closed, false);
  assert.match((await thrown(diskClass.info())).message, /the server ended/);
});

/** A part as the engine does it, as far as its client sees it. */
function parting(log: string[]) {
  return async (_refs: string[], options: RunOptions & { quiesce: Quiesce }) => {
    const { quiesce, signal } = options;
    log.push(`limit ${quiesce.limitMs}`);
    try {
      await quiesce.freeze();
      log.push('switch');
    } catch (error) {
      log.push(
        `no switch: ${(error as Error).message}, ${signal!.aborted ? 'aborted' : 'goes on'}`,
      );
      throw error;
    } finally {
      await quiesce.thaw();
      log.push('end');
    }
    return 'parted';
  };
}

test('a freeze and its thaw are run by the client, where the server asks for them', async () => {
  for (const method of ['part', 'update'] as const) {
    const log: string[] = [];
    const fake = fakeClass('default', { [method]: parting(log) });
    const { far } = connect(served([fake]).classes);
    const diskClass = (await far.openClass('default', { create: false }))!;
    const note = (word: string) => async () => {
      log.push(word);
      await new Promise((resolve) => setTimeout(resolve, 5));
      log.push(`${word} done`);
    };
    const quiesce = { limitMs: 7, freeze: note('freeze'), thaw: note('thaw') };
    assert.is((await diskClass[method](['p'], { quiesce })) as unknown, 'parted');
    const middle = ['freeze', 'freeze done', 'switch', 'thaw', 'thaw done'];
    assert.equal(log, ['limit 7', ...middle, 'end'], method);
  }
});

test('two parts of one client at a time have their own freezes', async () => {
  const fake = fakeClass('default', { part: parting([]) });
  const { far } = connect(served([fake]).classes);
  const diskClass = (await far.openClass('default', { create: false }))!;
  const log: string[] = [];
  const quiesce = (name: string, ms: number): Quiesce => ({
    limitMs: 7,
    freeze: async () => {
      await new Promise((resolve) => setTimeout(resolve, ms));
      log.push(`freeze ${name}`);
    },
    thaw: async () => void log.push(`thaw ${name}`),
  });
  await Promise.all([
    diskClass.part(['p'], { quiesce: quiesce('p', 60) }),
    diskClass.part(['q'], { quiesce: quiesce('q', 5) }),
  ]);
  assert.equal(log, ['freeze q', 'thaw q', 'freeze p', 'thaw p']);
});

test('what a freeze or a thaw throws reaches the server with its code, and comes back', async () => {
  const log: string[] = [];
  const fake = fakeClass('default', { part: parting(log) });
  const { far } = connect(served([fake]).classes);
  const diskClass = (await far.openClass('default', { create: false }))!;
  const fail = async () => {
    throw new KageError('failed', 'ended with status 3', { hint: 'h' });
  };
  const freezing = { limitMs: 7, freeze: fail, thaw: async () => {} };
  const error = (await thrown(diskClass.part(['p'], { quiesce: freezing }))) as KageError;
  assert.equal([error.code, error.message, error.hint], ['failed', 'ended with status 3', 'h']);
  assert.equal(log.slice(1), ['no switch: ended with status 3, goes on', 'end']);
  const thawing = { limitMs: 7, freeze: async () => {}, thaw: fail };
  assert.is((await thrown(diskClass.part(['p'], { quiesce: thawing }))).message, error.message);
});

test('a client that is gone during its freeze: the part is given up at once', async () => {
  const log: string[] = [];
  const fake = fakeClass('default', { part: parting(log) });
  const { far, session, hangUp } = connect(served([fake]).classes);
  const diskClass = (await far.openClass('default', { create: false }))!;
  let begun = () => {};
  const freezing = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const thaws: string[] = [];
  const freeze = () => {
    begun();
    return new Promise<void>(() => {});
  };
  const quiesce = { limitMs: 7, freeze, thaw: async () => void thaws.push('thaw') };
  const part = thrown(diskClass.part(['p'], { quiesce }));
  await freezing;
  hangUp();
  await session.end();
  assert.equal(log.slice(1), ['no switch: the connection ended during the freeze, aborted', 'end']);
  assert.match((await part).message, /the server ended/);
  assert.equal(thaws, [], 'left to the client, which knows that it is cut off');
});

test('an answer that nobody asked for is ignored, one that is none ends the session', async () => {
  const { session, far } = connect(served([fakeClass('default')]).classes);
  await far.greeted;
  assert.is(session.receive(Buffer.from('{"answer":7,"of":"freeze"}\n')), true);
  assert.is(session.receive(Buffer.from('{"answer":7,"of":"shell"}\n')), false);
});

test('a class without volumes is closed when its last client leaves', async () => {
  const fake = fakeClass('default', { info: () => ({ volumes: [] }) });
  const { classes, opened } = served([fake]);
  const [a, b] = [connect(classes), connect(classes)];
  await a.far.openClass('default', { create: true });
  await b.far.openClass('default', { create: true });
  assert.equal(opened, ['default']);
  await a.session.end();
  assert.is(fake.closed, false);
  await b.session.end();
  assert.is(fake.closed, true);
  assert.equal(classes.names(), []);
});

test('a class that was removed is opened anew', async () => {
  const { classes, opened } = served([fakeClass('default')]);
  const { far, session } = connect(classes);
  const diskClass = (await far.openClass('default', { create: false }))!;
  await diskClass.removeClass({ dryRun: true });
  assert.equal(classes.names(), ['default']);
  await diskClass.removeClass();
  assert.equal(classes.names(), []);
  await session.end();
  await connect(classes).far.openClass('default', { create: true });
  assert.equal(opened, ['default', 'default']);
});

test('a class that this server shall not serve is not opened', async () => {
  const { classes, opened } = served([fakeClass('default'), fakeClass('db')], ['db']);
  const { far } = connect(classes);
  assert.is(await far.openClass('default', { create: true }), undefined);
  assert.ok(await far.openClass('db', { create: false }));
  assert.equal(opened, ['db']);
});

test('the way is made before a call that changes something, and given back after all looked', async () => {
  const said: string[] = [];
  const fake = fakeClass('default', {
    stop: () => void said.push('stop'),
    info: () => {
      said.push('look');
      return { volumes: [] };
    },
    start: () => {
      throw new KageError('wrong-state', 'no');
    },
  });
  const makeWay = async (_: unknown, { method }: { method: string }) => {
    said.push(`way for ${method}`);
    if (method === 'remove') throw new KageError('wrong-state', 'vm: is in use');
    return async () => void said.push('back');
  };
  const { far } = connect(served([fake]).classes, undefined, undefined, { makeWay });
  const diskClass = (await far.openClass('default', { create: false }))!;
  said.length = 0;
  await diskClass.stop(['vm']);
  assert.equal(said, ['way for stop', 'stop', 'look', 'back']);
  said.length = 0;
  await thrown(diskClass.start(['vm']));
  assert.equal(said, ['way for start', 'look', 'back'], 'also when it fails');
  said.length = 0;
  const error = await thrown(diskClass.remove(['vm']));
  assert.is((error as KageError).code, 'wrong-state');
  assert.equal(callsOf(fake, 'remove'), [], 'it was not called');
  await diskClass.flush('vm');
  assert.not.ok(said.includes('way for flush'));
});

test('a client is told where the volumes are', async () => {
  const where = { uris: ['nbd://there'], devices: '/dev/x', volumes: null };
  const { far } = connect(served([]).classes, undefined, undefined, { where: () => where });
  assert.equal(await far.where(), where);
});

test('requests wait until the server is ready', async () => {
  let open = () => {};
  const ready = new Promise<void>((resolve) => {
    open = resolve;
  });
  const { classes, opened } = served([fakeClass('default')]);
  const { far } = connect(classes, ready);
  const asked = far.openClass('default', { create: false });
  await far.greeted;
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(opened, []);
  open();
  assert.ok(await asked);
});

test('after the end nothing is opened, and all classes are closed', async () => {
  const fakes = [fakeClass('b'), fakeClass('a')];
  const { classes } = served(fakes);
  const { far } = connect(classes);
  await far.openClass('a', { create: false });
  await far.openClass('b', { create: false });
  await classes.close();
  assert.equal(
    fakes.map((f) => f.closed),
    [true, true],
  );
  assert.match((await thrown(far.openClass('c', { create: false }))).message, /about to end/);
});

test('nonsense of a client ends its session, and only that', async () => {
  const { classes } = served([fakeClass('default')]);
  const { far: first, session } = connect(classes);
  await first.greeted;
  for (const text of ['nonsense\n', '{"id":1,"class":"default","method":"close","args":[]}\n']) {
    assert.is(connect(classes).session.receive(Buffer.from(text)), false, text);
  }
  assert.is(session.receive(Buffer.from('{"abort":9}\n')), true);
  const { far } = connect(classes);
  const many = Array.from({ length: 65 }, (_, id) => ({ id, open: 'default', create: false }));
  const lines = many.map((message) => `${JSON.stringify(message)}\n`).join('');
  const eager = connect(classes);
  await eager.far.greeted;
  assert.is(eager.session.receive(Buffer.from(lines)), false, 'too many at a time');
  assert.ok(await far.openClass('default', { create: false }));
});

test('a class has to be opened on the connection first', async () => {
  const fake = fakeClass('default');
  const replies: string[] = [];
  const { controlSession } = await import('../../src/control/session.ts');
  const session = controlSession({
    classes: served([fake]).classes,
    ready: Promise.resolve(),
    send: (line) => replies.push(Buffer.from(line).toString()),
  });
  session.receive(Buffer.from('{"kage":"hello","protocol":2}\n'));
  session.receive(Buffer.from('{"id":1,"class":"default","method":"flush","args":["vm"]}\n'));
  await session.end();
  assert.match(replies[0], /^\{"kage":"control","protocol":2\}\n$/);
  assert.match(replies[1], /"error":\{"code":"failed","message":"class default: not opened"/);
  assert.equal(fake.calls, []);
});

test.run();
