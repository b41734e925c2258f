/** The histogram of latencies: nothing is lost, and a quantile is never far above the truth. */

import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Histogram, NbdMetrics } from '../../src/nbd/metrics.ts';
import { COMMAND } from '../../src/nbd/wire.ts';

const test = suite('nbd: server metrics');

test('a quantile is at least the true one, and at most a quarter and a microsecond above', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0, max: 4_000_000, noNaN: true }), { minLength: 1, maxLength: 50 }),
      fc.constantFrom(0.01, 0.5, 0.9, 0.99, 1),
      (times, share) => {
        const histogram = new Histogram();
        for (const ms of times) histogram.add(ms);
        const sorted = [...times].sort((a, b) => a - b);
        const truth = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
        const told = histogram.quantile(share);
        assert.is(histogram.total, times.length);
        assert.ok(told >= truth - 1e-9, `${told} for ${truth}`);
        assert.ok(told <= (truth + 0.001) * 1.25 + 0.001, `${told} for ${truth}`);
      },
    ),
  );
});

test('times out of all bounds are counted at the ends', () => {
  const histogram = new Histogram();
  assert.is(histogram.quantile(0.5), 0);
  histogram.add(0);
  assert.is(histogram.quantile(1), 0.001);
  histogram.add(1e15);
  assert.ok(histogram.quantile(1) > 4_000_000);
});

test('what took at most a power of two is counted exactly, and all of it is summed up', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.nat(9), fc.nat(5000), fc.nat(2 ** 31)), { maxLength: 50 }),
      fc.nat(31),
      (microseconds, power) => {
        const histogram = new Histogram();
        for (const us of microseconds) histogram.add(us / 1000);
        const truth = microseconds.filter((us) => us <= 2 ** power).length;
        assert.is(histogram.upTo(power), truth);
        const sum = microseconds.reduce((all, us) => all + us / 1000, 0);
        assert.ok(Math.abs(histogram.sum - sum) <= sum * 1e-9);
      },
    ),
  );
});

test('a command that does not exist is not counted', () => {
  const metrics = new NbdMetrics();
  metrics.add(99, 5, true, 1);
  metrics.add(COMMAND.read, 5, false, 1);
  assert.is(metrics.requests('read'), 1);
  assert.is(metrics.bytes('read'), 5);
});

test.run();
