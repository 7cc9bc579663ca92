import type { Transaction } from '../database.js';
import { isWanted } from './type-filter.js';
import type { TypeFilter } from './type-filter.js';

/** The state of a subscription over its org's log; see the comments of migration 0001. */
export interface SubscriptionRow {
  cursor: string;
  cursor_day: number;
  ahead: string;
  held: string;
  dead: string;
  skipped: string;
  filters: FilterVersion[];
  max_attempts: number;
}

/** From this position on, until the next version's: the patterns of types that are wanted; null: all. */
export interface FilterVersion {
  readonly from: number;
  readonly types: readonly string[] | null;
}

const lockStatement = {
  name: 'subscription_lock',
  text: `
    SELECT cursor, cursor_day, ahead::text AS ahead, held, dead, skipped::text AS skipped, filters, max_attempts FROM subscriptions
    WHERE org = $1 AND subscription = $2 FOR UPDATE`,
};

/** The lock that every change of a subscription takes first. What is read after it is read with a newer snapshot. */
export async function lockSubscription(
  tx: Transaction,
  org: string,
  subscription: number,
): Promise<SubscriptionRow | null> {
  return (await tx.query<SubscriptionRow>(lockStatement, [org, subscription])).rows[0] ?? null;
}

const lockWithHeadStatement = {
  name: 'subscription_lock_with_head',
  text: `
    SELECT s.cursor, s.cursor_day, s.ahead::text AS ahead, s.held, s.dead, s.skipped::text AS skipped, s.filters, s.max_attempts,
      h.position, h.day, h.first_position, h.first_day
    FROM subscriptions AS s JOIN heads AS h ON h.org = s.org
    WHERE s.org = $1 AND s.subscription = $2 FOR UPDATE OF s`,
};

/**
 * As `lockSubscription`, with the head of the log as it was before a wait for the lock: what came into the log meanwhile may lie above it, and others may have
 * acknowledged it.
 */
export async function lockWithHead(
  tx: Transaction,
  org: string,
  subscription: number,
): Promise<{ readonly state: SubscriptionRow; readonly head: Head } | null> {
  const { rows } = await tx.query<SubscriptionRow & HeadRow>(lockWithHeadStatement, [org, subscription]);
  return rows[0] === undefined ? null : { state: rows[0], head: headOf(rows[0]) };
}

// The lock is taken only where the look, of this statement's snapshot, found something: the condition names no column of the row, so it is decided before any
// row is looked at. Whoever waits for the lock gets the newest state with it, but the head of before its wait.
const lockOutlookStatement = {
  name: 'subscription_lock_outlook',
  text: `
    WITH outlook AS (
      SELECT h.position, h.day, h.first_position, h.first_day,
        (SELECT min(l.available_at) FROM leases AS l WHERE l.org = s.org AND l.subscription = s.subscription) AS due,
        h.position > s.cursor AS behind
      FROM subscriptions AS s JOIN heads AS h ON h.org = s.org
      WHERE s.org = $1 AND s.subscription = $2
    ), locked AS (
      SELECT cursor, cursor_day, ahead::text AS ahead, held, dead, skipped::text AS skipped, filters, max_attempts FROM subscriptions
      WHERE org = $1 AND subscription = $2 AND (SELECT behind OR coalesce(due <= $3, false) FROM outlook)
      FOR UPDATE
    )
    SELECT outlook.*, locked.* FROM outlook LEFT JOIN locked ON true`,
};

/** Where the log of a subscription stood when it was looked at, and when the first lease ends or retry is due. */
export interface Outlook {
  readonly head: Head;
  /** The log went on above the cursor. */
  readonly behind: boolean;
  readonly due: Date | null;
}

/**
 * Looks whether there is anything above the cursor, or a lease or retry due at `now`, and only then locks as `lockSubscription`: a lock is written to disk with
 * the commit. Null if there is no such subscription; no state: nothing is to be done, or the subscription was deleted meanwhile.
 */
export async function lockIfAnything(
  tx: Transaction,
  org: string,
  subscription: number,
  now: Date,
): Promise<(Outlook & { readonly state: SubscriptionRow | null }) | null> {
  type Row = HeadRow & { behind: boolean; due: Date | null } & {
    [Column in keyof SubscriptionRow]: SubscriptionRow[Column] | null;
  };
  const { rows } = await tx.query<Row>(lockOutlookStatement, [org, subscription, now.toISOString()]);
  const row = rows[0];
  if (row === undefined) return null;
  const state = row.cursor === null ? null : (row as SubscriptionRow);
  return { head: headOf(row), behind: row.behind, due: row.due, state };
}

const moveStatement = {
  name: 'subscription_move',
  text: `
    UPDATE subscriptions SET cursor = $3, cursor_day = $4, ahead = $5::int8multirange, held = held + $6, dead = dead + $7
    WHERE org = $1 AND subscription = $2`,
};

/** Where a subscription goes, and how its counts change. */
export interface SubscriptionMove {
  readonly cursor: number;
  readonly cursorDay: number;
  readonly ahead: string;
  readonly heldChange: number;
  readonly deadChange?: number;
}

export async function moveSubscription(
  tx: Transaction,
  org: string,
  subscription: number,
  to: SubscriptionMove,
): Promise<void> {
  const { cursor, cursorDay, ahead, heldChange, deadChange = 0 } = to;
  await tx.query(moveStatement, [org, subscription, cursor, cursorDay, ahead, heldChange, deadChange]);
}

