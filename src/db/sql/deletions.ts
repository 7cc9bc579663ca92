/** The deletion of an org: its tombstone, and the erasure of its rows by the role that sees only those of deleted orgs. */
import type { AuditRow } from '../../audit-chain.js';
import type { Database, Transaction } from '../database.js';

const tombstoneStatement = {
  name: 'deleted_org_insert',
  text: `
    INSERT INTO deleted_orgs (org, sequence, deleted_at, deleted_by, previous_hash, hash) VALUES ($1, $2, $3, $4, $5, $6)`,
};
const deleteHeadStatement = { name: 'deleted_org_head', text: 'DELETE FROM heads WHERE org = $1' };

/**
 * Makes an org nobody's: it is not found, its keys are no keys, and no event can be stored for it any more. To be the last of a transaction of `system`,
 * which it leaves as another role; waits for the batch that is being stored for the org. `last` is the last row of its audit log.
 */
export async function buryOrg(tx: Transaction, org: string, last: AuditRow): Promise<void> {
  await tx.query(tombstoneStatement, [
    org,
    last.sequence,
    new Date(last.atMs).toISOString(),
    last.actor,
    last.previousHash,
    last.hash,
  ]);
  await tx.script('SET LOCAL ROLE sluice_erasure');
  await tx.query(deleteHeadStatement, [org]);
}

const unerasedStatement = {
  name: 'deleted_orgs_unerased',
  text: 'SELECT org FROM deleted_orgs WHERE erased_at IS NULL AND org > $1 ORDER BY org LIMIT $2',
};

/** Deleted orgs that are not erased yet, by number, from the one after `afterOrg` on. */
export async function unerasedOrgs(database: Database, afterOrg: string, limit: number): Promise<string[]> {
  const scope = { role: 'erasure', priority: 'read' } as const;
  return (await database.query<{ org: string }>(scope, unerasedStatement, [afterOrg, limit])).rows.map(
    ({ org }) => org,
  );
}

const lockStatement = {
  name: 'erasure_lock',
  // Without statistics, as the embedded engine has none, the planner would read and sort all that is left for each batch.
  text: `
    SELECT pg_try_advisory_xact_lock(hashtextextended('sluice erasure ' || $1, 0)) AS locked,
      set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true)`,
};

/** Runs a step of the erasure of an org in one transaction. Null if another node is at a step of the same org. */
export async function erasureStep<T>(
  database: Database,
  org: string,
  step: (tx: Transaction) => Promise<T>,
): Promise<T | null> {
  return database.transaction({ role: 'erasure' }, async (tx) => {
    const { rows } = await tx.query<{ locked: boolean }>(lockStatement, [org]);
    return rows[0]?.locked === true ? step(tx) : null;
  });
}

type Key = readonly (string | number)[];

/** Tables with rows of an org besides its events: before each, those that refer to it. Each with the rest of its primary key, and what is below all. */
const tables = {
  dedup: { columns: ['dedup_id'], types: ['text COLLATE "C"'], start: [''] },
  leases: { columns: ['subscription', 'lease'], types: ['integer', 'text COLLATE "C"'], start: [-1, ''] },
  dead_letters: { columns: ['subscription', 'position'], types: ['integer', 'bigint'], start: [-1, -1] },
  subscriptions: { columns: ['subscription'], types: ['integer'], start: [-1] },
  erasures: { columns: ['erasure'], types: ['text COLLATE "C"'], start: [''] },
  api_keys: { columns: ['key_id'], types: ['text COLLATE "C"'], start: [''] },
  audit_log: { columns: ['sequence'], types: ['bigint'], start: [-1] },
} as const satisfies Record<string, { columns: readonly string[]; types: readonly string[]; start: Key }>;
/** One row an org. They go with the last step. */
const lastTables = ['audit_heads', 'heads', 'orgs'] as const;

export type ErasedTable = keyof typeof tables;
export const erasedTables = Object.keys(tables) as readonly ErasedTable[];
/** Every table with rows of an org. */
export const tablesOfOrgs: readonly string[] = ['events', ...erasedTables, ...lastTables];

/** A batch that was deleted. `last` is the key of its last row: what comes before it need not be looked at again. */
export interface ErasedBatch {
  readonly rows: number;
  readonly last: Key | null;
}

/**
 * Deletes at most `limit` rows of a table behind a key, in the order of keys; null is the beginning. A batch that began there each time would walk
 * over what all batches before it have deleted.
 */
