import type { Database, Transaction } from '../database.js';
import { StorageError } from '../database.js';
import { partitionName } from './partitions.js';
import type { SubscriptionRow } from './subscriptions.js';

const dueStatement = {
  name: 'retention_due',
  text: `
    SELECT o.org, o.retention_days FROM orgs AS o JOIN heads AS h ON h.org = o.org
    WHERE h.first_day < $1::integer - o.retention_days AND o.org > $2 ORDER BY o.org LIMIT $3`,
};

export interface DueOrg {
  org: string;
  retention_days: number;
}

/** Orgs whose log begins before their retention, by number, from the one after `afterOrg` on. */
export async function dueOrgs(database: Database, today: number, afterOrg: string, limit: number): Promise<DueOrg[]> {
  const scope = { role: 'system', priority: 'read' } as const;
  return (await database.query<DueOrg>(scope, dueStatement, [today, afterOrg, limit])).rows;
}

const lockAllStatement = {
  name: 'retention_lock_subscriptions',
  text: `
    SELECT subscription, cursor, cursor_day, ahead::text AS ahead, held, dead, skipped::text AS skipped, filters, max_attempts
    FROM subscriptions WHERE org = $1 ORDER BY subscription FOR UPDATE`,
};

/** Every subscription of an org, locked as every change of one does first. */
export async function lockSubscriptions(
  tx: Transaction,
  org: string,
): Promise<readonly (SubscriptionRow & { readonly subscription: number })[]> {
  return (await tx.query<SubscriptionRow & { subscription: number }>(lockAllStatement, [org])).rows;
}

const deleteDeadStatement = {
  name: 'retention_delete_dead',
  text: 'DELETE FROM dead_letters WHERE org = $1 AND subscription = $2 AND position < $3',
};

/** Ends the dead letters below a position. Returns how many. */
export async function deleteDeadBelow(
  tx: Transaction,
  org: string,
  subscription: number,
  position: number,
): Promise<number> {
  return (await tx.query(deleteDeadStatement, [org, subscription, position])).rowCount;
}

const trimStatement = {
  name: 'retention_trim_subscription',
  text: `
    UPDATE subscriptions
    SET cursor = $3, cursor_day = $4, ahead = $5::int8multirange, skipped = $6::int8multirange, held = held - $7, dead = dead - $8,
      expired = expired + $7 + $8 + $9
    WHERE org = $1 AND subscription = $2`,
};

export async function trimSubscription(
  tx: Transaction,
  org: string,
  subscription: number,
  to: {
    readonly cursor: number;
    readonly cursorDay: number;
    readonly ahead: string;
    readonly skipped: string;
    /** Positions that its leases held, its dead letters, and its events that were never handed out: all of them expired. */
    readonly held: number;
    readonly dead: number;
    readonly pending: number;
  },
): Promise<void> {
  const { cursor, cursorDay, ahead, skipped, held, dead, pending } = to;
  await tx.query(trimStatement, [org, subscription, cursor, cursorDay, ahead, skipped, held, dead, pending]);
}

const raiseFloorStatement = {
  name: 'retention_raise_floor',
  text: 'UPDATE heads SET first_position = $2, first_day = $3 WHERE org = $1',
};

/** Makes the log of an org begin at a position. Locks its head: commit at once. */
export async function raiseFloor(tx: Transaction, org: string, position: number, day: number): Promise<void> {
  await tx.query(raiseFloorStatement, [org, position, day]);
}

const lowestStatement = { name: 'retention_lowest_floor', text: 'SELECT min(first_day) AS day FROM heads' };

/** The first day of which any org keeps events; null: there is no org. */
export async function lowestFloor(database: Database): Promise<number | null> {
  const { rows } = await database.query<{ day: number | null }>({ role: 'system', priority: 'read' }, lowestStatement);
  return rows[0]?.day ?? null;
}

/** A waiting DROP stops everybody behind it, so it waits no longer than this; false: it must be tried again. */
export async function dropPartition(database: Database, day: number): Promise<boolean> {
  try {
    await database.transaction({ role: 'owner' }, (tx) =>
      tx.script(`SET LOCAL lock_timeout = '100ms'; DROP TABLE IF EXISTS ${partitionName(day)}`),
    );
    return true;
  } catch (error) {
    if (error instanceof StorageError && error.sqlstate === '55P03') return false;
    throw error;
  }
}

const unpurgedStatement = {
  name: 'retention_unpurged',
  text: `
    SELECT org, GREATEST(purged_day, $1) AS from_day, first_day, first_position FROM heads
    WHERE GREATEST(purged_day, $1) < first_day AND org > $2 ORDER BY org LIMIT $3`,
};

export interface UnpurgedOrg {
  org: string;
  from_day: number;
  first_day: number;
  first_position: string;
}

/** Orgs whose floor lies above days that are still stored, by number, from the one after `afterOrg` on. */
export async function unpurgedOrgs(
  database: Database,
  firstStoredDay: number,
  afterOrg: string,
  limit: number,
): Promise<UnpurgedOrg[]> {
  const scope = { role: 'system', priority: 'read' } as const;
  return (await database.query<UnpurgedOrg>(scope, unpurgedStatement, [firstStoredDay, afterOrg, limit])).rows;
}

const deleteEventsStatement = {
  name: 'retention_delete_events',
  text: `
    DELETE FROM events WHERE org = $1 AND day = $2 AND position = ANY (ARRAY(
      SELECT position FROM events WHERE org = $1 AND day = $2 AND position < $3 ORDER BY position LIMIT $4))`,
};

/** Deletes some events of a day below a floor. Returns how many. */
export async function deleteEventsBelow(
  database: Database,
  org: string,
  day: number,
  position: string,
  limit: number,
): Promise<number> {
  return (await database.query({ role: 'erasure' }, deleteEventsStatement, [org, day, position, limit])).rowCount;
}

const purgedStatement = { name: 'retention_purged', text: 'UPDATE heads SET purged_day = $2 WHERE org = $1' };

export async function notePurged(database: Database, org: string, day: number): Promise<void> {
  await database.query({ role: 'system' }, purgedStatement, [org, day]);
}

const deleteDedupStatement = {
  name: 'retention_delete_dedup',
  text: `
    DELETE FROM dedup AS d USING (SELECT org, dedup_id FROM dedup WHERE day < $1 LIMIT $2) AS old
    WHERE d.org = old.org AND d.dedup_id = old.dedup_id`,
};

/** Deletes some dedup ids of the days before one. Returns how many. */
export async function deleteDedupBefore(database: Database, day: number, limit: number): Promise<number> {
  return (await database.query({ role: 'erasure' }, deleteDedupStatement, [day, limit])).rowCount;
}
