import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { BucketClass } from '../../src/admission/rate-limit.js';
import { RateLimiter } from '../../src/admission/rate-limit.js';
import { Problem } from '../../src/errors.js';
import type { Limits } from '../../src/tenancy/tiers.js';
import { TestClock } from '../support/test-clock.js';

const limits: Limits = { ratePerMinute: 60, burst: 5, mode: 'enforce' };

function setUp(bucketsMax?: number) {
  const clock = new TestClock();
  const limiter = new RateLimiter(clock, bucketsMax);
  /** How many requests are admitted before the first refusal; null if none is refused within 1,000. */
  const admitted = (org: string, bucketClass: BucketClass, given = limits): number | null => {
    for (let count = 0; count < 1_000; count++) {
      try {
        limiter.admit(org, given, bucketClass, 1);
      } catch (error) {
        assert.ok(error instanceof Problem && error.code === 'rate_limited');
        return count;
      }
    }
    return null;
  };
  return { clock, limiter, admitted };
}

describe('the rate limiter', () => {
  it('keeps a bucket for each org and each class, reads and consumption ten times as large', () => {
    const { admitted } = setUp();
    assert.equal(admitted('1', 'write'), 5);
    assert.equal(admitted('1', 'read'), 50);
    assert.equal(admitted('1', 'consume'), 50);
    assert.equal(admitted('2', 'write'), 5);
    assert.equal(admitted('1', 'write'), 0);
  });

  it('says what the bucket holds, what is left and when it is full again', () => {
    const { clock, limiter } = setUp();
    assert.deepEqual(limiter.admit('1', limits, 'write', 2).headers, {
      'RateLimit-Limit': '5',
      'RateLimit-Remaining': '3',
      'RateLimit-Reset': '2',
    });
    clock.advance(1_500);
    assert.deepEqual(limiter.admit('1', limits, 'read', 1).headers, {
      'RateLimit-Limit': '50',
      'RateLimit-Remaining': '49',
      'RateLimit-Reset': '1',
    });
    assert.equal(limiter.admit('1', limits, 'write', 1).headers['RateLimit-Remaining'], '3');
  });

  it('refuses with the time after which the same request is admitted', () => {
    const { clock, limiter } = setUp();
    limiter.admit('1', limits, 'write', 5);
    assert.throws(
      () => limiter.admit('1', limits, 'write', 4),
      (error) => {
        assert.ok(error instanceof Problem && error.code === 'rate_limited');
        assert.equal(error.retryAfterSeconds, 4);
        assert.deepEqual(error.headers, {
          'RateLimit-Limit': '5',
          'RateLimit-Remaining': '0',
          'RateLimit-Reset': '5',
        });
        return true;
      },
    );
    clock.advance(3_999);
    assert.throws(() => limiter.admit('1', limits, 'write', 4));
    clock.advance(1);
    limiter.admit('1', limits, 'write', 4);
  });

  it('refuses for ever, and says so, what the bucket can never hold', () => {
    const { limiter } = setUp();
    assert.throws(
      () => limiter.admit('1', limits, 'write', 6),
      (error) =>
        error instanceof Problem && error.code === 'rate_exceeds_burst' && error.retryAfterSeconds === undefined,
    );
    // Nothing was spent on it.
    assert.equal(limiter.admit('1', limits, 'write', 5).headers['RateLimit-Remaining'], '0');
  });

  it('lets everything through in shadow mode, and marks what it would have refused', () => {
    const { limiter } = setUp();
    const shadow: Limits = { ...limits, mode: 'shadow' };
    const marked = Array.from({ length: 8 }, () => limiter.admit('1', shadow, 'write', 1).shadowRefused);
    assert.deepEqual(marked, [false, false, false, false, false, true, true, true]);
    assert.equal(limiter.admit('1', shadow, 'write', 6).shadowRefused, true);
  });

  it('applies changed limits to the next request, to the tokens that are left', () => {
    const { clock, admitted } = setUp();
    assert.equal(admitted('1', 'write'), 5);
    const faster: Limits = { ...limits, ratePerMinute: 600, burst: 20 };
    clock.advance(1_000);
    assert.equal(admitted('1', 'write', faster), 10);
    clock.advance(60_000);
    assert.equal(admitted('1', 'write', faster), 20);
    clock.advance(60_000);
    assert.equal(admitted('1', 'write', { ...limits, burst: 2 }), 2);
  });

  it('keeps a bounded number of buckets and forgets the one unused for the longest', () => {
    // At once, so that it is passed over; and after so long that it was moved.
    for (const laterMs of [1, 10_000]) {
      const { clock, limiter, admitted } = setUp(10);
      const slow: Limits = { ...limits, ratePerMinute: 1 };
      for (let org = 1; org <= 10; org++) assert.equal(admitted(String(org), 'write', slow), 5);
      clock.advance(laterMs);
      assert.equal(admitted('1', 'write', slow), 0);
      assert.equal(admitted('11', 'write', slow), 5);
      // 2 made room for 11; everybody else, and 1 above all, is remembered as exhausted.
      for (const org of [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]) {
        assert.equal(admitted(String(org), 'write', slow), 0, `org ${org}`);
      }
      assert.equal(limiter.admit('2', slow, 'write', 1).headers['RateLimit-Remaining'], '4');
    }
  });

  it('remembers a bucket in use, however many others come', () => {
    const { clock, limiter, admitted } = setUp(10);
    const slow: Limits = { ...limits, ratePerMinute: 1 };
    assert.equal(admitted('busy', 'write', slow), 5);
    for (let org = 0; org < 1_000; org++) {
      clock.advance(1);
      assert.equal(admitted('busy', 'write', slow), 0, `after ${org} others`);
      limiter.admit(String(org), slow, 'write', 1);
    }
  });
});
