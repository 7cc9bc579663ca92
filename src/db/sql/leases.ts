import type { QueryResult, Transaction } from '../database.js';
import type { DayRange, SubscriptionMove } from './subscriptions.js';

export interface LeaseRow {
  lease: string;
  attempt: number;
  available_at: Date;
  positions: string;
  first_day: number;
  last_day: number;
  /** Released before its end or redriven: nobody has it. */
  waiting: boolean;
}

const leaseColumns = 'lease, attempt, available_at, positions::text AS positions, first_day, last_day, waiting';

const dueStatement = {
  name: 'leases_due',
  text: `
    SELECT ${leaseColumns} FROM leases
    WHERE org = $1 AND subscription = $2 AND available_at <= $3
    ORDER BY available_at, lease LIMIT $4`,
};

/** Leases that have ended and retries whose time has come, those that wait longest first. */
export async function dueLeases(
  tx: Transaction,
  org: string,
  subscription: number,
  now: Date,
  limit: number,
): Promise<LeaseRow[]> {
  return (await tx.query<LeaseRow>(dueStatement, [org, subscription, now.toISOString(), limit])).rows;
}

const nextDueStatement = {
  name: 'leases_next_due',
  text: 'SELECT min(available_at) AS at FROM leases WHERE org = $1 AND subscription = $2',
};

/** When the next lease ends or retry is due; null if there is neither. */
export async function nextDueAt(tx: Transaction, org: string, subscription: number): Promise<Date | null> {
  return (await tx.query<{ at: Date | null }>(nextDueStatement, [org, subscription])).rows[0]?.at ?? null;
}

const findLeaseStatement = {
  name: 'lease_find',
  text: `SELECT ${leaseColumns} FROM leases WHERE org = $1 AND subscription = $2 AND lease = $3`,
};

export async function findLease(
  tx: Transaction,
  org: string,
  subscription: number,
  lease: string,
): Promise<LeaseRow | null> {
  return (await tx.query<LeaseRow>(findLeaseStatement, [org, subscription, lease])).rows[0] ?? null;
}

const insertLeaseStatement = {
  name: 'lease_insert',
  text: `
    INSERT INTO leases (org, subscription, lease, attempt, available_at, positions, first_day, last_day, waiting)
    VALUES ($1, $2, $3, $4, $5, $6::int8multirange, $7, $8, $9)`,
};

export interface NewLease {
  readonly lease: string;
  readonly attempt: number;
  readonly availableAt: Date;
  readonly positions: string;
  readonly days: DayRange;
}

export async function insertLease(
  tx: Transaction,
  org: string,
  subscription: number,
  lease: NewLease & { readonly waiting?: boolean },
): Promise<void> {
  await tx.query(insertLeaseStatement, [
    org,
    subscription,
    lease.lease,
    lease.attempt,
    lease.availableAt.toISOString(),
    lease.positions,
    lease.days.first,
    lease.days.last,
    lease.waiting ?? false,
  ]);
}

const handOutStatement = {
  name: 'lease_hand_out',
  text: `
    WITH moved AS (
      UPDATE subscriptions SET cursor = $9, cursor_day = $10, ahead = $11::int8multirange, held = held + $12, dead = dead + $13
      WHERE org = $1 AND subscription = $2 RETURNING org
    )
    INSERT INTO leases (org, subscription, lease, attempt, available_at, positions, first_day, last_day)
    SELECT $1, $2, new.lease, new.attempt, new.available_at, new.positions::int8multirange, new.first_day, new.last_day
    FROM moved
    CROSS JOIN unnest($3::text[], $4::integer[], $5::timestamptz[], $6::text[], $7::integer[], $8::integer[])
      AS new (lease, attempt, available_at, positions, first_day, last_day)`,
};

/** Inserts leases, and moves their subscription past them. Resolves with their number, or with 0 if there is no such subscription. */
export async function handOut(
  tx: Transaction,
  org: string,
  subscription: number,
  leases: readonly NewLease[],
  to: SubscriptionMove,
): Promise<number> {
  const { cursor, cursorDay, ahead, heldChange, deadChange = 0 } = to;
  const values = [
    org,
    subscription,
    leases.map(({ lease }) => lease),
    leases.map(({ attempt }) => attempt),
    leases.map(({ availableAt }) => availableAt.toISOString()),
    leases.map(({ positions }) => positions),
    leases.map(({ days }) => days.first),
    leases.map(({ days }) => days.last),
    cursor,
    cursorDay,
    ahead,
    heldChange,
    deadChange,
  ];
  return (await tx.query(handOutStatement, values)).rowCount;
}

