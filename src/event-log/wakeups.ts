/**
 * Who waits for an org's log to grow. A waiter registers before it looks, so that what is appended between its look and its wait wakes it.
 *
 * A growth wakes one waiter of every group, the one that has waited longest; when it leaves with events, or without having looked, it wakes the
 * next of its group. So a thousand waiters of one subscription cost one look, not a thousand. Watchers take nothing from each other, so a
 * growth wakes them all.
 */
export class Wakeups {
  readonly #waiters = new Map<string, Map<unknown, Set<() => void>>>();
  readonly #watchers = new Map<string, Set<() => void>>();
  #count = 0;

  get waiting(): number {
    return this.#count;
  }

  waitingFor(org: string): number {
    let waiting = 0;
    for (const group of this.#waiters.get(org)?.values() ?? []) waiting += group.size;
    return waiting;
  }

  /** Calls `wake` when it is this waiter's turn to look, until the returned function is called. Who looks at the same thing is of one group. */
  register(org: string, group: unknown, wake: () => void): () => void {
    // A wrapper, so that registering one function twice makes two waiters.
    const waiter = (): void => wake();
    const groups = this.#waiters.get(org) ?? new Map<unknown, Set<() => void>>();
    const waiters = groups.get(group) ?? new Set();
    this.#waiters.set(org, groups.set(group, waiters.add(waiter)));
    this.#count++;
    return () => {
      if (!waiters.delete(waiter)) return;
      this.#count--;
      if (waiters.size === 0 && groups.get(group) === waiters) groups.delete(group);
      if (groups.size === 0 && this.#waiters.get(org) === groups) this.#waiters.delete(org);
    };
  }

  /** Calls `wake` whenever the org's log may have grown, until the returned function is called. */
  watch(org: string, wake: () => void): () => void {
    const watcher = (): void => wake();
    const watchers = this.#watchers.get(org) ?? new Set();
    this.#watchers.set(org, watchers.add(watcher));
    return () => {
      watchers.delete(watcher);
      if (watchers.size === 0 && this.#watchers.get(org) === watchers) this.#watchers.delete(org);
    };
  }

  /** The org's log has grown. */
  appended(org: string): void {
    this.wake(org);
    for (const watcher of this.#watchers.get(org) ?? []) watcher();
  }

  /** One waiter of every group, or of one, looks. */
  wake(org: string, group?: unknown): void {
    const groups = this.#waiters.get(org);
    if (groups === undefined) return;
    for (const waiters of group === undefined ? groups.values() : [groups.get(group) ?? []]) {
      for (const waiter of waiters) {
        waiter();
        break;
      }
    }
  }

  /** Something may have been missed: one waiter of each group looks, and every watcher. */
  wakeAll(): void {
    for (const org of new Set([...this.#waiters.keys(), ...this.#watchers.keys()])) this.appended(org);
  }
}
