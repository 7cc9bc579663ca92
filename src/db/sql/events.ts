import type { Transaction } from '../database.js';
import { partitionName } from './partitions.js';
import type { DayRange } from './subscriptions.js';
import { isWanted } from './type-filter.js';
import type { TypeFilter } from './type-filter.js';

/** The columns of `events` in the order of a COPY row. */
export const eventCopyColumns = [
  'int8',
  'int4',
  'int8',
  'int4',
  'text',
  'text',
  'timestamptz',
  'timestamptz',
  'jsonb',
  'text',
] as const;

export function eventCopyTarget(day: number): string {
  return `${partitionName(day)} (org, epoch, position, day, type, subject, occurred_at, received_at, attributes, payload)`;
}

export interface EventRow {
  epoch: number;
  position: string;
  day: number;
  type: string;
  subject: string | null;
  occurred_at: Date | null;
  received_at: Date;
  attributes: Record<string, unknown> | null;
  /** Null where it was not asked for. */
  payload: string | null;
}

/**
 * The columns of an event; `payload` is read from storage only if the parameter `$n` is true, since it may be large and compressed.
 */
export function eventColumns(wantsPayload: string): string {
  return `e.epoch, e.position, e.day, e.type, e.subject, e.occurred_at, e.received_at, e.attributes,
    CASE WHEN ${wantsPayload}::boolean THEN e.payload END AS payload`;
}

const findStatement = {
  name: 'event_find',
  text: `SELECT ${eventColumns('$5')} FROM events AS e WHERE e.org = $1 AND e.day = $2 AND e.position = $3 AND e.epoch = $4`,
};

export async function findEvent(
  tx: Pick<Transaction, 'query'>,
  org: string,
  address: { readonly epoch: number; readonly position: number; readonly day: number },
  wantsPayload: boolean,
): Promise<EventRow | null> {
  const { rows } = await tx.query<EventRow>(findStatement, [
    org,
    address.day,
    address.position,
    address.epoch,
    wantsPayload,
  ]);
  return rows[0] ?? null;
}

export interface ScanRow {
  position: string;
  day: number;
  /** What the event takes in a reply, at most: a character of the subject may have to be escaped. */
  bytes: number;
  matches: boolean;
}

// The end of a range stands outside: the planner takes two bounds that it does not know for next to no rows, and would read and sort all that the org has in
// those days instead of going along the index.
const scanStatement = {
  name: 'events_scan',
  text: `
    SELECT e.position, e.day, octet_length(e.payload) + octet_length(e.type) + 6 * coalesce(octet_length(e.subject), 0)
        + coalesce(octet_length(e.attributes::text), 0) + 320 AS bytes,
      ${isWanted('$5', '$6')} AND ${isWanted('$8', '$9')} AS matches
    FROM unnest($2::int8multirange) AS r
    CROSS JOIN LATERAL (
      SELECT e.position, e.day, e.type, e.subject, e.attributes, e.payload FROM events AS e
      WHERE e.org = $1 AND e.day BETWEEN $3 AND $4 AND e.position >= lower(r)
      ORDER BY e.position LIMIT LEAST($7, upper(r) - lower(r))
    ) AS e
    WHERE e.position < upper(r)
    ORDER BY e.position LIMIT $7`,
};

/**
 * The first `limit` events at these positions and days, in log order, by position and size only: what to read is decided before any payload
 * is read. A row that either filter does not want is returned too, so that the caller knows how far it has come.
 */
export async function scanEvents(
  tx: Transaction,
  org: string,
  positions: string,
  days: DayRange,
  filters: readonly [TypeFilter | null, TypeFilter | null],
  limit: number,
): Promise<ScanRow[]> {
  const [types, also] = filters;
  const { rows } = await tx.query<ScanRow>(scanStatement, [
    org,
    positions,
    days.first,
    days.last,
    types?.exact ?? null,
    types?.prefixes ?? null,
    limit,
    also?.exact ?? null,
    also?.prefixes ?? null,
  ]);
  return rows;
}

