/** What the host does for an embedded engine that has no background processes. Plain texts: none of these may run inside a transaction. */

/** Bytes of log that a recovery would have to replay now. */
export const walSinceCheckpoint = `SELECT (pg_current_wal_insert_lsn() - redo_lsn)::bigint AS bytes FROM pg_control_checkpoint()`;

export const checkpoint = 'CHECKPOINT';

export const databaseSize = 'SELECT pg_database_size(current_database()) AS bytes';

/** Tables whose dead rows are worth the visit, the most first. A partition is left alone: it is dropped whole. */
export function tablesToVacuum(deadRowsMin: number): string {
  return `
    SELECT relid::regclass::text AS name
    FROM pg_stat_user_tables
    WHERE n_dead_tup >= GREATEST(${deadRowsMin}, n_live_tup / 5)
      AND NOT (SELECT relispartition FROM pg_class WHERE oid = relid)
    ORDER BY n_dead_tup DESC`;
}

export interface FreezeLimits {
  /** In transactions: younger tables are left alone. */
  readonly ageMin: number;
  /** Of 8 KiB: larger tables are left alone, until they are `ageForced` transactions old. */
  readonly pagesMax: number;
  readonly ageForced: number;
}

/** The smallest table whose transaction ids should be frozen, if any. Partitions from `today` on are still written to. */
export function tablesToFreeze({ ageMin, pagesMax, ageForced }: FreezeLimits, today: string): string {
  return `
    SELECT c.oid::regclass::text AS name
    FROM pg_class AS c
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p'
      AND age(c.relfrozenxid) >= ${ageMin}
      AND (NOT c.relispartition OR c.relname < '${today}')
      AND (pg_relation_size(c.oid) <= ${pagesMax} * 8192::bigint OR age(c.relfrozenxid) >= ${ageForced})
    ORDER BY pg_relation_size(c.oid)
    LIMIT 1`;
}

/** Does not give pages back to the file system: that needs a lock which stops everybody. */
export function vacuum(table: string, { freeze }: { readonly freeze: boolean }): string {
  return `VACUUM (TRUNCATE false${freeze ? ', FREEZE' : ''}) ${table}`;
}
