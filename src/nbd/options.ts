/**
 * What each option is answered with. An answer is bytes and what happens next; nothing is sent from
 * here, and what was negotiated so far lies in the `Haggle` that is passed in.
 *
 * Nothing that a client sent is repeated to it, and an export that cannot be opened leaves the client
 * where it was, free to try another name.
 */

import { KageError } from '../base/errors.ts';
import type { Agreed, Context } from './agreement.ts';
import { encodeText } from './big-endian.ts';
import type { NbdExport, NbdExports, OpenExport } from './export.ts';
import {
  blockSizes,
  decodeInfoQuery,
  decodeMetaQuery,
  decodeName,
  infoType,
  optionReply,
  sizeAndFlags,
  text,
  word,
} from './option-data.ts';
import { INFO, OPTION, OPTION_REPLY, TRANSMISSION } from './wire.ts';

/** Bytes of an error's text. */
const ERROR_TEXT_BYTES_MAX = 800;
/** Behind the answer to EXPORT_NAME, for clients that do not decline them. */
const ZEROES_BYTES = 124;

export type TlsMode = 'off' | 'optional' | 'required';

/** What a connection has negotiated so far. */
export type Haggle = {
  readonly exports: NbdExports;
  readonly tls: TlsMode;
  /** TLS is on. */
  secured: boolean;
  /** The client takes the answer to EXPORT_NAME without zeros behind it. */
  noZeroes: boolean;
  structured: boolean;
  /** The selected metadata contexts, and the name they were selected for. */
  selection: { readonly name: string; readonly contexts: readonly Context[] } | undefined;
};

export type Next =
  | { readonly kind: 'haggle' | 'end' | 'drop' | 'tls' }
  | { readonly kind: 'agreed'; readonly agreed: Agreed };
export type Answer = {
  readonly replies: readonly Uint8Array[];
  readonly next: Next;
  /** The client does not get what it came for. */
  readonly refusal?: Refusal;
};
/** `export`: the name that was asked for, as the client sent it. */
export type Refusal = { readonly export: string | null; readonly why: string };

const HAGGLE: Next = { kind: 'haggle' };
const DROP: Answer = { replies: [], next: { kind: 'drop' } };

/** An error reply; haggling goes on. */
export function refused(option: number, type: number, why = ''): Answer {
  const message = encodeText(why, ERROR_TEXT_BYTES_MAX);
  return { replies: [optionReply(option, type, message)], next: HAGGLE };
}

function accepted(option: number, ...replies: readonly Uint8Array[]): Answer {
  return { replies: [...replies, optionReply(option, OPTION_REPLY.ack)], next: HAGGLE };
}

const invalid = (option: number, why: string) => refused(option, OPTION_REPLY.invalid, why);

/** Forgets all that was negotiated without TLS. */
export function secure(haggle: Haggle): void {
  haggle.secured = true;
  haggle.structured = false;
  haggle.selection = undefined;
}

/** `data` is whole. May reject only if the exports' owner throws what is no error of ours. */
export async function answerOption(
  haggle: Haggle,
  option: number,
  data: Uint8Array,
): Promise<Answer> {
  if (option === OPTION.abort) {
    return { ...accepted(option), next: { kind: 'end' } };
  }
  if (option === OPTION.startTls) return answerStartTls(haggle, data);
  if (haggle.tls === 'required' && !haggle.secured) {
    const refusal = { export: null, why: 'it did not ask for TLS' };
    if (option === OPTION.exportName) return { ...DROP, refusal };
    const answer = refused(option, OPTION_REPLY.tlsRequired, 'this server wants TLS first');
    return { ...answer, refusal };
  }
  switch (option) {
    case OPTION.exportName:
      return await answerExportName(haggle, data);
    case OPTION.list:
      return answerList(haggle, data);
    case OPTION.info:
    case OPTION.go:
      return await answerInfo(haggle, option, data);
    case OPTION.structuredReply:
      if (data.byteLength > 0) return invalid(option, 'this option has no data');
      haggle.structured = true;
      return accepted(option);
    case OPTION.listMetaContext:
    case OPTION.setMetaContext:
      return await answerMeta(haggle, option, data);
    default:
      return refused(option, OPTION_REPLY.unsupported, 'unknown option');
  }
}

function answerStartTls(haggle: Haggle, data: Uint8Array): Answer {
  const option = OPTION.startTls;
  if (data.byteLength > 0) return invalid(option, 'this option has no data');
  if (haggle.secured) return invalid(option, 'TLS is on already');
  if (haggle.tls === 'off') {
    return refused(option, OPTION_REPLY.unsupported, 'this server has no TLS');
  }
  return { ...accepted(option), next: { kind: 'tls' } };
}

function answerList(haggle: Haggle, data: Uint8Array): Answer {
  const option = OPTION.list;
  if (data.byteLength > 0) return invalid(option, 'this option has no data');
  const servers = haggle.exports.list().map(({ name, description }) => {
    const bytes = text(name);
    return optionReply(
      option,
      OPTION_REPLY.server,
      word(bytes.byteLength),
      bytes,
      text(description),
    );
  });
  return accepted(option, ...servers);
}

