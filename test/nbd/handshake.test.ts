/** Greeting and options: every option, every way to get one wrong, in any cut. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KageError } from '../../src/base/errors.ts';
import type { OpenExport } from '../../src/nbd/export.ts';
import { IHAVEOPT, INFO, OPTION, OPTION_REPLY } from '../../src/nbd/wire.ts';
import {
  be16,
  be32,
  be64,
  bytes,
  Client,
  infoData,
  metaData,
  named,
  option,
  optionReplies,
  read,
  settled,
  TestExport,
} from './server-support.ts';

const test = suite('nbd: handshake');

const types = (replies: { type: number }[]) => replies.map((r) => r.type);
const FLAGS = { plain: 1 | 4 | 8 | 32 | 64 | 256 | 1024, df: 128, readOnly: 2, writing: 32 | 64 };

async function greeted(options = {}): Promise<Client> {
  const client = new Client(options);
  await client.greet();
  return client;
}

test('the first words', () => {
  const client = new Client();
  assert.is(client.heard().toString('hex'), '4e42444d4147494349484156454f50540003');
});

test('unknown client flags close the connection', async () => {
  for (const flags of [4, 7, 1 << 31]) {
    const client = new Client();
    await client.say(be32(flags >>> 0));
    assert.equal(client.events, ['drop']);
  }
});

test('an option without its magic closes the connection', async () => {
  const client = await greeted();
  await client.say(bytes(be64(0x00420281861253n), be32(1), be32(0)));
  assert.equal(client.events, ['drop']);
});

test('without fixed newstyle only EXPORT_NAME is understood', async () => {
  const client = new Client();
  await client.greet(0);
  await client.say(option(OPTION.list));
  assert.equal(client.events, ['drop']);
  const old = new Client();
  await old.greet(0);
  await old.say(option(OPTION.exportName, Buffer.from('disk')));
  assert.is(old.heard().length, 8 + 2 + 124);
});

test('EXPORT_NAME: size, flags, and zeros unless they are declined', async () => {
  for (const [flags, length] of [
    [1, 134],
    [3, 10],
  ]) {
    const client = new Client();
    await client.greet(flags);
    await client.say(option(OPTION.exportName, Buffer.from('disk')));
    const heard = client.heard();
    assert.is(heard.length, length);
    assert.is(heard.readBigUInt64BE(0), 1048576n);
    assert.is(heard.readUInt16BE(8), FLAGS.plain);
    assert.ok(heard.subarray(10).every((byte) => byte === 0));
    assert.is(client.connection.phase, 'transmission');
  }
});

test('EXPORT_NAME: what cannot be opened closes', async () => {
  for (const name of ['nothing', 'a\0b', 'x'.repeat(4097), Buffer.from([0xff])]) {
    const client = await greeted();
    await client.say(option(OPTION.exportName, Buffer.from(name as string)));
    assert.equal(client.events, ['drop']);
    assert.is(client.heard().length, 0);
  }
});

test('EXPORT_NAME: the empty name is the default export', async () => {
  const client = await greeted();
  await client.say(option(OPTION.exportName));
  assert.is(client.heard().length, 10);
});

test('ABORT is acknowledged, then the line ends', async () => {
  const client = await greeted();
  assert.equal(types(await client.ask(OPTION.abort, Buffer.from('whatever'))), [OPTION_REPLY.ack]);
  assert.equal(client.events, ['end']);
});

test('LIST names every export with its description', async () => {
  const other = new TestExport();
  other.name = 'second/ü';
  other.description = '';
  const client = await greeted({ targets: [new TestExport(), other] });
  const replies = await client.ask(OPTION.list);
  assert.equal(types(replies), [OPTION_REPLY.server, OPTION_REPLY.server, OPTION_REPLY.ack]);
  assert.equal(replies[0].data, bytes(named('disk'), 'a disk'));
  assert.equal(replies[1].data, named('second/ü'));
  assert.is(replies[2].data.length, 0);
  assert.equal(types(await client.ask(OPTION.list, bytes(0))), [OPTION_REPLY.invalid]);
});

test('STRUCTURED_REPLY has no data', async () => {
  const client = await greeted();
  assert.equal(types(await client.ask(OPTION.structuredReply, bytes(0))), [OPTION_REPLY.invalid]);
  assert.equal(types(await client.ask(OPTION.structuredReply)), [OPTION_REPLY.ack]);
  assert.equal(types(await client.ask(OPTION.structuredReply)), [OPTION_REPLY.ack]);
});

test('unknown options are unsupported, their data consumed, and haggling goes on', async () => {
  const client = await greeted();
  for (const number of [4, OPTION.extendedHeaders, 0x7654321, 0, 2 ** 32 - 1]) {
    for (const length of [0, 7, 65536, 65537, 300_000]) {
      const replies = await client.ask(number, Buffer.alloc(length, 0x49));
      assert.equal(types(replies), [OPTION_REPLY.unsupported]);
      assert.is(replies[0].option, number);
    }
  }
  assert.equal(types(await client.ask(OPTION.list)).at(-1), OPTION_REPLY.ack);
});

test('data that is too long: passed over, or beyond all reason dropped', async () => {
  const client = await greeted();
  assert.equal(types(await client.ask(OPTION.list, Buffer.alloc(70_000))), [OPTION_REPLY.tooBig]);
  assert.equal(types(await client.ask(OPTION.list)).at(-1), OPTION_REPLY.ack);
  await client.say(bytes(be64(IHAVEOPT), be32(OPTION.list), be32(32 * 1024 * 1024 + 1)));
  assert.equal(client.events, ['drop']);
  const name = await greeted();
  await name.say(option(OPTION.exportName, Buffer.alloc(70_000, 'x')));
  assert.equal(name.events, ['drop']);
  const abort = await greeted();
  assert.equal(types(await abort.ask(OPTION.abort, Buffer.alloc(70_000))), [OPTION_REPLY.ack]);
});

test('INFO tells what was asked for, and always size and flags', async () => {
  const client = await greeted();
  const replies = await client.ask(OPTION.info, infoData('disk', 3, 2, 1, 0, 77, 3));
  assert.equal(types(replies), [3, 3, 3, 3, 1]);
  const byType = new Map(
    replies.slice(0, -1).map((r) => [r.data.readUInt16BE(0), r.data.subarray(2)]),
  );
  assert.equal(byType.get(INFO.export), bytes(be64(1048576n), be16(FLAGS.plain)));
  assert.equal(byType.get(INFO.name), Buffer.from('disk'));
  assert.equal(byType.get(INFO.description), Buffer.from('a disk'));
  assert.equal(byType.get(INFO.blockSize), bytes(be32(1), be32(4096), be32(32 * 1024 * 1024)));
  const bare = await client.ask(OPTION.info, infoData('disk'));
  assert.equal(types(bare), [3, 1]);
  assert.is(bare[0].data.length, 12);
  assert.is(client.connection.phase, 'haggling');
  assert.is(client.openedExports, client.closedExports);
});

test('INFO names the export behind the empty name', async () => {
  const client = await greeted();
  const replies = await client.ask(OPTION.info, infoData('', INFO.name));
  assert.equal(replies[1].data.subarray(2), Buffer.from('disk'));
});

test('GO answers like INFO, without zeros, and ends haggling', async () => {
  const client = new Client();
  await client.greet(1);
  const info = await client.ask(OPTION.info, infoData('disk', 3));
  const go = await client.ask(OPTION.go, infoData('disk', 3));
  assert.equal(
    go.map((r) => [r.type, r.data]),
    info.map((r) => [r.type, r.data]),
  );
  assert.is(client.connection.phase, 'transmission');
});

test('INFO and GO: lengths have to fit exactly', async () => {
  const bad = [
    Buffer.alloc(0),
    be32(4),
    bytes(be32(5), 'disk', be16(0)),
    bytes(named('disk')),
    bytes(named('disk'), 0),
    bytes(named('disk'), be16(1)),
    bytes(named('disk'), be16(0), be16(3)),
    bytes(be32(2 ** 32 - 1), 'disk', be16(0)),
    bytes(named('di\0k'), be16(0)),
    bytes(named(Buffer.from([0xc3])), be16(0)),
    bytes(named('x'.repeat(4097)), be16(0)),
  ];
  const client = await greeted();
  for (const data of bad) {
    assert.equal(types(await client.ask(OPTION.info, data)), [OPTION_REPLY.invalid]);
    assert.equal(types(await client.ask(OPTION.go, data)), [OPTION_REPLY.invalid]);
  }
  assert.is(client.openedExports, 0);
  assert.is(types(await client.ask(OPTION.go, infoData('disk'))).at(-1), OPTION_REPLY.ack);
});

test('a GO that fails leaves the client free to try another', async () => {
  const client = await greeted();
  const [reply] = await client.ask(OPTION.go, infoData('nothing-of-that-name'));
  assert.is(reply.type, OPTION_REPLY.unknown);
  assert.not.match(reply.data.toString(), 'nothing-of');
  assert.is(types(await client.ask(OPTION.go, infoData('disk'))).at(-1), OPTION_REPLY.ack);
});

test('why an export cannot be had is said in few words', async () => {
  const errors: [unknown, number, RegExp][] = [
    [new KageError('wrong-state', 'vm is being restored'), OPTION_REPLY.policy, /being restored/],
    [new KageError('in-use', 'ü'.repeat(5000)), OPTION_REPLY.policy, /^ü+$/],
    [new KageError('no-such-object', 'no volume vm'), OPTION_REPLY.unknown, /no volume/],
    [new TypeError('a secret'), OPTION_REPLY.policy, /^the export cannot be opened$/],
  ];
  for (const [error, type, says] of errors) {
    const open = () => {
      throw error;
    };
    const client = await greeted({ exports: { list: () => [], open } });
    const [reply] = await client.ask(OPTION.go, infoData('disk'));
    assert.is(reply.type, type);
    assert.match(reply.data.toString(), says);
    assert.ok(reply.data.length <= 800);
  }
});

test('flags: DF after structured replies, no writing on what is read-only', async () => {
  const target = new TestExport();
  const client = await greeted({ targets: [target] });
  const flags = async () =>
    (await client.ask(OPTION.info, infoData('disk')))[0].data.readUInt16BE(10);
  assert.is(await flags(), FLAGS.plain);
  await client.ask(OPTION.structuredReply);
  assert.is(await flags(), FLAGS.plain | FLAGS.df);
  target.readOnly = true;
  assert.is(await flags(), (FLAGS.plain & ~FLAGS.writing) | FLAGS.df | FLAGS.readOnly);
});

test('metadata contexts need structured replies', async () => {
  const client = await greeted();
  for (const number of [OPTION.listMetaContext, OPTION.setMetaContext]) {
    assert.equal(types(await client.ask(number, metaData('disk'))), [OPTION_REPLY.invalid]);
  }
});

const DIRTY = 'qemu:dirty-bitmap:increment';
const BASE = 'base:allocation';

async function structured(options = {}): Promise<Client> {
  const client = await greeted(options);
  await client.ask(OPTION.structuredReply);
  return client;
}

test('LIST_META_CONTEXT lists all, a namespace, or what matches', async () => {
  const client = await structured();
  const list = async (...queries: string[]) => {
    const replies = await client.ask(OPTION.listMetaContext, metaData('disk', ...queries));
    assert.is(replies.at(-1)!.type, OPTION_REPLY.ack);
    return replies.slice(0, -1).map((r) => {
      assert.is(r.type, OPTION_REPLY.metaContext);
      assert.is(r.data.readUInt32BE(0), 0);
      return r.data.subarray(4).toString();
    });
  };
  assert.equal(await list(), [BASE, DIRTY]);
  assert.equal(await list('base:'), [BASE]);
  assert.equal(await list('qemu:'), [DIRTY]);
  assert.equal(await list('qemu:dirty-bitmap:'), [DIRTY]);
  assert.equal(await list(DIRTY, BASE, BASE), [BASE, DIRTY]);
  assert.equal(await list('other:x', 'base:alloc', 'x'.repeat(5000)), []);
  assert.equal(await list('qemu:dirty-bitmap'), []);
});

test('SET_META_CONTEXT selects by exact name, none for no query, and each call anew', async () => {
  const client = await structured();
  const set = async (...queries: string[]) => {
    const replies = await client.ask(OPTION.setMetaContext, metaData('disk', ...queries));
    assert.is(replies.at(-1)!.type, OPTION_REPLY.ack);
    return replies.slice(0, -1).map((r) => [r.data.readUInt32BE(0), r.data.subarray(4).toString()]);
  };
  assert.equal(await set(), []);
  assert.equal(await set('base:', 'qemu:', 'unknown:x'), []);
  assert.equal(await set(DIRTY, BASE, DIRTY), [
    [0, BASE],
    [1, DIRTY],
  ]);
  assert.equal(await set(DIRTY), [[1, DIRTY]]);
});

test('SET_META_CONTEXT: lengths have to fit exactly', async () => {
  const client = await structured();
  const bad = [
    Buffer.alloc(0),
    named('disk'),
    bytes(named('disk'), be32(1)),
    bytes(named('disk'), be32(1), be32(9), BASE),
    bytes(named('disk'), be32(1), named(BASE), 0),
    bytes(named('disk'), be32(2), named(BASE)),
    bytes(named('disk'), be32(2 ** 32 - 1), named(BASE)),
    bytes(be32(77), 'disk', be32(0)),
  ];
  for (const data of bad) {
    assert.equal(types(await client.ask(OPTION.setMetaContext, data)), [OPTION_REPLY.invalid]);
  }
  const [reply] = await client.ask(OPTION.setMetaContext, metaData('nothing', BASE));
  assert.is(reply.type, OPTION_REPLY.unknown);
});

/** Whether BLOCK_STATUS is answered after GO. */
async function hasContext(client: Client, name = 'disk'): Promise<boolean> {
  const replies = await client.ask(OPTION.go, infoData(name));
  assert.is(replies.at(-1)!.type, OPTION_REPLY.ack);
  const [status] = await client.exchange(
    bytes(be32(0x25609513), be16(0), be16(7), be64(1n), be64(0n), be32(4096)),
  );
  return status.error === 0;
}

