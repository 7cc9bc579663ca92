/**
 * Time, injected. Product logic reads the time and arms timers only through a `Clock`, so that a test can move it.
 * All times are milliseconds: `now` since the Unix epoch, `monotonic` since an arbitrary start that never jumps.
 */
export interface Clock {
  now(): number;
  monotonic(): number;
  /** Calls `fire` once, after at least `delayMs`. The timer never keeps the process alive. Returns its cancellation. */
  after(delayMs: number, fire: () => void): () => void;
}

/** Keeps this process alive until it exits, which no timer of a clock does. */
export function keepAlive(): void {
  setInterval(() => {}, 3_600_000);
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, fire) {
    const timer = setTimeout(fire, delayMs).unref();
    return () => clearTimeout(timer);
  },
};
