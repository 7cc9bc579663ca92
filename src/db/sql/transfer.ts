/** What an export reads: the state of an org in one snapshot, then its log in pages. Only `first`…`last` days are ever opened. */
import type { Database, Statement, Transaction } from '../database.js';
import type { EventRow } from './events.js';
import type { DedupRow as OrgDedupRow } from './ingest.js';
import type { LeaseRow } from './leases.js';
import type { DayRange, FilterVersion } from './subscriptions.js';
import type { OrgRow } from './tenancy.js';

const totalsStatement = {
  name: 'transfer_totals',
  text: `SELECT count(*)::integer AS orgs, coalesce(sum(position - first_position + 1), 0)::text AS positions FROM heads`,
};

/** How many orgs there are, and how many positions (gaps included) their logs have. */
export async function readTotals(database: Database): Promise<{ readonly orgs: number; readonly positions: number }> {
  const scope = { role: 'system', priority: 'read' } as const;
  const { rows } = await database.query<{ orgs: number; positions: string }>(scope, totalsStatement);
  return { orgs: rows[0]?.orgs ?? 0, positions: Number(rows[0]?.positions ?? 0) };
}

const orgsAfterStatement = {
  name: 'transfer_orgs_after',
  text: 'SELECT org FROM orgs WHERE org > $1 ORDER BY org LIMIT $2',
};

export async function orgsAfter(database: Database, org: string, limit: number): Promise<string[]> {
  const scope = { role: 'system', priority: 'read' } as const;
  return (await database.query<{ org: string }>(scope, orgsAfterStatement, [org, limit])).rows.map((row) => row.org);
}

export type FullOrgRow = Omit<OrgRow, 'keys'>;

export interface FullKeyRow {
  key_id: string;
  hash: Buffer;
  name: string;
  prefix: string;
  scopes: string[];
  created_at: Date;
  expires_at: Date | null;
  retires_at: Date | null;
  last_used_at: Date | null;
}

export interface HeadRow {
  epoch: number;
  position: string;
  day: number;
  received_at: Date;
  first_position: string;
  first_day: number;
}

export interface FullSubscriptionRow {
  subscription: number;
  kind: string;
  name: string;
  max_attempts: number;
  cursor: string;
  cursor_day: number;
  ahead: string;
  held: string;
  dead: string;
  expired: string;
  erased: string;
  skipped: string;
  filters: FilterVersion[];
  created_at: Date;
}

export type FullLeaseRow = LeaseRow & { subscription: number };

export interface DeadLetterRow {
  subscription: number;
  position: string;
  day: number;
  attempts: number;
  died_at: Date;
}

/** An org but its log. Its leases hold at most 100,000 positions a subscription, and so many dead letters are the rule of thumb, too. */
export interface OrgState {
  readonly org: FullOrgRow;
  readonly keys: readonly FullKeyRow[];
  readonly head: HeadRow;
  readonly subscriptions: readonly FullSubscriptionRow[];
  readonly leases: readonly FullLeaseRow[];
  readonly deadLetters: readonly DeadLetterRow[];
}

const orgStatement = {
  name: 'transfer_org',
  text: `
    SELECT org, name, tier, rate_per_minute, burst, limit_mode, retention_days, suspended, created_at FROM orgs WHERE org = $1`,
};
const headStatement = {
  name: 'transfer_head',
  text: 'SELECT epoch, position, day, received_at, first_position, first_day FROM heads WHERE org = $1',
};
const keysStatement = {
  name: 'transfer_keys',
  text: `
    SELECT key_id, hash, name, prefix, scopes, created_at, expires_at, retires_at, last_used_at FROM api_keys
    WHERE org = $1 AND key_id > $2 ORDER BY key_id LIMIT $3`,
};
const subscriptionsStatement = {
  name: 'transfer_subscriptions',
  text: `
    SELECT subscription, kind, name, max_attempts, cursor, cursor_day, ahead::text AS ahead, held, dead, expired, erased, skipped::text AS skipped, filters,
      created_at
    FROM subscriptions
    WHERE org = $1 AND subscription > $2 ORDER BY subscription LIMIT $3`,
};
const leasesStatement = {
  name: 'transfer_leases',
  text: `
    SELECT subscription, lease, attempt, available_at, positions::text AS positions, first_day, last_day, waiting FROM leases
    WHERE org = $1 AND (subscription, lease) > ($2::integer, $3::text COLLATE "C") ORDER BY subscription, lease LIMIT $4`,
};
const deadLettersStatement = {
  name: 'transfer_dead_letters',
  text: `
    SELECT subscription, position, day, attempts, died_at FROM dead_letters
    WHERE org = $1 AND (subscription, position) > ($2::integer, $3::bigint) ORDER BY subscription, position LIMIT $4`,
};

/** Rows of a statement: a page of subscriptions, whose sets may be long, and one of anything else. */
const subscriptionsPageRows = 10;
const pageRows = 1_000;