const extendStatement = {
  name: 'lease_extend',
  text: `
    UPDATE leases SET available_at = $4
    WHERE org = $1 AND subscription = $2 AND lease = $3 AND NOT waiting AND available_at > $5`,
};

/** Moves the end of a lease that has not ended at `now`. False: there is no such lease. */
export async function extendLease(
  tx: Transaction,
  org: string,
  subscription: number,
  lease: string,
  endsAt: Date,
  now: Date,
): Promise<boolean> {
  const values = [org, subscription, lease, endsAt.toISOString(), now.toISOString()];
  return (await tx.query(extendStatement, values)).rowCount > 0;
}

const overlapStatement = {
  name: 'leases_overlap',
  text: `
    SELECT lease, attempt, available_at, (positions * $3::int8multirange)::text AS positions, first_day, last_day, waiting FROM leases
    WHERE org = $1 AND subscription = $2 AND positions && $3::int8multirange`,
};

/** The leases that hold any of these positions, each with those of them that it holds. */
export async function leasesHolding(
  tx: Transaction,
  org: string,
  subscription: number,
  positions: string,
): Promise<LeaseRow[]> {
  return (await tx.query<LeaseRow>(overlapStatement, [org, subscription, positions])).rows;
}

const deleteCoveredStatement = {
  name: 'leases_delete_covered',
  text: `
    DELETE FROM leases
    WHERE org = $1 AND subscription = $2 AND lease = ANY ($3::text[]) AND positions <@ $4::int8multirange`,
};
const shrinkStatement = {
  name: 'leases_shrink',
  text: `
    UPDATE leases SET positions = positions - $4::int8multirange
    WHERE org = $1 AND subscription = $2 AND lease = ANY ($3::text[]) AND positions && $4::int8multirange`,
};

/** Takes positions out of these leases; what is left empty is deleted. Rows that hold none of them are not written. */
export async function removeFromLeases(
  tx: Transaction,
  org: string,
  subscription: number,
  leases: readonly string[],
  positions: string,
): Promise<void> {
  const { rowCount } = await tx.query(deleteCoveredStatement, [org, subscription, leases, positions]);
  if (rowCount < leases.length) await tx.query(shrinkStatement, [org, subscription, leases, positions]);
}

const takeStatement = {
  name: 'leases_take',
  text: `
    WITH held AS MATERIALIZED (
      SELECT lease, positions <@ $3::int8multirange AS covered, (positions * $3::int8multirange)::text AS positions FROM leases
      WHERE org = $1 AND subscription = $2 AND positions && $3::int8multirange
    ), gone AS (
      DELETE FROM leases AS l USING held
      WHERE l.org = $1 AND l.subscription = $2 AND l.lease = held.lease AND held.covered
    ), shrunk AS (
      UPDATE leases AS l SET positions = l.positions - $3::int8multirange FROM held
      WHERE l.org = $1 AND l.subscription = $2 AND l.lease = held.lease AND NOT held.covered
    )
    SELECT positions FROM held`,
};

/**
 * Takes positions out of whichever leases hold them; what is left empty is deleted. Returns those of each lease. The caller has locked the subscription in a
 * statement before, so that the leases are as this one sees them.
 */
export async function takeFromLeases(
  tx: Transaction,
  org: string,
  subscription: number,
  positions: string,
): Promise<string[]> {
  const { rows } = await tx.query<{ positions: string }>(takeStatement, [org, subscription, positions]);
  return rows.map((row) => row.positions);
}

// Rows found by their keys, so a snapshot from before the lock is enough: one that somebody has changed meanwhile is read anew, as the subscription's is.
const settleStatement = {
  name: 'leases_settle',
  text: `
    WITH locked AS MATERIALIZED (
      SELECT org, subscription FROM subscriptions WHERE org = $1 AND subscription = $2 FOR UPDATE
    ), gone AS (
      DELETE FROM leases AS l USING locked
      WHERE l.org = $1 AND l.subscription = $2 AND l.lease = ANY ($3::text[])
      RETURNING l.lease, (SELECT sum(upper(r) - lower(r)) FROM unnest(l.positions) AS r) AS events
    ), counted AS (
      SELECT sum(events) AS events FROM gone HAVING count(*) > 0
    ), moved AS (
      UPDATE subscriptions AS s SET held = s.held - counted.events FROM counted WHERE s.org = $1 AND s.subscription = $2
    )
    SELECT gone.lease, gone.events::integer FROM locked LEFT JOIN gone ON true`,
};

