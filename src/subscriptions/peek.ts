import type { Database, Transaction } from '../db/database.js';
import type { EventRow } from '../db/sql/events.js';
import type { TypeFilter } from '../db/sql/type-filter.js';
import { deadLettersAt, leasesHolding } from '../db/sql/leases.js';
import { countEvents, readSubscriptionSets } from '../db/sql/subscriptions.js';
import type { DayRange, SubscriptionSetsRow } from '../db/sql/subscriptions.js';
import { firstSegment, segmentsOf } from './filter.js';
import { PositionSet } from './position-set.js';
import { readBounded, readNext } from './read-bounded.js';

export type EventStatus = 'pending' | 'leased' | 'dead' | 'delivered';

export interface PeekRequest {
  readonly org: string;
  readonly subscription: number;
  /** Undefined: what is not delivered, pending and leased. */
  readonly status: EventStatus | undefined;
  readonly types: TypeFilter | null;
  readonly limit: number;
  readonly wantsPayload: boolean;
  /** Where the page before this one ended. */
  readonly after: PeekPlace | null;
  readonly nowMs: number;
}

export interface PeekPlace {
  readonly position: number;
  readonly day: number;
}

export interface PeekedEvent {
  readonly event: EventRow;
  readonly status: EventStatus;
  /** How often it was handed out; null once delivered. */
  readonly attempts: number | null;
}

export interface PeekPage {
  readonly events: readonly PeekedEvent[];
  readonly next: PeekPlace | null;
}

/** Lists events by what the subscription has done with them, oldest first, without taking any. Null if there is no such subscription. */
export function peek(database: Database, request: PeekRequest): Promise<PeekPage | null> {
  const scope = { role: 'app', org: request.org, priority: 'read' } as const;
  return database.transaction(scope, async (tx) => {
    const sets = await readSubscriptionSets(tx, request.org, request.subscription, new Date(request.nowMs));
    if (sets === null) return null;
    const parsed = parseSets(sets);
    const wanted =
      request.status === undefined ? PositionSet.union([parsed.pending, parsed.leased]) : parsed[request.status];
    const open = wanted.after(request.after?.position ?? 0);
    const days = { first: request.after?.day ?? firstDay(request.status, sets), last: sets.head_day };
    const segment = firstSegment(sets.filters, open);
    const filters = [segment?.types ?? null, request.types] as const;
    const positions = segment?.positions ?? open;
    const page = await readBounded(tx, request.org, positions, days, filters, request.limit, request.wantsPayload);
    const attempts = await attemptsOf(tx, request, page.events);
    const isLast = open.after(segment?.last ?? Infinity).isEmpty;
    const reached = page.reached ?? { position: request.after?.position ?? 0, day: page.dayReached };
    // The next version of the filter begins on a day that is not known yet, but not before what was reached.
    const place =
      page.exhausted && segment !== null
        ? { position: segment.last, day: page.reached?.day ?? days.first }
        : { position: reached.position, day: page.dayReached };
    return {
      events: page.events.map((event) => {
        const position = Number(event.position);
        const status = statusOf(parsed, position);
        return { event, status, attempts: status === 'delivered' ? null : (attempts.get(position) ?? 0) };
      }),
      next: page.exhausted && isLast ? null : place,
    };
  });
}

export interface SubscriptionStats {
  readonly pending: number;
  readonly leased: number;
  readonly dead: number;
  /** When the oldest pending event was received; null if none is pending. */
  readonly oldestPendingAtMs: number | null;
}

/** Positions that are counted in one transaction. A backlog of millions is counted in many short ones, between which others get their turn. */
const countedPositionsMax = 50_000;

/**
 * Counts events, exactly as of its begin, since an event never changes. Takes time in proportion to what is pending. Null if there is no such
 * subscription.
 */
export async function readStats(
  database: Database,
  org: string,
  subscription: number,
  nowMs: number,
): Promise<SubscriptionStats | null> {
  const scope = { role: 'app', org, priority: 'read' } as const;
  const sets = await database.transaction(scope, (tx) => readSubscriptionSets(tx, org, subscription, new Date(nowMs)));
  if (sets === null) return null;
  const days = { first: sets.open_day, last: sets.head_day };
  const parsed = parseSets(sets);
  let pending = 0;
  let oldest: Date | null = null;
  for (const segment of segmentsOf(sets.filters, parsed.pending)) {
    let [page, rest] = segment.positions.splitAt(countedPositionsMax);
    while (!page.isEmpty) {
      const positions = page.toString();
      const counted = await database.transaction(scope, (tx) => countEvents(tx, org, positions, days, segment.types));
      pending += counted.events;
      oldest ??= counted.oldest;
      const isGap = counted.events === 0 && !rest.isEmpty;
      if (isGap) rest = await database.transaction(scope, (tx) => fromNext(tx, org, rest, days));
      [page, rest] = rest.splitAt(countedPositionsMax);
    }
  }
  // Leases and dead letters hold positions of events only, never of gaps.
  return {
    pending,
    leased: parsed.leased.size,
    dead: parsed.dead.size,
    oldestPendingAtMs: oldest?.getTime() ?? null,
  };
}

/** `positions` from the first event on: a gap may be a thousand million of them wide. */
async function fromNext(tx: Transaction, org: string, positions: PositionSet, days: DayRange): Promise<PositionSet> {
  const page = await readNext(tx, org, positions, days, 1, false);
  const [found] = page.events;
  return found === undefined ? PositionSet.empty : positions.after(Number(found.position) - 1);
}

type ParsedSets = Readonly<Record<EventStatus, PositionSet>>;

function parseSets(sets: SubscriptionSetsRow): ParsedSets {
  return {
    pending: PositionSet.parse(sets.pending),
    leased: PositionSet.parse(sets.leased),
    dead: PositionSet.parse(sets.dead),
    delivered: PositionSet.parse(sets.delivered),
  };
}

function statusOf(sets: ParsedSets, position: number): EventStatus {
  if (sets.leased.has(position)) return 'leased';
  if (sets.dead.has(position)) return 'dead';
  return sets.pending.has(position) ? 'pending' : 'delivered';
}

function firstDay(status: EventStatus | undefined, sets: SubscriptionSetsRow): number {
  if (status === 'delivered') return sets.first_day;
  if (status === 'leased' || status === 'dead') return sets.held_day ?? sets.head_day;
  return sets.open_day;
}

async function attemptsOf(
  tx: Transaction,
  { org, subscription }: PeekRequest,
  events: readonly EventRow[],
): Promise<ReadonlyMap<number, number>> {
  const attempts = new Map<number, number>();
  if (events.length === 0) return attempts;
  const positions = events.map((event) => Number(event.position));
  for (const lease of await leasesHolding(tx, org, subscription, PositionSet.of(positions).toString())) {
    const held = PositionSet.parse(lease.positions);
    for (const position of positions) if (held.has(position)) attempts.set(position, lease.attempt);
  }
  for (const row of await deadLettersAt(tx, org, subscription, positions)) {
    attempts.set(Number(row.position), row.attempts);
  }
  return attempts;
}
