import type { Transaction } from '../database.js';
import type { FilterVersion } from './subscriptions.js';

export interface DeliveryRow {
  kind: 'inbox' | 'webhook';
  name: string;
  max_attempts: number;
  filters: FilterVersion[];
  /** At or below the cursor. */
  passed: boolean;
  ahead: boolean;
  skipped: boolean;
  /** Of the lease that holds the event; null if none does. */
  attempt: number | null;
  available_at: Date | null;
  waiting: boolean | null;
  /** Of the dead letter. */
  dead_attempts: number | null;
}

const deliveriesStatement = {
  name: 'deliveries_of',
  text: `
    SELECT s.kind, s.name, s.max_attempts, s.filters, s.cursor >= $2 AS passed, s.ahead @> $2::bigint AS ahead, s.skipped @> $2::bigint AS skipped,
      l.attempt, l.available_at, l.waiting, d.attempts AS dead_attempts
    FROM subscriptions AS s
    LEFT JOIN LATERAL (
      SELECT l.attempt, l.available_at, l.waiting FROM leases AS l
      WHERE l.org = s.org AND l.subscription = s.subscription AND l.positions @> $2::bigint LIMIT 1
    ) AS l ON true
    LEFT JOIN dead_letters AS d ON d.org = s.org AND d.subscription = s.subscription AND d.position = $2
    WHERE s.org = $1 ORDER BY s.kind, s.name`,
};

/** What every subscription of the org has done with a position. */
export async function readDeliveries(tx: Transaction, org: string, position: number): Promise<DeliveryRow[]> {
  return (await tx.query<DeliveryRow>(deliveriesStatement, [org, position])).rows;
}