const skipStatement = {
  name: 'subscription_skip',
  text: `UPDATE subscriptions SET skipped = $3::int8multirange WHERE org = $1 AND subscription = $2`,
};

/** Notes what the subscription passed over without handing it out. */
export async function setSkipped(tx: Transaction, org: string, subscription: number, skipped: string): Promise<void> {
  await tx.query(skipStatement, [org, subscription, skipped]);
}

const headStatement = {
  name: 'subscription_head',
  text: 'SELECT position, day, first_position, first_day FROM heads WHERE org = $1',
};

export interface Head {
  readonly position: number;
  readonly day: number;
  readonly firstPosition: number;
  readonly firstDay: number;
}

export async function readHead(tx: Pick<Transaction, 'query'>, org: string): Promise<Head | null> {
  const { rows } = await tx.query<HeadRow>(headStatement, [org]);
  return rows[0] === undefined ? null : headOf(rows[0]);
}

interface HeadRow {
  position: string;
  day: number;
  first_position: string;
  first_day: number;
}

function headOf(row: HeadRow): Head {
  return {
    position: Number(row.position),
    day: row.day,
    firstPosition: Number(row.first_position),
    firstDay: row.first_day,
  };
}

const setsStatement = {
  name: 'subscription_sets',
  text: `
    WITH state AS (
      SELECT s.cursor, s.cursor_day, s.ahead, h.position AS head, h.day AS head_day, h.first_position, h.first_day, s.max_attempts,
        s.skipped, s.filters
      FROM subscriptions AS s JOIN heads AS h ON h.org = s.org
      WHERE s.org = $1 AND s.subscription = $2
    ), held AS (
      SELECT
        coalesce(range_agg(l.positions) FILTER (WHERE l.available_at > $3 AND NOT l.waiting), '{}') AS leased,
        coalesce(range_agg(l.positions) FILTER (WHERE (l.available_at <= $3 OR l.waiting) AND l.attempt < state.max_attempts), '{}') AS waiting,
        coalesce(range_agg(l.positions) FILTER (WHERE (l.available_at <= $3 OR l.waiting) AND l.attempt >= state.max_attempts), '{}') AS dying,
        min(l.first_day) AS first_day
      FROM leases AS l, state WHERE l.org = $1 AND l.subscription = $2
    ), buried AS (
      SELECT coalesce(range_agg(int8range(d.position, d.position, '[]')), '{}') AS dead, min(d.day) AS first_day
      FROM dead_letters AS d WHERE d.org = $1 AND d.subscription = $2
    )
    SELECT
      ((int8multirange(int8range(state.cursor, state.head, '(]')) - state.ahead) + held.waiting)::text AS pending,
      held.leased::text AS leased,
      (buried.dead + held.dying)::text AS dead,
      (int8multirange(int8range(state.first_position, GREATEST(state.cursor + 1, state.first_position), '[)'))
        + state.ahead - held.leased - held.waiting - held.dying - buried.dead - state.skipped)::text AS delivered,
      (state.skipped * int8multirange(int8range(state.first_position, NULL)))::text AS skipped, state.filters,
      LEAST(state.cursor_day, held.first_day) AS open_day,
      LEAST(held.first_day, buried.first_day) AS held_day,
      state.first_day, state.head_day
    FROM state, held, buried`,
};

/** Every position of the log, by what the subscription has done with it. A gap counts where its neighbours do. */
export interface SubscriptionSetsRow {
  pending: string;
  leased: string;
  dead: string;
  delivered: string;
  /** Passed over without having been handed out. */
  skipped: string;
  /** An event whose type the version at its position does not want counts nowhere. */
  filters: FilterVersion[];
  /** The earliest day of what is pending or leased. */
  open_day: number;
  /** The earliest day of what is leased, waiting or dead; null if there is none. */
  held_day: number | null;
  /** The days between which the log's events lie. */
  first_day: number;
  head_day: number;
}

export async function readSubscriptionSets(
  tx: Transaction,
  org: string,
  subscription: number,
  now: Date,
): Promise<SubscriptionSetsRow | null> {
  const { rows } = await tx.query<SubscriptionSetsRow>(setsStatement, [org, subscription, now.toISOString()]);
  return rows[0] ?? null;
}

const statsStatement = {
  name: 'subscription_stats',
  text: `
    SELECT count(*)::text AS events, min(e.received_at) AS oldest
    FROM unnest($2::int8multirange) AS r
    CROSS JOIN LATERAL (
      SELECT e.type, e.received_at FROM events AS e
      WHERE e.org = $1 AND e.day BETWEEN $3 AND $4 AND e.position >= lower(r) AND e.position < upper(r)
      OFFSET 0
    ) AS e
    WHERE ${isWanted('$5', '$6')}`,
};

/** How many events that the filter wants there are at these positions, and when the oldest of them was received. */
export async function countEvents(
  tx: Transaction,
  org: string,
  positions: string,
  days: DayRange,
  types: TypeFilter | null,
): Promise<{ readonly events: number; readonly oldest: Date | null }> {
  const { rows } = await tx.query<{ events: string; oldest: Date | null }>(statsStatement, [
    org,
    positions,
    days.first,
    days.last,
    types?.exact ?? null,
    types?.prefixes ?? null,
  ]);
  return { events: Number(rows[0]?.events ?? 0), oldest: rows[0]?.oldest ?? null };
}

/** Days since 1970-01-01, both included. Every read of events names one, so that only those partitions are opened. */
export interface DayRange {
  readonly first: number;
  readonly last: number;
}
