import type { Transaction } from '../database.js';
import { eventColumns } from './events.js';
import type { EventRow } from './events.js';
import type { DayRange } from './subscriptions.js';
import { isWanted } from './type-filter.js';
import type { TypeFilter } from './type-filter.js';

export type ListOrder = 'asc' | 'desc';

/** Where an org's log begins and ends. */
export interface LogEnds {
  readonly epoch: number;
  readonly position: number;
  readonly day: number;
  /** Of the last batch: whatever is stored later has this time or a later one. */
  readonly receivedAtMs: number;
  readonly firstPosition: number;
  readonly firstDay: number;
}

// The primary key gives the order that is asked for, and a page stops early; to sort, all that the org has in those days would be read first.
// Without statistics of a young partition the planner may take the second for cheaper, so it is not offered. And a plan that is kept is one for all
// days: it locks every partition there is.
const planStatement = {
  name: 'event_list_plan',
  text: `
    SELECT set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true),
      set_config('plan_cache_mode', 'force_custom_plan', true)`,
};
const endsStatement = {
  name: 'event_list_ends',
  text: 'SELECT epoch, position, day, received_at, first_position, first_day FROM heads WHERE org = $1',
};

interface EndsRow {
  epoch: number;
  position: string;
  day: number;
  received_at: Date;
  first_position: string;
  first_day: number;
}

/**
 * The first statement of a transaction that reads an org's log: all that it reports is visible to the statements after it. Null if the org is
 * gone.
 */
export async function readLogEnds(tx: Transaction, org: string): Promise<LogEnds | null> {
  const { rows } = await tx.query<EndsRow>(endsStatement, [org]);
  const row = rows[0];
  if (row === undefined) return null;
  // Nobody waits for it: it leaves with the statement that follows. If it fails, so does the transaction.
  tx.query(planStatement).catch(() => {});
  return {
    epoch: row.epoch,
    position: Number(row.position),
    day: row.day,
    receivedAtMs: row.received_at.getTime(),
    firstPosition: Number(row.first_position),
    firstDay: row.first_day,
  };
}

// Bisection by position: each round looks at one event by the primary key, so a day of 2^40 positions takes 40 of them. Every event below `low` is
// too early, and no event from `high` on is.
const boundaryStatement = {
  name: 'event_list_boundary',
  text: `
    WITH RECURSIVE ends AS (
      SELECT
        (SELECT e.position FROM events AS e WHERE e.org = $1 AND e.day = $2 ORDER BY e.position LIMIT 1) AS low,
        (SELECT e.position + 1 FROM events AS e WHERE e.org = $1 AND e.day = $2 ORDER BY e.position DESC LIMIT 1) AS high
    ), search (low, high) AS (
      SELECT low, high FROM ends WHERE low IS NOT NULL
      UNION ALL
      SELECT CASE WHEN e.received_at < $3 THEN e.position + 1 ELSE s.low END, CASE WHEN e.received_at < $3 THEN s.high ELSE s.middle END
      FROM (SELECT low, high, (low + high) / 2 AS middle FROM search WHERE low < high) AS s
      LEFT JOIN LATERAL (
        SELECT e.position, e.received_at FROM events AS e
        WHERE e.org = $1 AND e.day = $2 AND e.position >= s.middle AND e.position < s.high
        ORDER BY e.position LIMIT 1
      ) AS e ON true
    )
    SELECT low AS position FROM search WHERE low >= high`,
};

/** The position from which on the events of `day` were received at or after `time`: above all of them if none was. Null: the day has none. */
export async function findBoundary(tx: Transaction, org: string, day: number, time: string): Promise<number | null> {
  const { rows } = await tx.query<{ position: string }>(boundaryStatement, [org, day, time]);
  return rows[0] === undefined ? null : Number(rows[0].position);
}

/** A stretch of the log, ends included. */
export interface Stretch {
  readonly firstPosition: number;
  readonly lastPosition: number;
  readonly days: DayRange;
}

export interface ListedRow {
  readonly position: number;
  readonly day: number;
  /** What the event takes in a reply, at most: a character of the subject may have to be escaped. */
  readonly bytes: number;
}

export interface Listed {
  /** Those that the filter wants, in the order that was asked for. */
  readonly rows: readonly ListedRow[];
  /** How many events were looked at, and the last of them; null if there was none. */
  readonly scanned: number;
  readonly last: { readonly position: number; readonly day: number } | null;
}

