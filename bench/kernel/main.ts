/** Runs the kernel bench alone: prints `{ header, rows }` as JSON. `--smoke`: tiny sizes, no meaning. */
import { header } from '../harness.ts';
import { run } from './kernel.bench.ts';

const rows = await run({ smoke: process.argv.includes('--smoke') });
console.log(JSON.stringify({ header: header('wasm, js'), rows }, null, 2));
