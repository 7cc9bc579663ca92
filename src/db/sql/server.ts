import type { Transaction } from '../database.js';

/** What a PostgreSQL server says of itself to a session, as text. */
export interface ServerFacts {
  /** As `server_version_num`: 150004 is 15.4. */
  readonly version: number;
  readonly fsync: boolean;
  readonly fullPageWrites: boolean;
  /** As a session of this user has it, whose own settings and those of the database count. */
  readonly synchronousCommit: string;
  readonly synchronousStandbyNames: string;
  readonly walSendersMax: number;
  readonly connectionsMax: number;
  /** Kept for superusers and the like. */
  readonly connectionsReserved: number;
  /** In use by anybody, this session included. */
  readonly connectionsInUse: number;
}

/** The simple protocol's query: the rows are those of the last statement. */
export type RunText = <Row>(text: string) => Promise<Row[]>;

export async function readServerFacts(run: RunText): Promise<ServerFacts> {
  const [row] = await run<Record<string, string>>(`
    SELECT current_setting('server_version_num') AS version,
      current_setting('fsync') AS fsync,
      current_setting('full_page_writes') AS full_page_writes,
      current_setting('synchronous_commit') AS synchronous_commit,
      current_setting('synchronous_standby_names') AS synchronous_standby_names,
      current_setting('max_wal_senders') AS wal_senders,
      current_setting('max_connections') AS connections,
      -- The second one is there from PostgreSQL 16 on.
      current_setting('superuser_reserved_connections')::integer
        + COALESCE(current_setting('reserved_connections', true), '0')::integer AS reserved,
      (SELECT COALESCE(sum(numbackends), 0) FROM pg_stat_database) AS in_use`);
  const text = (name: string): string => row?.[name] ?? '';
  return {
    version: Number(text('version')),
    fsync: text('fsync') === 'on',
    fullPageWrites: text('full_page_writes') === 'on',
    synchronousCommit: text('synchronous_commit'),
    synchronousStandbyNames: text('synchronous_standby_names'),
    walSendersMax: Number(text('wal_senders')),
    connectionsMax: Number(text('connections')),
    connectionsReserved: Number(text('reserved')),
    connectionsInUse: Number(text('in_use')),
  };
}

/**
 * Whether a pooler keeps track of statements that are prepared by name: then the server has them under names of the pooler's own. Rejects where
 * another client has prepared this very statement on the same session of the server, which then no pooler has kept track of.
 */
export async function tracksStatements(tx: Transaction): Promise<boolean> {
  const name = 'pooler_tracks_statements';
  const text = `SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = '${name}') AS has_name`;
  const { rows } = await tx.query<{ has_name: boolean }>({ name, text });
  return rows[0]?.has_name === false;
}
