/** The plain twin keeps the contract. */
import { createReferenceKernel } from '../../src/kernel/reference.ts';
import { kernelConformance } from '../conformance/kernel.ts';

const test = kernelConformance('kernel: reference', createReferenceKernel);

test.run();
