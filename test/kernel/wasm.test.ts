/** The wasm kernel keeps the contract. */
import { createWasmKernel } from '../../src/kernel/wasm.ts';
import { kernelConformance } from '../conformance/kernel.ts';

const test = kernelConformance('kernel: wasm', createWasmKernel);

test.run();
