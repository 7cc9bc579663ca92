import type { Transaction } from '../database.js';
import type { FilterVersion } from './subscriptions.js';

const snapshotStatement = {
  name: 'verify_snapshot',
  text: `
    SELECT h.position AS head, h.day AS head_day, h.first_position, h.first_day, s.subscription, s.kind, s.name, s.cursor,
      s.ahead::text AS ahead, s.skipped::text AS skipped, s.held, s.dead, s.expired, s.erased, s.filters, s.max_attempts,
      (SELECT coalesce(json_agg(json_build_object(
          'lease', l.lease, 'attempt', l.attempt, 'positions', l.positions::text, 'isOut', l.available_at > $2 AND NOT l.waiting)), '[]')
        FROM leases AS l WHERE l.org = s.org AND l.subscription = s.subscription) AS leases,
      (SELECT coalesce(range_agg(int8range(d.position, d.position, '[]')), '{}')::text
        FROM dead_letters AS d WHERE d.org = s.org AND d.subscription = s.subscription) AS dead_letters
    FROM heads AS h LEFT JOIN subscriptions AS s ON s.org = h.org
    WHERE h.org = $1 ORDER BY s.subscription`,
};

export interface SnapshotLease {
  readonly lease: string;
  readonly attempt: number;
  readonly positions: string;
  /** Somebody has it now. */
  readonly isOut: boolean;
}

/** A subscription with all that it holds, as of one moment; the columns of the subscription are null in an org that has none. */
export interface SnapshotRow {
  head: string;
  head_day: number;
  first_position: string;
  first_day: number;
  subscription: number | null;
  kind: string;
  name: string;
  cursor: string;
  ahead: string;
  skipped: string;
  held: string;
  dead: string;
  expired: string;
  erased: string;
  filters: FilterVersion[];
  max_attempts: number;
  leases: SnapshotLease[];
  dead_letters: string;
}

/** Every subscription of an org, all as of the same moment. Empty: there is no such org. */
export async function readSnapshot(tx: Pick<Transaction, 'query'>, org: string, now: Date): Promise<SnapshotRow[]> {
  return (await tx.query<SnapshotRow>(snapshotStatement, [org, now.toISOString()])).rows;
}

const erasedStatement = {
  name: 'verify_erased',
  text: 'SELECT subscription, erased FROM subscriptions WHERE org = $1',
};

/** How many events each subscription of an org has lost to erasures by now. */
export async function readErasedCounts(
  tx: Pick<Transaction, 'query'>,
  org: string,
): Promise<ReadonlyMap<number | null, number>> {
  const { rows } = await tx.query<{ subscription: number; erased: string }>(erasedStatement, [org]);
  return new Map(rows.map((row) => [row.subscription, Number(row.erased)]));
}

const walkStatement = {
  name: 'verify_walk',
  text: `
    SELECT position, type FROM events WHERE org = $1 AND day = $2 AND position > $3 AND position <= $4
    ORDER BY position LIMIT $5`,
};

export interface WalkedRow {
  position: string;
  type: string;
}

/** The events of a day between two positions (above the first, up to the second), in their order. */
export async function walkEvents(
  tx: Pick<Transaction, 'query'>,
  org: string,
  day: number,
  above: number,
  upTo: number,
  limit: number,
): Promise<WalkedRow[]> {
  return (await tx.query<WalkedRow>(walkStatement, [org, day, above, upTo, limit])).rows;
}
