/** What queues that stand side by side have in common: how many bytes may wait in all of them, and whether several orgs use them. */
export class QueueRoom {
  #bytes = 0;
  #lastOrg: string | null = null;
  #changedOrgAtMs = -Infinity;

  constructor(readonly bytesMax: number) {}

  get bytes(): number {
    return this.#bytes;
  }

  /** An item of this org has come. */
  came(org: string, atMs: number): void {
    if (org === this.#lastOrg) return;
    if (this.#lastOrg !== null) this.#changedOrgAtMs = atMs;
    this.#lastOrg = org;
  }

  /** Whether items of more than one org have come since then. */
  isSharedSince(sinceMs: number): boolean {
    return this.#changedOrgAtMs >= sinceMs;
  }

  /** Negative when something has left. */
  add(bytes: number): void {
    this.#bytes += bytes;
  }
}