const findHeadStatement = { name: 'transfer_find_head', text: 'SELECT epoch, position FROM heads WHERE org = $1' };

export async function findHead(
  database: Database,
  org: string,
): Promise<{ readonly epoch: number; readonly position: string } | null> {
  const scope = { role: 'system', priority: 'read' } as const;
  const { rows } = await database.query<{ epoch: number; position: string }>(scope, findHeadStatement, [org]);
  return rows[0] ?? null;
}

/** All of an org but its log, as it was at one moment: in a snapshot of its own that ends with the last row. Null if there is no such org. */
export async function readOrgState(database: Database, org: string): Promise<OrgState | null> {
  return database.transaction({ role: 'app', org, priority: 'read' }, async (tx) => {
    await tx.script('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
    const [found] = (await tx.query<FullOrgRow>(orgStatement, [org])).rows;
    const [head] = (await tx.query<HeadRow>(headStatement, [org])).rows;
    if (found === undefined || head === undefined) return null;
    return {
      org: found,
      head,
      keys: await readPages<FullKeyRow>(tx, keysStatement, org, pageRows, [''], (row) => [row.key_id]),
      subscriptions: await readPages<FullSubscriptionRow>(
        tx,
        subscriptionsStatement,
        org,
        subscriptionsPageRows,
        [-1],
        (row) => [row.subscription],
      ),
      leases: await readPages<FullLeaseRow>(tx, leasesStatement, org, pageRows, [-1, ''], (row) => [
        row.subscription,
        row.lease,
      ]),
      deadLetters: await readPages<DeadLetterRow>(tx, deadLettersStatement, org, pageRows, [-1, 0], (row) => [
        row.subscription,
        row.position,
      ]),
    };
  });
}

/** All rows of a statement that takes the org, the key after which to begin, and how many. */
async function readPages<Row>(
  tx: Transaction,
  statement: Statement,
  org: string,
  limit: number,
  from: readonly unknown[],
  keyOf: (row: Row) => readonly unknown[],
): Promise<Row[]> {
  const all: Row[] = [];
  for (let after = from; ;) {
    const { rows } = await tx.query<Row>(statement, [org, ...after, limit]);
    all.push(...rows);
    const last = rows.at(-1);
    if (last === undefined || rows.length < limit) return all;
    after = keyOf(last);
  }
}

const eventsStatement = {
  name: 'transfer_events',
  text: `
    SELECT epoch, position, day, type, subject, occurred_at, received_at, attributes, payload, bytes FROM (
      SELECT e.*, sum(bytes) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS total FROM (
        SELECT epoch, position, day, type, subject, occurred_at, received_at, attributes::text AS attributes, payload,
          octet_length(payload) + coalesce(octet_length(attributes::text), 0) AS bytes
        FROM events WHERE org = $1 AND day BETWEEN $2 AND $3 AND position > $4 AND position <= $5
        ORDER BY position LIMIT $6
      ) AS e
    ) AS e
    WHERE total - bytes < $7 ORDER BY position`,
};

/** Attributes as the text of their JSON. */
export type FullEventRow = Omit<EventRow, 'attributes' | 'payload'> & {
  attributes: string | null;
  payload: string;
  bytes: number;
};

export interface Page<Row> {
  readonly rows: readonly Row[];
  /** There may be more behind the last row. */
  readonly isFull: boolean;
}

const eventsPageBytes = 2 * 1024 * 1024;

/** Events of these days after one position, up to another, in log order: at most 1,000, and as many as begin in 2 MiB of payload. */
export async function readEventPage(
  database: Database,
  org: string,
  days: DayRange,
  positions: { readonly after: number; readonly last: number },
): Promise<Page<FullEventRow>> {
  const { rows } = await database.query<FullEventRow>({ role: 'app', org, priority: 'read' }, eventsStatement, [
    org,
    days.first,
    days.last,
    positions.after,
    positions.last,
    pageRows,
    eventsPageBytes,
  ]);
  const bytes = rows.reduce((sum, row) => sum + row.bytes, 0);
  return { rows, isFull: rows.length === pageRows || bytes >= eventsPageBytes };
}

const dedupStatement = {
  name: 'transfer_dedup',
  text: `
    SELECT dedup_id, epoch, position, day, received_at, body_hash FROM dedup
    WHERE org = $1 AND dedup_id > $2 AND position <= $3 ORDER BY dedup_id LIMIT $4`,
};

export type DedupRow = Omit<OrgDedupRow, 'org'>;

/** The dedup ids after one, in their order, of events up to a position. By ingest, the one role that may read them. */
export async function readDedupPage(
  database: Database,
  org: string,
  after: string,
  lastPosition: number,
): Promise<Page<DedupRow>> {
  const scope = { role: 'ingest', priority: 'read' } as const;
  const { rows } = await database.query<DedupRow>(scope, dedupStatement, [org, after, lastPosition, pageRows]);
  return { rows, isFull: rows.length === pageRows };
}
