import { StorageError } from '../db/database.js';
import type { Database, Transaction } from '../db/database.js';
import type { EventRow } from '../db/sql/events.js';
import type { LeaseRow, NewLease } from '../db/sql/leases.js';
import { dueLeases, handOut, insertDeadLetters, insertLease, nextDueAt, removeFromLeases } from '../db/sql/leases.js';
import type { DayRange, Head, SubscriptionRow } from '../db/sql/subscriptions.js';
import { lockIfAnything, moveSubscription, readHead } from '../db/sql/subscriptions.js';
import type { Segment } from './filter.js';
import { firstSegment } from './filter.js';
import { PositionSet } from './position-set.js';
import type { Page } from './read-bounded.js';
import { readBounded, readNext } from './read-bounded.js';

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
export const dueLeasesMax = 100;
/** Positions that may be handed out and not done, dead letters included. At the cap nothing new is handed out until some are done. */
export const heldPositionsMax = 100_000;

/**
 * Hands out the next events under a new lease: first those whose lease has ended or whose retry is due, then those above the cursor. All
 * that one call returns has the same attempt number. Null if there is no such subscription.
 *
 * The subscription is locked first; only the statements after it choose, each with a newer snapshot, so that nothing that another
 * receiver just took is seen as free, and no event below the head that was read can still be invisible. The head may be of before the lock: then less is seen than
 * there is by now.
 */
export async function receive(database: Database, request: ReceiveRequest): Promise<Received | null> {
  const { org, subscription, nowMs } = request;
  const writes: Writes = [];
  const received = await database.transaction({ role: 'app', org }, async (tx) => {
    const now = new Date(nowMs);
    const outlook = await lockIfAnything(tx, org, subscription, now);
    if (outlook === null) return null;
    const { state, behind } = outlook;
    const isDue = outlook.due !== null && outlook.due.getTime() <= nowMs;
    if (state === null) return behind || isDue ? null : nothing(outlook.due);
    // Both leave in one write. What is due goes first, but where the look found none there will hardly be any.
    const [due, early] = await Promise.all([
      dueLeases(tx, org, subscription, now, dueLeasesMax),
      isDue ? null : readAhead(tx, request, state, outlook.head, noChange),
    ]);
    const dead = due.filter((lease) => lease.attempt >= state.max_attempts);
    const buried = await bury(tx, request, dead);
    const living = due.filter((lease) => lease.attempt < state.max_attempts);
    const again = await redeliver(tx, request, living, state.max_attempts);
    const change = { heldChange: -buried - again.dropped, deadChange: buried };
    if (again.events.length > 0) {
      await noteChange(tx, request, state, change);
      return { events: again.events, attempt: again.attempt, moreDue: true, nextDueAtMs: null };
    }
    const ahead = due.length === 0 && !isDue ? early : await readAhead(tx, request, state, outlook.head, change);
    const { shares, moreAhead } = await advance(tx, [request], state, change, ahead, writes);
    const events = shares[0] ?? [];
    const nextDue = events.length > 0 ? null : await nextDueAt(tx, org, subscription);
    const moreDue = due.length === dueLeasesMax || again.dropped > 0 || moreAhead;
    return { events, attempt: 1, moreDue, nextDueAtMs: nextDue?.getTime() ?? null };
  });
  await verifyWrites(writes);
  return received;
}

/** What nobody waits for before COMMIT, so that it leaves with it: each resolves with the number of rows written. */
export type Writes = { readonly sent: number; readonly written: Promise<number> }[];

/** After the transaction: rejects with `outcome_unknown` if less was stored than was sent. */
export async function verifyWrites(writes: Writes): Promise<void> {
  for (const { sent, written } of writes) {
    const stored = await written;
    if (stored !== sent) throw new StorageError('outcome_unknown', `${stored} of ${sent} leases were stored`);
  }
}

export function nothing(nextDue: Date | null): Received {
  return { events: [], attempt: 1, moreDue: false, nextDueAtMs: nextDue?.getTime() ?? null };
}

