import type { SubscriptionStats } from '../subscriptions/peek.js';

type Count = () => Promise<SubscriptionStats | null>;

/** Counting a large backlog takes seconds: one count of a subscription at a time, and whoever asks meanwhile gets the next one, together. */
export class SharedCounts {
  readonly #running = new Map<string, Promise<unknown>>();
  readonly #next = new Map<string, Promise<SubscriptionStats | null>>();

  of(org: string, subscription: number, count: Count): Promise<SubscriptionStats | null> {
    return this.#of(`${org} ${subscription}`, count);
  }

  #of(key: string, count: Count): Promise<SubscriptionStats | null> {
    const waiting = this.#next.get(key);
    if (waiting !== undefined) return waiting;
    const running = this.#running.get(key);
    if (running === undefined) return this.#run(key, count);
    const next = this.#after(running, key, count);
    this.#next.set(key, next);
    return next;
  }

  async #after(running: Promise<unknown>, key: string, count: Count): Promise<SubscriptionStats | null> {
    await Promise.allSettled([running]);
    this.#next.delete(key);
    return this.#run(key, count);
  }

  async #run(key: string, count: Count): Promise<SubscriptionStats | null> {
    const counting = count();
    this.#running.set(key, counting);
    try {
      return await counting;
    } finally {
      if (this.#running.get(key) === counting) this.#running.delete(key);
    }
  }
}
