import type { Database, Transaction } from '../db/database.js';
import type { EventRow } from '../db/sql/events.js';
import type { LeaseRow } from '../db/sql/leases.js';
import { dueLeases, insertDeadLetters, insertLease, nextDueAt, removeFromLeases } from '../db/sql/leases.js';
import type { DayRange, SubscriptionRow } from '../db/sql/subscriptions.js';
import { lockSubscription, moveSubscription, readHead, readOutlook } from '../db/sql/subscriptions.js';
import { PositionSet } from './position-set.js';
import { readNext } from './read-bounded.js';

export interface ReceiveRequest {
  readonly org: string;
  readonly subscription: number;
  readonly eventsMax: number;
  readonly wantsPayload: boolean;
  readonly nowMs: number;
  /** The new lease, if there is something to hand out: its id and when it ends. */
  readonly lease: string;
  readonly leaseEndsAtMs: number;
}

export interface Received {
  /** In log order; empty if nothing is pending. */
  readonly events: readonly EventRow[];
  readonly attempt: number;
  /** More was due than one call looks at: with no events, ask again at once. */
  readonly moreDue: boolean;
  /** When something may become pending without a new event: the next end of a lease or retry. Null if nothing is out. */
  readonly nextDueAtMs: number | null;
}

/** How many ended leases one receive looks at. */
const dueLeasesMax = 100;
/** Positions that may be handed out and not done. At the cap nothing new is handed out until some are acknowledged. */
export const heldPositionsMax = 100_000;

/**
 * Hands out the next events under a new lease: first those whose lease has ended or whose retry is due, then those above the cursor. All
 * that one call returns has the same attempt number. Null if there is no such subscription.
 *
 * The subscription is locked first; only the statements after it choose, each with a newer snapshot, so that nothing that another
 * receiver just took is seen as free, and no event below the head that was read can still be invisible.
 */
export function receive(database: Database, request: ReceiveRequest): Promise<Received | null> {
  return database.transaction({ role: 'app', org: request.org }, async (tx) => {
    // A lock is written to disk with the commit. So that those who wait in vain cost none, they are told from a look without a lock.
    const outlook = await readOutlook(tx, request.org, request.subscription);
    if (outlook === null) return null;
    const dueAtMs = outlook.due?.getTime() ?? Infinity;
    if (!outlook.behind && dueAtMs > request.nowMs) return nothing(outlook.due);
    const state = await lockSubscription(tx, request.org, request.subscription);
    if (state === null) return null;
    const due = await dueLeases(tx, request.org, request.subscription, new Date(request.nowMs), dueLeasesMax);
    const dead = due.filter((lease) => lease.attempt >= state.max_attempts);
    const buried = await bury(tx, request, dead);
    const living = due.filter((lease) => lease.attempt < state.max_attempts);
    const again = await redeliver(tx, request, living, state.max_attempts);
    const heldChange = -buried - again.dropped;
    if (again.events.length > 0) {
      if (heldChange !== 0) await moveSubscription(tx, request.org, request.subscription, unmoved(state, heldChange));
      return { events: again.events, attempt: again.attempt, moreDue: true, nextDueAtMs: null };
    }
    const events = await advance(tx, request, state, heldChange);
    const nextDue = events.length > 0 ? null : await nextDueAt(tx, request.org, request.subscription);
    const moreDue = due.length === dueLeasesMax || again.dropped > 0;
    return { events, attempt: 1, moreDue, nextDueAtMs: nextDue?.getTime() ?? null };
  });
}

function nothing(nextDue: Date | null): Received {
  return { events: [], attempt: 1, moreDue: false, nextDueAtMs: nextDue?.getTime() ?? null };
}

/** Moves leases whose last attempt has ended to the dead letters. Returns the number of positions. */
async function bury(tx: Transaction, request: ReceiveRequest, dead: readonly LeaseRow[]): Promise<number> {
  let positions = 0;
  for (const lease of dead) {
    await insertDeadLetters(tx, request.org, request.subscription, lease, new Date(request.nowMs));
    await removeFromLeases(tx, request.org, request.subscription, [lease.lease], lease.positions);
    positions += PositionSet.parse(lease.positions).size;
  }
  return positions;
}

interface Redelivered {
  readonly events: readonly EventRow[];
  readonly attempt: number;
  /** Positions whose event is no longer stored. */
  readonly dropped: number;
}

