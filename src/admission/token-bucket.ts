/**
 * A token bucket: holds at most `burst` tokens, starts full, and refills continuously at `ratePerMinute`. Tokens are events.
 */
export interface BucketRate {
  readonly ratePerMinute: number;
  readonly burst: number;
}

export interface BucketDecision {
  readonly allowed: boolean;
  /** Tokens left after this decision, rounded down. */
  readonly remaining: number;
  /** Until the cost would be covered; 0 if allowed. Infinity if the bucket can never hold it. */
  readonly retryAfterSeconds: number;
  /** Until the bucket is full again. */
  readonly resetSeconds: number;
}

export class TokenBucket {
  #tokens: number;
  #refilledAtMs: number;

  constructor(rate: BucketRate, nowMs: number) {
    this.#tokens = rate.burst;
    this.#refilledAtMs = nowMs;
  }

  /** Takes tokens that were granted elsewhere. It may leave a debt, of one burst at most, which is refilled first. */
  owe(rate: BucketRate, tokens: number, nowMs: number): void {
    this.#refill(rate, nowMs);
    this.#tokens = Math.max(-rate.burst, this.#tokens - tokens);
  }

  /** Takes `cost` tokens if there are that many. `nowMs` is monotonic; the rate may differ from call to call. */
  take(rate: BucketRate, cost: number, nowMs: number): BucketDecision {
    const perMs = this.#refill(rate, nowMs);
    const allowed = this.#tokens + roundingTokens >= cost;
    if (allowed) this.#tokens -= cost;
    const missing = cost > rate.burst ? Infinity : Math.max(0, cost - this.#tokens);
    return {
      allowed,
      remaining: Math.max(0, Math.floor(this.#tokens)),
      retryAfterSeconds: allowed ? 0 : missing / perMs / 1000,
      resetSeconds: (rate.burst - this.#tokens) / perMs / 1000,
    };
  }

  /** Returns tokens per millisecond. */
  #refill(rate: BucketRate, nowMs: number): number {
    const perMs = rate.ratePerMinute / 60_000;
    const elapsedMs = Math.max(0, nowMs - this.#refilledAtMs);
    this.#refilledAtMs = nowMs;
    this.#tokens = Math.min(rate.burst, this.#tokens + elapsedMs * perMs);
    return perMs;
  }
}

/**
 * What sums of floating-point numbers may lack of a whole token. Without it, whoever waits exactly as long as it was told can be refused again.
 */
const roundingTokens = 1e-6;