test('a selection holds for its export only, and ends with the next SET_META_CONTEXT', async () => {
  const select = (client: Client, name = 'disk') =>
    client.ask(OPTION.setMetaContext, metaData(name, BASE));
  const kept = await structured();
  await select(kept);
  assert.ok(await hasContext(kept));
  const other = await structured();
  await select(other);
  assert.not.ok(await hasContext(other, ''));
  const ended = await structured();
  await select(ended);
  await select(ended, 'nothing');
  assert.not.ok(await hasContext(ended));
  const invalid = await structured();
  await select(invalid);
  await invalid.ask(OPTION.setMetaContext, be32(1));
  assert.not.ok(await hasContext(invalid));
  const emptied = await structured();
  await select(emptied);
  await emptied.ask(OPTION.setMetaContext, metaData('disk'));
  assert.not.ok(await hasContext(emptied));
});

test('a selected context that the export has lost is said, not left out in silence', async () => {
  const target = new TestExport();
  const client = await structured({ targets: [target] });
  await client.ask(OPTION.setMetaContext, metaData('disk', DIRTY));
  target.contexts = [BASE];
  assert.equal(types(await client.ask(OPTION.go, infoData('disk'))), [OPTION_REPLY.policy]);
  assert.is(client.openedExports, client.closedExports);
});

