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
  text: `SELECT pg_try_advisory_xact_lock(hashtextextended('sluice erasure ' || $1, 0)) AS locked`,
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

/** Tables with rows of an org besides its events, with the rest of their primary keys: before each, those that refer to it. */
const tables = {
  dedup: ['dedup_id'],
  leases: ['subscription', 'lease'],
  dead_letters: ['subscription', 'position'],
  subscriptions: ['subscription'],
  api_keys: ['key_id'],
  audit_log: ['sequence'],
} as const satisfies Record<string, readonly string[]>;
/** One row an org. They go with the last step. */
const lastTables = ['audit_heads', 'heads', 'orgs'] as const;

export type ErasedTable = keyof typeof tables;
export const erasedTables = Object.keys(tables) as readonly ErasedTable[];
/** Every table with rows of an org. */
export const tablesOfOrgs: readonly string[] = ['events', ...erasedTables, ...lastTables];

/** Deletes at most `limit` rows of a table. Returns how many. */
export async function eraseRows(tx: Transaction, table: ErasedTable, org: string, limit: number): Promise<number> {
  const key = tables[table].join(', ');
  const text = `
    DELETE FROM ${table}
    WHERE org = $1 AND (${key}) IN (SELECT ${key} FROM ${table} WHERE org = $1 ORDER BY ${key} LIMIT $2)`;
  return (await tx.query({ name: `erase_${table}`, text }, [org, limit])).rowCount;
}

const eraseEventsStatement = {
  name: 'erase_events',
  text: `
    DELETE FROM events
    WHERE org = $1 AND day = $2
      AND position IN (SELECT position FROM events WHERE org = $1 AND day = $2 ORDER BY position LIMIT $3)`,
};

/** Deletes at most `limit` events of a day. Returns how many. */
export async function eraseEvents(tx: Transaction, org: string, day: number, limit: number): Promise<number> {
  return (await tx.query(eraseEventsStatement, [org, day, limit])).rowCount;
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
