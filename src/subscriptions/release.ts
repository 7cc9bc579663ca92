import type { Database, Transaction } from '../db/database.js';
import { existingEvents } from '../db/sql/events.js';
import type { LeaseRow } from '../db/sql/leases.js';
import { extendLease, findLease, insertLease, leasesHolding, removeFromLeases } from '../db/sql/leases.js';
import { lockSubscription, moveSubscription, readHead } from '../db/sql/subscriptions.js';
import type { AcknowledgedAddress } from './acknowledge.js';
import { PositionSet } from './position-set.js';
import { bury, unmoved } from './receive.js';

export interface ReleaseRequest {
  readonly org: string;
  readonly subscription: number;
  /** Events, whichever lease holds them; or all that one lease still holds. */
  readonly what: { readonly addresses: readonly AcknowledgedAddress[] } | { readonly lease: string };
  readonly nowMs: number;
  /** From when on they may be handed out again. */
  readonly availableAtMs: number;
  /** Begins the id of every row of what waits now; no lease has it. */
  readonly waitingId: string;
}

/**
 * Ends the lease of events before its time, so that they are handed out again. Their attempt counts: after the last one an event is dead. Also of
 * a lease that has ended, while nothing of it was handed out again. Returns how many events were released; null if there is no such subscription.
 */
export function release(database: Database, request: ReleaseRequest): Promise<number | null> {
  const { org, subscription, what } = request;
  return database.transaction({ role: 'app', org }, async (tx) => {
    const state = await lockSubscription(tx, org, subscription);
    if (state === null) return null;
    const rows =
      'lease' in what
        ? [await findLease(tx, org, subscription, what.lease)].filter((row) => row !== null)
        : await leasesOf(tx, org, subscription, what.addresses);
    const leases = rows.filter((row) => !row.waiting);
    const isSpent = (lease: LeaseRow): boolean => lease.attempt >= state.max_attempts;
    const buried = await bury(tx, request, leases.filter(isSpent));
    const waiting = await makeWait(
      tx,
      request,
      leases.filter((lease) => !isSpent(lease)),
    );
    if (buried > 0) {
      await moveSubscription(tx, org, subscription, unmoved(state, { heldChange: -buried, deadChange: buried }));
    }
    return buried + waiting;
  });
}

/** The positions in leases of events that the log really holds at these addresses. */
async function leasesOf(
  tx: Transaction,
  org: string,
  subscription: number,
  addresses: readonly AcknowledgedAddress[],
): Promise<LeaseRow[]> {
  const positions = await storedPositions(tx, org, addresses);
  return positions.length === 0 ? [] : leasesHolding(tx, org, subscription, PositionSet.of(positions).toString());
}

/** Where the log holds events of those that addresses name, in its order. An id can claim any day; only the days of the log are looked into. */
export async function storedPositions(
  tx: Transaction,
  org: string,
  addresses: readonly AcknowledgedAddress[],
): Promise<number[]> {
  const head = await readHead(tx, org);
  const possible = head === null ? [] : addresses.filter(({ day }) => day >= head.firstDay && day <= head.day);
  const existing = possible.length === 0 ? [] : await existingEvents(tx, org, possible);
  return existing.map(({ position }) => position).toSorted((a, b) => a - b);
}

/** Takes positions out of their leases into rows that nobody has, one for each attempt number. Returns the number of positions. */
async function makeWait(tx: Transaction, request: ReleaseRequest, leases: readonly LeaseRow[]): Promise<number> {
  const { org, subscription, waitingId } = request;
  let released = 0;
  for (const attempt of new Set(leases.map((lease) => lease.attempt))) {
    const of = leases.filter((lease) => lease.attempt === attempt);
    const positions = PositionSet.union(of.map((lease) => PositionSet.parse(lease.positions)));
    const ids = of.map((lease) => lease.lease);
    await removeFromLeases(tx, org, subscription, ids, positions.toString());
    await insertLease(tx, org, subscription, {
      lease: `${waitingId}.${attempt}`,
      attempt,
      availableAt: new Date(request.availableAtMs),
      positions: positions.toString(),
      days: {
        first: Math.min(...of.map((lease) => lease.first_day)),
        last: Math.max(...of.map((lease) => lease.last_day)),
      },
      waiting: true,
    });
    released += positions.size;
  }
  return released;
}

/** Moves the end of a lease that has not ended. False: it has, or everything in it is settled. Null if there is no such subscription. */
export function extend(
  database: Database,
  request: {
    readonly org: string;
    readonly subscription: number;
    readonly lease: string;
    readonly nowMs: number;
    readonly endsAtMs: number;
  },
): Promise<boolean | null> {
  const { org, subscription, lease, nowMs, endsAtMs } = request;
  return database.transaction({ role: 'app', org }, async (tx) => {
    if ((await lockSubscription(tx, org, subscription)) === null) return null;
    return extendLease(tx, org, subscription, lease, new Date(endsAtMs), new Date(nowMs));
  });
}