test('STARTTLS: refused without TLS, forgets everything with it', async () => {
  const off = await greeted();
  assert.equal(types(await off.ask(OPTION.startTls)), [OPTION_REPLY.unsupported]);
  const client = await structured({ tls: 'optional' });
  await client.ask(OPTION.setMetaContext, metaData('disk', BASE));
  assert.equal(types(await client.ask(OPTION.startTls, bytes(1))), [OPTION_REPLY.invalid]);
  assert.equal(types(await client.ask(OPTION.startTls)), [OPTION_REPLY.ack]);
  assert.equal(client.events, ['tls']);
  assert.not.ok(client.wanted);
  client.connection.secured();
  await settled();
  assert.ok(client.wanted);
  assert.equal(types(await client.ask(OPTION.startTls)), [OPTION_REPLY.invalid]);
  assert.equal(types(await client.ask(OPTION.listMetaContext, metaData('disk'))), [
    OPTION_REPLY.invalid,
  ]);
  await client.ask(OPTION.structuredReply);
  assert.not.ok(await hasContext(client));
});

test('STARTTLS: the line changes only once the answer has left', async () => {
  const client = await greeted({ tls: 'required' });
  client.stuck = true;
  await client.say(option(OPTION.startTls));
  assert.equal(client.events, []);
  client.take();
  assert.equal(client.events, ['tls']);
});

