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

// Halves the positions that are left at every step, looking at one row by the primary key: a day of a billion positions takes 30.
const searchStatement = {
  name: 'position_search_day',
  text: `
    WITH RECURSIVE search (low, high) AS (
      SELECT
        (SELECT position FROM events WHERE org = $1 AND day = $2 ORDER BY position LIMIT 1),
        (SELECT position + 1 FROM events WHERE org = $1 AND day = $2 ORDER BY position DESC LIMIT 1)
      UNION ALL
      SELECT
        CASE WHEN e.received_at >= $3 THEN s.low ELSE e.position + 1 END,
        CASE WHEN e.received_at >= $3 THEN (s.low + s.high) / 2 ELSE s.high END
      FROM search AS s
      CROSS JOIN LATERAL (
        SELECT e.position, e.received_at FROM events AS e
        WHERE e.org = $1 AND e.day = $2 AND e.position >= (s.low + s.high) / 2
        ORDER BY e.position LIMIT 1
      ) AS e
      WHERE s.low < s.high
    )
    SELECT low AS position, low < (SELECT max(high) FROM search) AS found FROM search WHERE low >= high LIMIT 1`,
};

/** The lowest position of a day from which on every event was received at `at` or later; null: all of the day's were received before. */
export async function searchDay(tx: Transaction, org: string, day: number, at: Date): Promise<number | null> {
  const { rows } = await tx.query<{ position: string; found: boolean }>(searchStatement, [org, day, at.toISOString()]);
  const row = rows[0];
  return row?.found === true ? Number(row.position) : null;
}
