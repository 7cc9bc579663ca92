/** The erasures of subjects (docs/erasure.md): the requests, their progress, and their certificates. */
import type { Database, Transaction } from '../database.js';
import type { DayRange } from './subscriptions.js';

/** Rows taken out of a table, and the days between which their events lie. */
export interface ErasedRows {
  readonly rows: number;
  readonly first_day: number;
  readonly last_day: number;
}

export type ErasureTable = 'events' | 'leases' | 'dead_letters';
/** A table of which nothing was taken is not in it. */
export type ErasureCounts = Readonly<Partial<Record<ErasureTable, ErasedRows>>>;

export interface ErasureRow {
  erasure: string;
  /** Null once it is done. */
  subject: string | null;
  subject_hash: Buffer;
  requested_at: Date;
  covers_until: Date;
  last_position: string;
  last_day: number;
  position: string;
  day: number;
  began_at: Date | null;
  ended_at: Date | null;
  counts: ErasureCounts;
}

const columns =
  'erasure, subject, subject_hash, requested_at, covers_until, last_position, last_day, position, day, began_at, ended_at, counts';

const lockRequestsStatement = {
  name: 'erasure_requests_lock',
  text: `SELECT pg_advisory_xact_lock(hashtextextended('sluice erasures ' || $1, 0))`,
};
const countStatement = {
  name: 'erasure_count_running',
  text: 'SELECT count(*)::integer AS running FROM erasures WHERE org = $1 AND subject IS NOT NULL',
};

/** How many erasures of the org are under way. Holds off its other requests until the transaction ends, so that a limit on it is exact. */
export async function countErasuresForRequest(tx: Transaction, org: string): Promise<number> {
  await tx.query(lockRequestsStatement, [org]);
  return (await tx.query<{ running: number }>(countStatement, [org])).rows[0]?.running ?? 0;
}

const extendStatement = {
  name: 'erasure_extend',
  text: `
    UPDATE erasures SET last_position = $3, last_day = $4, covers_until = $5 WHERE org = $1 AND subject = $2
    RETURNING ${columns}`,
};

/** Makes the erasure of a subject that is under way go on to a later end of the log. Null: none is. */
export async function extendErasure(
  tx: Transaction,
  org: string,
  subject: string,
  to: { readonly lastPosition: number; readonly lastDay: number; readonly at: Date },
): Promise<ErasureRow | null> {
  const values = [org, subject, to.lastPosition, to.lastDay, to.at.toISOString()];
  return (await tx.query<ErasureRow>(extendStatement, values)).rows[0] ?? null;
}

const insertStatement = {
  name: 'erasure_insert',
  text: `
    INSERT INTO erasures (org, erasure, subject, subject_hash, requested_at, covers_until, last_position, last_day)
    VALUES ($1, $2, $3, $4, $5, $5, $6, $7)
    RETURNING ${columns}`,
};

export async function insertErasure(
  tx: Transaction,
  org: string,
  erasure: {
    readonly id: string;
    readonly subject: string;
    readonly subjectHash: Buffer;
    readonly at: Date;
    readonly lastPosition: number;
    readonly lastDay: number;
  },
): Promise<ErasureRow> {
  const { id, subject, subjectHash, at, lastPosition, lastDay } = erasure;
  const values = [org, id, subject, subjectHash, at.toISOString(), lastPosition, lastDay];
  const row = (await tx.query<ErasureRow>(insertStatement, values)).rows[0];
  if (row === undefined) throw new Error('INSERT … RETURNING returned no row');
  return row;
}

const findText = `SELECT ${columns} FROM erasures WHERE org = $1 AND erasure = $2`;
const findStatement = { name: 'erasure_find', text: findText };
const lockStatement = {
  name: 'erasure_lock_running',
  text: `${findText} AND subject IS NOT NULL FOR NO KEY UPDATE SKIP LOCKED`,
};

export async function findErasure(tx: Transaction, org: string, erasure: string): Promise<ErasureRow | null> {
  return (await tx.query<ErasureRow>(findStatement, [org, erasure])).rows[0] ?? null;
}

/** An erasure that is under way, locked until the transaction ends. Null if it is done or gone, or another node is at a step of it. */
export async function lockErasure(
  tx: Transaction,
  org: string,
  erasure: string,
): Promise<(ErasureRow & { readonly subject: string }) | null> {
  const { rows } = await tx.query<ErasureRow & { subject: string }>(lockStatement, [org, erasure]);
  return rows[0] ?? null;
}

const scanStatement = {
  name: 'erasure_scan',
  text: `
    SELECT count(*)::integer AS scanned, max(e.position) AS position, max(e.day) AS day,
      coalesce(json_agg(json_build_object('position', e.position, 'day', e.day, 'type', e.type) ORDER BY e.position)
        FILTER (WHERE e.subject = $2), '[]') AS found
    FROM (
      SELECT position, day, type, subject FROM events
      WHERE org = $1 AND day BETWEEN $3 AND $4 AND position > $5 AND position <= $6
      ORDER BY position LIMIT $7
    ) AS e`,
};

export interface FoundEvent {
  readonly position: number;
  readonly day: number;
  readonly type: string;
}

