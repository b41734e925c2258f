/** Recognises image files that are no raw images by their signatures (each format's own document). */

const SIGNATURES: readonly { name: string; offset: number; bytes: string }[] = [
  { name: 'qcow2', offset: 0, bytes: 'QFI\xfb' },
  { name: 'QED', offset: 0, bytes: 'QED\0' },
  { name: 'VMDK', offset: 0, bytes: 'KDMV' },
  { name: 'VMDK', offset: 0, bytes: 'COWD' },
  { name: 'VMDK', offset: 0, bytes: '# Disk DescriptorFile' },
  { name: 'VHDX', offset: 0, bytes: 'vhdxfile' },
  { name: 'VHD', offset: 0, bytes: 'conectix' },
  { name: 'VDI', offset: 64, bytes: '\x7f\x10\xda\xbe' },
];

/** Bytes at the start of an image that `containerFormat` wants to see. */
export const HEAD_LENGTH = 4096;

/**
 * The container format of an image by its first bytes (up to `HEAD_LENGTH`) and its last 512, or
 * null for a raw one.
 */
export function containerFormat(head: Uint8Array, tail: Uint8Array): string | null {
  for (const { name, offset, bytes } of SIGNATURES) {
    if (startsWith(head, offset, bytes)) return name;
  }
  return startsWith(tail, 0, 'conectix') ? 'VHD' : null;
}

function startsWith(data: Uint8Array, offset: number, text: string): boolean {
  if (data.byteLength < offset + text.length) return false;
  for (let i = 0; i < text.length; i++) {
    if (data[offset + i] !== text.charCodeAt(i)) return false;
  }
  return true;
}
