import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { BucketRate } from '../../src/admission/token-bucket.js';
import { TokenBucket } from '../../src/admission/token-bucket.js';

const rates = fc.record({
  ratePerMinute: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 1_000_000_000 })),
  burst: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 1_000_000_000 })),
});
/** Waits that stand still, are shorter than a token, end on whole seconds, or fill any bucket. */
const waitsMs = fc.oneof(
  fc.constant(0),
  fc.double({ min: 0, max: 50, noNaN: true }),
  fc.integer({ min: 1, max: 60 }).map((seconds) => seconds * 1000),
  fc.integer({ min: 0, max: 10_000_000 }),
);
const costs = fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 30 }));
const steps = fc.array(fc.record({ waitMs: waitsMs, cost: costs }), { minLength: 1, maxLength: 60 });
const numRuns = process.env['SLUICE_TEST_SOAK'] === '1' ? 5_000 : 1_000;

interface Taken {
  readonly atMs: number;
  readonly cost: number;
}

/** The most by which any interval, edges included, holds more than burst + rate × its length. */
function excess(taken: readonly Taken[], { ratePerMinute, burst }: BucketRate): number {
  let most = -Infinity;
  for (const [from, { atMs: fromMs }] of taken.entries()) {
    let admitted = 0;
    for (const { atMs, cost } of taken.slice(from)) {
      admitted += cost;
      most = Math.max(most, admitted - (burst + ((atMs - fromMs) * ratePerMinute) / 60_000));
    }
  }
  return most;
}

/** What floating point may gain or lose over a run. */
const slack = ({ burst }: BucketRate): number => 1e-6 * Math.max(1, burst);

describe('a token bucket', () => {
  it('admits at most burst + rate × time in any interval', () => {
    fc.assert(
      fc.property(rates, steps, (rate, list) => {
        const bucket = new TokenBucket(rate, 0);
        const taken: Taken[] = [];
        let nowMs = 0;
        for (const { waitMs, cost } of list) {
          nowMs += waitMs;
          if (bucket.take(rate, cost, nowMs).allowed) taken.push({ atMs: nowMs, cost });
        }
        assert.ok(excess(taken, rate) <= slack(rate));
      }),
      { numRuns },
    );
  });

  it('is caught by that check where it admits a window at a time', () => {
    const rate = { ratePerMinute: 10, burst: 10 };
    // A fixed window lets two bursts through around its edge.
    const taken = [59_999, 60_000].map((atMs) => ({ atMs, cost: 10 }));
    assert.ok(excess(taken, rate) > slack(rate));
  });

  it('admits whatever the reference model has tokens for, says what is left, and when a refusal ends', () => {
    fc.assert(
      fc.property(rates, steps, (rate, list) => {
        const bucket = new TokenBucket(rate, 0);
        // The reference: tokens as the integral of the rate, capped at the burst, in units of a token's 60,000th part.
        let units = rate.burst * 60_000;
        let nowMs = 0;
        for (const { waitMs, cost } of list) {
          const elapsedMs = nowMs + waitMs - nowMs;
          nowMs += waitMs;
          units = Math.min(rate.burst * 60_000, units + elapsedMs * rate.ratePerMinute);
          const { allowed, remaining, retryAfterSeconds, resetSeconds } = bucket.take(rate, cost, nowMs);
          const missing = cost - units / 60_000;
          if (Math.abs(missing) > slack(rate)) assert.equal(allowed, missing < 0);
          if (allowed) units -= cost * 60_000;
          assert.ok(Math.abs(remaining - Math.floor(units / 60_000)) <= 1 && remaining >= 0 && remaining <= rate.burst);
          const perSecond = rate.ratePerMinute / 60;
          assert.ok(Math.abs(resetSeconds * perSecond - (rate.burst - units / 60_000)) <= slack(rate));
          if (allowed) assert.equal(retryAfterSeconds, 0);
          else if (cost > rate.burst) assert.equal(retryAfterSeconds, Infinity);
          else assert.ok(Math.abs(retryAfterSeconds * perSecond - missing) <= slack(rate));
        }
      }),
      { numRuns },
    );
  });

  it('admits the cost once its retry time, in whole seconds, has passed', () => {
    fc.assert(
      fc.property(rates, steps, costs, (rate, list, cost) => {
        fc.pre(cost <= rate.burst);
        const bucket = new TokenBucket(rate, 0);
        let nowMs = 0;
        for (const step of list) {
          nowMs += step.waitMs;
          bucket.take(rate, step.cost, nowMs);
        }
        const refusal = bucket.take(rate, cost, nowMs);
        fc.pre(!refusal.allowed);
        nowMs += Math.max(1, Math.ceil(refusal.retryAfterSeconds)) * 1000;
        assert.equal(bucket.take(rate, cost, nowMs).allowed, true);
      }),
      { numRuns: numRuns * 5 },
    );
  });

  it('refills at the rate it is given, up to the burst it is given', () => {
    const bucket = new TokenBucket({ ratePerMinute: 60, burst: 5 }, 0);
    assert.equal(bucket.take({ ratePerMinute: 60, burst: 5 }, 5, 0).remaining, 0);
    assert.equal(bucket.take({ ratePerMinute: 600, burst: 50 }, 1, 1_000).remaining, 9);
    assert.equal(bucket.take({ ratePerMinute: 600, burst: 3 }, 1, 1_000).remaining, 2);
  });
});
