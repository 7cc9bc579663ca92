import { randomBytes } from 'node:crypto';
import type { AuditedChange } from '../audit-chain.js';
import type { Clock } from '../clock.js';
import type { Database, Transaction } from '../db/database.js';
import { recordChanges } from '../db/sql/audit.js';
import type { KeyRow } from '../db/sql/keys.js';
import { countKeysForCreation, deleteKey, retireKey, findKey, insertKey, listKeys, lockKey } from '../db/sql/keys.js';
import { Problem } from '../errors.js';
import { encodeRandomId } from '../ids.js';
import { formatTime } from '../time-format.js';
import { createKeySecret, displayPrefix, hashKey } from './key-secret.js';
import type { KeyScope } from './scopes.js';
import { isKeyScope } from './scopes.js';

/** Living keys an org may have. */
export const keysMax = 100;

/** A key as it is shown; `secret` only where it is made. */
export interface Key {
  readonly id: string;
  readonly name: string;
  readonly prefix: string;
  readonly scopes: readonly KeyScope[];
  readonly createdAtMs: number;
  readonly expiresAtMs: number | null;
  readonly lastUsedAtMs: number | null;
}

export interface CreatedKey extends Key {
  readonly secret: string;
}

export interface KeySpec {
  readonly name: string;
  readonly scopes: readonly KeyScope[];
  readonly expiresAtMs: number | null;
}

/** The key that a caller holds. */
export interface HeldKey {
  readonly keyId: string;
  readonly scopes: ReadonlySet<KeyScope>;
}

/** The keys of orgs. A caller may grant, rotate and delete at most what its own key (`held`) may do; the audit log tells which key it was. */
export class Keys {
  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    /** Called after a change, so that this node forgets what it knew of the org's keys. */
    private readonly onChange: (org: string) => void,
  ) {}

  /**
   * A key that ends makes keys that end with it, unless `spec` says sooner. Throws `limit_reached` beyond `keysMax`, `insufficient_scope` if `spec` asks for
   * more than `held`, or for longer than it lives.
   */
  async create(org: string, spec: KeySpec, held: HeldKey): Promise<CreatedKey> {
    requireScopes(spec.scopes, held);
    return this.database.transaction({ role: 'app', org }, async (tx) => {
      const now = new Date(this.clock.now());
      const endsAtMs = await endOf(tx, org, held, now);
      await requireRoom(tx, org, now);
      const key = newKey();
      const lasting = { ...spec, expiresAtMs: spec.expiresAtMs ?? endsAtMs };
      requireLifetime(lasting.expiresAtMs, endsAtMs);
      await recordChanges(tx, org, keyCreated(held.keyId, key, lasting, now));
      return insertNewKey(tx, org, key, lasting, now);
    });
  }

  /** The living keys from the one after `afterId` on, by id. */
  list(org: string, afterId: string, limit: number): Promise<Key[]> {
    return this.database.transaction({ role: 'app', org, priority: 'read' }, async (tx) =>
      (await listKeys(tx, org, afterId, new Date(this.clock.now()), limit)).map(toKey),
    );
  }

  /** Null if there is no such living key. */
  async find(org: string, id: string): Promise<Key | null> {
    return this.database.transaction({ role: 'app', org, priority: 'read' }, async (tx) => {
      const row = await findKey(tx, org, id, new Date(this.clock.now()));
      return row === null ? null : toKey(row);
    });
  }

  /**
   * A new key with the name, scopes and expiry of the old one, which lives on for `graceSeconds`. Null if there is no such living key. Throws
   * as `create` does; without a grace the number of keys stays the same.
   */
  async rotate(org: string, id: string, graceSeconds: number, held: HeldKey): Promise<CreatedKey | null> {
    const created = await this.database.transaction({ role: 'app', org }, async (tx) => {
      const nowMs = this.clock.now();
      const row = await lockKey(tx, org, id, new Date(nowMs));
      if (row === null) return null;
      const old = toKey(row);
      requireScopes(old.scopes, held);
      const expiresAtMs = row.expires_at?.getTime() ?? null;
      requireLifetime(expiresAtMs, await endOf(tx, org, held, new Date(nowMs)));
      if (graceSeconds > 0) await requireRoom(tx, org, new Date(nowMs));
      const key = newKey();
      const details = { name: old.name, to: key.id, grace_seconds: graceSeconds };
      const change = { atMs: nowMs, actor: held.keyId, action: 'key.rotated', target: id, details };
      await recordChanges(tx, org, change);
      if (graceSeconds === 0) await deleteKey(tx, org, id);
      else await retireKey(tx, org, id, new Date(nowMs + graceSeconds * 1000));
      const spec = { name: old.name, scopes: old.scopes, expiresAtMs };
      return insertNewKey(tx, org, key, spec, new Date(nowMs));
    });
    this.onChange(org);
    return created;
  }

  /** False if there is no such living key. */
  async delete(org: string, id: string, held: HeldKey): Promise<boolean> {
    const deleted = await this.database.transaction({ role: 'app', org }, async (tx) => {
      const atMs = this.clock.now();
      const row = await lockKey(tx, org, id, new Date(atMs));
      if (row === null) return false;
      requireScopes(toKey(row).scopes, held);
      await recordChanges(tx, org, keyDeleted(held.keyId, row, atMs));
      await deleteKey(tx, org, id);
      return true;
    });
    this.onChange(org);
    return deleted;
  }
}

