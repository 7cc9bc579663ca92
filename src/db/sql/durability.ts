/**
 * What a receipt says of its event's commit:
 * - `memory`: the server does not wait for its disk, or could not trust it after a crash.
 * - `fsync`: the commit is on the server's disk.
 * - `replicated`: it is on the disk of a synchronous standby as well.
 */
export type Durability = 'memory' | 'fsync' | 'replicated';

const weakestFirst: readonly Durability[] = ['memory', 'fsync', 'replicated'];

export function weaker(a: Durability, b: Durability): Durability {
  return weakestFirst.indexOf(a) < weakestFirst.indexOf(b) ? a : b;
}

/**
 * How long after the server has read its configuration no commit counts as replicated. Sessions see a change of `synchronous_standby_names` at
 * once, but it is the checkpointer that makes them wait for a standby, and it may be busy: without this, a receipt could name a
 * wait that never was. Asked at both ends of a transaction, it also rules out every change in between.
 */
const settledSeconds = 15;

/**
 * The level of a COMMIT under the server's settings of this moment, as an SQL expression. `synchronousCommit` is an expression, too.
 *
 * `remote_write` is not `replicated`: the standby has the commit in its memory only. Neither is a wait that was cancelled: the server
 * says so with a warning behind its COMMIT, which the caller has to hear.
 */
export function levelOf(synchronousCommit: string): string {
  return `
    CASE
      WHEN NOT current_setting('fsync')::boolean OR NOT current_setting('full_page_writes')::boolean THEN 'memory'
      WHEN ${synchronousCommit} = 'off' THEN 'memory'
      WHEN current_setting('synchronous_standby_names') <> '' AND current_setting('max_wal_senders') <> '0'
        AND ${synchronousCommit} IN ('on', 'remote_apply')
        AND clock_timestamp() - pg_conf_load_time() > interval '${settledSeconds} s' THEN 'replicated'
      ELSE 'fsync'
    END`;
}
