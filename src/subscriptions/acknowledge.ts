import type { Database, Transaction } from '../db/database.js';
import { existingEvents } from '../db/sql/events.js';
import { deleteDeadAt, settleLeases, takeFromLeases } from '../db/sql/leases.js';
import type { SubscriptionRow } from '../db/sql/subscriptions.js';
import { lockWithHead, moveSubscription, readHead } from '../db/sql/subscriptions.js';
import { Problem } from '../errors.js';
import { segmentsOf, wants } from './filter.js';
import { PositionSet } from './position-set.js';
import { readBounded, readNext } from './read-bounded.js';
import { unmoved } from './receive.js';

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
    const locked = await lockWithHead(tx, org, subscription);
    if (locked === null) return null;
    const { state, head } = locked;
    // An id can claim any day; only the days of this org's log are looked into, each of which is a partition to lock.
    const possible = addresses.filter(({ day }) => day >= head.firstDay && day <= head.day);
    const existing = possible.length === 0 ? [] : await existingEvents(tx, org, possible);
    const wanted = existing.filter(({ position, type }) => wants(state.filters, position, type));
    const stored = new Map(wanted.map((event) => [addressKey(event), event]));
    const events = [...stored.values()].toSorted((a, b) => a.position - b.position);
    const newly = await settleEvents(tx, org, subscription, state, events);
    return addresses.map((address) => {
      if (!stored.has(addressKey(address))) return 'unknown';
      // Of an id that is given twice, the first acknowledges.
      return newly.delete(address.position) ? 'acknowledged' : 'already_acknowledged';
    });
  });
}

function addressKey({ epoch, position, day }: AcknowledgedAddress): string {
  return `${epoch} ${position} ${day}`;
}

/** Acknowledges what a lease still holds, also if it has ended but nothing of it was handed out again. Returns the number of events. */
export async function acknowledgeLease(
  database: Database,
  org: string,
  subscription: number,
  lease: string,
): Promise<number | null> {
  // Without waiting for the answer, so that COMMIT leaves with it, and the lock is held for no longer than the server takes.
  const sent = await database.transaction({ role: 'app', org }, async (tx) => {
    const settled = settleLeases(tx, org, subscription, [lease]);
    leaveToCommit(settled);
    return { settled };
  });
  const settled = await sent.settled;
  return settled && (settled.get(lease) ?? 0);
}

/** Settles stored events, given in the order of the log. Returns the positions of those that were not settled before. */
async function settleEvents(
  tx: Transaction,
  org: string,
  subscription: number,
  state: SubscriptionRow,
  events: readonly AcknowledgedAddress[],
): Promise<Set<number>> {
  if (events.length === 0) return new Set();
  const positions = events.map((event) => event.position);
  const ahead = PositionSet.parse(state.ahead);
  const newlyAhead = positions.filter((position) => position > Number(state.cursor) && !ahead.has(position));
  const [deleted, held] = await Promise.all([
    deleteDeadAt(tx, org, subscription, positions),
    releaseHeld(tx, org, subscription, positions),
  ]);
  const dead = deleted.map(({ position }) => position);
  const change = { heldChange: -held.length, deadChange: -dead.length };
  if (newlyAhead.length > 0) {
    const aheadNow = PositionSet.union([ahead, PositionSet.of(newlyAhead)]);
    const { cursor, cursorDay } = await passOver(tx, org, state, aheadNow, events);
    const rest = aheadNow.after(cursor);
    if (rest.ranges.length > aheadRangesMax) throw tooScattered();
    leaveToCommit(moveSubscription(tx, org, subscription, { cursor, cursorDay, ahead: rest.toString(), ...change }));
  } else if (held.length > 0 || dead.length > 0) {
    leaveToCommit(moveSubscription(tx, org, subscription, unmoved(state, change)));
  }
  return new Set([...newlyAhead, ...dead, ...held]);
}

/** COMMIT leaves with the last statement, whose failure is that of the transaction. */
function leaveToCommit(statement: Promise<unknown>): void {
  statement.catch(() => {});
}

/**
 * Where the cursor may go when `ahead` is done: right below the first event above it that is wanted and not done. Gaps and what the filter does not
 * want are passed, so that a consumer that only lists and acknowledges leaves no range behind at each of them.
 */
async function passOver(
  tx: Transaction,
  org: string,
  state: SubscriptionRow,
  ahead: PositionSet,
  events: readonly AcknowledgedAddress[],
): Promise<{ readonly cursor: number; readonly cursorDay: number }> {
  const [cursor, end] = [Number(state.cursor), ahead.last ?? 0];
  const open = PositionSet.range(cursor + 1, end).minus(ahead);
  // A head from before the lock could lie below what others have acknowledged meanwhile, and an event on a day after it would be passed over.
  const head = await readHead(tx, org);
  const days = { first: state.cursor_day, last: head?.day ?? state.cursor_day };
  for (const { positions, types } of segmentsOf(state.filters, open)) {
    const page =
      types === null
        ? await readNext(tx, org, positions, days, 1, false)
        : await readBounded(tx, org, positions, days, [types, null], 1, false);
    const [next] = page.events;
    if (next !== undefined) return { cursor: Number(next.position) - 1, cursorDay: next.day };
    if (!page.exhausted) {
      // More than one acknowledgement looks at: as far as it came.
      const { position, day } = page.reached ?? { position: cursor, day: state.cursor_day };
      return { cursor: position, cursorDay: day };
    }
  }
  // The days of the acknowledged events are known, and days never decrease along the log.
  const eventDays = events.map((event) => event.day);
  return { cursor: end, cursorDay: Math.max(state.cursor_day, ...eventDays) };
}

/** Takes positions, in ascending order, out of the leases that hold them. Returns which these were. */
export async function releaseHeld(
  tx: Transaction,
  org: string,
  subscription: number,
  positions: readonly number[],
): Promise<readonly number[]> {
  const taken = await takeFromLeases(tx, org, subscription, PositionSet.of(positions).toString());
  const held = PositionSet.union(taken.map((of) => PositionSet.parse(of)));
  return positions.filter((position) => held.has(position));
}

function tooScattered(): Problem {
  const detail = `Events acknowledged without being received form more than ${aheadRangesMax} separate ranges. Receive them, or acknowledge them in the order of the log.`;
  return new Problem('limit_reached', detail);
}
