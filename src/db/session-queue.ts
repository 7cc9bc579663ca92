/** Like `FairQueue` of ingest: the last eighth of the room is for orgs of which next to nobody waits. */
const floodShareMax = 7 / 8;
const littleShareMax = 1 / 256;

/** Who waits for a session. Within an org, first come, first served; between orgs, turn by turn, so that one org's crowd holds up another's by one turn. */
export class SessionQueue<Waiter> {
  readonly #byOrg = new Map<string, Set<Waiter>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Whether there is room for one more of this org, where `waitersMax` may wait. */
  hasRoom(org: string, waitersMax: number): boolean {
    if (this.#size < floodShareMax * waitersMax) return true;
    const ofOrg = this.#byOrg.get(org)?.size ?? 0;
    return this.#size < waitersMax && (ofOrg === 0 || ofOrg < littleShareMax * waitersMax);
  }

  /** How many are served, at most, before one of this org that comes now. */
  ahead(org: string): number {
    return Math.min(this.#size, (this.#byOrg.get(org)?.size ?? 0) * this.#byOrg.size);
  }

  add(org: string, waiter: Waiter): void {
    const ofOrg = this.#byOrg.get(org) ?? new Set();
    this.#byOrg.set(org, ofOrg.add(waiter));
    this.#size++;
  }

  delete(org: string, waiter: Waiter): void {
    const ofOrg = this.#byOrg.get(org);
    if (ofOrg?.delete(waiter) !== true) return;
    this.#size--;
    if (ofOrg.size === 0) this.#byOrg.delete(org);
  }

  /** Takes out the first of the org whose turn it is. */
  take(): Waiter | undefined {
    for (const [org, ofOrg] of this.#byOrg) {
      for (const waiter of ofOrg) {
        ofOrg.delete(waiter);
        this.#size--;
        this.#byOrg.delete(org);
        if (ofOrg.size > 0) this.#byOrg.set(org, ofOrg);
        return waiter;
      }
    }
    return undefined;
  }

  /** Takes out everybody. */
  takeAll(): Waiter[] {
    const all = [...this.#byOrg.values()].flatMap((ofOrg) => [...ofOrg]);
    this.#byOrg.clear();
    this.#size = 0;
    return all;
  }
}
