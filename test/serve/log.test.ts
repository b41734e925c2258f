/** The lines of the server's log: one each, with fields that stay, and no more of them than anybody wants. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import {
  callEvent,
  classEvent,
  clientEvent,
  clientLog,
  logTo,
  type ServeEvent,
} from '../../src/serve/log.ts';

const test = suite('control log');

const COPY = {
  master: 'vm',
  proxy: 'vm-proxy',
  verb: 'rejoin',
  direction: 'toProxy',
  method: 'differential',
  reason: 'tracked',
} as const;
const CLIENT = { peer: 'unix', tls: false, export: 'default/vm', why: null } as const;

test('a copy from its begin to its end', () => {
  const facts = { event: 'copy', class: 'db', ...COPY, failed: false };
  assert.equal(classEvent('db', { kind: 'copy-begun', ...COPY, totalBytes: 65536 }), {
    ...facts,
    phase: 'begin',
    totalBytes: 65536,
    text: 'vm -> vm-proxy: differential copy of 64 KiB begins: tracked',
  });
  const report = {
    ...{ direction: COPY.direction, method: COPY.method, reason: 'tracked' },
    ...{ regions: 1, regionsWritten: 1, bytesRead: 65536, bytesWritten: 4096, seconds: 0.5 },
  };
  const numbers = { bytesRead: 65536, bytesWritten: 4096, seconds: 0.5 };
  assert.equal(
    classEvent('db', { kind: 'copy-ended', ...COPY, end: 'done', report, error: null }),
    {
      ...facts,
      ...{ phase: 'end', result: 'done', error: null, ...numbers },
      text: 'vm -> vm-proxy: differential copy done, 4 KiB written in 0.5 s',
    },
  );
  const failed = classEvent('db', {
    ...{ kind: 'copy-ended', ...COPY, direction: 'toMaster' },
    ...{ end: 'failed', report: null, error: 'vm.img: EIO' },
  } as const);
  assert.is(failed.text, 'vm <- vm-proxy: differential copy failed: vm.img: EIO');
  assert.is(failed.failed, true);
  const stopped = classEvent('db', {
    ...{
      kind: 'copy-ended',
      ...COPY,
      end: 'stopped',
      report: null,
      error: 'stopped at a safe point',
    },
  } as const);
  assert.is(stopped.failed, false);
});

test('what goes wrong in a class', () => {
  for (const [event, text, failed] of [
    [{ kind: 'invalid', volume: 'p', problem: 'EIO' }, 'p is INVALID: EIO', true],
    [
      { kind: 'doubt', master: 'm', proxy: 'p', reason: 'r' },
      'm / p: the next copy compares: r',
      false,
    ],
    [
      { kind: 'differs', master: 'm', proxy: 'p', regions: 3 },
      'p: 3 regions that were believed equal differ',
      true,
    ],
    [
      { kind: 'broken', reason: 'r' },
      'broken, restart the server: the state could not be written: r',
      true,
    ],
  ] as const) {
    const line = classEvent('db', event);
    assert.equal([line.text, line.failed, line.class], [text, failed, 'db']);
  }
});

test('a verb: its words, and its error unless somebody wanted it to stop', () => {
  const call = {
    id: 1,
    class: 'db',
    method: 'part',
    args: [['p', 'q'], { instant: true }],
  } as const;
  assert.equal(callEvent(call, undefined), {
    ...{ event: 'call', class: 'db', verb: 'part', text: 'part p q', failed: false },
  });
  assert.is(callEvent(call, new KageError('interrupted', 'stopped')).failed, false);
  const { text, failed } = callEvent(call, new KageError('wrong-state', 'it is parted'));
  assert.equal([text, failed], ['part p q: it is parted', true]);
  const add = { id: 1, class: 'db', method: 'add', args: [[{ path: '/x/a.img' }], {}] } as const;
  assert.is(callEvent(add, undefined).text, 'add /x/a.img');
});

test('clients: who, what, and why not; nothing of theirs but plain text', () => {
  const lines: ServeEvent[] = [];
  const log = logTo(
    (event) => lines.push(event),
    () => 7,
  );
  log(clientEvent({ kind: 'connected', ...CLIENT }));
  log(clientEvent({ kind: 'disconnected', ...CLIENT, peer: '127.0.0.1:9', tls: true }));
  const name = `\u001b[2J\n"${'x'.repeat(1000)}`;
  log(clientEvent({ kind: 'refused', ...CLIENT, export: name, why: 'no export of that name' }));
  log(clientEvent({ kind: 'refused', ...CLIENT, export: null, why: 'TLS: \u001b]0;x\nalert' }));
  const [came, went, refused, tls] = lines;
  assert.equal(came, {
    ...{ event: 'client', phase: 'connected', peer: 'unix', tls: false, export: 'default/vm' },
    ...{ reason: null, text: 'client unix: connected to default/vm', failed: false, time: 7 },
  });
  assert.is(went.text, 'client 127.0.0.1:9 (TLS): disconnected from default/vm');
  assert.match(
    refused.text,
    /^client unix: refused: no export of that name: "\\u001b\[2J\\n\\"x+"$/,
  );
  assert.ok(refused.text.length < 200);
  assert.is(tls.text, 'client unix: refused: TLS:  ]0;x alert');
});

test('refusals are counted when they are too many', () => {
  const lines: string[] = [];
  let now = 0;
  const tell = clientLog(
    (event) => lines.push(event.text),
    () => now,
  );
  const refuse = () => tell({ kind: 'refused', ...CLIENT, export: null, why: 'too many' });
  for (let i = 0; i < 1000; i++) refuse();
  assert.is(lines.length, 20);
  tell({ kind: 'connected', ...CLIENT });
  assert.is(lines.length, 21, 'others are told all the same');
  now += 60_000;
  refuse();
  assert.is(lines.at(-1), 'client unix: refused: too many (before it 980 more)');
  refuse();
  assert.is(lines.at(-1), 'client unix: refused: too many');
});

test.run();
