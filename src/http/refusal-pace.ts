import type { Clock } from '../clock.js';

/** Between two refusals of one org: 2,000 a second, which takes about a tenth of the event loop. */
const gapMs = 0.5;
/** Longest wait of a refusal, so that 2,000 of an org wait at the most. */
const waitMsMax = 1_000;
/** Refusals that may wait, over all orgs. */
const waitingMax = 10_000;
/** Timers are not finer. */
const tickMs = 1;

/**
 * Spaces out the answers to requests over an org's rate limit. Who asks again the moment it is refused takes as much of the event loop as who sends events,
 * and so from everybody, though it has no token left; while its refusal waits, it does not ask. A refusal that has none of its org shortly before it
 * leaves at once, so nobody waits who sends a little too much.
 */
export class RefusalPace {
  readonly #clock: Clock;
  /** When an org's next refusal may leave. The one of the org that was refused the longest ago is first. */
  readonly #turns = new Map<string, number>();
  #waiting = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Calls `answer` when it is this refusal's turn: now, or within 1,000 ms. Where too many wait already, now, and with `true`: the connection is to be closed, or
   * whoever does not wait for answers would go on.
   */
  inTurn(org: string, answer: (isLast: boolean) => void): void {
    const nowMs = this.#clock.monotonic();
    const waitMs = Math.max(0, (this.#turns.get(org) ?? nowMs) - nowMs);
    this.#forgetBefore(nowMs);
    if (waitMs > waitMsMax || (waitMs >= tickMs && this.#waiting >= waitingMax)) return answer(true);
    this.#turns.delete(org);
    this.#turns.set(org, nowMs + waitMs + gapMs);
    if (waitMs < tickMs) return answer(false);
    this.#waiting++;
    this.#clock.after(waitMs, () => {
      this.#waiting--;
      answer(false);
    });
  }

  #forgetBefore(nowMs: number): void {
    for (const [org, nextAtMs] of this.#turns) {
      if (nextAtMs > nowMs) return;
      this.#turns.delete(org);
    }
  }
}