test('STARTTLS: plain bytes behind it close the connection', async () => {
  const along = await greeted({ tls: 'optional' });
  await along.say(bytes(option(OPTION.startTls), option(OPTION.structuredReply)));
  assert.equal(along.events, ['drop']);
  const later = await greeted({ tls: 'optional' });
  later.stuck = true;
  await later.say(option(OPTION.startTls));
  await later.say(bytes(1));
  assert.equal(later.events, ['drop']);
  const during = await greeted({ tls: 'optional' });
  await during.say(option(OPTION.startTls));
  await during.say(bytes(1));
  assert.equal(during.events, ['tls', 'drop']);
});

test('TLS required: before it nothing but STARTTLS and ABORT, after it everything', async () => {
  const client = await greeted({ tls: 'required' });
  for (const number of [3, 6, 7, 8, 9, 10, 11, 999]) {
    assert.equal(types(await client.ask(number, infoData('disk'))), [OPTION_REPLY.tlsRequired]);
  }
  assert.is(client.openedExports, 0);
  await client.ask(OPTION.startTls);
  client.connection.secured();
  await settled();
  assert.is(types(await client.ask(OPTION.go, infoData('disk'))).at(-1), OPTION_REPLY.ack);
  const abort = await greeted({ tls: 'required' });
  assert.equal(types(await abort.ask(OPTION.abort)), [OPTION_REPLY.ack]);
  const name = await greeted({ tls: 'required' });
  await name.say(option(OPTION.exportName, Buffer.from('disk')));
  assert.equal(name.events, ['drop']);
});

