/**
 * What a subscription does, told as plainly as possible: a list of events and, for each, what became of it. It knows no cursor and no ranges.
 */
export type Status = 'pending' | 'leased' | 'dead' | 'delivered';

export interface ModelEvent {
  readonly position: number;
  readonly day: number;
  readonly type: string;
  /** How often it was handed out. */
  attempts: number;
  /** The lease under which it was handed out last, while it is not settled. */
  lease: ModelLease | null;
  settled: 'no' | 'delivered' | 'dead';
}

export interface ModelLease {
  readonly id: string;
  readonly attempt: number;
  readonly endsAtMs: number;
}

export class Model {
  readonly events: ModelEvent[] = [];
  readonly leases: ModelLease[] = [];
  nowMs: number;

  constructor(
    nowMs: number,
    readonly attemptsMax: number,
  ) {
    this.nowMs = nowMs;
  }

  statusOf(event: ModelEvent): Status {
    if (event.settled !== 'no') return event.settled;
    if (event.lease === null) return 'pending';
    if (event.lease.endsAtMs > this.nowMs) return 'leased';
    return event.attempts >= this.attemptsMax ? 'dead' : 'pending';
  }

  /** Null: listed with no number. */
  attemptsOf(event: ModelEvent): number | null {
    return this.statusOf(event) === 'delivered' ? null : event.attempts;
  }

  listed(status: Status | undefined, wants: (type: string) => boolean): readonly ModelEvent[] {
    return this.events.filter((event) => {
      const is = this.statusOf(event);
      return wants(event.type) && (status === undefined ? is === 'pending' || is === 'leased' : is === status);
    });
  }

  count(status: Status): number {
    return this.listed(status, () => true).length;
  }

  /** The events that a receive must hand out, now handed out. */
  receive(
    eventsMax: number,
    id: string,
    endsAtMs: number,
  ): { readonly events: ModelEvent[]; readonly attempt: number } {
    for (const event of this.events) if (this.statusOf(event) === 'dead') event.settled = 'dead';
    const again = this.#dueAgain(eventsMax);
    const events = again.length > 0 ? again : this.#neverHandedOut().slice(0, eventsMax);
    const attempt = (events[0]?.attempts ?? 0) + 1;
    const lease = { id, attempt, endsAtMs };
    if (events.length > 0) this.leases.push(lease);
    for (const event of events) {
      event.attempts = attempt;
      event.lease = lease;
    }
    return { events, attempt };
  }

  acknowledge(event: ModelEvent): 'acknowledged' | 'already_acknowledged' {
    if (event.settled === 'delivered') return 'already_acknowledged';
    event.settled = 'delivered';
    return 'acknowledged';
  }

  /** Returns how many events the lease still held. One that is a dead letter by now is no longer its own. */
  acknowledgeLease(lease: ModelLease): number {
    const held = this.events.filter((event) => event.lease === lease && event.settled === 'no');
    for (const event of held) event.settled = 'delivered';
    return held.length;
  }

  #neverHandedOut(): ModelEvent[] {
    return this.events.filter((event) => event.settled === 'no' && event.lease === null);
  }

  /** The lease that ended first decides the attempt number, and from the third attempt on it alone is handed out again, in small parts. */
  #dueAgain(eventsMax: number): ModelEvent[] {
    const open = this.events.filter((event) => event.settled === 'no' && event.lease !== null);
    const due = open.filter(({ lease }) => lease !== null && lease.endsAtMs <= this.nowMs);
    const first = due.toSorted((a, b) => compareLeases(a.lease, b.lease))[0]?.lease;
    if (first === null || first === undefined) return [];
    const attempt = first.attempt + 1;
    if (attempt < 3 && attempt <= this.attemptsMax - 2) {
      return due.filter(({ lease }) => lease?.attempt === first.attempt).slice(0, eventsMax);
    }
    const own = due.filter(({ lease }) => lease === first);
    const share = attempt > this.attemptsMax - 2 ? 1 : Math.ceil(own.length / 8);
    return own.slice(0, Math.min(share, eventsMax));
  }
}

function compareLeases(a: ModelLease | null, b: ModelLease | null): number {
  if (a === null || b === null) return 0;
  return a.endsAtMs - b.endsAtMs || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}
