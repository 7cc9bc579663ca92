import type { Database } from '../database.js';

const endBlockersStatement = {
  name: 'blocked_heads_end',
  text: `
    SELECT pg_terminate_backend(blocker.pid) AS ended
    FROM pg_stat_activity AS blocker
    WHERE blocker.usename = session_user AND blocker.datname = current_database()
      AND blocker.xact_start < clock_timestamp() - $1::integer * interval '1 ms'
      -- A COMMIT is never cut short: what waits for a standby would be committed without it.
      AND blocker.wait_event IS DISTINCT FROM 'SyncRep' AND blocker.query NOT LIKE 'COMMIT%'
      AND blocker.pid IN (
        SELECT unnest(pg_blocking_pids(waiter.pid))
        FROM pg_stat_activity AS waiter
        WHERE waiter.usename = session_user AND waiter.datname = current_database()
          AND waiter.wait_event_type = 'Lock' AND waiter.query LIKE '%UPDATE heads%'
      )
      -- A migration locks the table, and may: it is waited for.
      AND NOT EXISTS (
        SELECT FROM pg_locks
        WHERE pg_locks.pid = blocker.pid AND granted AND relation = 'heads'::regclass AND mode NOT LIKE 'Row%' AND mode <> 'AccessShareLock'
      )`,
};

/**
 * Ends the sessions of our own login that have been in their transaction for more than `ageMs` and make others wait for the head of an org.
 * Returns how many. What such a session had not committed is rolled back.
 */
export async function endHeadBlockers(database: Database, ageMs: number): Promise<number> {
  const { rows } = await database.query<{ ended: boolean }>({ role: 'owner' }, endBlockersStatement, [ageMs]);
  return rows.filter(({ ended }) => ended).length;
}
