import type { Database, Transaction } from '../db/database.js';
import { existingEvents } from '../db/sql/events.js';
import { deleteDeadLetters, findLease, leasesHolding, removeFromLeases } from '../db/sql/leases.js';
import type { SubscriptionRow } from '../db/sql/subscriptions.js';
import { lockSubscription, moveSubscription } from '../db/sql/subscriptions.js';
import { Problem } from '../errors.js';
import { PositionSet } from './position-set.js';

/** An event of the org, as its id names it. */
export interface AcknowledgedAddress {
  readonly epoch: number;
  readonly position: number;
  readonly day: number;
}

/** For each address, in order, what the acknowledgement did; `unknown`: the log has no such event. */
export type Acknowledgement = 'acknowledged' | 'already_acknowledged' | 'unknown';

/**
 * Acknowledgements above the cursor are kept as ranges until the cursor passes them. More separate ranges than this are refused: a consumer
 * that acknowledges what it never received should go in the order of the log.
 */
export const aheadRangesMax = 10_000;

/**
 * Acknowledges events by address, whichever lease holds them, and those that no lease holds as well. Repeating it changes nothing. Null if
 * there is no such subscription. Throws `limit_reached` past `aheadRangesMax`, and then changes nothing.
 */
export function acknowledge(
  database: Database,
  org: string,
  subscription: number,
  addresses: readonly AcknowledgedAddress[],
): Promise<readonly Acknowledgement[] | null> {
  return database.transaction({ role: 'app', org }, async (tx) => {
    const state = await lockSubscription(tx, org, subscription);
    if (state === null) return null;
    const existing = addresses.length === 0 ? [] : await existingEvents(tx, org, addresses);
    const stored = new Set(existing.map((event) => event.position));
    const newly = await settlePositions(
      tx,
      org,
      subscription,
      state,
      [...stored].toSorted((a, b) => a - b),
    );
    return addresses.map(({ position }) => {
      if (!stored.has(position)) return 'unknown';
      // Of an id that is given twice, the first acknowledges.
      return newly.delete(position) ? 'acknowledged' : 'already_acknowledged';
    });
  });
}

/** Acknowledges what a lease still holds, also if it has ended but nothing of it was handed out again. Returns the number of events. */
export function acknowledgeLease(
  database: Database,
  org: string,
  subscription: number,
  lease: string,
): Promise<number | null> {
  return database.transaction({ role: 'app', org }, async (tx) => {
    const state = await lockSubscription(tx, org, subscription);
    if (state === null) return null;
    const row = await findLease(tx, org, subscription, lease);
    if (row === null) return 0;
    const events = PositionSet.parse(row.positions).size;
    await removeFromLeases(tx, org, subscription, [lease], row.positions);
    await moveSubscription(tx, org, subscription, {
      cursor: Number(state.cursor),
      cursorDay: state.cursor_day,
      ahead: state.ahead,
      heldChange: -events,
    });
    return events;
  });
}

/** Settles stored events, given in ascending order. Returns those that were not settled before. */
async function settlePositions(
  tx: Transaction,
  org: string,
  subscription: number,
  state: SubscriptionRow,
  positions: readonly number[],
): Promise<Set<number>> {
  if (positions.length === 0) return new Set();
  const cursor = Number(state.cursor);
  const ahead = PositionSet.parse(state.ahead);
  const newlyAhead = positions.filter((position) => position > cursor && !ahead.has(position));
  const dead = await deleteDeadLetters(tx, org, subscription, positions);
  const held = await releaseHeld(tx, org, subscription, positions);
  if (newlyAhead.length > 0 || held.length > 0) {
    const aheadNow = advanceOver(cursor, PositionSet.union([ahead, PositionSet.of(newlyAhead)]));
    if (newlyAhead.length > 0 && aheadNow.ahead.ranges.length > aheadRangesMax) throw tooScattered();
    await moveSubscription(tx, org, subscription, {
      cursor: aheadNow.cursor,
      cursorDay: state.cursor_day,
      ahead: aheadNow.ahead.toString(),
      heldChange: -held.length,
    });
  }
  return new Set([...newlyAhead, ...dead, ...held]);
}

async function releaseHeld(
  tx: Transaction,
  org: string,
  subscription: number,
  positions: readonly number[],
): Promise<readonly number[]> {
  const set = PositionSet.of(positions).toString();
  const leases = await leasesHolding(tx, org, subscription, set);
  if (leases.length === 0) return [];
  await removeFromLeases(
    tx,
    org,
    subscription,
    leases.map((lease) => lease.lease),
    set,
  );
  const held = PositionSet.union(leases.map((lease) => PositionSet.parse(lease.positions)));
  return positions.filter((position) => held.has(position));
}

/** If the acknowledged positions begin right above the cursor, it moves over them. */
function advanceOver(cursor: number, ahead: PositionSet): { cursor: number; ahead: PositionSet } {
  const first = ahead.ranges[0];
  if (first === undefined || first[0] !== cursor + 1) return { cursor, ahead };
  const newCursor = first[1] - 1;
  return { cursor: newCursor, ahead: ahead.after(newCursor) };
}

function tooScattered(): Problem {
  const detail = `Events acknowledged without being received form more than ${aheadRangesMax} separate ranges. Receive them, or acknowledge them in the order of the log.`;
  return new Problem('limit_reached', detail);
}