// OFFSET 0 keeps the planner from joining the ranges with everything the org has in those days: it looks into each range by the index.
const readAtStatement = {
  name: 'events_read_at',
  text: `
    SELECT ${eventColumns('$5')}
    FROM unnest($2::int8multirange) AS r
    CROSS JOIN LATERAL (
      SELECT e.* FROM events AS e
      WHERE e.org = $1 AND e.day BETWEEN $3 AND $4 AND e.position >= lower(r) AND e.position < upper(r)
      OFFSET 0
    ) AS e
    ORDER BY e.position`,
};

/** The events at these positions and days, in log order. */
export async function readEventsAt(
  tx: Transaction,
  org: string,
  positions: string,
  days: DayRange,
  wantsPayload: boolean,
): Promise<EventRow[]> {
  return (await tx.query<EventRow>(readAtStatement, [org, positions, days.first, days.last, wantsPayload])).rows;
}

// What of the page fits is decided in the database, so that it takes one statement; a payload that does not fit is never read from where large ones are stored.
const readFirstStatement = {
  name: 'events_read_first',
  text: `
    SELECT ${eventColumns('$5')}, e.more
    FROM (
      SELECT e.*, row_number() OVER page AS number, lead(true, 1, false) OVER page AS more,
        sum(octet_length(e.payload) + octet_length(e.type) + 6 * coalesce(octet_length(e.subject), 0)
          + coalesce(octet_length(e.attributes::text), 0) + 320) OVER (page ROWS UNBOUNDED PRECEDING) AS bytes
      FROM (
        SELECT e.*
        FROM unnest($2::int8multirange) AS r
        CROSS JOIN LATERAL (
          SELECT e.* FROM events AS e
          WHERE e.org = $1 AND e.day BETWEEN $3 AND $4 AND e.position >= lower(r)
          ORDER BY e.position LIMIT LEAST($6::bigint + 1, upper(r) - lower(r))
        ) AS e
        WHERE e.position < upper(r)
        ORDER BY e.position LIMIT $6::bigint + 1
      ) AS e
      WINDOW page AS (ORDER BY e.position)
    ) AS e
    WHERE e.number <= $6 AND (e.number = 1 OR e.bytes <= $7 OR NOT $5)
    ORDER BY e.position`,
};

/**
 * The first `limit` events at these positions and days, in log order. With payloads it stops before the event that would make a reply larger than `bytesMax`, but
 * holds at least one. `more`: there is one behind the last.
 */
export async function readFirstEvents(
  tx: Transaction,
  org: string,
  positions: string,
  days: DayRange,
  limit: number,
  bytesMax: number,
  wantsPayload: boolean,
): Promise<{ readonly events: EventRow[]; readonly more: boolean }> {
  const values = [org, positions, days.first, days.last, wantsPayload, limit, bytesMax];
  const { rows } = await tx.query<EventRow & { more: boolean }>(readFirstStatement, values);
  return { events: rows, more: rows.at(-1)?.more ?? false };
}

const existStatement = {
  name: 'events_exist',
  text: `
    SELECT e.epoch, e.position, e.day, e.type
    FROM unnest($2::bigint[], $3::integer[], $4::integer[]) AS wanted (position, day, epoch)
    CROSS JOIN LATERAL (
      SELECT e.epoch, e.position, e.day, e.type FROM events AS e
      WHERE e.org = $1 AND e.day = ANY ($5::integer[])
        AND e.position = wanted.position AND e.day = wanted.day AND e.epoch = wanted.epoch
      OFFSET 0
    ) AS e`,
};

/** Which of these addresses hold an event. */
export async function existingEvents(
  tx: Transaction,
  org: string,
  addresses: readonly { readonly epoch: number; readonly position: number; readonly day: number }[],
): Promise<
  readonly { readonly epoch: number; readonly position: number; readonly day: number; readonly type: string }[]
> {
  const days = addresses.map((address) => address.day);
  const { rows } = await tx.query<{ epoch: number; position: string; day: number; type: string }>(existStatement, [
    org,
    addresses.map((address) => address.position),
    days,
    addresses.map((address) => address.epoch),
    [...new Set(days)],
  ]);
  return rows.map((row) => ({ ...row, position: Number(row.position) }));
}
