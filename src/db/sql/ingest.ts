import type { Database, Scope, Transaction } from '../database.js';
import { StorageError } from '../database.js';
import { levelOf, weaker } from './durability.js';
import { epochFloor, positionJumpMax } from './epochs.js';
import type { Durability } from './durability.js';

/** One org's share of a batch after `reserve`: its events get the positions from `first` on. */
export interface Reservation {
  readonly org: string;
  readonly epoch: number;
  readonly first: number;
  readonly day: number;
  readonly receivedAtMs: number;
}

export interface Reserved {
  readonly byOrg: ReadonlyMap<string, Reservation>;
  /** To ask later what became of this transaction. */
  readonly xid: string;
  /** What a COMMIT of this server means at this moment. */
  readonly durability: Durability;
}

interface ReserveRow {
  org: string;
  epoch: number;
  /** Of its last event in this batch. */
  last: string;
  day: number;
  /** `null`: the time that was asked for. */
  received_at: Date | null;
  xid: string;
  durability: Durability;
}

/** The log may have been restored since its last batch, or promoted with less than all of it. */
const isOtherRun = 'h.server_run IS DISTINCT FROM (SELECT id FROM run)';

const reserveStatement = {
  name: 'ingest_reserve',
  // By index alone, whatever the tables hold, and with nothing the planner could count beforehand: a plan for any values is as good as one for these, so after
  // five the server keeps it for the session, and it stays good when there are more orgs. The index also gives the order of the locks.
  text: `
    WITH run AS MATERIALIZED (
      SELECT sluice_server_run() AS id, pg_current_xact_id()::text AS xid,
        -- Held to its value until the commit, so that the receipt stays true if the operator changes it meanwhile.
        ${levelOf(`set_config('synchronous_commit', current_setting('synchronous_commit'), true)`)} AS durability
    )
    UPDATE heads AS h
    SET position = h.position + ($2::jsonb -> h.org::text)::integer + CASE WHEN ${isOtherRun} THEN $6::bigint ELSE 0 END,
        epoch = CASE WHEN ${isOtherRun} THEN GREATEST(h.epoch + 1, $5::integer) ELSE h.epoch END,
        server_run = (SELECT id FROM run),
        received_at = GREATEST(h.received_at, $3::timestamptz),
        day = GREATEST(h.day, $4::integer)
    WHERE h.org = ANY ((SELECT $1::bigint[])::bigint[])
    RETURNING h.org, h.epoch, h.position AS last, h.day, NULLIF(h.received_at, $3::timestamptz) AS received_at,
      (SELECT xid FROM run), (SELECT durability FROM run)`,
};

/**
 * Moves the head of every org in `shares` by its number of events, under row locks that live until commit: so per org, positions become
 * visible in order. Heads are locked in the order of their orgs, the same for every batch. Where the server's run is another than at the org's last batch, the epoch is raised. An org without a head is left out.
 */
export async function reserve(tx: Transaction, shares: ReadonlyMap<string, number>, nowMs: number): Promise<Reserved> {
  const { rows } = await tx.query<ReserveRow>(reserveStatement, [
    `{${[...shares.keys()].join(',')}}`,
    `{${Array.from(shares, ([org, events]) => `"${org}":${events}`).join(',')}}`,
    new Date(nowMs).toISOString(),
    Math.floor(nowMs / 86_400_000),
    epochFloor(nowMs),
    Math.floor(Math.random() * positionJumpMax),
  ]);
  const byOrg = new Map<string, Reservation>();
  for (const row of rows) {
    const events = shares.get(row.org);
    if (events === undefined) throw new Error(`a head was moved that nobody asked for: ${row.org}`);
    byOrg.set(row.org, {
      org: row.org,
      epoch: row.epoch,
      first: Number(row.last) - events + 1,
      day: row.day,
      receivedAtMs: row.received_at?.getTime() ?? nowMs,
    });
  }
  return { byOrg, xid: rows[0]?.xid ?? '', durability: rows[0]?.durability ?? 'fsync' };
}

/** `synchronous_commit` was held to its value at reserve, so only the rest counts. */
const levelAfterStatement = { name: 'ingest_level_after', text: `SELECT ${levelOf(`'on'`)} AS durability` };

/**
 * Asks, behind the commit, what the server's settings promise now, which may be less than at reserve: an operator may have changed them in
 * between. `null` where nobody can: on the embedded engine. `onLevel` gets the answer.
 */
export function levelAfterCommit(
  database: Database,
  onLevel: (durability: Durability) => void,
): Scope['afterCommit'] | null {
  if (database.engine === 'embedded') return null;
  return {
    statement: levelAfterStatement,
    onRows: ([row]) => onLevel((row as { durability: Durability } | undefined)?.durability ?? 'memory'),
  };
}

/** A dedup id with the event that holds it. */
export interface DedupEntry {
  readonly org: string;
  readonly dedupId: string;
  readonly epoch: number;
  readonly position: number;
  readonly day: number;
  readonly receivedAtMs: number;
  readonly bodyHash: Buffer;
}

const insertDedupStatement = {
  name: 'ingest_dedup_insert',
  text: `
    INSERT INTO dedup (org, dedup_id, epoch, position, day, received_at, body_hash)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::integer[], $4::bigint[], $5::integer[], $6::timestamptz[], $7::bytea[])
    ON CONFLICT DO NOTHING
    RETURNING org, dedup_id`,
};

