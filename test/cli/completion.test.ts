/** Completion: the candidates, and the scripts in real shells. */

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { SCRIPTS } from '../../src/cli/completion-scripts.ts';
import { VERBS } from '../../src/cli/verbs/index.ts';
import { classInfo, world } from './fake.ts';

const test = suite('cli completion');

/** The candidates after `line`, whose last word is being typed; without what they are. */
async function candidates(line: string, classes = [classInfo(), classInfo({ class: 'db' })]) {
  const w = world({ classes });
  assert.is(await w.run('__complete', ...line.split(' ')), 0, w.err());
  return w
    .out()
    .split('\n')
    .filter(Boolean)
    .map((candidate) => candidate.split('\t')[0]);
}

test('verbs, all and by their beginning', async () => {
  const all = await candidates('');
  for (const verb of VERBS) assert.ok(all.includes(verb.name), verb.name);
  assert.equal(await candidates('re'), ['rejoin', 'restore', 'relate', 'remove', 'read']);
  assert.equal(await candidates('--home /h pa'), ['part']);
});

test('options of the verb and those that go everywhere', async () => {
  assert.equal(await candidates('join --re'), ['--region']);
  assert.ok((await candidates('part -')).includes('--instant'));
  assert.ok((await candidates('part a --')).includes('--class'));
  assert.equal(await candidates('part a --read'), ['--read-only']);
  assert.equal(await candidates('start a --read'), ['--read-only']);
  assert.equal(await candidates('info --di'), []);
});

test('proxies for the verbs of a pair, volumes and files elsewhere', async () => {
  assert.equal(await candidates('part '), ['vm-proxy']);
  assert.equal(await candidates('part vm-proxy '), []);
  assert.equal(await candidates('swap vm-proxy '), []);
  assert.equal(await candidates('start '), ['vm', 'vm-proxy', 'other']);
  assert.equal(await candidates('join v'), ['vm', 'vm-proxy', ':files']);
  assert.equal(await candidates('join vm o'), ['other', ':files']);
  assert.equal(await candidates('add '), [':files']);
});

test('classes behind -c, folders behind --home, nothing behind --rate', async () => {
  assert.equal(await candidates('part -c '), ['default', 'db']);
  assert.equal(await candidates('part --class = d'), ['default', 'db']);
  assert.equal(await candidates('part --home '), [':files']);
  assert.equal(await candidates('part --rate '), []);
  assert.equal(await candidates('create x -s 1G '), [':files']);
});

test('shells, topics of help, the operations of sdxproxy', async () => {
  assert.equal(await candidates('completion '), ['bash', 'zsh']);
  assert.equal(await candidates('help ver'), ['verify']);
  assert.equal(await candidates('sdxproxy Rej'), ['Rejoin', 'RejoinRestore']);
  assert.equal(await candidates('sdxproxy Part -p '), ['vm-proxy']);
  const w = world();
  assert.is(await w.run('sdxproxy', '__complete', 'Sw'), 0);
  assert.is(w.out(), 'Swap\n');
});

test('a class that cannot be read completes nothing, without a word', async () => {
  const w = world({ classes: [] });
  assert.is(await w.run('__complete', 'part', ''), 0);
  assert.is(w.out() + w.err(), '');
});

function hasShell(name: string): boolean {
  return spawnSync(name, ['-c', 'exit 0']).status === 0;
}

/** Runs `work` with a folder that holds the script and a `kage` which answers two candidates. */
function withShell(shell: string, body: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'kage-completion-'));
  try {
    writeFileSync(join(folder, 'script'), SCRIPTS[shell]);
    const answers = `printf 'vm\\tmaster: ACTIVE\\nvm-proxy\\tproxy\\n:files\\n'`;
    writeFileSync(
      join(folder, 'kage'),
      `#!/bin/sh\n[ "$1" = __complete ] || exit 1\nshift\necho "[$*]" >> log\n${answers}\n`,
    );
    chmodSync(join(folder, 'kage'), 0o755);
    writeFileSync(join(folder, 'vm disk.img'), '');
    const { stdout, stderr } = spawnSync(
      shell,
      shell === 'bash' ? ['--norc', '-c', body] : ['-fc', body],
      {
        cwd: folder,
        env: { PATH: `${folder}:${process.env.PATH}` },
        encoding: 'utf8',
      },
    );
    return stdout + stderr;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function shellTest(shell: string, name: string, body: () => void): void {
  if (hasShell(shell)) return void test(name, body);
  console.log(`SKIP ${name}: no ${shell} here`);
  test.skip(name, body);
}

shellTest('bash', 'bash: the script fills COMPREPLY with names and files', () => {
  const out = withShell(
    'bash',
    `source ./script; complete -p kage; COMP_WORDS=(kage join v); COMP_CWORD=2; _kage kage
     printf '<%s>' "\${COMPREPLY[@]}"; echo; cat log`,
  );
  assert.is(out, 'complete -F _kage kage\n<vm><vm-proxy><vm disk.img>\n[join v]\n');
});

shellTest('bash', 'bash: an empty word is passed on', () => {
  const out = withShell(
    'bash',
    `source ./script; COMP_WORDS=(kage part ''); COMP_CWORD=2; _kage kage; cat log`,
  );
  assert.is(out, '[part ]\n');
});

shellTest('zsh', 'zsh: the script describes names and asks for files', () => {
  const out = withShell(
    'zsh',
    `compdef() { print compdef $* }
     _describe() { print -l $1 "\${(@P)2}" }
     _files() { print files }
     source ./script; words=(kage join v); CURRENT=3; _kage; cat log`,
  );
  assert.is(
    out,
    'compdef _kage kage sdxproxy sdxinfo sdxvolume sdxdisk sdxclass\n' +
      'kage\nvm:master: ACTIVE\nvm-proxy:proxy\nfiles\n[join v]\n',
  );
});

test.run();
