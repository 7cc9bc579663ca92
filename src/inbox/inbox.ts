import { randomBytes } from 'node:crypto';
import type { AuditedChange } from '../audit-chain.js';
import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import { invalid, Problem } from '../errors.js';
import type { EventAddress } from '../event-log/event-id.js';
import { decodeEventId } from '../event-log/event-id.js';
import type { Wakeups } from '../event-log/wakeups.js';
import { decodeRandomId, encodeRandomId, orgNumber } from '../ids.js';
import type { Acknowledgement } from '../subscriptions/acknowledge.js';
import { acknowledge } from '../subscriptions/acknowledge.js';
import type { Received } from '../subscriptions/receive.js';
import { redrive } from '../subscriptions/redrive.js';
import { extend, release } from '../subscriptions/release.js';
import type { SeekTarget } from '../subscriptions/seek.js';
import { seek } from '../subscriptions/seek.js';
import { Together } from '../subscriptions/together.js';
import { parseTime } from '../time-format.js';
import { noInbox } from './inboxes.js';

/** The inbox `default` of every org is its subscription 0. */
export const defaultInbox = 0;

/** Receivers that may wait at one time on this node, for one org and for all. */
export const waitersPerOrgMax = 1_000;
export const waitersMax = 10_000;
/** Without any notification, a waiter looks again after this time: the net under the messages between nodes. */
const pollMs = 5_000;
/** How often one receive looks on when all it looked at was passed over. */
const looksMax = 20;

export interface ReceiveOptions {
  readonly eventsMax: number;
  readonly waitSeconds: number;
  readonly leaseSeconds: number;
  readonly wantsPayload: boolean;
  /** Aborted when the client is gone, or, with a `Problem` as the reason, when it is refused from now on. */
  readonly signal: AbortSignal;
  /** Rejects when the caller would be refused now. Asked after every wait, since a wait is long. */
  readonly stillAllowed: () => Promise<void>;
}

export interface Delivery {
  readonly lease: { readonly id: string; readonly endsAtMs: number } | null;
  readonly received: Received;
}

/** What the audit log tells of a change besides its time: the key, the inbox, what was asked for. */
export type ChangedBy = Pick<AuditedChange, 'actor' | 'target' | 'details'>;

export interface AckResult {
  readonly acknowledged: number;
  readonly alreadyAcknowledged: number;
  readonly unknown: readonly string[];
}

