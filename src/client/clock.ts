import { onAbort } from './on-abort.js';

/** Time and chance, injected, so that a test can hold both. Milliseconds; `monotonic` never jumps. */
export interface ClientClock {
  monotonic(): number;
  /** Calls `fire` once, after at least `delayMs`. Returns its cancellation. */
  after(delayMs: number, fire: () => void): () => void;
  /** From 0 (inclusive) to 1 (exclusive). */
  random(): number;
}

export const systemClientClock: ClientClock = {
  monotonic: () => performance.now(),
  after(delayMs, fire) {
    // Unlike a server's timers it keeps the process alive: a program that waits for its next attempt has not ended.
    const timer = setTimeout(fire, Math.min(delayMs, timerMsMax));
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
};

/** A longer timer would fire at once. */
const timerMsMax = 2 ** 31 - 1;

/** Resolves after `delayMs`; rejects with the signal's reason as soon as it is aborted. */
export function sleep(clock: ClientClock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(delayMs, () => {
      forget();
      resolve();
    });
    const forget = onAbort(signal, () => {
      cancel();
      reject(signal?.reason as Error);
    });
  });
}