/**
 * Locks the subscription, deletes leases with all that they still hold, and counts that out of what is held. Resolves with the number of events of each lease that
 * there was, and with null where there is no such subscription.
 */
export async function settleLeases(
  tx: Transaction,
  org: string,
  subscription: number,
  leases: readonly string[],
): Promise<Map<string, number> | null> {
  type Row = { lease: string | null; events: number | null };
  const { rows } = await tx.query<Row>(settleStatement, [org, subscription, leases]);
  if (rows.length === 0) return null;
  return new Map(rows.flatMap(({ lease, events }) => (lease === null ? [] : [[lease, events ?? 0] as const])));
}

const dyingStatement = {
  name: 'leases_dying',
  text: `
    SELECT ${leaseColumns} FROM leases
    WHERE org = $1 AND subscription = $2 AND attempt >= $4 AND (waiting OR available_at <= $3)`,
};

/** Leases whose last attempt has ended, and which no receive has made dead letters yet. */
export async function dyingLeases(
  tx: Transaction,
  org: string,
  subscription: number,
  now: Date,
  attemptsMax: number,
): Promise<LeaseRow[]> {
  return (await tx.query<LeaseRow>(dyingStatement, [org, subscription, now.toISOString(), attemptsMax])).rows;
}

const buryStatement = {
  name: 'dead_letters_insert',
  text: `
    INSERT INTO dead_letters (org, subscription, position, day, attempts, died_at)
    SELECT $1, $2, e.position, e.day, $6, $7
    FROM unnest($3::int8multirange) AS r
    CROSS JOIN LATERAL (
      SELECT e.position, e.day FROM events AS e
      WHERE e.org = $1 AND e.day BETWEEN $4 AND $5 AND e.position >= lower(r) AND e.position < upper(r)
      OFFSET 0
    ) AS e`,
};

/** Makes dead letters of the events at these positions. */
export async function insertDeadLetters(
  tx: Transaction,
  org: string,
  subscription: number,
  lease: LeaseRow,
  diedAt: Date,
): Promise<void> {
  await tx.query(buryStatement, [
    org,
    subscription,
    lease.positions,
    lease.first_day,
    lease.last_day,
    lease.attempt,
    diedAt.toISOString(),
  ]);
}

const deadAtStatement = {
  name: 'dead_letters_at',
  text: `
    SELECT position, attempts FROM dead_letters
    WHERE org = $1 AND subscription = $2 AND position = ANY ($3::bigint[])`,
};

export async function deadLettersAt(
  tx: Transaction,
  org: string,
  subscription: number,
  positions: readonly number[],
): Promise<{ position: string; attempts: number }[]> {
  return (await tx.query<{ position: string; attempts: number }>(deadAtStatement, [org, subscription, positions])).rows;
}

const deleteDeadAtStatement = {
  name: 'dead_letters_delete_at',
  text: `
    DELETE FROM dead_letters WHERE org = $1 AND subscription = $2 AND position = ANY ($3::bigint[])
    RETURNING position, day`,
};

/** Ends the dead letters at these positions, and returns where there were any. */
export async function deleteDeadAt(
  tx: Transaction,
  org: string,
  subscription: number,
  positions: readonly number[],
): Promise<DeadPlace[]> {
  return deadPlaces(await tx.query<DeadPlaceRow>(deleteDeadAtStatement, [org, subscription, positions]));
}

interface DeadPlaceRow {
  position: string;
  day: number;
}

export interface DeadPlace {
  readonly position: number;
  readonly day: number;
}

function deadPlaces({ rows }: QueryResult<DeadPlaceRow>): DeadPlace[] {
  return rows.map((row) => ({ position: Number(row.position), day: row.day }));
}

const deleteDeadFromStatement = {
  name: 'dead_letters_delete_from',
  text: `
    DELETE FROM dead_letters WHERE org = $1 AND subscription = $2 AND position >= $3
    RETURNING position, day`,
};

/** Ends the dead letters from a position on, and returns where they were. There are at most as many as a subscription may have. */
export async function deleteDeadFrom(
  tx: Transaction,
  org: string,
  subscription: number,
  position: number,
): Promise<DeadPlace[]> {
  return deadPlaces(await tx.query<DeadPlaceRow>(deleteDeadFromStatement, [org, subscription, position]));
}
