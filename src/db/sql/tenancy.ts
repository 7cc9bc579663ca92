import type { Database, Transaction } from '../database.js';
import { startAudit } from './audit.js';

export type Tier = 'free' | 'pro' | 'business' | 'enterprise';
export type LimitMode = 'enforce' | 'shadow';

export interface OrgRow {
  org: string;
  name: string;
  tier: Tier;
  /** null: as the tier says */
  rate_per_minute: string | null;
  burst: string | null;
  limit_mode: LimitMode;
  retention_days: number;
  suspended: boolean;
  created_at: Date;
  /** Living keys. */
  keys: number;
}

const orgColumns = `org, name, tier, rate_per_minute, burst, limit_mode, retention_days, suspended, created_at,
  (SELECT count(*)::integer FROM api_keys AS k WHERE k.org = orgs.org AND (LEAST(k.expires_at, k.retires_at) IS NULL OR LEAST(k.expires_at, k.retires_at) > now())) AS keys`;

const insertOrgStatement = {
  name: 'org_insert',
  text: `
    INSERT INTO orgs (org, name, tier, created_at)
    SELECT $1::bigint, $2, $3, $4::timestamptz WHERE NOT EXISTS (SELECT FROM deleted_orgs WHERE org = $1)
    ON CONFLICT DO NOTHING RETURNING ${orgColumns}`,
};
const insertHeadStatement = {
  name: 'org_head_insert',
  text: `
    INSERT INTO heads (org, epoch, position, day, received_at, first_position, first_day)
    VALUES ($1, 1, 0, $2, $3, 1, $2)`,
};
const insertDefaultInboxStatement = {
  name: 'org_default_inbox_insert',
  text: `
    INSERT INTO subscriptions (org, subscription, kind, name, max_attempts, cursor, cursor_day, created_at)
    VALUES ($1, 0, 'inbox', 'default', 10, 0, $2, $3)`,
};

/** Creates an org with an empty log, its inbox `default` and an empty audit log. Null if the number is, or was, another's: draw another. */
export async function insertOrg(
  tx: Transaction,
  org: { readonly org: string; readonly name: string; readonly tier: Tier; readonly createdAt: Date },
): Promise<OrgRow | null> {
  const createdAt = org.createdAt.toISOString();
  const day = Math.floor(org.createdAt.getTime() / 86_400_000);
  const { rows } = await tx.query<OrgRow>(insertOrgStatement, [org.org, org.name, org.tier, createdAt]);
  const row = rows[0];
  if (row === undefined) return null;
  await tx.query(insertHeadStatement, [org.org, day, createdAt]);
  await tx.query(insertDefaultInboxStatement, [org.org, day, createdAt]);
  await startAudit(tx, [org.org]);
  return row;
}

const findOrgStatement = { name: 'org_find', text: `SELECT ${orgColumns} FROM orgs WHERE org = $1` };

export async function findOrg(database: Database, org: string): Promise<OrgRow | null> {
  const { rows } = await database.query<OrgRow>({ role: 'system', priority: 'read' }, findOrgStatement, [org]);
  return rows[0] ?? null;
}

const listOrgsStatement = {
  name: 'org_list',
  text: `SELECT ${orgColumns} FROM orgs WHERE org > $1 ORDER BY org LIMIT $2`,
};

export async function listOrgs(database: Database, afterOrg: string, limit: number): Promise<OrgRow[]> {
  const scope = { role: 'system', priority: 'read' } as const;
  return (await database.query<OrgRow>(scope, listOrgsStatement, [afterOrg, limit])).rows;
}

const lockOrgStatement = { name: 'org_lock', text: 'SELECT FROM orgs WHERE org = $1 FOR NO KEY UPDATE' };

/**
 * The org as it is under a lock that holds off its other changes until the transaction ends, and nobody else: keys and inboxes refer to it meanwhile.
 * Null if there is no such org.
 */
export async function lockOrg(tx: Transaction, org: string): Promise<OrgRow | null> {
  await tx.query(lockOrgStatement, [org]);
  // What was waited for is seen by a later statement only: also that the org was deleted.
  return (await tx.query<OrgRow>(findOrgStatement, [org])).rows[0] ?? null;
}

export interface OrgChange {
  readonly name?: string;
  readonly tier?: Tier;
  readonly ratePerMinute?: number;
  readonly burst?: number;
  readonly limitMode?: LimitMode;
  readonly suspended?: boolean;
  readonly retentionDays?: number;
}

const updateOrgStatement = {
  name: 'org_update',
  text: `
    UPDATE orgs
    SET name = coalesce($2, name), tier = coalesce($3, tier), rate_per_minute = coalesce($4, rate_per_minute),
        burst = coalesce($5, burst), limit_mode = coalesce($6, limit_mode), suspended = coalesce($7, suspended),
        retention_days = coalesce($8, retention_days)
    WHERE org = $1
    RETURNING ${orgColumns}`,
};

export async function updateOrg(tx: Transaction, org: string, change: OrgChange): Promise<OrgRow | null> {
  const { rows } = await tx.query<OrgRow>(updateOrgStatement, [
    org,
    change.name ?? null,
    change.tier ?? null,
    change.ratePerMinute ?? null,
    change.burst ?? null,
    change.limitMode ?? null,
    change.suspended ?? null,
    change.retentionDays ?? null,
  ]);
  return rows[0] ?? null;
}

const anyOrgStatement = { name: 'org_any', text: 'SELECT EXISTS (SELECT FROM orgs) AS any' };

export async function hasAnyOrg(tx: Transaction): Promise<boolean> {
  return (await tx.query<{ any: boolean }>(anyOrgStatement)).rows[0]?.any === true;
}
