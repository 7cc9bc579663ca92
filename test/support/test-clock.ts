import { systemClock } from '../../src/clock.js';
import type { Clock } from '../../src/clock.js';

interface Timer {
  readonly dueAtMs: number;
  readonly fire: () => void;
}

/**
 * Time that stands still until it is moved. Timers fire inside `advance`, in the order of their times, each at its own time; those that a
 * timer arms fire in the same call if they fall into it.
 */
export class TestClock implements Clock {
  readonly #startedAtMs: number;
  readonly #timers = new Set<Timer>();
  #elapsedMs = 0;

  constructor(startedAtMs: number = Date.now()) {
    this.#startedAtMs = startedAtMs;
  }

  now(): number {
    return this.#startedAtMs + this.#elapsedMs;
  }

  monotonic(): number {
    return this.#elapsedMs;
  }

  after(delayMs: number, fire: () => void): () => void {
    const timer = { dueAtMs: this.#elapsedMs + Math.max(0, delayMs), fire };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  advance(ms: number): void {
    const endMs = this.#elapsedMs + ms;
    for (;;) {
      const next = this.#nextDueBy(endMs);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#elapsedMs = Math.max(this.#elapsedMs, next.dueAtMs);
      next.fire();
    }
    this.#elapsedMs = endMs;
  }

  #nextDueBy(endMs: number): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.dueAtMs <= endMs && (next === undefined || timer.dueAtMs < next.dueAtMs)) next = timer;
    }
    return next;
  }
}

/** What a node pauses between two messages to others. */
const pauseMsMax = 20;

/**
 * For nodes that hear of each other: their time stands still, too, but for the pauses between two messages, or after its first one a node would tell
 * nobody anything any more.
 */
export class NodeClock extends TestClock {
  override after(delayMs: number, fire: () => void): () => void {
    return delayMs > 0 && delayMs <= pauseMsMax ? systemClock.after(delayMs, fire) : super.after(delayMs, fire);
  }
}
