/** When a worker that ended is started again, and when that is given up. */

/** A worker that has served for this long has not ended because of how it started. */
export const steadyMs = 10_000;
const firstDelayMs = 100;
const delayMsMax = 10_000;
/** Ends soon after the start, for each worker, after which it is given up: some seconds of them. */
const soonMax = 4;

export class Restarts {
  #soon = 0;

  constructor(private readonly workers: number) {}

  /**
   * A worker has ended after serving for `servedMs` (0: it never did). Returns the milliseconds until another is started, which grow with each
   * that ends soon; or null when that was often enough and no other serves, so that the node does better to end: then whoever watches it knows.
   */
  ended(servedMs: number, othersServe: boolean): number | null {
    if (servedMs >= steadyMs) {
      this.#soon = 0;
      return firstDelayMs;
    }
    this.#soon++;
    const round = Math.ceil(this.#soon / this.workers);
    if (round > soonMax && !othersServe) return null;
    return Math.min(delayMsMax, firstDelayMs * 2 ** Math.min(round - 1, 20));
  }
}
