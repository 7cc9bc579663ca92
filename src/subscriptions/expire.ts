import type { Database, Transaction } from '../db/database.js';
import { leasesHolding, removeFromLeases } from '../db/sql/leases.js';
import { firstPositionOf } from '../db/sql/position-at.js';
import { deleteDeadBelow, lockSubscriptions, raiseFloor, trimSubscription } from '../db/sql/retention.js';
import type { Head, SubscriptionRow } from '../db/sql/subscriptions.js';
import { countEvents, readHead } from '../db/sql/subscriptions.js';
import { segmentsOf } from './filter.js';
import { PositionSet } from './position-set.js';
import { daysPerStatementMax, readNext } from './read-bounded.js';

/** Positions never handed out, over all subscriptions of an org, that one step counts as expired. */
const countedPositionsMax = 50_000;

type Subscription = SubscriptionRow & { readonly subscription: number };

/**
 * Makes an org's log begin at a day: what lies below is no longer listed or handed out, and what was not done of it counts as expired, in the same
 * transaction. One step does a bounded amount of work; false: there is more to do.
 */
export function expireBefore(database: Database, org: string, day: number): Promise<boolean> {
  return database.transaction({ role: 'app', org }, async (tx) => {
    const subscriptions = await lockSubscriptions(tx, org);
    const head = await readHead(tx, org);
    if (head === null || head.firstDay >= day) return true;
    const floor = await firstFrom(tx, org, head, day);
    const { next, isLast } = await reachable(tx, org, subscriptions, floor, day);
    for (const subscription of subscriptions) await trim(tx, org, subscription, next, day, isLast);
    await raiseFloor(tx, org, Math.max(next, head.firstPosition), isLast ? day : head.firstDay);
    return isLast;
  });
}

/** The first position of a day or later; above the head if there is none. */
async function firstFrom(tx: Transaction, org: string, head: Head, day: number): Promise<number> {
  for (let first = day; first <= head.day; first += daysPerStatementMax) {
    const last = Math.min(head.day, first + daysPerStatementMax - 1);
    const found = await firstPositionOf(tx, org, { first, last });
    if (found !== null) return found.position;
  }
  return head.position + 1;
}

/** How far one step comes: where there is much to count, not to the floor. */
async function reachable(
  tx: Transaction,
  org: string,
  subscriptions: readonly Subscription[],
  floor: number,
  floorDay: number,
): Promise<{ readonly next: number; readonly isLast: boolean }> {
  const behind = subscriptions.filter((subscription) => Number(subscription.cursor) + 1 < floor);
  const share = Math.ceil(countedPositionsMax / Math.max(1, behind.length));
  const lowest = Math.min(...behind.map((subscription) => Number(subscription.cursor) + 1 + share));
  if (lowest >= floor) return { next: floor, isLast: true };
  // Over a gap, which may be a thousand million positions wide, in one step.
  const days = { first: Math.min(...behind.map((subscription) => subscription.cursor_day)), last: floorDay - 1 };
  const page = await readNext(tx, org, PositionSet.range(lowest, floor), days, 1, false);
  const [found] = page.events;
  return found === undefined ? { next: floor, isLast: true } : { next: Number(found.position), isLast: false };
}

async function trim(
  tx: Transaction,
  org: string,
  state: Subscription,
  next: number,
  floorDay: number,
  isLast: boolean,
): Promise<void> {
  const { subscription } = state;
  const below = `{[1,${next})}`;
  const leases = await leasesHolding(tx, org, subscription, below);
  const ids = leases.map(({ lease }) => lease);
  if (ids.length > 0) await removeFromLeases(tx, org, subscription, ids, below);
  const ahead = PositionSet.parse(state.ahead);
  const cursor = Number(state.cursor);
  const open = PositionSet.range(cursor + 1, next).minus(ahead);
  const days = { first: state.cursor_day, last: floorDay - 1 };
  let pending = 0;
  for (const { positions, types } of segmentsOf(state.filters, open)) {
    pending += (await countEvents(tx, org, positions.toString(), days, types)).events;
  }
  await trimSubscription(tx, org, subscription, {
    cursor: Math.max(cursor, next - 1),
    cursorDay: isLast ? Math.max(state.cursor_day, floorDay) : state.cursor_day,
    ahead: ahead.after(Math.max(cursor, next - 1)).toString(),
    skipped: PositionSet.parse(state.skipped)
      .after(next - 1)
      .toString(),
    held: leases.reduce((sum, { positions }) => sum + PositionSet.parse(positions).size, 0),
    dead: await deleteDeadBelow(tx, org, subscription, next),
    pending,
  });
}