test('a stopping server says so to every option but ABORT', async () => {
  const client = await greeted();
  client.connection.stop();
  for (const number of [3, 5, 6, 7, 8, 9, 10, 11, 999]) {
    assert.equal(types(await client.ask(number, infoData('disk'))), [OPTION_REPLY.shutdown]);
  }
  assert.equal(types(await client.ask(OPTION.abort)), [OPTION_REPLY.ack]);
  const name = await greeted();
  name.connection.stop();
  await name.say(option(OPTION.exportName, Buffer.from('disk')));
  assert.equal(name.events, ['drop']);
});

test('any cut of a whole session gives the same answers', async () => {
  const session = bytes(
    be32(3),
    option(OPTION.structuredReply),
    option(0x7654321, Buffer.alloc(70_000)),
    option(OPTION.listMetaContext, metaData('disk')),
    option(OPTION.setMetaContext, metaData('disk', BASE)),
    option(OPTION.list),
    option(OPTION.go, infoData('disk', 3)),
    read(0, 5),
  );
  const whole = new Client();
  await whole.say(session);
  const expected = whole.heard();
  assert.ok(expected.length > 300);
  for (const size of [1, 2, 3, 5, 7, 11, 16, 17, 100, 65_536]) {
    const client = new Client();
    await client.say(session, size);
    assert.equal(client.heard(), expected, `in pieces of ${size}`);
  }
});

test('options are answered one at a time, and none before the last answer has left', async () => {
  const client = await greeted({ stuck: false });
  client.stuck = true;
  await client.say(bytes(...Array.from({ length: 1000 }, () => option(OPTION.list))));
  assert.is(optionReplies(client.heard()).length, 2);
  assert.not.ok(client.wanted);
  client.take();
  await settled();
  assert.is(optionReplies(client.heard()).length, 2);
});

test('a client that closes its direction still gets all its answers', async () => {
  const client = await greeted();
  client.stuck = true;
  await client.say(bytes(option(OPTION.list), option(OPTION.structuredReply)));
  client.connection.inputEnded();
  await settled();
  assert.equal(client.events, []);
  for (let i = 0; i < 3; i++) {
    client.take();
    await settled();
  }
  assert.equal(types(optionReplies(client.heard())), [
    OPTION_REPLY.server,
    OPTION_REPLY.ack,
    OPTION_REPLY.ack,
  ]);
  assert.equal(client.events, ['end']);
});

test('a client that vanishes while an export is opened leaves it closed', async () => {
  let give: (open: OpenExport) => void = () => {};
  let closed = 0;
  const open = () => new Promise<OpenExport>((resolve) => (give = resolve));
  const client = await greeted({ exports: { list: () => [], open } });
  await client.say(option(OPTION.go, infoData('disk')));
  assert.ok(client.connection.busy);
  assert.not.ok(client.wanted);
  client.connection.gone();
  give({ target: new TestExport(), close: () => void closed++ });
  await settled();
  assert.is(closed, 1);
  assert.not.ok(client.connection.busy);
});

test('a server that stops while an export is opened refuses the requests', async () => {
  let give: (open: OpenExport) => void = () => {};
  const open = () => new Promise<OpenExport>((resolve) => (give = resolve));
  const client = await greeted({ exports: { list: () => [], open } });
  await client.say(option(OPTION.go, infoData('disk')));
  client.connection.stop();
  give({ target: new TestExport(), close() {} });
  await settled();
  client.heard();
  const [reply] = await client.exchange(read(0, 512));
  assert.is(reply.error, 108);
});

test.run();
