/** What a refused command must look like: status, one clear line, its JSON, and an untouched disk. */

import * as assert from 'uvu/assert';
import { ERRORS, type ErrorCode } from '../../src/base/errors.ts';
import { runHere } from './here.ts';
import { type Ended, type SpawnOptions, samePhotos, type World } from './world.ts';

export type Refusal = {
  readonly code: ErrorCode;
  /** The line has to say this. */
  readonly says: RegExp;
  /** The hint has to say this; without it a hint is allowed and not looked at. */
  readonly hint?: RegExp;
};

/**
 * Runs a command and holds what it says against `wanted`; then in JSON form, in this process if it
 * needs no other runtime or variables.
 */
export async function expectRefusal(
  world: World,
  args: readonly string[],
  wanted: Refusal,
  options: SpawnOptions = {},
): Promise<void> {
  const before = world.photograph();
  expectText(await world.run(args, options), wanted);
  const here = options.runtime === undefined && options.env === undefined;
  const json = [...args, '--json'];
  expectJson(
    here ? await runHere(world, json, options.input) : await world.run(json, options),
    wanted,
  );
  samePhotos(before, world.photograph());
}

export function expectText(ended: Ended, wanted: Refusal): void {
  const all = `${ended.stdout}${ended.stderr}`;
  assert.is(ended.status, ERRORS[wanted.code].exit, `exit status; it said: ${all}`);
  assert.is(ended.stdout, '', 'nothing on stdout');
  const lines = ended.stderr.trimEnd().split('\n');
  assert.match(lines[0], wanted.says);
  assert.ok(lines[0].startsWith('kage: '), `one line of ours: ${lines[0]}`);
  assert.ok(lines.length <= 2, `one line and at most a hint: ${all}`);
  assert.ok(lines.length === 1 || lines[1].startsWith('  '), `a hint is indented: ${all}`);
  if (wanted.hint) assert.match(lines[1] ?? '', wanted.hint);
  requirePlain(all);
}

export function expectJson(ended: Ended, wanted: Refusal): void {
  const all = `${ended.stdout}${ended.stderr}`;
  assert.is(ended.status, ERRORS[wanted.code].exit, `exit status with --json; it said: ${all}`);
  assert.is(ended.stderr, '', 'nothing on stderr with --json');
  assert.is(ended.stdout.trimEnd().split('\n').length, 1, 'one line of JSON');
  const { error } = JSON.parse(ended.stdout);
  assert.is(error.code, wanted.code);
  assert.is(error.exitStatus, ERRORS[wanted.code].exit);
  assert.match(error.message, stripped(wanted.says));
  if (wanted.hint) assert.match(error.hint ?? '', wanted.hint);
  requirePlain(all);
}

/** The JSON has the message without the `kage: ` in front. */
function stripped(says: RegExp): RegExp {
  return new RegExp(says.source.replace(/^\^kage: /, '^'), says.flags);
}

/** No stack trace, no word of the machinery. */
export function requirePlain(text: string): void {
  assert.not.match(text, /\n\s+at .*[:(]\d+/, 'no stack trace');
  assert.not.match(text, /internal error|TypeError|\[object|undefined|NaN/, 'plain words');
}
