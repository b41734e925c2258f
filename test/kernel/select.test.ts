/** Choosing a kernel. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createKernel } from '../../src/kernel/select.ts';

const test = suite('kernel: select');

test('a kind asked for is the kind that runs', () => {
  assert.is(createKernel('wasm').kind, 'wasm');
  assert.is(createKernel('js').kind, 'js');
});

test('without a kind wasm runs where SIMD does, and the twin elsewhere', () => {
  assert.is(createKernel().kind, 'wasm');
  const { validate } = WebAssembly;
  WebAssembly.validate = () => false;
  try {
    assert.is(createKernel().kind, 'js');
    assert.is(createKernel(undefined, { bytes: 100_000 }).kind, 'js');
  } finally {
    WebAssembly.validate = validate;
  }
});

test('without WebAssembly at all the twin runs', () => {
  const whole = globalThis.WebAssembly;
  Reflect.deleteProperty(globalThis, 'WebAssembly');
  try {
    assert.is(createKernel().kind, 'js');
  } finally {
    globalThis.WebAssembly = whole;
  }
});

test('where address space is short the twin runs, unless wasm was asked for', () => {
  const { Memory } = WebAssembly;
  WebAssembly.Memory = class {
    constructor() {
      throw new RangeError('could not allocate memory');
    }
  } as unknown as typeof Memory;
  try {
    assert.is(createKernel().kind, 'js');
    assert.throws(() => createKernel('wasm'), /could not allocate/);
  } finally {
    WebAssembly.Memory = Memory;
  }
});

test.run();
