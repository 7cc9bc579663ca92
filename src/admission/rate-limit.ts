import type { Clock } from '../clock.js';
import { Problem } from '../errors.js';
import type { Limits } from '../tenancy/tiers.js';
import { TokenBucket } from './token-bucket.js';

/** What a request spends. Each has a bucket of its own, so that exhausting one leaves the others. */
export type BucketClass = 'write' | 'read' | 'consume';

/** Reads and consumption may happen ten times as often as events are sent. */
const multiplier: Readonly<Record<BucketClass, number>> = { write: 1, read: 10, consume: 10 };

/** Buckets kept in memory; beyond it, those that are full again are forgotten, which changes nothing for their orgs. */
const bucketsMax = 100_000;

export interface Admitted {
  readonly headers: Readonly<Record<string, string>>;
  /** In shadow mode: it would have been refused. */
  readonly shadowRefused: boolean;
}

/**
 * The token buckets of every org on this node. Each node counts for itself.
 */
export class RateLimiter {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, { bucket: TokenBucket; limits: Limits; multiplier: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Spends `cost` tokens of an org. Throws `rate_limited`, or `rate_exceeds_burst` for what the bucket can never hold. */
  admit(org: string, limits: Limits, bucketClass: BucketClass, cost: number): Admitted {
    const factor = multiplier[bucketClass];
    const rate = { ratePerMinute: limits.ratePerMinute * factor, burst: limits.burst * factor };
    const nowMs = this.#clock.monotonic();
    const decision = this.#bucket(org, limits, bucketClass, nowMs).take(rate, cost, nowMs);
    const headers = {
      'RateLimit-Limit': String(rate.burst),
      'RateLimit-Remaining': String(decision.remaining),
      'RateLimit-Reset': String(Math.ceil(decision.resetSeconds)),
    };
    if (decision.allowed) return { headers, shadowRefused: false };
    if (limits.mode === 'shadow') return { headers, shadowRefused: true };
    if (decision.retryAfterSeconds === Infinity) {
      const detail = `It costs ${cost} tokens, but your bucket holds ${rate.burst} at most. Send smaller batches.`;
      throw new Problem('rate_exceeds_burst', detail, { headers });
    }
    const retryAfterSeconds = Math.max(1, Math.ceil(decision.retryAfterSeconds));
    const detail = `Your limit is ${rate.ratePerMinute} a minute. Try again in ${retryAfterSeconds} s.`;
    throw new Problem('rate_limited', detail, { retryAfterSeconds, headers });
  }

  #bucket(org: string, limits: Limits, bucketClass: BucketClass, nowMs: number): TokenBucket {
    const name = `${org} ${bucketClass}`;
    const factor = multiplier[bucketClass];
    const known = this.#buckets.get(name);
    if (known !== undefined) {
      known.limits = limits;
      return known.bucket;
    }
    if (this.#buckets.size >= bucketsMax) this.#forgetFull(nowMs);
    const bucket = new TokenBucket(
      { ratePerMinute: limits.ratePerMinute * factor, burst: limits.burst * factor },
      nowMs,
    );
    this.#buckets.set(name, { bucket, limits, multiplier: factor });
    return bucket;
  }

  #forgetFull(nowMs: number): void {
    for (const [name, { bucket, limits, multiplier: factor }] of this.#buckets) {
      const rate = { ratePerMinute: limits.ratePerMinute * factor, burst: limits.burst * factor };
      if (bucket.isFull(rate, nowMs)) this.#buckets.delete(name);
    }
  }
}
