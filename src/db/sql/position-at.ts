import type { Transaction } from '../database.js';
import type { DayRange } from './subscriptions.js';

const firstStatement = {
  name: 'position_first_of_days',
  text: `
    SELECT position, day FROM events
    WHERE org = $1 AND day BETWEEN $2 AND $3 ORDER BY position LIMIT 1`,
};

/** The first event of these days; null: there is none. */
export async function firstPositionOf(
  tx: Transaction,
  org: string,
  days: DayRange,
): Promise<{ readonly position: number; readonly day: number } | null> {
  const { rows } = await tx.query<{ position: string; day: number }>(firstStatement, [org, days.first, days.last]);
  const row = rows[0];
  return row === undefined ? null : { position: Number(row.position), day: row.day };
}
