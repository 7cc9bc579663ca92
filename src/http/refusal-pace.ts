import type { Clock } from '../clock.js';

/** Between two refusals of one org: 2,000 a second, which takes about a tenth of the event loop. */
const gapMs = 0.5;
/** Longest wait of a refusal. */
const waitMsMax = 1_000;
/** Refusals that may wait, over all orgs: more than that many connections send only if they do not wait for answers. Beyond it they leave at once. */
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
  /** When an org's next refusal may leave. Those whose turn is over are forgotten when others are added. */
  readonly #turns = new Map<string, number>();
  #waiting = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `answer` when it is this refusal's turn: now, or within 1,000 ms. */
  inTurn(org: string, answer: () => void): void {
    const nowMs = this.#clock.monotonic();
    const dueAtMs = Math.min(Math.max(nowMs, this.#turns.get(org) ?? nowMs), nowMs + waitMsMax);
    this.#forgetBefore(nowMs);
    // Moved to the end: the first one is that of the org that was refused the longest ago.
    this.#turns.delete(org);
    this.#turns.set(org, dueAtMs + gapMs);
    if (dueAtMs - nowMs < tickMs || this.#waiting >= waitingMax) return answer();
    this.#waiting++;
    this.#clock.after(dueAtMs - nowMs, () => {
      this.#waiting--;
      answer();
    });
  }

  #forgetBefore(nowMs: number): void {
    for (const [org, nextAtMs] of this.#turns) {
      if (nextAtMs > nowMs) return;
      this.#turns.delete(org);
    }
  }
}