/** The pull exit: hands leases of a subscription to a client. */
export class Inbox {
  #draining = false;
  readonly #drains = new Set<() => void>();
  readonly #pollMs: number;
  readonly #together: Together;

  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly wakeups: Wakeups,
    /** Wakes who waits for this org's events, on every node. */
    private readonly announce: (org: string) => void,
  ) {
    this.#together = new Together(database, clock);
    // The embedded engine has no other node whose message could be lost.
    this.#pollMs = database.engine === 'embedded' ? Infinity : pollMs;
  }

  /** Answers every waiting receiver now, and none waits from now on: the node is stopping. */
  drain(): void {
    this.#draining = true;
    for (const wake of this.#drains) wake();
  }

  /**
   * Hands out what is pending, or waits until something is or the time is up (then there is no lease). A waiter registers before it looks. Rejects with
   * the refusal, and hands out nothing, when the caller is no longer allowed.
   */
  async receive(org: string, subscription: number, options: ReceiveOptions): Promise<Delivery> {
    const endsWaitAtMs = this.clock.monotonic() + options.waitSeconds * 1000;
    const wait = new Wait(this.clock, options.signal);
    if (options.waitSeconds > 0) this.#refuseTooManyWaiters(org);
    const unregister = options.waitSeconds > 0 ? this.wakeups.register(org, subscription, wait.wake) : () => {};
    this.#drains.add(wait.wake);
    try {
      for (;;) {
        wait.rearm();
        const delivery = await this.#receiveOnce(org, subscription, options);
        if (delivery.lease !== null) {
          // There may be more: the next waiter looks.
          wait.wake();
          return delivery;
        }
        const leftMs = endsWaitAtMs - this.clock.monotonic();
        if (leftMs <= 0 || this.#draining || options.signal.aborted) return delivery;
        const dueInMs = (delivery.received.nextDueAtMs ?? Infinity) - this.clock.now();
        await wait.atMost(Math.max(1, Math.min(leftMs, dueInMs, this.#pollMs)));
        if (options.signal.reason instanceof Problem) throw options.signal.reason;
        if (options.signal.aborted) return delivery;
        await options.stillAllowed();
      }
    } catch (error) {
      // What is told to this one holds for the next as well: there is no such inbox any more.
      if (error instanceof Problem) wait.wake();
      throw error;
    } finally {
      unregister();
      this.#drains.delete(wait.wake);
      if (wait.woken) this.wakeups.wake(org, subscription);
    }
  }

  async #receiveOnce(org: string, subscription: number, options: ReceiveOptions): Promise<Delivery> {
    for (let look = 1; ; look++) {
      const nowMs = this.clock.now();
      const lease = { id: newLeaseId(org), endsAtMs: nowMs + options.leaseSeconds * 1000 };
      const received = await this.#together.receive({
        org,
        subscription,
        eventsMax: options.eventsMax,
        wantsPayload: options.wantsPayload,
        nowMs,
        lease: lease.id,
        leaseEndsAtMs: lease.endsAtMs,
      });
      if (received === null) throw noInbox();
      if (received.events.length > 0) return { lease, received };
      // A filter may pass over millions; the client asks again, and begins where this ends.
      if (!received.moreDue || look === looksMax) return { lease: null, received };
    }
  }

  /** Acknowledges events by id. Ids of other orgs, and texts that are no id, are unknown like those of no event. */
  async acknowledge(org: string, subscription: number, ids: readonly string[]): Promise<AckResult> {
    const addresses = ids.map((id) => addressOf(org, id));
    const own = addresses.filter((address) => address !== null);
    const results = found(await acknowledge(this.database, org, subscription, own));
    let next = 0;
    const all = addresses.map((address): Acknowledgement =>
      address === null ? 'unknown' : (results[next++] ?? 'unknown'),
    );
    return {
      acknowledged: all.filter((result) => result === 'acknowledged').length,
      alreadyAcknowledged: all.filter((result) => result === 'already_acknowledged').length,
      unknown: ids.filter((_, i) => all[i] === 'unknown'),
    };
  }

  /** Acknowledges what a lease still holds. Throws `not_found` for a lease of another org, or a text that is no lease id. */
  async acknowledgeLease(org: string, subscription: number, lease: string): Promise<AckResult> {
    requireOwn(org, lease);
    const acknowledged = found(await this.#together.acknowledgeLease(org, subscription, lease));
    return { acknowledged, alreadyAcknowledged: 0, unknown: [] };
  }

  /** Gives events back, to be handed out again after `delaySeconds`. Returns how many. Throws as `acknowledgeLease` does. */
  async release(
    org: string,
    subscription: number,
    what: { readonly ids: readonly string[] } | { readonly lease: string },
    delaySeconds: number,
  ): Promise<number> {
    if ('lease' in what) requireOwn(org, what.lease);
    const nowMs = this.clock.now();
    const released = await release(this.database, {
      org,
      subscription,
      what: 'lease' in what ? what : { addresses: ownAddresses(org, what.ids) },
      nowMs,
      availableAtMs: nowMs + delaySeconds * 1000,
      waitingId: newWaitingId(),
    });
    // Also for a later time: who waits must know when to look.
    this.announce(org);
    return found(released);
  }

  /** Returns when the lease ends now. Throws `lease_expired` where it has ended or everything in it is settled, and as `acknowledgeLease` does. */
  async extend(org: string, subscription: number, lease: string, leaseSeconds: number): Promise<number> {
    requireOwn(org, lease);
    const nowMs = this.clock.now();
    const endsAtMs = nowMs + leaseSeconds * 1000;
    if (!found(await extend(this.database, { org, subscription, lease, nowMs, endsAtMs }))) {
      throw new Problem('lease_expired', 'This lease has ended, or everything in it is settled. Receive again.');
    }
    this.announce(org);
    return endsAtMs;
  }

  /** As `seek` of the subscription. Throws `not_found` for what is no event of this org. */
  async seek(org: string, subscription: number, to: SeekTarget, by: ChangedBy): Promise<void> {
    const audited = { ...by, atMs: this.clock.now(), action: 'inbox.sought' };
    if (!found(await seek(this.database, org, subscription, to, audited))) throw noEvent();
    this.announce(org);
  }

  /** Makes dead letters pending again. Returns how many. */
  async redrive(
    org: string,
    subscription: number,
    what: { readonly ids: readonly string[] } | 'all',
    by: ChangedBy,
  ): Promise<number> {
    const nowMs = this.clock.now();
    const redriven = await redrive(this.database, {
      org,
      subscription,
      what: what === 'all' ? what : { addresses: ownAddresses(org, what.ids) },
      nowMs,
      waitingId: newWaitingId(),
      audited: { ...by, atMs: nowMs, action: 'inbox.redriven' },
    });
    this.announce(org);
    return found(redriven);
  }

  #refuseTooManyWaiters(org: string): void {
    if (this.wakeups.waitingFor(org) < waitersPerOrgMax && this.wakeups.waiting < waitersMax) return;
    const detail = 'Too many receivers are waiting. Wait with fewer, or poll without wait_seconds.';
    throw new Problem('overloaded', detail, { retryAfterSeconds: 1 });
  }
}

/** A wait that ends when it is woken, when its time is up, or when the client is gone. A wake before the wait ends it at once. */
class Wait {
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  #woken = false;
  #resume: (() => void) | null = null;

  constructor(clock: Clock, signal: AbortSignal) {
    this.#clock = clock;
    this.#signal = signal;
  }

  readonly wake = (): void => {
    this.#woken = true;
    this.#resume?.();
  };

  /** Woken since it was last armed. */
  get woken(): boolean {
    return this.#woken;
  }

  rearm(): void {
    this.#woken = false;
  }

  async atMost(ms: number): Promise<void> {
    if (this.#woken || this.#signal.aborted) return;
    const cancelTimer = this.#clock.after(ms, this.wake);
    this.#signal.addEventListener('abort', this.wake, { once: true });
    await new Promise<void>((resume) => {
      this.#resume = resume;
    });
    this.#resume = null;
    cancelTimer();
    this.#signal.removeEventListener('abort', this.wake);
  }
}

const orgBytes = 6;

/** The org's number and 80 random bits: a lease that has ended is still known as the org's, and nobody can guess another's. */
function newLeaseId(org: string): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(orgNumber(org), 0, orgBytes);
  return encodeRandomId('lse', bytes);
}

function requireOwn(org: string, lease: string): void {
  const bytes = decodeRandomId('lse', lease);
  if (bytes === null || String(bytes.readUIntBE(0, orgBytes)) !== org) {
    throw new Problem('not_found', 'There is no such lease.');
  }
}

/** No lease id: nobody can name it. */
function newWaitingId(): string {
  return `wait_${randomBytes(12).toString('base64url')}`;
}

function ownAddresses(org: string, ids: readonly string[]): EventAddress[] {
  return ids.map((id) => addressOf(org, id)).filter((address) => address !== null);
}

function addressOf(org: string, id: string): EventAddress | null {
  const address = decodeEventId(id);
  return address?.org === org ? address : null;
}

/** Parses where a seek or a new inbox begins. Throws `validation_failed` naming `path`, and `not_found` for an event of another org. */
export function parseSeekTarget(org: string, text: string, path: string): SeekTarget {
  if (text === 'beginning' || text === 'now') return { to: text };
  if (text.startsWith('evt_')) {
    const address = addressOf(org, text);
    if (address === null) throw noEvent();
    return { to: 'event', address };
  }
  const time = parseTime(text);
  if ('ms' in time) return { to: 'time', atMs: time.ms };
  throw invalid({ path, message: 'must be "beginning", "now", an RFC 3339 time or the id of an event' });
}

function found<Value>(value: Value | null): Value {
  if (value === null) throw noInbox();
  return value;
}

function noEvent(): Problem {
  return new Problem('not_found', 'There is no such event.');
}