/** The id and the secret of a key that is yet to be stored. */
export interface NewKeyPair {
  readonly id: string;
  readonly secret: string;
}

export function newKey(): NewKeyPair {
  return { id: encodeRandomId('key', randomBytes(16)), secret: createKeySecret() };
}

/** What the audit log says of a new key: never the secret, nor how it begins. */
export function keyCreated(actor: string, { id }: NewKeyPair, spec: KeySpec, now: Date): AuditedChange {
  const expiresAt = spec.expiresAtMs === null ? null : formatTime(spec.expiresAtMs);
  const details = { name: spec.name, scopes: spec.scopes, expires_at: expiresAt };
  return { atMs: now.getTime(), actor, action: 'key.created', target: id, details };
}

export function keyDeleted(actor: string, row: KeyRow, atMs: number): AuditedChange {
  return { atMs, actor, action: 'key.deleted', target: row.key_id, details: { name: row.name } };
}

/** Stores a key without asking who may. */
export async function insertNewKey(
  tx: Transaction,
  org: string,
  { id, secret }: NewKeyPair,
  spec: KeySpec,
  now: Date,
): Promise<CreatedKey> {
  const row = await insertKey(tx, {
    org,
    keyId: id,
    hash: hashKey(secret),
    name: spec.name,
    prefix: displayPrefix(secret),
    scopes: spec.scopes,
    createdAt: now,
    expiresAt: spec.expiresAtMs === null ? null : new Date(spec.expiresAtMs),
  });
  return { ...toKey(row), secret };
}

async function requireRoom(tx: Transaction, org: string, now: Date): Promise<void> {
  if ((await countKeysForCreation(tx, org, now)) < keysMax) return;
  throw new Problem('limit_reached', `An organisation has at most ${keysMax} keys. Delete one that is not used.`);
}

function requireScopes(wanted: readonly KeyScope[], held: HeldKey): void {
  const missing = wanted.filter((scope) => !held.scopes.has(scope));
  if (missing.length > 0) {
    const detail = `Your key does not hold ${missing.join(', ')}, so it cannot grant, rotate or delete a key that does.`;
    throw new Problem('insufficient_scope', detail);
  }
}

/** When the caller's own key ends; null: never. */
async function endOf(tx: Transaction, org: string, { keyId }: HeldKey, now: Date): Promise<number | null> {
  const row = await findKey(tx, org, keyId, now);
  if (row === null) throw new Problem('invalid_key', 'Your key has ended meanwhile.');
  return row.ends_at?.getTime() ?? null;
}

/** Else a key that was lent for an hour, or lives out its grace, would last as long as it likes. */
function requireLifetime(endsAtMs: number | null, heldEndsAtMs: number | null): void {
  if (heldEndsAtMs === null || (endsAtMs !== null && endsAtMs <= heldEndsAtMs)) return;
  const detail = `Your key ends at ${formatTime(heldEndsAtMs)}, so it cannot make a key that lives longer.`;
  throw new Problem('insufficient_scope', detail);
}

function toKey(row: KeyRow): Key {
  return {
    id: row.key_id,
    name: row.name,
    prefix: row.prefix,
    scopes: row.scopes.filter(isKeyScope),
    createdAtMs: row.created_at.getTime(),
    expiresAtMs: row.ends_at?.getTime() ?? null,
    lastUsedAtMs: row.last_used_at?.getTime() ?? null,
  };
}
