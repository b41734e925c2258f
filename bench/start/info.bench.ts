/**
 * How long `kage info` of a class with one pair takes from nothing, against the runtime's own start
 * with an empty file. Beside it, without a floor, a file that loads the runtime's modules for files
 * and standard output and prints a line: the least that any program of Node's kind pays.
 */

import fs from 'node:fs';
import path from 'node:path';
import { type Parameter, pick } from '../harness.ts';
import { type Place, within } from '../place.ts';
import { WORKS } from '../report/floors.ts';
import type { Entry } from '../report/result.ts';
import { runProgram } from '../runtimes.ts';
import { takeTurns } from '../turns.ts';

const ROUNDS: Parameter<number> = { smoke: 1, real: 25 };
const LINE = "import 'node:fs'; import 'node:path'; process.stdout.write('a line\\n');\n";

export function info(place: Place): { entries: Entry[] } {
  return within(place, 'info', (dir) => {
    const file = (name: string) => path.join(dir, name);
    fs.writeFileSync(file('empty.mjs'), '');
    fs.writeFileSync(file('line.mjs'), LINE);
    fs.writeFileSync(file('vm.img'), Buffer.alloc(1_000_000, 7));
    const env = { KAGE_HOME: file('home') };
    runProgram([process.execPath, place.kage, 'join', file('vm.img'), file('proxy.img')], { env });
    const entries = place.runtimes.flatMap(({ name, command }) => {
      let shown = '';
      const start = (...words: string[]) => runProgram([...command, ...words], { env });
      const rows = takeTurns({
        work: WORKS.info,
        runtime: name,
        rounds: pick(ROUNDS, place),
        params: {},
        contenders: [
          {
            name: 'kage info',
            run: () => {
              shown = start(place.kage, 'info');
            },
          },
          { name: 'bare start', run: () => start(file('empty.mjs')) },
          { name: 'files and a line', run: () => start(file('line.mjs')) },
        ],
      });
      if (!/: joined/.test(shown)) throw new Error(`${WORKS.info}: ${shown}`);
      return rows;
    });
    return { entries };
  });
}
