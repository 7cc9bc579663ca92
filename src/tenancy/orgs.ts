import { randomInt } from 'node:crypto';
import type { Clock } from '../clock.js';
import type { Database, Transaction } from '../db/database.js';
import { closeAudit, recordChanges } from '../db/sql/audit.js';
import { buryOrg } from '../db/sql/deletions.js';
import { deleteKey, listKeys } from '../db/sql/keys.js';
import type { OrgChange, OrgRow, Tier } from '../db/sql/tenancy.js';
import { findOrg, hasAnyOrg, insertOrg, listOrgs, lockOrg, updateOrg } from '../db/sql/tenancy.js';
import { encodeOrgId } from '../ids.js';
import { adminActor, programActor } from './audit.js';
import type { CreatedKey } from './keys.js';
import { insertNewKey, keyCreated, keyDeleted, keysMax, newKey } from './keys.js';
import { orgChanges } from './org-changes.js';
import { scopes } from './scopes.js';
import type { Limits } from './tiers.js';
import { limitsOf } from './tiers.js';

export interface Org {
  /** Its number, decimal digits: random, so that one org's id says nothing of another's. */
  readonly org: string;
  readonly name: string;
  readonly tier: Tier;
  readonly limits: Limits;
  readonly retentionDays: number;
  readonly suspended: boolean;
  readonly createdAtMs: number;
  /** Living keys. */
  readonly keys: number;
}

export class Orgs {
  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    /** Called after a change, so that this node forgets what it knew of the org. */
    private readonly onChange: (org: string) => void,
    /** Called after an org was deleted: there is something to erase. */
    private readonly onDeleted: () => void,
  ) {}

  /** An org with an empty log, its inbox `default` and its first key, which holds all scopes. */
  create(name: string, tier: Tier): Promise<{ readonly org: Org; readonly key: CreatedKey }> {
    return this.database.transaction({ role: 'system' }, (tx) =>
      createOrg(tx, adminActor, name, tier, this.clock.now()),
    );
  }

  /** As `create`, but null where there is any org already. */
  createFirst(name: string, tier: Tier): Promise<{ readonly org: Org; readonly key: CreatedKey } | null> {
    return this.database.transaction({ role: 'system' }, async (tx) =>
      (await hasAnyOrg(tx)) ? null : createOrg(tx, programActor, name, tier, this.clock.now()),
    );
  }

  /** A new first key for an org whose first key nobody has seen; the old one, unless it was used after all, is gone. */
  replaceFirstKey(org: string): Promise<CreatedKey> {
    return this.database.transaction({ role: 'app', org }, async (tx) => {
      const now = new Date(this.clock.now());
      const keys = await listKeys(tx, org, '', now, keysMax);
      const unused = keys.filter((key) => key.name === firstKeyName && key.last_used_at === null);
      const key = newKey();
      const deletions = unused.map((row) => keyDeleted(programActor, row, now.getTime()));
      await recordChanges(tx, org, keyCreated(programActor, key, firstKey, now), ...deletions);
      for (const { key_id: id } of unused) await deleteKey(tx, org, id);
      return insertNewKey(tx, org, key, firstKey, now);
    });
  }

  async find(org: string): Promise<Org | null> {
    const row = await findOrg(this.database, org);
    return row === null ? null : toOrg(row);
  }

  /** By number, from the one after `afterOrg` on. */
  async list(afterOrg: string, limit: number): Promise<Org[]> {
    return (await listOrgs(this.database, afterOrg, limit)).map(toOrg);
  }

  /** Null if there is no such org. `actor` is who changes it: the id of a key, or the operator. */
  async update(org: string, change: OrgChange, actor: string = adminActor): Promise<Org | null> {
    const row = await this.database.transaction({ role: 'system' }, async (tx) => {
      const before = await lockOrg(tx, org);
      if (before === null) return null;
      const [first, ...others] = orgChanges(before, change, { atMs: this.clock.now(), actor });
      // Nothing that would become different is no change.
      if (first === undefined) return before;
      await recordChanges(tx, org, first, ...others);
      return updateOrg(tx, org, change);
    });
    this.onChange(org);
    return row === null ? null : toOrg(row);
  }

  /**
   * False if there is no such org. From the commit on the org is gone for everybody: its keys are unknown, on other nodes within a second, and it takes
   * no event. Its rows are erased afterwards (`OrgErasure`), its number is never given to another.
   */
  async delete(org: string): Promise<boolean> {
    const deleted = await this.database.transaction({ role: 'system' }, async (tx) => {
      if ((await lockOrg(tx, org)) === null) return false;
      const change = { atMs: this.clock.now(), actor: adminActor, action: 'org.deleted', target: encodeOrgId(org) };
      const last = await recordChanges(tx, org, { ...change, details: {} });
      await closeAudit(tx, org);
      await buryOrg(tx, org, last);
      return true;
    });
    this.onChange(org);
    if (deleted) this.onDeleted();
    return deleted;
  }
}

const firstKeyName = 'first key';
const firstKey = { name: firstKeyName, scopes, expiresAtMs: null };

async function createOrg(tx: Transaction, actor: string, name: string, tier: Tier, nowMs: number) {
  const createdAt = new Date(nowMs);
  for (;;) {
    // 48 random bits: a collision among a million orgs has a probability of 0.2 %, and is drawn again.
    const row = await insertOrg(tx, { org: String(randomInt(1, 2 ** 48 - 1)), name, tier, createdAt });
    if (row === null) continue;
    const pair = newKey();
    const change = { atMs: nowMs, actor, action: 'org.created', target: encodeOrgId(row.org), details: { name, tier } };
    await recordChanges(tx, row.org, change, keyCreated(actor, pair, firstKey, createdAt));
    const key = await insertNewKey(tx, row.org, pair, firstKey, createdAt);
    return { org: toOrg({ ...row, keys: 1 }), key };
  }
}

function toOrg(row: OrgRow): Org {
  return {
    org: row.org,
    name: row.name,
    tier: row.tier,
    limits: limitsOf(row),
    retentionDays: row.retention_days,
    suspended: row.suspended,
    createdAtMs: row.created_at.getTime(),
    keys: row.keys,
  };
}