/** The only option whose failure has no answer. */
async function answerExportName(haggle: Haggle, data: Uint8Array): Promise<Answer> {
  const name = decodeName(data);
  if (name === undefined) return DROP;
  const open = await openExport(haggle, name);
  if (!('target' in open)) return { ...DROP, refusal: { export: name, why: open.why } };
  const contexts = selectionFor(haggle, name, open.target);
  if (contexts === undefined) {
    open.close();
    return DROP;
  }
  const { target } = open;
  const head = sizeAndFlags(target.size, flagsOf(target, haggle.structured));
  const replies = haggle.noZeroes ? [head] : [head, new Uint8Array(ZEROES_BYTES)];
  return { replies, next: { kind: 'agreed', agreed: agree(haggle, open, contexts) } };
}

async function answerInfo(haggle: Haggle, option: number, data: Uint8Array): Promise<Answer> {
  const query = decodeInfoQuery(data);
  if (query === undefined) return invalid(option, 'the lengths do not fit');
  const open = await openExport(haggle, query.name);
  if (!('target' in open)) {
    const answer = refused(option, open.type, open.why);
    const refusal = { export: query.name, why: open.why };
    return option === OPTION.go ? { ...answer, refusal } : answer;
  }
  const answer = accepted(option, ...infoReplies(haggle, option, query.types, open.target));
  if (option === OPTION.info) {
    open.close();
    return answer;
  }
  const contexts = selectionFor(haggle, query.name, open.target);
  if (contexts === undefined) {
    open.close();
    return refused(option, OPTION_REPLY.policy, 'a selected metadata context is gone');
  }
  const agreed = agree(haggle, open, contexts);
  return { replies: answer.replies, next: { kind: 'agreed', agreed } };
}

function infoReplies(
  haggle: Haggle,
  option: number,
  types: ReadonlySet<number>,
  target: NbdExport,
): Uint8Array[] {
  const { name, description, size, preferredBlockSize } = target;
  const info = (...parts: Uint8Array[]) => optionReply(option, OPTION_REPLY.info, ...parts);
  const flags = flagsOf(target, haggle.structured);
  const replies = [info(infoType(INFO.export), sizeAndFlags(size, flags))];
  if (types.has(INFO.name)) replies.push(info(infoType(INFO.name), text(name)));
  if (types.has(INFO.description) && description !== '') {
    replies.push(info(infoType(INFO.description), text(description)));
  }
  if (types.has(INFO.blockSize)) replies.push(info(blockSizes(preferredBlockSize)));
  return replies;
}

async function answerMeta(haggle: Haggle, option: number, data: Uint8Array): Promise<Answer> {
  const sets = option === OPTION.setMetaContext;
  // Also a request that fails ends the earlier selection.
  if (sets) haggle.selection = undefined;
  if (!haggle.structured) return invalid(option, 'structured replies have to be agreed on first');
  const query = decodeMetaQuery(data);
  if (query === undefined) return invalid(option, 'the lengths do not fit');
  const open = await openExport(haggle, query.name);
  if (!('target' in open)) return refused(option, open.type, open.why);
  const all = open.target.contexts.map((name, id) => ({ id, name }));
  open.close();
  const contexts = all.filter(({ name }) =>
    sets
      ? query.queries.includes(name)
      : query.count === 0 || query.queries.some((q) => listMatches(q, name)),
  );
  if (sets) haggle.selection = { name: query.name, contexts };
  const replies = contexts.map(({ id, name }) =>
    optionReply(option, OPTION_REPLY.metaContext, word(sets ? id : 0), text(name)),
  );
  return accepted(option, ...replies);
}

/** A listing takes `namespace:` and further parts that end in a colon for all below them. */
function listMatches(query: string, context: string): boolean {
  return query === context || (query.endsWith(':') && context.startsWith(query));
}

/** The contexts that hold for an export; undefined if it has lost one that was selected for it. */
function selectionFor(
  { selection }: Haggle,
  name: string,
  target: NbdExport,
): readonly Context[] | undefined {
  if (selection === undefined || selection.name !== name) return [];
  const { contexts } = selection;
  return contexts.every((c) => target.contexts[c.id] === c.name) ? contexts : undefined;
}

function agree({ structured }: Haggle, open: OpenExport, contexts: readonly Context[]): Agreed {
  return { open, structured, contexts };
}

type NotOpen = { readonly type: number; readonly why: string };

async function openExport({ exports }: Haggle, name: string): Promise<OpenExport | NotOpen> {
  try {
    const open = await exports.open(name);
    return open ?? { type: OPTION_REPLY.unknown, why: 'no export of that name' };
  } catch (error) {
    if (!(error instanceof KageError)) {
      return { type: OPTION_REPLY.policy, why: 'the export cannot be opened' };
    }
    const unknown = error.code === 'no-such-object';
    return { type: unknown ? OPTION_REPLY.unknown : OPTION_REPLY.policy, why: error.message };
  }
}

function flagsOf({ readOnly }: NbdExport, structured: boolean): number {
  const { hasFlags, sendFlush, sendFua, sendCache, canMultiConn, sendDf } = TRANSMISSION;
  const always = hasFlags | sendFlush | sendFua | sendCache | canMultiConn;
  const writing = readOnly
    ? TRANSMISSION.readOnly
    : TRANSMISSION.sendTrim | TRANSMISSION.sendWriteZeroes;
  return always | writing | (structured ? sendDf : 0);
}
