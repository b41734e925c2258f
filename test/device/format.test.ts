import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { containerFormat, HEAD_LENGTH } from '../../src/device/format.ts';

const test = suite('device: format');

function bytes(size: number, offset: number, text: string): Uint8Array {
  const data = new Uint8Array(size);
  for (let i = 0; i < text.length; i++) data[offset + i] = text.charCodeAt(i);
  return data;
}

const NOTHING = new Uint8Array(512);

const HEADS: readonly [string, number, string][] = [
  ['QFI\xfb\0\0\0\x03', 0, 'qcow2'],
  ['QED\0', 0, 'QED'],
  ['KDMV', 0, 'VMDK'],
  ['COWD', 0, 'VMDK'],
  ['# Disk DescriptorFile\nversion=1', 0, 'VMDK'],
  ['vhdxfile', 0, 'VHDX'],
  ['conectix', 0, 'VHD'],
  ['\x7f\x10\xda\xbe', 64, 'VDI'],
];

test('container formats are known by their first bytes', () => {
  for (const [text, offset, name] of HEADS) {
    assert.is(containerFormat(bytes(HEAD_LENGTH, offset, text), NOTHING), name, name);
  }
});

test('and a fixed VHD by its footer', () => {
  assert.is(containerFormat(new Uint8Array(HEAD_LENGTH), bytes(512, 0, 'conectix')), 'VHD');
});

test('an image is raw unless the bytes are in their place', () => {
  for (const [text, offset, name] of HEADS) {
    assert.is(containerFormat(bytes(HEAD_LENGTH, offset + 1, text), NOTHING), null, name);
    const almost = bytes(HEAD_LENGTH, offset, `${text.slice(0, 3)}?`);
    assert.is(containerFormat(almost, NOTHING), null, name);
  }
  assert.is(containerFormat(NOTHING, bytes(512, 1, 'conectix')), null);
  assert.is(containerFormat(bytes(HEAD_LENGTH, 510, '\x55\xaa'), NOTHING), null, 'a boot sector');
});

test('images shorter than a signature are raw', () => {
  for (let size = 0; size < 8; size++) {
    const data = bytes(8, 0, 'vhdxfile').subarray(0, size);
    assert.is(containerFormat(data, data), null);
  }
  assert.is(containerFormat(bytes(66, 64, '\x7f\x10'), NOTHING), null);
});

test.run();
