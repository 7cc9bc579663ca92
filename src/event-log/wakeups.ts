/**
 * Who waits for an org's log to grow. A waiter registers before it looks, so that what is appended between its look and its wait wakes it.
 *
 * A growth wakes one waiter, the one that has waited longest; when it leaves with events, or without having looked, it wakes the next. So a
 * thousand waiters cost one look, not a thousand.
 */
export class Wakeups {
  readonly #waiters = new Map<string, Set<() => void>>();
  #count = 0;

  get waiting(): number {
    return this.#count;
  }

  waitingFor(org: string): number {
    return this.#waiters.get(org)?.size ?? 0;
  }

  /** Calls `wake` when it is this waiter's turn to look, until the returned function is called. */
  register(org: string, wake: () => void): () => void {
    // A wrapper, so that registering one function twice makes two waiters.
    const waiter = (): void => wake();
    const waiters = this.#waiters.get(org) ?? new Set();
    this.#waiters.set(org, waiters.add(waiter));
    this.#count++;
    return () => {
      if (!waiters.delete(waiter)) return;
      this.#count--;
      if (waiters.size === 0 && this.#waiters.get(org) === waiters) this.#waiters.delete(org);
    };
  }

  wake(org: string): void {
    for (const waiter of this.#waiters.get(org) ?? []) {
      waiter();
      return;
    }
  }

  /** Something may have been missed: one waiter of each org looks. */
  wakeAll(): void {
    for (const org of this.#waiters.keys()) this.wake(org);
  }
}