/** Hands out again what is due, of one attempt number, up to the request's bounds; the rest stays due under its ended lease. */
async function redeliver(
  tx: Transaction,
  request: ReceiveRequest,
  due: readonly LeaseRow[],
  attemptsMax: number,
): Promise<Redelivered> {
  const first = due[0];
  if (first === undefined) return { events: [], attempt: 1, dropped: 0 };
  const share = redeliveredShare(first.attempt + 1, attemptsMax);
  const leases = share === 'all' ? due.filter((lease) => lease.attempt === first.attempt) : [first];
  const all = PositionSet.union(leases.map((lease) => PositionSet.parse(lease.positions)));
  const eventsMax = { all: all.size, eighth: Math.ceil(all.size / 8), one: 1 }[share];
  const [wanted] = all.splitAt(Math.min(request.eventsMax, eventsMax));
  const days = {
    first: Math.min(...leases.map((lease) => lease.first_day)),
    last: Math.max(...leases.map((lease) => lease.last_day)),
  };
  const page = await readNext(tx, request.org, wanted, days, request.eventsMax, request.wantsPayload);
  const handedOut = PositionSet.of(page.events.map((event) => Number(event.position)));
  const passed = page.exhausted ? wanted : wanted.upTo(handedOut.last ?? 0);
  await removeFromLeases(
    tx,
    request.org,
    request.subscription,
    leases.map((lease) => lease.lease),
    passed.toString(),
  );
  await insertNewLease(tx, request, first.attempt + 1, page.events);
  return { events: page.events, attempt: first.attempt + 1, dropped: passed.size - handedOut.size };
}

/**
 * How much of what was handed out together goes out together again. One event that kills its consumer must not condemn the others of its
 * lease: from the third attempt on an eighth of a lease is handed out at a time, and in the last two attempts each event alone.
 */
function redeliveredShare(attempt: number, attemptsMax: number): 'all' | 'eighth' | 'one' {
  if (attempt > attemptsMax - 2) return 'one';
  return attempt < 3 ? 'all' : 'eighth';
}

/** Hands out events above the cursor and moves it past them, and past the gaps and the acknowledged events before them. */
async function advance(
  tx: Transaction,
  request: ReceiveRequest,
  state: SubscriptionRow,
  heldChange: number,
): Promise<readonly EventRow[]> {
  const { org, subscription } = request;
  const head = await readHead(tx, org);
  const cursor = Number(state.cursor);
  const room = heldPositionsMax - Number(state.held) - heldChange;
  if (head === null || head.position <= cursor || room <= 0) {
    if (heldChange !== 0) await moveSubscription(tx, org, subscription, unmoved(state, heldChange));
    return [];
  }
  const ahead = PositionSet.parse(state.ahead);
  const open = PositionSet.range(cursor + 1, head.position + 1).minus(ahead);
  const days = { first: state.cursor_day, last: head.day };
  const page = await readNext(tx, org, open, days, Math.min(request.eventsMax, room), request.wantsPayload);
  const reached = page.exhausted && page.events.length === 0 ? head : page.reached;
  const newCursor = reached?.position ?? cursor;
  await insertNewLease(tx, request, 1, page.events);
  await moveSubscription(tx, org, subscription, {
    cursor: newCursor,
    cursorDay: reached?.day ?? page.dayReached,
    ahead: ahead.after(newCursor).toString(),
    heldChange: heldChange + page.events.length,
  });
  return page.events;
}

async function insertNewLease(
  tx: Transaction,
  request: ReceiveRequest,
  attempt: number,
  events: readonly EventRow[],
): Promise<void> {
  if (events.length === 0) return;
  await insertLease(tx, request.org, request.subscription, {
    lease: request.lease,
    attempt,
    availableAt: new Date(request.leaseEndsAtMs),
    positions: PositionSet.of(events.map((event) => Number(event.position))).toString(),
    days: daysOf(events),
  });
}

function daysOf(events: readonly EventRow[]): DayRange {
  const days = events.map((event) => event.day);
  return { first: Math.min(...days), last: Math.max(...days) };
}

function unmoved(state: SubscriptionRow, heldChange: number) {
  return { cursor: Number(state.cursor), cursorDay: state.cursor_day, ahead: state.ahead, heldChange };
}
