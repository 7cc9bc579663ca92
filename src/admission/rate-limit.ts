import type { Clock } from '../clock.js';
import { Problem } from '../errors.js';
import type { Spent } from '../siblings.js';
import type { Limits } from '../tenancy/tiers.js';
import type { BucketRate } from './token-bucket.js';
import { TokenBucket } from './token-bucket.js';

/** What a request spends. Each has a bucket of its own, so that exhausting one leaves the others. */
export type BucketClass = 'write' | 'read' | 'consume';

/** Reads and consumption may happen ten times as often as events are sent. */
const multiplier: Readonly<Record<BucketClass, number>> = { write: 1, read: 10, consume: 10 };

/**
 * Buckets kept in memory. Beyond it, the one that was unused for the longest is forgotten: by then it is full again, which changes nothing for
 * its org, unless more orgs than this are busy within the minute that a bucket takes to refill.
 */
const defaultBucketsMax = 100_000;
/** A bucket is moved to the end of those in use after this time only: a table that is changed with each request is made anew all the time. */
const moveMs = 10_000;
/** How many that were used since they were last moved are passed over, and moved, before one is forgotten all the same. */
const passedOverMax = 1_000;

interface Kept {
  readonly bucket: TokenBucket;
  usedAtMs: number;
  movedAtMs: number;
}

export interface Admitted {
  readonly headers: Readonly<Record<string, string>>;
  /** In shadow mode: it would have been refused. */
  readonly shadowRefused: boolean;
}

/**
 * The token buckets of every org in this process. Processes of one node tell each other what they grant, so that an org has one limit over all of them,
 * exceeded at most by what the others grant before it is heard of, and that is owed. Each node counts for itself.
 */
export class RateLimiter {
  readonly #clock: Clock;
  readonly #bucketsMax: number;
  readonly #onSpent: ((spent: Spent) => void) | undefined;
  /** The one that was unused for the longest is first, give or take `moveMs`. */
  readonly #buckets = new Map<string, Kept>();

  /** `onSpent` is told of what is granted here. */
  constructor(clock: Clock, bucketsMax = defaultBucketsMax, onSpent?: (spent: Spent) => void) {
    this.#clock = clock;
    this.#bucketsMax = bucketsMax;
    this.#onSpent = onSpent;
  }

  /** Spends `cost` tokens of an org. Throws `rate_limited`, or `rate_exceeds_burst` for what the bucket can never hold. */
  admit(org: string, limits: Limits, bucketClass: BucketClass, cost: number): Admitted {
    const factor = multiplier[bucketClass];
    const rate = { ratePerMinute: limits.ratePerMinute * factor, burst: limits.burst * factor };
    const nowMs = this.#clock.monotonic();
    const name = `${org} ${bucketClass}`;
    const decision = this.#bucket(name, rate, nowMs).take(rate, cost, nowMs);
    if (decision.allowed) this.#onSpent?.({ bucket: name, tokens: cost, ...rate });
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

  /** Takes from the buckets here what was granted by other processes of this node. */
  spentElsewhere(spent: readonly Spent[]): void {
    const nowMs = this.#clock.monotonic();
    for (const { bucket, tokens, ...rate } of spent) this.#bucket(bucket, rate, nowMs).owe(rate, tokens, nowMs);
  }

  #bucket(name: string, rate: BucketRate, nowMs: number): TokenBucket {
    const known = this.#buckets.get(name);
    if (known !== undefined) {
      known.usedAtMs = nowMs;
      if (nowMs - known.movedAtMs >= moveMs) this.#moveToEnd(name, known);
      return known.bucket;
    }
    const bucket = new TokenBucket(rate, nowMs);
    this.#buckets.set(name, { bucket, usedAtMs: nowMs, movedAtMs: nowMs });
    if (this.#buckets.size > this.#bucketsMax) this.#forgetOne();
    return bucket;
  }

  #moveToEnd(name: string, kept: Kept): void {
    kept.movedAtMs = kept.usedAtMs;
    this.#buckets.delete(name);
    this.#buckets.set(name, kept);
  }

  #forgetOne(): void {
    let passedOver = 0;
    for (const [name, kept] of this.#buckets) {
      if (kept.usedAtMs > kept.movedAtMs && passedOver++ < passedOverMax) {
        this.#moveToEnd(name, kept);
        continue;
      }
      this.#buckets.delete(name);
      return;
    }
  }
}
