/** Orgs that have something of everything, and the erasure of deleted ones without a node around it. */
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { tablesOfOrgs } from '../../src/db/sql/deletions.js';
import { appendBatch } from '../../src/event-log/append.js';
import { receive } from '../../src/subscriptions/receive.js';
import { Erasures } from '../../src/tenancy/erasures.js';
import { Keys } from '../../src/tenancy/keys.js';
import { OrgErasure } from '../../src/tenancy/org-erasure.js';
import { Orgs } from '../../src/tenancy/orgs.js';
import { scopes } from '../../src/tenancy/scopes.js';
import { signal } from '../support/conformance.js';
import { newEvent } from '../support/event-log.js';
import { asOwner, dayMs, ensurePartitions, intercept } from '../support/log.js';

/** So that there are many. */
export const batch = { batchEventsMax: 7, batchRowsMax: 3 };

/** An org with rows in every table: events of four days, dedup ids, leases, a dead letter, keys, erasures. */
export async function fullOrg(database: Database, orgs: Orgs): Promise<string> {
  const {
    org: { org },
    key,
  } = await orgs.create('full', 'free');
  const keys = new Keys(database, systemClock, () => {});
  const held = { keyId: key.id, scopes: new Set(scopes) };
  for (let n = 0; n < 10; n++) await keys.create(org, { name: `key ${n}`, scopes, expiresAtMs: null }, held);
  await asOwner(database, `UPDATE subscriptions SET max_attempts = 1 WHERE org = ${org}`);
  const today = Date.now();
  for (let day = 0; day < 4; day++) {
    const nowMs = today + day * dayMs;
    await ensurePartitions(database, { ...systemClock, now: () => nowMs });
    await appendBatch(
      database,
      Array.from({ length: 20 }, (_, n) => newEvent(org, '1', `${day} ${n}`)),
      nowMs,
    );
    // The first of each two is lost with its only attempt.
    for (const [n, atMs] of [nowMs, nowMs + 10].entries()) {
      const lease = `lse_${day}_${n}`;
      const common = { org, subscription: 0, eventsMax: 4, wantsPayload: false, nowMs: atMs, lease };
      await receive(database, { ...common, leaseEndsAtMs: n === 0 ? atMs + 1 : atMs + 10 * dayMs });
    }
  }
  const erasures = new Erasures(database, systemClock, () => {});
  for (let n = 0; n < 4; n++) await erasures.request(org, `subject ${n}`, 'key_test');
  return org;
}

/** How many rows of an org each table has, whoever may see them. */
export async function rowsOf(database: Database, org: string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const table of tablesOfOrgs) {
    const text = `SELECT count(*)::integer AS rows FROM ${table} WHERE org = $1`;
    const { rows } = await database.query<{ rows: number }>({ role: 'owner' }, { name: `test_rows_${table}`, text }, [
      org,
    ]);
    counts[table] = rows[0]?.rows ?? -1;
  }
  return counts;
}

export const total = (counts: Record<string, number>): number =>
  Object.values(counts).reduce((sum, rows) => sum + rows, 0);
export const nothing = (counts: Record<string, number>): Record<string, number> =>
  Object.fromEntries(Object.keys(counts).map((table) => [table, 0]));

export interface Erased {
  readonly org: string;
  readonly rows: number;
}

/** One look of a node: erases what there is, or is stopped after `batchesMax` that deleted something. Resolves with what it brought to its end. */
export async function erase(
  database: Database,
  onFailure: (error: unknown) => void = (error) => {
    throw error;
  },
  { batchesMax = Infinity, ...limits }: Partial<typeof batch> & { readonly batchesMax?: number } = batch,
): Promise<Erased[]> {
  const erased: Erased[] = [];
  const over = signal();
  // Pauses are real; the next look would be in some seconds, and is the sign that this one is over.
  const arm = (delayMs: number, fire: () => void): (() => void) => {
    if (delayMs < 1_000) return systemClock.after(delayMs, fire);
    over.fire();
    return () => {};
  };
  let batches = 0;
  const counted = intercept(database, async (statement, values, real) => {
    const result = await real(statement, values);
    // A day or a table without rows is no batch.
    if (/^erase_(?!end_)/.test(statement.name) && result.rowCount > 0 && ++batches === batchesMax) {
      void erasure.stop().then(over.fire);
    }
    return result;
  });
  const onErased = (org: string, rows: number): void => void erased.push({ org, rows });
  const clock = { ...systemClock, after: arm };
  const erasure: OrgErasure = new OrgErasure({ database: counted, clock, onErased, onFailure, ...limits });
  erasure.check();
  await over.promise;
  await erasure.stop();
  return erased;
}

export function orgsOf(database: Database): Orgs {
  return new Orgs(
    database,
    systemClock,
    () => {},
    () => {},
  );
}
