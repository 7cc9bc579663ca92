import type { SluiceError } from './error.js';

/** Bounds on the attempts of one call. */
export interface RetryLimits {
  /** The first attempt included; 1 means no retry. */
  readonly attemptsMax: number;
  /** Seconds after the beginning of the call beyond which no attempt begins. */
  readonly totalSeconds: number;
}

export const defaultRetryLimits: RetryLimits = { attemptsMax: 8, totalSeconds: 60 };

/**
 * What repeating a request would do. `harmless`: the same as once, so it is repeated whatever became of it. `doubles`: another one of what it
 * makes, so it is repeated only if it certainly did nothing.
 */
export type Repeat = 'harmless' | 'doubles';

const firstBackoffMsMax = 200;
const backoffMsMax = 10_000;

/**
 * How long to wait before the next attempt, in milliseconds; null when there is none. Exponential backoff with full jitter
 * (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), or the wait that the server asked for and then jitter, so that
 * those who were refused together do not come back together.
 */
export function nextAttemptDelayMs(
  failure: SluiceError,
  repeat: Repeat,
  { attempt, elapsedMs, random }: { readonly attempt: number; readonly elapsedMs: number; readonly random: number },
  limits: RetryLimits,
): number | null {
  if (!isPassing(failure) || attempt >= limits.attemptsMax) return null;
  if (failure.mayHaveTakenEffect && repeat === 'doubles') return null;
  const backoffMs = random * Math.min(backoffMsMax, firstBackoffMsMax * 2 ** (attempt - 1));
  const delayMs = (failure.retryAfterSeconds ?? 0) * 1000 + backoffMs;
  return elapsedMs + delayMs > limits.totalSeconds * 1000 ? null : delayMs;
}

/** True for what another attempt may not meet. */
export function isPassing({ status, code }: SluiceError): boolean {
  if (status === null) return code === 'unreachable' || code === 'no_answer';
  return status === 408 || status === 429 || status === 502 || status === 503 || status === 504;
}
