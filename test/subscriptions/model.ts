/**
 * What a subscription does, told as plainly as possible: a list of events and, for each, what became of it. It knows no cursor and no ranges.
 */
export type Status = 'pending' | 'leased' | 'dead' | 'delivered';

export const wantsAll = (): boolean => true;

export interface ModelEvent {
  /** A restart of the engine raises it. */
  readonly epoch: number;
  readonly position: number;
  readonly day: number;
  readonly type: string;
  /** Whom it is about. */
  readonly subject: string | null;
  readonly receivedAtMs: number;
  /** Of the filter. What is handed out together for the first time is of one version. */
  readonly version: number;
  /** How often it was handed out. */
  attempts: number;
  /** The lease under which it was handed out last, while it is not settled. */
  lease: ModelLease | null;
  /** `skipped`: passed over by a seek; `filtered`: never wanted, counted nowhere. */
  settled: 'no' | 'delivered' | 'dead' | 'skipped' | 'filtered';
}

export interface ModelLease {
  readonly id: string;
  readonly attempt: number;
  endsAtMs: number;
  /** Nobody has it: given back, or redriven. */
  readonly waiting: boolean;
}

export class Model {
  readonly events: ModelEvent[] = [];
  readonly leases: ModelLease[] = [];
  nowMs: number;

  /** Which types are wanted of events that are appended from now on. */
  wants: (type: string) => boolean = wantsAll;
  version = 0;
  /** How many events retention took before they were done. */
  expired = 0;
  /** How many events were erased before they were done, and where all those were that were erased. */
  erased = 0;
  readonly erasedPositions = new Set<number>();
  /** Of any event, also of one that is gone. */
  mostAttempts = 0;
  /** The last position that an event got. */
  lastPosition = 0;

  constructor(
    nowMs: number,
    readonly attemptsMax: number,
  ) {
    this.nowMs = nowMs;
  }

  statusOf(event: ModelEvent): Status | 'skipped' | 'filtered' {
    if (event.settled !== 'no') return event.settled;
    if (event.lease === null) return 'pending';
    if (event.lease.endsAtMs > this.nowMs && !event.lease.waiting) return 'leased';
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
    for (const event of this.events) {
      const isDue = event.lease !== null && event.lease.endsAtMs <= this.nowMs;
      if (isDue && this.statusOf(event) === 'dead') event.settled = 'dead';
    }
    const again = this.#dueAgain(eventsMax);
    const events = again.length > 0 ? again : this.#neverHandedOut().slice(0, eventsMax);
    const attempt = (events[0]?.attempts ?? 0) + 1;
    const lease = { id, attempt, endsAtMs, waiting: false };
    if (events.length > 0) {
      this.leases.push(lease);
      this.mostAttempts = Math.max(this.mostAttempts, attempt);
    }
    for (const event of events) {
      event.attempts = attempt;
      event.lease = lease;
    }
    return { events, attempt };
  }

  acknowledge(event: ModelEvent): 'acknowledged' | 'already_acknowledged' | 'unknown' {
    if (event.settled === 'filtered') return 'unknown';
    if (event.settled === 'delivered' || event.settled === 'skipped') return 'already_acknowledged';
    event.settled = 'delivered';
    return 'acknowledged';
  }

  /** Returns how many events the lease still held. One that is a dead letter by now is no longer its own. */
  acknowledgeLease(lease: ModelLease): number {
    const held = this.heldBy(lease);
    for (const event of held) event.settled = 'delivered';
    return held.length;
  }

  /** Gives events back that some lease holds. Returns how many. */
  release(events: readonly ModelEvent[], waitingId: string, availableAtMs: number): number {
    const given = new Set(events.filter(({ settled, lease }) => settled === 'no' && lease !== null && !lease.waiting));
    const rows = new Map<number, ModelLease>();
    for (const event of given) {
      const { attempts } = event;
      if (attempts >= this.attemptsMax) {
        event.settled = 'dead';
        continue;
      }
      const id = `${waitingId}.${attempts}`;
      const row = rows.get(attempts) ?? { id, attempt: attempts, endsAtMs: availableAtMs, waiting: true };
      rows.set(attempts, row);
      event.lease = row;
    }
    return given.size;
  }

  heldBy(lease: ModelLease): ModelEvent[] {
    return this.events.filter((event) => event.lease === lease && event.settled === 'no');
  }

  /** False: the lease has ended, or holds nothing any more. */
  extend(lease: ModelLease, endsAtMs: number): boolean {
    if (lease.endsAtMs <= this.nowMs || this.heldBy(lease).length === 0) return false;
    lease.endsAtMs = endsAtMs;
    return true;
  }

  /** Everything from a position on is handed out again; what was never handed out before it is skipped. */
  seek(position: number): void {
    for (const event of this.events) {
      if (event.settled === 'filtered') continue;
      if (event.position >= position) {
        event.settled = 'no';
        event.lease = null;
        event.attempts = 0;
      } else if (event.settled === 'no' && event.lease === null) {
        event.settled = 'skipped';
      }
    }
  }

  /** Dead letters begin anew. Returns how many. */
  redrive(events: readonly ModelEvent[], waitingId: string): number {
    const dead = new Set(events.filter((event) => this.statusOf(event) === 'dead'));
    const lease = { id: waitingId, attempt: 0, endsAtMs: this.nowMs, waiting: true };
    for (const event of dead) {
      event.settled = 'no';
      event.attempts = 0;
      event.lease = lease;
    }
    return dead.size;
  }

  /** The log begins at a day: what lies before it is in no list and is never handed out. */
  expire(day: number): void {
    const kept = this.events.filter((event) => event.day >= day);
    const gone = this.events.filter((event) => event.day < day);
    this.expired += gone.filter(({ settled }) => settled === 'no' || settled === 'dead').length;
    this.events.splice(0, this.events.length, ...kept);
  }

  /** Every event about somebody is gone. */
  erase(subject: string): void {
    const gone = this.events.filter((event) => event.subject === subject);
    this.erased += gone.filter(({ settled }) => settled === 'no' || settled === 'dead').length;
    for (const { position } of gone) this.erasedPositions.add(position);
    this.events.splice(0, this.events.length, ...this.events.filter((event) => event.subject !== subject));
  }

  #neverHandedOut(): ModelEvent[] {
    const open = this.events.filter((event) => event.settled === 'no' && event.lease === null);
    return open.filter((event) => event.version === open[0]?.version);
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
