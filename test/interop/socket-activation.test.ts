/** `kage serve` on sockets that somebody else made: by libnbd's convention, and several of them. */

import fs from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { RUNTIMES } from '../support/runtimes.ts';
import { NODE, Running, type Runtime, until, type World } from '../support/world.ts';
import { cases, MIB, run } from './support.ts';

const test = suite('interop: sockets handed over');
const check = cases(test, 'interop: sockets handed over');

/** The server as an argument of libnbd's tools, which end it themselves. */
const server = (w: World, runtime: Runtime) => [
  'env',
  `KAGE_HOME=${w.home}`,
  ...runtime,
  'serve',
  '--quiet',
];

for (const { name, command } of RUNTIMES) {
  check(['nbdinfo', 'nbdsh'], `libnbd starts the server itself, on ${name}`, async (w) => {
    w.image('vm.img', MIB);
    await w.ok(['add', w.path('vm.img')]);
    const list = await run('nbdinfo', '--json', '--list', '--', '[', ...server(w, command), ']');
    assert.is(JSON.parse(list).exports[0]['export-name'], 'default/vm');
    const script = [
      'h.set_export_name("default/vm")',
      `h.connect_systemd_socket_activation(${JSON.stringify(server(w, command))})`,
      'h.pwrite(b"here", 512); h.flush(); print(bytes(h.pread(4, 512))); h.shutdown()',
    ];
    assert.is((await run('nbdsh', ...script.flatMap((line) => ['-c', line]))).trim(), "b'here'");
    assert.is(w.read('vm.img').subarray(512, 516).toString(), 'here');
  });
}

/** Makes sockets (a path, or an address with any port), prints the ports, becomes the server. */
const HAND_OVER = `
import os, socket, sys
places = sys.argv[1].split(',')
held = []
for place in places:
    unix = '/' in place
    made = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    made.bind(place if unix else (place, 0))
    made.listen(5)
    if not unix: print(made.getsockname()[1], flush=True)
    held.append(os.dup(made.fileno()))
for i, fd in enumerate(held):
    os.dup2(os.dup(fd), 50 + i)
for i in range(len(held)):
    os.dup2(50 + i, 3 + i, inheritable=True)
pid = str(os.getpid() + int(sys.argv[2]))
os.environ.update(LISTEN_FDS=str(len(held)), LISTEN_PID=pid)
os.execvp(sys.argv[3], sys.argv[3:])
`;

/** `skew`: the variables name another process. */
function handOver(w: World, places: string[], runtime: Runtime, skew = 0): Running {
  const words = ['/usr/bin/python3', '-c', HAND_OVER, places.join(','), `${skew}`];
  const env = { ...process.env, KAGE_HOME: w.home };
  const running = new Running([...words, ...runtime, 'serve'], env, '');
  w.atEnd(() => running.child.kill('SIGKILL'));
  return running;
}

for (const { name, command } of RUNTIMES) {
  check(['python3', 'nbdinfo'], `two sockets at once, unix and TCP, on ${name}`, async (w) => {
    w.image('vm.img', MIB);
    await w.ok(['add', w.path('vm.img')]);
    const socket = w.path('a.sock');
    const running = handOver(w, [socket, '127.0.0.1'], command);
    await until('there is a port', () => /\n/.test(running.stdout));
    // The socket is there before the server is: nobody has to wait for a sign.
    const sizes = [`nbd+unix:///default/vm?socket=${socket}`];
    sizes.push(`nbd://127.0.0.1:${running.stdout.trim()}/default/vm`);
    for (const uri of sizes) assert.is((await run('nbdinfo', '--size', uri)).trim(), `${MIB}`);
    running.child.kill('SIGTERM');
    const { status, stdout, stderr } = await running.ended;
    assert.is(status, 0, stderr);
    assert.match(stdout, /^\d+\n$/, 'nothing else is on stdout');
    assert.ok(fs.existsSync(socket), 'the name is left to who made it');
    assert.not.ok(fs.existsSync(w.path('home', 'nbd.sock')));
  });
}

check(['python3'], 'a socket that other machines reach is refused', async (w) => {
  const { status, stderr } = await handOver(w, ['0.0.0.0'], NODE).ended;
  assert.is(status, 12, stderr);
  assert.match(stderr, /^kage: 0\.0\.0\.0:\d+: other machines could read and write/m);
});

check(['python3'], 'what was meant for another process is left alone', async (w) => {
  const running = handOver(w, [w.path('a.sock')], NODE, 1);
  await until('it is ready', () => running.stdout.includes('ready'));
  assert.match(running.stdout, /^ready nbd\+unix:.*home\/nbd\.sock\n/);
  running.child.kill('SIGTERM');
  assert.is((await running.ended).status, 0);
});

check(['python3'], 'a descriptor that is no listening socket is named', async (w) => {
  const { status, stderr } = await w.run(['serve', '--nbd', 'fd:77']);
  assert.is(status, 12, stderr);
  assert.match(stderr, /^kage: fd:77: is no listening socket: /m);
  assert.not.ok(fs.existsSync(w.path('home', 'control.sock')));
});

test.run();
