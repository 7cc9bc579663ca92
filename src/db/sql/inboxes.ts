import type { Transaction } from '../database.js';
import type { FilterVersion } from './subscriptions.js';

export interface InboxRow {
  subscription: number;
  name: string;
  max_attempts: number;
  filters: FilterVersion[];
  expired: string;
  erased: string;
  created_at: Date;
}

const inboxColumns = 'subscription, name, max_attempts, filters, expired, erased, created_at';

const lockCreationStatement = {
  name: 'inbox_creation_lock',
  text: `SELECT pg_advisory_xact_lock(hashtextextended('sluice inboxes ' || $1, 0))`,
};
const countStatement = {
  name: 'inbox_count',
  text: `SELECT count(*)::integer AS inboxes FROM subscriptions WHERE org = $1 AND kind = 'inbox'`,
};

/** How many inboxes the org has. Holds off other creations of the org until the transaction ends, so that a limit on it is exact. */
export async function countInboxesForCreation(tx: Transaction, org: string): Promise<number> {
  await tx.query(lockCreationStatement, [org]);
  return (await tx.query<{ inboxes: number }>(countStatement, [org])).rows[0]?.inboxes ?? 0;
}

const insertStatement = {
  name: 'inbox_insert',
  text: `
    INSERT INTO subscriptions (org, subscription, kind, name, max_attempts, cursor, cursor_day, skipped, filters, created_at)
    VALUES ($1, $2, 'inbox', $3, $4, $5, $6, $7::int8multirange, $8::jsonb, $9)
    ON CONFLICT DO NOTHING RETURNING ${inboxColumns}`,
};

export interface NewInbox {
  readonly subscription: number;
  readonly name: string;
  readonly maxAttempts: number;
  readonly cursor: number;
  readonly cursorDay: number;
  readonly skipped: string;
  readonly filters: readonly FilterVersion[];
  readonly createdAt: Date;
}

/** Null: the name or the number is taken. */
export async function insertInbox(tx: Transaction, org: string, inbox: NewInbox): Promise<InboxRow | null> {
  const { rows } = await tx.query<InboxRow>(insertStatement, [
    org,
    inbox.subscription,
    inbox.name,
    inbox.maxAttempts,
    inbox.cursor,
    inbox.cursorDay,
    inbox.skipped,
    JSON.stringify(inbox.filters),
    inbox.createdAt.toISOString(),
  ]);
  return rows[0] ?? null;
}

const listStatement = {
  name: 'inbox_list',
  text: `
    SELECT ${inboxColumns} FROM subscriptions
    WHERE org = $1 AND kind = 'inbox' AND name > $2 ORDER BY name LIMIT $3`,
};

/** The inboxes of an org by name, from the one after `afterName` on. */
export async function listInboxes(tx: Transaction, org: string, afterName: string, limit: number): Promise<InboxRow[]> {
  return (await tx.query<InboxRow>(listStatement, [org, afterName, limit])).rows;
}

const findText = `SELECT ${inboxColumns} FROM subscriptions WHERE org = $1 AND kind = 'inbox' AND name = $2`;
const findStatement = { name: 'inbox_find', text: findText };
const lockStatement = { name: 'inbox_lock', text: `${findText} FOR UPDATE` };

export async function findInbox(tx: Pick<Transaction, 'query'>, org: string, name: string): Promise<InboxRow | null> {
  return (await tx.query<InboxRow>(findStatement, [org, name])).rows[0] ?? null;
}

/** Locked until the transaction ends, as every change of a subscription does first. */
export async function lockInbox(tx: Transaction, org: string, name: string): Promise<InboxRow | null> {
  return (await tx.query<InboxRow>(lockStatement, [org, name])).rows[0] ?? null;
}

const updateStatement = {
  name: 'inbox_update',
  text: `
    UPDATE subscriptions SET max_attempts = $3, filters = $4::jsonb WHERE org = $1 AND subscription = $2
    RETURNING ${inboxColumns}`,
};

export async function updateInbox(
  tx: Transaction,
  org: string,
  subscription: number,
  change: { readonly maxAttempts: number; readonly filters: readonly FilterVersion[] },
): Promise<InboxRow> {
  const values = [org, subscription, change.maxAttempts, JSON.stringify(change.filters)];
  const row = (await tx.query<InboxRow>(updateStatement, values)).rows[0];
  if (row === undefined) throw new Error('a locked inbox was gone');
  return row;
}

const deleteSomeStatements = [
  {
    name: 'inbox_delete_leases',
    text: `
      DELETE FROM leases WHERE org = $1 AND subscription = $2 AND lease IN (
        SELECT lease FROM leases WHERE org = $1 AND subscription = $2 LIMIT $3)`,
  },
  {
    name: 'inbox_delete_dead',
    text: `
      DELETE FROM dead_letters WHERE org = $1 AND subscription = $2 AND position IN (
        SELECT position FROM dead_letters WHERE org = $1 AND subscription = $2 LIMIT $3)`,
  },
];
const deleteStatement = {
  name: 'inbox_delete',
  text: `DELETE FROM subscriptions WHERE org = $1 AND subscription = $2`,
};

/** Deletes an inbox that is locked, or, where it has more rows than `rowsMax` of a kind, so many of them. True: it is gone. */
export async function deleteInboxRows(
  tx: Transaction,
  org: string,
  subscription: number,
  rowsMax: number,
): Promise<boolean> {
  for (const statement of deleteSomeStatements) {
    if ((await tx.query(statement, [org, subscription, rowsMax])).rowCount === rowsMax) return false;
  }
  await tx.query(deleteStatement, [org, subscription]);
  return true;
}
