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

export interface UnfrozenRow {
  name: string;
  /** Of 8 KiB, with those of values stored aside. */
  pages: number;
  /** Whether it is `ageMin` transactions old, or older. */
  is_old: boolean;
}

/** Tables that are old, or have at least so many pages which no freezing has been over, the most first. */
export function tablesToFreeze(ageMin: number, pagesMin: number): string {
  return `
    SELECT name, pages, is_old FROM (
      SELECT c.oid::regclass::text AS name, GREATEST(age(c.relfrozenxid), age(t.relfrozenxid)) >= ${ageMin} AS is_old,
        ((pg_relation_size(c.oid) + coalesce(pg_relation_size(t.oid), 0)) / 8192 - c.relallfrozen - coalesce(t.relallfrozen, 0))::integer AS pages
      FROM pg_class AS c LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid
      WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p'
    ) AS tables
    WHERE is_old OR pages >= ${pagesMin}
    ORDER BY pages DESC`;
}

/** Does not give pages back to the file system: that needs a lock which stops everybody. */
export function vacuum(table: string, { freeze }: { readonly freeze: boolean }): string {
  return `VACUUM (TRUNCATE false${freeze ? ', FREEZE' : ''}) ${table}`;
}
