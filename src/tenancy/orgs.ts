import { randomInt } from 'node:crypto';
import type { Clock } from '../clock.js';
import type { Database, Transaction } from '../db/database.js';
import { deleteKey, listKeys } from '../db/sql/keys.js';
import type { OrgChange, OrgRow, Tier } from '../db/sql/tenancy.js';
import { findOrg, hasAnyOrg, insertOrg, listOrgs, updateOrg } from '../db/sql/tenancy.js';
import type { CreatedKey } from './keys.js';
import { createKey, keysMax } from './keys.js';
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
    private readonly onChange: () => void,
  ) {}

  /** An org with an empty log, its inbox `default` and its first key, which holds all scopes. */
  create(name: string, tier: Tier): Promise<{ readonly org: Org; readonly key: CreatedKey }> {
    return this.database.transaction({ role: 'system' }, (tx) => createOrg(tx, name, tier, this.clock.now()));
  }

  /** As `create`, but null where there is any org already. */
  createFirst(name: string, tier: Tier): Promise<{ readonly org: Org; readonly key: CreatedKey } | null> {
    return this.database.transaction({ role: 'system' }, async (tx) =>
      (await hasAnyOrg(tx)) ? null : createOrg(tx, name, tier, this.clock.now()),
    );
  }

  /** A new first key for an org whose first key nobody has seen; the old one, unless it was used after all, is gone. */
  replaceFirstKey(org: string): Promise<CreatedKey> {
    return this.database.transaction({ role: 'app', org }, async (tx) => {
      const now = new Date(this.clock.now());
      for (const key of await listKeys(tx, org, '', now, keysMax)) {
        if (key.name === firstKeyName && key.last_used_at === null) await deleteKey(tx, org, key.key_id);
      }
      return createKey(tx, org, { name: firstKeyName, scopes, expiresAtMs: null }, now);
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

  /** Null if there is no such org. */
  async update(org: string, change: OrgChange): Promise<Org | null> {
    const row = await updateOrg(this.database, org, change);
    this.onChange();
    return row === null ? null : toOrg(row);
  }
}

const firstKeyName = 'first key';

async function createOrg(tx: Transaction, name: string, tier: Tier, nowMs: number) {
  const createdAt = new Date(nowMs);
  for (;;) {
    // 48 random bits: a collision among a million orgs has a probability of 0.2 %, and is drawn again.
    const row = await insertOrg(tx, { org: String(randomInt(1, 2 ** 48 - 1)), name, tier, createdAt });
    if (row === null) continue;
    const key = await createKey(tx, row.org, { name: firstKeyName, scopes, expiresAtMs: null }, createdAt);
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