export interface SubjectScan {
  /** How many events were looked at: fewer than the limit if there are no more. */
  readonly scanned: number;
  /** The last of them. */
  readonly reached: { readonly position: number; readonly day: number } | null;
  /** Those of the subject, in the order of the log. */
  readonly found: readonly FoundEvent[];
}

/** Looks at the first `limit` events of some days between two positions (above the first, up to the second), of any subject. */
export async function scanSubject(
  tx: Transaction,
  org: string,
  subject: string,
  days: DayRange,
  above: number,
  upTo: number,
  limit: number,
): Promise<SubjectScan> {
  const { rows } = await tx.query<{ scanned: number; position: string | null; day: number; found: FoundEvent[] }>(
    scanStatement,
    [org, subject, days.first, days.last, above, upTo, limit],
  );
  const row = rows[0];
  if (row === undefined || row.position === null) return { scanned: 0, reached: null, found: [] };
  return { scanned: row.scanned, reached: { position: Number(row.position), day: row.day }, found: row.found };
}

const countErasedStatement = {
  name: 'erasure_count_subscription',
  text: `
    UPDATE subscriptions SET held = held - $3, dead = dead - $4, erased = erased + $3 + $4 + $5
    WHERE org = $1 AND subscription = $2`,
};

/** Notes on a subscription what it lost: positions of its leases, dead letters, and events that it had yet to hand out. */
export async function countErased(
  tx: Transaction,
  org: string,
  subscription: number,
  lost: { readonly held: number; readonly dead: number; readonly pending: number },
): Promise<void> {
  await tx.query(countErasedStatement, [org, subscription, lost.held, lost.dead, lost.pending]);
}

// Without statistics, as the embedded engine has none, the planner would read all of a day.
const byIndexStatement = {
  name: 'erasure_by_index',
  text: `SELECT set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true)`,
};
const deleteStatement = {
  name: 'erasure_delete_events',
  text: 'DELETE FROM events WHERE org = $1 AND day = $2 AND position = ANY ($3::bigint[])',
};

/**
 * Deletes events of a subject whose erasure is under way, in a transaction of `app`, which goes on as `app`; row-level security keeps every other
 * event. Returns how many there were, by day.
 */
export async function deleteSubjectEvents(
  tx: Transaction,
  org: string,
  events: readonly FoundEvent[],
): Promise<ReadonlyMap<number, number>> {
  const deleted = new Map<number, number>();
  await tx.query(byIndexStatement);
  await tx.script('SET LOCAL ROLE sluice_erasure');
  for (const day of new Set(events.map((event) => event.day))) {
    const positions = events.filter((event) => event.day === day).map(({ position }) => position);
    deleted.set(day, (await tx.query(deleteStatement, [org, day, positions])).rowCount);
  }
  await tx.script('SET LOCAL ROLE sluice_app');
  return deleted;
}

const advanceStatement = {
  name: 'erasure_advance',
  text: `
    UPDATE erasures
    SET position = $3, day = $4, counts = $5::jsonb, began_at = coalesce(began_at, $6), ended_at = CASE WHEN $7::boolean THEN $6::timestamptz END,
      subject = CASE WHEN NOT $7 THEN subject END
    WHERE org = $1 AND erasure = $2`,
};

/** Notes how far an erasure has come. With the last step its subject is forgotten. */
export async function advanceErasure(
  tx: Transaction,
  org: string,
  erasure: string,
  to: {
    readonly position: number;
    readonly day: number;
    readonly counts: ErasureCounts;
    readonly at: Date;
    readonly isDone: boolean;
  },
): Promise<void> {
  const { position, day, counts, at, isDone } = to;
  await tx.query(advanceStatement, [org, erasure, position, day, JSON.stringify(counts), at.toISOString(), isDone]);
}

const runningStatement = {
  name: 'erasure_running',
  text: `
    SELECT DISTINCT ON (org) org, erasure FROM erasures WHERE subject IS NOT NULL AND org > $1
    ORDER BY org, requested_at, erasure LIMIT $2`,
};

export interface RunningErasure {
  org: string;
  erasure: string;
}

/** The oldest erasure under way of each org that has one, by org, from the one after `afterOrg` on. */
export async function runningErasures(database: Database, afterOrg: string, limit: number): Promise<RunningErasure[]> {
  const scope = { role: 'erasure', priority: 'read' } as const;
  return (await database.query<RunningErasure>(scope, runningStatement, [afterOrg, limit])).rows;
}

const deleteOldStatement = {
  name: 'erasure_delete_old',
  text: `
    DELETE FROM erasures AS s USING (SELECT org, erasure FROM erasures WHERE ended_at < $1 ORDER BY ended_at LIMIT $2) AS old
    WHERE s.org = old.org AND s.erasure = old.erasure`,
};

/** Deletes some certificates that are older than `before`; row-level security keeps those of the last 365 days. Returns how many. */
export async function deleteCertificates(database: Database, before: Date, limit: number): Promise<number> {
  return (await database.query({ role: 'erasure' }, deleteOldStatement, [before.toISOString(), limit])).rowCount;
}