const listStatement = (order: ListOrder) => ({
  name: `event_list_${order}`,
  text: `
    WITH scanned AS MATERIALIZED (
      SELECT e.position, e.day,
        CASE WHEN $10::boolean THEN octet_length(e.payload) ELSE 0 END + octet_length(e.type) + 6 * coalesce(octet_length(e.subject), 0)
          + coalesce(octet_length(e.attributes::text), 0) + 320 AS bytes,
        ${isWanted('$6', '$7')} AS wanted
      FROM events AS e
      WHERE e.org = $1 AND e.day BETWEEN $2 AND $3 AND e.position BETWEEN $4 AND $5
      ORDER BY e.position ${order} LIMIT $8
    ), numbered AS (
      SELECT position, day, bytes, wanted, row_number() OVER () AS number FROM scanned
    )
    (SELECT position, day, bytes, 0 AS scanned FROM numbered WHERE wanted ORDER BY number LIMIT $9)
    UNION ALL
    (SELECT position, day, bytes, number::integer FROM numbered WHERE number = (SELECT count(*) FROM scanned))`,
});
const listStatements = { asc: listStatement('asc'), desc: listStatement('desc') };

/**
 * Looks at up to `scanMax` events of a stretch, in log order or against it, and returns up to `limit` of those that the filter wants, by position
 * and size only: what to read is decided before any payload is read.
 */
export async function scanList(
  tx: Transaction,
  org: string,
  stretch: Stretch,
  order: ListOrder,
  types: TypeFilter | null,
  scanMax: number,
  limit: number,
  countsPayload: boolean,
): Promise<Listed> {
  const { rows } = await tx.query<{ position: string; day: number; bytes: number; scanned: number }>(
    listStatements[order],
    [
      org,
      stretch.days.first,
      stretch.days.last,
      stretch.firstPosition,
      stretch.lastPosition,
      types?.exact ?? null,
      types?.prefixes ?? null,
      scanMax,
      limit,
      countsPayload,
    ],
  );
  const last = rows.find((row) => row.scanned > 0);
  const wanted = rows.filter((row) => row !== last);
  return {
    rows: wanted.map(({ position, day, bytes }) => ({ position: Number(position), day, bytes })),
    scanned: last?.scanned ?? 0,
    last: last === undefined ? null : { position: Number(last.position), day: last.day },
  };
}

// A day for each run, so that each opens one partition; the range of days besides, so that the others are not even planned for. OFFSET 0 keeps the
// planner from joining the runs with everything the org has in those days.
const readStatement = {
  name: 'event_list_read',
  text: `
    SELECT ${eventColumns('$7')}
    FROM unnest($2::bigint[], $3::bigint[], $4::integer[]) AS run (first, last, day)
    CROSS JOIN LATERAL (
      SELECT e.* FROM events AS e
      WHERE e.org = $1 AND e.day BETWEEN $5 AND $6 AND e.day = run.day AND e.position BETWEEN run.first AND run.last
      OFFSET 0
    ) AS e`,
};

/** The events of these rows that are still there, in log order. */
export async function readListed(
  tx: Transaction,
  org: string,
  listed: readonly ListedRow[],
  wantsPayload: boolean,
): Promise<EventRow[]> {
  if (listed.length === 0) return [];
  const runs = runsOf(listed);
  const { rows } = await tx.query<EventRow>(readStatement, [
    org,
    runs.map((run) => run.first),
    runs.map((run) => run.last),
    runs.map((run) => run.day),
    Math.min(...runs.map((run) => run.day)),
    Math.max(...runs.map((run) => run.day)),
    wantsPayload,
  ]);
  return rows.toSorted((a, b) => Number(a.position) - Number(b.position));
}

interface Run {
  readonly first: number;
  last: number;
  readonly day: number;
}

/** Neighbours of one day together: a page without a filter is then read in few looks at the index. */
function runsOf(listed: readonly ListedRow[]): Run[] {
  const runs: Run[] = [];
  for (const { position, day } of listed.toSorted((a, b) => a.position - b.position)) {
    const run = runs.at(-1);
    if (run !== undefined && run.day === day && run.last === position - 1) run.last = position;
    else runs.push({ first: position, last: position, day });
  }
  return runs;
}