export async function eraseRows(
  tx: Transaction,
  table: ErasedTable,
  org: string,
  after: Key | null,
  limit: number,
): Promise<ErasedBatch> {
  const { columns, types, start } = tables[table];
  return eraseBatch(tx, table, columns, types, [], { org, after: after ?? start, limit });
}

/** The same of the events of a day. */
export async function eraseEvents(
  tx: Transaction,
  org: string,
  day: number,
  after: Key | null,
  limit: number,
): Promise<ErasedBatch> {
  return eraseBatch(tx, 'events', ['position'], ['bigint'], [day], { org, after: after ?? [-1], limit });
}

/** First where the batch ends, then all up to there: a range of the primary key, for which there is one plan only. */
async function eraseBatch(
  tx: Transaction,
  table: string,
  columns: readonly string[],
  types: readonly string[],
  days: readonly number[],
  { org, after, limit }: { readonly org: string; readonly after: Key; readonly limit: number },
): Promise<ErasedBatch> {
  const key = columns.join(', ');
  const bound = (from: number): string => types.map((type, i) => `$${from + i}::${type}`).join(', ');
  const descending = columns.map((column) => `${column} DESC`).join(', ');
  const place = `org = $1${days.length === 0 ? '' : ' AND day = $2'}`;
  const first = 2 + days.length;
  const behind = `${place} AND (${key}) > (${bound(first)})`;
  const ends = `
    SELECT ${key} FROM (
      SELECT ${key} FROM ${table} WHERE ${behind} ORDER BY ${key} LIMIT $${first + columns.length}
    ) AS batch ORDER BY ${descending} LIMIT 1`;
  const begins = [org, ...days, ...after];
  const [row] = (
    await tx.query<Record<string, string | number>>({ name: `erase_end_${table}`, text: ends }, [...begins, limit])
  ).rows;
  if (row === undefined) return { rows: 0, last: null };
  const last = columns.map((column) => row[column] ?? '');
  const text = `DELETE FROM ${table} WHERE ${behind} AND (${key}) <= (${bound(first + columns.length)})`;
  const { rowCount } = await tx.query({ name: `erase_${table}`, text }, [...begins, ...last]);
  return { rows: rowCount, last };
}

const erasedStatement = { name: 'deleted_org_erased', text: 'UPDATE deleted_orgs SET erased_at = $2 WHERE org = $1' };

/**
 * The last step: what there is one of, and a note that nothing is left. Fails with SQLSTATE 23503 where something is: a request that was under way when the
 * org was deleted may have added it.
 */
export async function finishErasure(tx: Transaction, org: string, at: Date): Promise<void> {
  for (const table of lastTables) {
    await tx.query({ name: `erase_${table}`, text: `DELETE FROM ${table} WHERE org = $1` }, [org]);
  }
  await tx.query(erasedStatement, [org, at.toISOString()]);
}

const anyDeletedStatement = {
  name: 'deleted_orgs_any',
  text: 'SELECT org FROM deleted_orgs WHERE org = ANY ($1::bigint[]) ORDER BY org LIMIT 1',
};

/** One of these numbers that was an org's that is deleted, or null. */
export async function anyDeletedOrg(database: Database, orgs: readonly string[]): Promise<string | null> {
  const scope = { role: 'system', priority: 'read' } as const;
  return (await database.query<{ org: string }>(scope, anyDeletedStatement, [orgs])).rows[0]?.org ?? null;
}

export interface DeletedOrg {
  readonly org: string;
  readonly sequence: number;
  readonly atMs: number;
  readonly actor: string;
  readonly previousHash: Buffer;
  readonly hash: Buffer;
}

const listDeletedStatement = {
  name: 'deleted_orgs_list',
  text: `
    SELECT org, sequence, deleted_at, deleted_by, previous_hash, hash FROM deleted_orgs WHERE org > $1 ORDER BY org LIMIT $2`,
};

/** What is left of deleted orgs, by number, from the one after `afterOrg` on. */
export async function listDeletedOrgs(database: Database, afterOrg: string, limit: number): Promise<DeletedOrg[]> {
  const scope = { role: 'system', priority: 'read' } as const;
  const { rows } = await database.query<{
    org: string;
    sequence: string;
    deleted_at: Date;
    deleted_by: string;
    previous_hash: Buffer;
    hash: Buffer;
  }>(scope, listDeletedStatement, [afterOrg, limit]);
  return rows.map((row) => ({
    org: row.org,
    sequence: Number(row.sequence),
    atMs: row.deleted_at.getTime(),
    actor: row.deleted_by,
    previousHash: row.previous_hash,
    hash: row.hash,
  }));
}
