import type { Database, Transaction } from '../database.js';
import type { LimitMode, Tier } from './tenancy.js';

export interface KeyRow {
  key_id: string;
  name: string;
  prefix: string;
  scopes: string[];
  created_at: Date;
  /** When it ends, by its own expiry or by the grace after a rotation. */
  ends_at: Date | null;
  /** Its own expiry. */
  expires_at: Date | null;
  last_used_at: Date | null;
}

/** LEAST passes over nulls. */
const endsAt = 'LEAST(expires_at, retires_at)';
const keyColumns = `key_id, name, prefix, scopes, created_at, ${endsAt} AS ends_at, expires_at, last_used_at`;

export interface NewKey {
  readonly org: string;
  readonly keyId: string;
  readonly hash: Buffer;
  readonly name: string;
  readonly prefix: string;
  readonly scopes: readonly string[];
  readonly createdAt: Date;
  readonly expiresAt: Date | null;
}

const insertKeyStatement = {
  name: 'key_insert',
  text: `
    INSERT INTO api_keys (org, key_id, hash, name, prefix, scopes, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    RETURNING ${keyColumns}`,
};

export async function insertKey(tx: Transaction, key: NewKey): Promise<KeyRow> {
  const { rows } = await tx.query<KeyRow>(insertKeyStatement, [
    key.org,
    key.keyId,
    key.hash,
    key.name,
    key.prefix,
    key.scopes,
    key.createdAt.toISOString(),
    key.expiresAt?.toISOString() ?? null,
  ]);
  const row = rows[0];
  if (row === undefined) throw new Error('INSERT … RETURNING returned no row');
  return row;
}

const lockOrgKeysStatement = {
  name: 'key_org_lock',
  text: `SELECT pg_advisory_xact_lock(hashtextextended('sluice keys ' || $1, 0))`,
};
const countKeysStatement = {
  name: 'key_count',
  text: `SELECT count(*)::integer AS keys FROM api_keys WHERE org = $1 AND (${endsAt} IS NULL OR ${endsAt} > $2)`,
};

/** How many keys of the org are alive. Holds off other creations of the org until the transaction ends, so that a limit on it is exact. */
export async function countKeysForCreation(tx: Transaction, org: string, now: Date): Promise<number> {
  await tx.query(lockOrgKeysStatement, [org]);
  const { rows } = await tx.query<{ keys: number }>(countKeysStatement, [org, now.toISOString()]);
  return rows[0]?.keys ?? 0;
}

const listKeysStatement = {
  name: 'key_list',
  text: `
    SELECT ${keyColumns} FROM api_keys
    WHERE org = $1 AND key_id > $2 AND (${endsAt} IS NULL OR ${endsAt} > $3)
    ORDER BY key_id LIMIT $4`,
};

/** The living keys of an org, by id, from the one after `afterKeyId` on. */
export async function listKeys(
  tx: Transaction,
  org: string,
  afterKeyId: string,
  now: Date,
  limit: number,
): Promise<KeyRow[]> {
  return (await tx.query<KeyRow>(listKeysStatement, [org, afterKeyId, now.toISOString(), limit])).rows;
}

const findKeyText = `
    SELECT ${keyColumns} FROM api_keys
    WHERE org = $1 AND key_id = $2 AND (${endsAt} IS NULL OR ${endsAt} > $3)`;
const findKeyStatement = { name: 'key_find', text: findKeyText };
const lockKeyStatement = { name: 'key_lock', text: `${findKeyText} FOR UPDATE` };

/** A living key. */
export async function findKey(tx: Transaction, org: string, keyId: string, now: Date): Promise<KeyRow | null> {
  return (await tx.query<KeyRow>(findKeyStatement, [org, keyId, now.toISOString()])).rows[0] ?? null;
}

/** A living key, locked until the transaction ends. */
export async function lockKey(tx: Transaction, org: string, keyId: string, now: Date): Promise<KeyRow | null> {
  return (await tx.query<KeyRow>(lockKeyStatement, [org, keyId, now.toISOString()])).rows[0] ?? null;
}

const retireKeyStatement = {
  name: 'key_retire',
  text: `
    UPDATE api_keys SET retires_at = LEAST(retires_at, $3::timestamptz) WHERE org = $1 AND key_id = $2`,
};

/** Ends a rotated key at `at`, or when it would have ended anyway, if that is sooner. */
export async function retireKey(tx: Transaction, org: string, keyId: string, at: Date): Promise<void> {
  await tx.query(retireKeyStatement, [org, keyId, at.toISOString()]);
}

const deleteKeyStatement = { name: 'key_delete', text: 'DELETE FROM api_keys WHERE org = $1 AND key_id = $2' };

export async function deleteKey(tx: Transaction, org: string, keyId: string): Promise<void> {
  await tx.query(deleteKeyStatement, [org, keyId]);
}

export interface KeyHolderRow {
  hash: Buffer;
  org: string;
  key_id: string;
  scopes: string[];
  ends_at: Date | null;
  tier: Tier;
  rate_per_minute: string | null;
  burst: string | null;
  limit_mode: LimitMode;
  suspended: boolean;
  /** The access version as this row was read. */
  version: string;
}

/** The same in two snapshots only where no key and no org was changed, in what `findKeysByHash` tells of them, between the two (migration 0008). */
const accessVersion = `coalesce((SELECT sum(version) FROM access_versions), 0)::text`;

const findByHashStatement = {
  name: 'key_find_by_hash',
  text: `
    SELECT k.hash, k.org, k.key_id, k.scopes, LEAST(k.expires_at, k.retires_at) AS ends_at,
      o.tier, o.rate_per_minute, o.burst, o.limit_mode, o.suspended, ${accessVersion} AS version
    FROM api_keys AS k JOIN orgs AS o ON o.org = k.org
    WHERE k.hash = ANY ($1::bytea[])`,
};

/** Whose keys these are, living or not. Nothing of those that are nobody's. A column that is read here belongs into a trigger of migrations 0008 to 0010. */
export async function findKeysByHash(database: Database, hashes: readonly Buffer[]): Promise<KeyHolderRow[]> {
  const scope = { role: 'system', priority: 'read' } as const;
  return (await database.query<KeyHolderRow>(scope, findByHashStatement, [hashes])).rows;
}

const accessVersionStatement = { name: 'key_access_version', text: `SELECT ${accessVersion} AS version` };

/** Another one after each change of a key or an org that `findKeysByHash` would show, but for new ones; whoever made it. */
export async function readAccessVersion(database: Database): Promise<string> {
  const scope = { role: 'system', priority: 'read' } as const;
  const { rows } = await database.query<{ version: string }>(scope, accessVersionStatement);
  const row = rows[0];
  if (row === undefined) throw new Error('a SELECT of an expression returned no row');
  return row.version;
}

const touchKeysStatement = {
  name: 'key_touch',
  text: `
    UPDATE api_keys AS k SET last_used_at = GREATEST(k.last_used_at, used.at)
    FROM unnest($1::bigint[], $2::text[], $3::timestamptz[]) AS used (org, key_id, at)
    WHERE k.org = used.org AND k.key_id = used.key_id`,
};

export interface KeyUse {
  readonly org: string;
  readonly keyId: string;
  readonly at: Date;
}

/** `uses` sorted by org and key, so that two nodes take their row locks in the same order. */
export async function touchKeys(database: Database, uses: readonly KeyUse[]): Promise<void> {
  await database.query({ role: 'system' }, touchKeysStatement, [
    uses.map((use) => use.org),
    uses.map((use) => use.keyId),
    uses.map((use) => use.at.toISOString()),
  ]);
}
