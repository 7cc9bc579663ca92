import type { SubscriptionStats } from '../subscriptions/peek.js';

type Count = () => Promise<SubscriptionStats | null>;

/** Counting a large backlog takes seconds: one count an org at a time, and whoever asks meanwhile gets the next one, together. */
export class SharedCounts {
  readonly #running = new Map<string, Promise<unknown>>();
  readonly #next = new Map<string, Promise<SubscriptionStats | null>>();

  of(org: string, count: Count): Promise<SubscriptionStats | null> {
    const waiting = this.#next.get(org);
    if (waiting !== undefined) return waiting;
    const running = this.#running.get(org);
    if (running === undefined) return this.#run(org, count);
    const next = this.#after(running, org, count);
    this.#next.set(org, next);
    return next;
  }

  async #after(running: Promise<unknown>, org: string, count: Count): Promise<SubscriptionStats | null> {
    await Promise.allSettled([running]);
    this.#next.delete(org);
    return this.#run(org, count);
  }

  async #run(org: string, count: Count): Promise<SubscriptionStats | null> {
    const counting = count();
    this.#running.set(org, counting);
    try {
      return await counting;
    } finally {
      if (this.#running.get(org) === counting) this.#running.delete(org);
    }
  }
}
