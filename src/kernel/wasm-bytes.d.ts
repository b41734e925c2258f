/** Types the compiler lacks: embedded wasm files, and the few parts of WebAssembly we use. */

/** The bundler embeds a wasm file as its bytes. */
declare module '*.wasm' {
  const bytes: Uint8Array<ArrayBuffer>;
  export default bytes;
}

/** All three runtimes have it, but only the browser's type library declares it. */
declare namespace WebAssembly {
  class Memory {
    constructor(descriptor: { initial: number; maximum: number });
    readonly buffer: ArrayBuffer;
    /** Pages of 64 KiB to add; returns how many there were. Throws a `RangeError`. */
    grow(pages: number): number;
  }
  function validate(bytes: Uint8Array): boolean;
}
