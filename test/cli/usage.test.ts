/** Wrong words, errors and their exit statuses: one clear line, a hint, never a stack. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ERRORS, type ErrorCode, KageError } from '../../src/base/errors.ts';
import { VERBS } from '../../src/cli/verbs/index.ts';
import { world } from './fake.ts';

const test = suite('cli usage');

const WRONG: readonly (readonly [string, RegExp])[] = [
  ['', /^kage: a verb is missing\n {2}kage --help\n$/],
  ['--nonsense', /^kage: unknown option --nonsense\n/],
  ['jion a b', /^kage: there is no verb jion; did you mean join\?\n {2}kage --help\n$/],
  ['xyzzy', /^kage: there is no verb xyzzy\n/],
  ['serve --nbd 10809', /^kage: --nbd 10809: no place to listen\n {2}unix:PATH, tcp:HOST:PORT/],
  ['serve --nbd tcp:localhost:65536', /^kage: --nbd tcp:localhost:65536: no place to listen\n/],
  ['serve --nbd fd:2', /^kage: --nbd fd:2: no place to listen\n.* fd:N with N from 3 on/],
  ['serve --nbd unix:/a --nbd', /^kage: --nbd needs a value/],
  ['serve --dry-run', /--dry-run does not go with it/],
  ['serve --devices', /^kage: --devices needs a value/],
  ['run', /^kage: run needs <VOLUME\.\.>\n/],
  ['run vm', /^kage: run needs -- COMMAND \[ARG…\]\n {2}kage run --help\n$/],
  ['run vm --', /^kage: run needs -- COMMAND/],
  ['run -- true', /^kage: run needs <VOLUME\.\.>\n/],
  ['run vm --dry-run -- true', /--dry-run does not go with it/],
  ['start vm --force', /^kage: start has no option --force\n/],
  ['join', /^kage: join needs <MASTER> <PROXY>\n {2}kage join --help\n$/],
  ['join a', /^kage: join needs <MASTER> <PROXY>\n/],
  ['join a b c', /^kage: join: one argument too many: c\n/],
  ['part', /^kage: part needs <PROXY\.\.>\n/],
  ['swap a b', /^kage: swap: one argument too many: b\n/],
  ['join a b --regoin 64K', /^kage: join has no option --regoin; did you mean --region\?\n/],
  ['join a b -x', /^kage: join has no option -x\n/],
  ['part a --rate=', /^kage: --rate needs a value/],
  ['part a --rate', /^kage: --rate needs a value\n {2}kage part --help\n$/],
  ['part a -c x -c y', /^kage: --class is given more than once\n/],
  ['part a --rate fast', /^kage: --rate fast: not a size\n/],
  ['part a --rate 0', /^kage: --rate 0: must be at least 1\n/],
  ['part a --delay 1001', /^kage: --delay 1001: must be 0 to 1000 ms\n/],
  ['join a b --region 65K', /^kage: --region 65K: must be a power of two, 4 KiB to 4 MiB\n/],
  ['join a b --region 8M', /must be a power of two/],
  ['rejoin a --compare --differential-only', /contradict each other/],
  ['part a --no-wait', /^kage: part has no option --no-wait\n/],
  ['part a --freeze', /^kage: --freeze needs a value/],
  ['part a --freeze=', /^kage: --freeze needs a value: CMD/],
  [
    'part a --freeze x',
    /^kage: --freeze and --thaw need each other\n {2}a command that does nothing/,
  ],
  ['update a --thaw x', /^kage: --freeze and --thaw need each other\n/],
  ['part a --timeout 3', /^kage: --timeout is the time limit of --freeze and --thaw\n/],
  [
    'part a --freeze x --thaw y --timeout 0',
    /^kage: --timeout 0: must be more than 0, at most 86400/,
  ],
  ['part a --freeze x --thaw y --timeout 0.0001', /must be more than 0/],
  ['part a --freeze x --thaw y --timeout 86401', /must be more than 0/],
  ['part a --freeze x --thaw y --timeout 5m', /must be more than 0/],
  ['rejoin a --freeze x', /^kage: rejoin has no option --freeze\n/],
  ['update a --freeze x --thaw y', /^kage: --freeze needs a server for class default\n/],
  ['rejoin a --no-wait', /^kage: --no-wait needs a server for class default\n {2}start one/],
  ['completion fish', /no completion for fish: only for bash and zsh/],
  ['help nonsense', /there is no verb nonsense/],
];

for (const [line, expected] of WRONG) {
  test(`kage ${line || '(nothing)'}: exit 2`, async () => {
    const w = world();
    assert.is(await w.run(...line.split(' ').filter(Boolean)), 2);
    assert.match(w.err(), expected);
    assert.ok(w.err().split('\n').length <= 3, w.err());
    assert.is(w.out(), '');
    assert.equal(w.calls, []);
  });
}

test('a usage error is one JSON object too', async () => {
  const w = world();
  assert.is(await w.run('join', 'a', '--json'), 2);
  assert.is(w.err(), '');
  assert.is(w.out().trimEnd().split('\n').length, 1);
  assert.equal(JSON.parse(w.out()), {
    error: {
      code: 'usage',
      exitStatus: 2,
      message: 'join needs <MASTER> <PROXY>',
      hint: 'kage join --help',
    },
  });
});

for (const code of Object.keys(ERRORS) as ErrorCode[]) {
  test(`${code} ends with ${ERRORS[code].exit}`, async () => {
    const failing = () => {
      throw new KageError(code, 'what happened', { data: { path: '/x' } });
    };
    const w = world({ on: { part: failing } });
    assert.is(await w.run('part', 'vm-proxy'), ERRORS[code].exit);
    assert.match(w.err(), /^kage: what happened\n/);
    const json = world({ on: { part: failing } });
    assert.is(await json.run('--json', 'part', 'vm-proxy'), ERRORS[code].exit);
    const { error } = JSON.parse(json.out());
    assert.is(error.code, code);
    assert.is(error.exitStatus, ERRORS[code].exit);
    assert.is(error.path, '/x');
  });
}

test('any other error is internal: no stack without -v', async () => {
  const on = {
    part: () => {
      throw new TypeError('x is not a function');
    },
  };
  const w = world({ on });
  assert.is(await w.run('part', 'vm-proxy'), 1);
  assert.match(w.err(), /^kage: internal error: x is not a function\n {2}run it again with -v/);
  assert.not.match(w.err(), /\n\s+at /);
  const verbose = world({ on });
  assert.is(await verbose.run('part', 'vm-proxy', '-v'), 1);
  assert.match(verbose.err(), /\n\s+at /);
  const json = world({ on });
  assert.is(await json.run('part', 'vm-proxy', '--json'), 1);
  assert.is(JSON.parse(json.out()).error.code, 'internal');
});

test('an interrupted copy says that the next run continues', async () => {
  const w = world({
    on: {
      join: () => {
        throw new KageError('interrupted', 'join of vm-proxy interrupted at 40 %');
      },
    },
  });
  assert.is(await w.run('join', 'vm', 'vm-proxy'), 130);
  assert.match(w.err(), /interrupted at 40 %\n {2}run the same command again: it continues\n$/);
});

test('Ctrl-C during write is interrupted as well', async () => {
  const controller = new AbortController();
  const w = world({
    signal: controller.signal,
    stdin: [new Uint8Array(10)],
    on: { write: () => undefined },
  });
  controller.abort();
  assert.is(await w.run('write', 'vm'), 130);
  assert.is(w.err(), 'kage: interrupted\n');
});

test('Ctrl-C while write waits for data is interrupted, not a failed read', async () => {
  const controller = new AbortController();
  const stdinError = Object.assign(new Error('The operation was aborted'), { name: 'AbortError' });
  const w = world({
    signal: controller.signal,
    stdinError,
    on: { openClass: () => controller.abort() },
  });
  assert.is(await w.run('write', 'vm'), 130);
  assert.is(w.err(), 'kage: interrupted\n');
});

test('a reader that leaves ends the command quietly', async () => {
  const write = async () => {
    throw Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
  };
  const w = world({ stdout: { write } });
  assert.is(await w.run('info'), 0);
  assert.is(w.err(), '');
  const failing = world({ stdout: { write } });
  assert.is(await failing.run('info', 'nosuch', '--json'), 10);
});

test('--help groups all verbs', async () => {
  for (const argv of [['--help'], ['-h'], ['help']]) {
    const w = world();
    assert.is(await w.run(...argv), 0);
    for (const verb of VERBS) assert.match(w.out(), new RegExp(`^  ${verb.name}\\b`, 'm'));
    assert.match(w.out(), /^Pairs of a master and its proxy:\n {2}join MASTER PROXY /m);
  }
});

for (const verb of VERBS) {
  test(`help of ${verb.name}: usage, options, examples`, async () => {
    const w = world();
    assert.is(await w.run(verb.name, '--help'), 0);
    assert.ok(w.out().startsWith(`kage ${verb.name}`), w.out());
    assert.match(w.out(), /^Everywhere:$/m);
    assert.match(w.out(), /^Examples:$/m);
    for (const name of Object.keys(verb.options)) assert.match(w.out(), new RegExp(`--${name}\\b`));
    assert.equal(w.calls, []);
    const other = world();
    assert.is(await other.run('help', verb.name), 0);
    assert.is(other.out(), w.out());
  });
}

test('help exit lists every status that an error can have', async () => {
  const w = world();
  assert.is(await w.run('help', 'exit'), 0);
  for (const { exit } of Object.values(ERRORS)) {
    assert.match(w.out(), new RegExp(`^  ${exit}\\s`, 'm'));
  }
});

test('--version', async () => {
  const w = world();
  assert.is(await w.run('--version'), 0);
  assert.is(w.out(), 'kage 0.1.0\n');
  const json = world();
  assert.is(await json.run('--version', '--json'), 0);
  assert.equal(JSON.parse(json.out()), { version: '0.1.0' });
});

test('options before the verb count', async () => {
  const w = world();
  assert.is(await w.run('--home', '/elsewhere', '-q', 'part', 'vm-proxy'), 0);
  assert.is((w.last('openClass')![1] as { home: string }).home, '/elsewhere');
  assert.is(w.out(), '');
});

test.run();