/** Moves leases whose last attempt has ended to the dead letters. Returns the number of positions. */
export async function bury(
  tx: Transaction,
  request: Pick<ReceiveRequest, 'org' | 'subscription' | 'nowMs'>,
  dead: readonly LeaseRow[],
): Promise<number> {
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
  if (page.events.length > 0) {
    const lease = newLease(request, first.attempt + 1, page.events);
    await insertLease(tx, request.org, request.subscription, lease);
  }
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

interface Change {
  readonly heldChange: number;
  readonly deadChange: number;
}

interface Advanced {
  /** What each request gets. */
  readonly shares: readonly (readonly EventRow[])[];
  /** The filter passed over all that one call looks at, and there is more. */
  readonly moreAhead: boolean;
}

export const noChange: Change = { heldChange: 0, deadChange: 0 };

/** What lies above the cursor, up to a head. */
export interface Ahead {
  readonly head: Head;
  readonly segment: Segment | null;
  readonly page: Page;
}

/** Reads the next events above the cursor, as many as may be handed out. Null: there is nothing, or nothing may be. */
export async function readAhead(
  tx: Transaction,
  { org, eventsMax, wantsPayload }: Pick<ReceiveRequest, 'org' | 'eventsMax' | 'wantsPayload'>,
  state: SubscriptionRow,
  seen: Head,
  change: Change,
): Promise<Ahead | null> {
  const cursor = Number(state.cursor);
  const room = heldPositionsMax - Number(state.held) - Number(state.dead) - change.heldChange - change.deadChange;
  if (room <= 0) return null;
  // Others have come so far while this one waited for the lock; the log may have grown as well.
  const head = seen.position > cursor ? seen : await readHead(tx, org);
  if (head === null || head.position <= cursor) return null;
  const open = PositionSet.range(cursor + 1, head.position + 1).minus(PositionSet.parse(state.ahead));
  const segment = firstSegment(state.filters, open);
  if (segment === null) return { head, segment, page: nothingOpen };
  const { positions, types } = segment;
  const days = { first: state.cursor_day, last: head.day };
  const limit = Math.min(eventsMax, room);
  const page =
    types === null
      ? await readNext(tx, org, positions, days, limit, wantsPayload)
      : await readBounded(tx, org, positions, days, [types, null], limit, wantsPayload);
  return { head, segment, page };
}

/**
 * Hands out what was read above the cursor, to one request of a subscription after the other, and moves it past that, and past the gaps and what is not wanted or done
 * before it.
 */
export async function advance(
  tx: Transaction,
  requests: readonly [ReceiveRequest, ...ReceiveRequest[]],
  state: SubscriptionRow,
  change: Change,
  next: Ahead | null,
  writes: Writes,
): Promise<Advanced> {
  const [first] = requests;
  if (next === null) {
    await noteChange(tx, first, state, change);
    return { shares: [], moreAhead: false };
  }
  const { org, subscription } = first;
  const { head, segment, page } = next;
  const { position: cursor, day: cursorDay } = reachedBy(page, segment, state, head);
  const to = {
    cursor,
    cursorDay,
    ahead: PositionSet.parse(state.ahead).after(cursor).toString(),
    heldChange: change.heldChange + page.events.length,
    deadChange: change.deadChange,
  };
  if (page.events.length === 0) {
    await moveSubscription(tx, org, subscription, to);
    return { shares: [], moreAhead: cursor < head.position };
  }
  const shares = shareOut(page.events, requests);
  const leases = shares.flatMap((events, i) =>
    events.length === 0 ? [] : [newLease(requests[i] ?? first, 1, events)],
  );
  const written = handOut(tx, org, subscription, leases, to);
  // If it fails, so does the transaction.
  written.catch(() => {});
  writes.push({ sent: leases.length, written });
  return { shares, moreAhead: false };
}

function shareOut(events: readonly EventRow[], requests: readonly ReceiveRequest[]): EventRow[][] {
  let given = 0;
  return requests.map(({ eventsMax }) => events.slice(given, (given += eventsMax)));
}

const nothingOpen: Page = { events: [], reached: null, dayReached: 0, exhausted: true };

/** How far everything is either handed out or need not be. */
function reachedBy(
  page: Page,
  segment: Segment | null,
  state: SubscriptionRow,
  head: Head,
): { readonly position: number; readonly day: number } {
  if (page.exhausted && page.events.length === 0) {
    // The next version of the filter begins on a day not yet known, but not before the cursor's.
    const endsAtHead = segment === null || segment.last >= head.position;
    return endsAtHead ? head : { position: segment.last, day: state.cursor_day };
  }
  return page.reached ?? { position: Number(state.cursor), day: page.dayReached };
}

async function noteChange(
  tx: Transaction,
  { org, subscription }: ReceiveRequest,
  state: SubscriptionRow,
  change: Change,
): Promise<void> {
  if (change.heldChange === 0 && change.deadChange === 0) return;
  await moveSubscription(tx, org, subscription, unmoved(state, change));
}

function newLease(request: ReceiveRequest, attempt: number, events: readonly EventRow[]): NewLease {
  return {
    lease: request.lease,
    attempt,
    availableAt: new Date(request.leaseEndsAtMs),
    positions: PositionSet.of(events.map((event) => Number(event.position))).toString(),
    days: daysOf(events),
  };
}

function daysOf(events: readonly EventRow[]): DayRange {
  const days = events.map((event) => event.day);
  return { first: Math.min(...days), last: Math.max(...days) };
}

/** A change of the counts alone. */
export function unmoved(state: SubscriptionRow, change: { readonly heldChange: number; readonly deadChange?: number }) {
  return { cursor: Number(state.cursor), cursorDay: state.cursor_day, ahead: state.ahead, ...change };
}