/** Claims dedup ids for the events of a batch. Returns those that were free, as `org dedup_id` keys of `dedupKey`. */
export async function insertDedup(tx: Transaction, entries: readonly DedupEntry[]): Promise<ReadonlySet<string>> {
  const { rows } = await tx.query<{ org: string; dedup_id: string }>(insertDedupStatement, [
    entries.map((entry) => entry.org),
    entries.map((entry) => entry.dedupId),
    entries.map((entry) => entry.epoch),
    entries.map((entry) => entry.position),
    entries.map((entry) => entry.day),
    entries.map((entry) => new Date(entry.receivedAtMs).toISOString()),
    entries.map((entry) => entry.bodyHash),
  ]);
  return new Set(rows.map((row) => dedupKey(row.org, row.dedup_id)));
}

export function dedupKey(org: string, dedupId: string): string {
  return `${org} ${dedupId}`;
}

export interface DedupRow {
  org: string;
  dedup_id: string;
  epoch: number;
  position: string;
  day: number;
  received_at: Date;
  body_hash: Buffer;
}

const findDedupStatement = {
  name: 'ingest_dedup_find',
  text: `
    SELECT d.org, d.dedup_id, d.epoch, d.position, d.day, d.received_at, d.body_hash
    FROM unnest($1::bigint[], $2::text[]) AS wanted (org, dedup_id)
    JOIN dedup AS d ON d.org = wanted.org AND d.dedup_id = wanted.dedup_id`,
};

/** The entries that hold these dedup ids: a statement of its own, since the insert's snapshot may be older than the winner. */
export async function findDedup(
  tx: Transaction,
  wanted: readonly { readonly org: string; readonly dedupId: string }[],
): Promise<ReadonlyMap<string, DedupEntry>> {
  const { rows } = await tx.query<DedupRow>(findDedupStatement, [
    wanted.map((entry) => entry.org),
    wanted.map((entry) => entry.dedupId),
  ]);
  return new Map(
    rows.map((row) => [
      dedupKey(row.org, row.dedup_id),
      {
        org: row.org,
        dedupId: row.dedup_id,
        epoch: row.epoch,
        position: Number(row.position),
        day: row.day,
        receivedAtMs: row.received_at.getTime(),
        bodyHash: row.body_hash,
      },
    ]),
  );
}

const outcomeStatement = {
  name: 'ingest_outcome',
  text: `SELECT pg_xact_status($1::xid8) AS status, ${levelOf(`'on'`)} AS durability`,
};
const storedStatement = {
  name: 'ingest_outcome_stored',
  text: `
    SELECT count(*)::integer AS events, COALESCE(bool_or(position = $4 AND type = $8 AND payload = $9), false) AS first_found
    FROM events
    WHERE org = $1 AND day = $2 AND epoch = $3 AND position BETWEEN $4 AND $5 AND received_at = $6 AND xmin = $7::xid8::xid`,
};

/** What a transaction was to store for one org. */
export interface StoredShare {
  readonly org: string;
  readonly epoch: number;
  readonly day: number;
  readonly firstPosition: number;
  readonly lastPosition: number;
  readonly receivedAtMs: number;
  readonly events: number;
  /** Of the event at `firstPosition`. */
  readonly firstType: string;
  readonly firstPayload: Buffer;
}

/** `durability` is at most `fsync`: nobody heard whether the wait for a standby was cancelled. */
export type TransactionOutcome =
  { readonly kind: 'committed'; readonly durability: Durability } | { readonly kind: 'aborted' };

/**
 * What became of a transaction whose COMMIT got no answer. `null` where the server cannot tell, it is still under way, or it stored less than it
 * was sent.
 *
 * The status alone proves nothing: a server that crashed gives the numbers of the transactions it lost to others, and positions with them. So a
 * transaction counts as committed only if its very events are there, looked for with a snapshot newer than the status; all of them, since
 * the count of its COPY may not have arrived either.
 */
export async function transactionOutcome(
  database: Database,
  xid: string,
  shares: readonly StoredShare[],
): Promise<TransactionOutcome | null> {
  let durability: Durability = 'fsync';
  const missing = { all: 0, some: 0 };
  for (const share of shares) {
    const found = await shareOutcome(database, xid, share);
    if (found === 'aborted') return { kind: 'aborted' };
    if (found === null) return null;
    durability = weaker(durability, found.durability);
    if (found.events === 0) missing.all++;
    else if (found.events < share.events) missing.some++;
  }
  if (missing.all === shares.length) return { kind: 'aborted' };
  return missing.all + missing.some === 0 ? { kind: 'committed', durability } : null;
}

async function shareOutcome(
  database: Database,
  xid: string,
  share: StoredShare,
): Promise<{ readonly durability: Durability; readonly events: number } | 'aborted' | null> {
  const { org, day, epoch, firstPosition, lastPosition, receivedAtMs, firstType, firstPayload } = share;
  const receivedAt = new Date(receivedAtMs).toISOString();
  try {
    return await database.transaction({ role: 'app', org, priority: 'read' }, async (tx) => {
      const { rows } = await tx.query<{ status: string | null; durability: Durability }>(outcomeStatement, [xid]);
      const [row] = rows;
      if (row?.status === 'aborted') return 'aborted';
      if (row?.status !== 'committed') return null;
      const place = [org, day, epoch, firstPosition, lastPosition, receivedAt, xid];
      const values = [...place, firstType, firstPayload.toString()];
      const found = await tx.query<{ events: number; first_found: boolean }>(storedStatement, values);
      const [stored] = found.rows;
      return { durability: row.durability, events: stored?.first_found === true ? stored.events : 0 };
    });
  } catch (error) {
    // 22023: a number that the server has yet to give out, so it crashed and lost what had it before.
    if (error instanceof StorageError && error.sqlstate === '22023') return 'aborted';
    throw error;
  }
}
