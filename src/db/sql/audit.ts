/** The audit log: rows are added, each behind the last of its org, and read. Migration 0004 lets nobody change or remove one. */
import type { AuditDetails, AuditedChange, AuditRow, ChainEnd } from '../../audit-chain.js';
import { canonicalJson, chainStart, nextRow } from '../../audit-chain.js';
import { Problem } from '../../errors.js';
import type { Transaction } from '../database.js';

const startStatement = {
  name: 'audit_start',
  text: 'INSERT INTO audit_heads (org, sequence, hash) SELECT org, 0, $2 FROM unnest($1::bigint[]) AS o (org)',
};

/** Begins the chains of new orgs, in the transaction that makes them. */
export async function startAudit(tx: Transaction, orgs: readonly string[]): Promise<void> {
  await tx.query(startStatement, [orgs, chainStart.hash]);
}

const lockStatement = {
  name: 'audit_lock',
  text: 'SELECT sequence, hash, closed FROM audit_heads WHERE org = $1 FOR UPDATE',
};
const insertStatement = {
  name: 'audit_insert',
  text: `
    INSERT INTO audit_log (org, sequence, at, actor, action, target, details, previous_hash, hash)
    VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8, $9)`,
};
const moveStatement = {
  name: 'audit_move',
  text: 'UPDATE audit_heads SET sequence = $2, hash = $3 WHERE org = $1',
};

/** Of a row, as JSON. What is larger is left out, and the row says so. */
const detailsBytesMax = 4_096;

/**
 * Records changes of an org in the transaction that makes them, as `app` of that org or as `system`. From here to its end the transaction holds
 * the lock on the end of the org's chain, so this comes after every other lock: of the org, its keys, its subscriptions. Returns the last row.
 * Throws `invalid_key` where the org was deleted.
 */
export async function recordChanges(
  tx: Transaction,
  org: string,
  ...changes: readonly [AuditedChange, ...AuditedChange[]]
): Promise<AuditRow> {
  const { rows } = await tx.query<{ sequence: string; hash: Buffer; closed: boolean }>(lockStatement, [org]);
  const [head] = rows;
  if (head === undefined || head.closed) {
    throw new Problem('invalid_key', 'The organisation of this key was deleted.');
  }
  const [first, ...others] = changes;
  let last = await addRow(tx, org, { sequence: Number(head.sequence), hash: head.hash }, first);
  for (const change of others) last = await addRow(tx, org, last, change);
  await tx.query(moveStatement, [org, last.sequence, last.hash]);
  return last;
}

async function addRow(tx: Transaction, org: string, end: ChainEnd, change: AuditedChange): Promise<AuditRow> {
  const bytes = Buffer.byteLength(canonicalJson(change.details));
  const details = bytes > detailsBytesMax ? { omitted_bytes: bytes } : change.details;
  const row = nextRow(org, end, { ...change, details });
  await tx.query(insertStatement, [
    org,
    row.sequence,
    new Date(row.atMs).toISOString(),
    row.actor,
    row.action,
    row.target,
    canonicalJson(details),
    row.previousHash,
    row.hash,
  ]);
  return row;
}

const closeStatement = { name: 'audit_close', text: 'UPDATE audit_heads SET closed = true WHERE org = $1' };

/** Nothing is recorded behind the last row any more: the org is deleted. */
export async function closeAudit(tx: Transaction, org: string): Promise<void> {
  await tx.query(closeStatement, [org]);
}

interface StoredRow {
  sequence: string;
  at: Date;
  actor: string;
  action: string;
  target: string;
  details: AuditDetails;
  previous_hash: Buffer;
  hash: Buffer;
}

const rowColumns = 'sequence, at, actor, action, target, details, previous_hash, hash';

const listStatement = {
  name: 'audit_list',
  text: `SELECT ${rowColumns} FROM audit_log WHERE org = $1 AND sequence < $2 ORDER BY sequence DESC LIMIT $3`,
};

/** The newest rows of an org before one of this number, the newest first. */
export async function listAudit(tx: Transaction, org: string, before: number, limit: number): Promise<AuditRow[]> {
  return (await tx.query<StoredRow>(listStatement, [org, before, limit])).rows.map(toRow);
}

const walkStatement = {
  name: 'audit_walk',
  text: `SELECT ${rowColumns} FROM audit_log WHERE org = $1 AND sequence > $2 ORDER BY sequence LIMIT $3`,
};
const endStatement = { name: 'audit_end', text: 'SELECT sequence, hash, closed FROM audit_heads WHERE org = $1' };

/** The rows of an org after one of this number, the oldest first, and where its chain ends, at one moment. A closed chain is being erased. */
export async function walkAudit(
  tx: Transaction,
  org: string,
  after: number,
  limit: number,
): Promise<{ readonly rows: readonly AuditRow[]; readonly end: (ChainEnd & { readonly closed: boolean }) | null }> {
  await tx.script('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
  const [end] = (await tx.query<{ sequence: string; hash: Buffer; closed: boolean }>(endStatement, [org])).rows;
  const { rows } = await tx.query<StoredRow>(walkStatement, [org, after, limit]);
  return {
    rows: rows.map(toRow),
    end: end === undefined ? null : { ...end, sequence: Number(end.sequence) },
  };
}

function toRow(row: StoredRow): AuditRow {
  return {
    sequence: Number(row.sequence),
    atMs: row.at.getTime(),
    actor: row.actor,
    action: row.action,
    target: row.target,
    details: row.details,
    previousHash: row.previous_hash,
    hash: row.hash,
  };
}
