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

/** How a pooler treats what a session of the server remembers. */
export interface PoolerFacts {
  /** Statements are prepared under the names that they are given, so nobody prepares them again on another session of the server. */
  readonly keepsNames: boolean;
  readonly serverProcess: number;
}

const poolerStatement = {
  name: 'pooler_facts',
  text: `
    SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'pooler_facts') AS keeps_names,
      pg_backend_pid() AS server_process`,
};

export async function readPoolerFacts(tx: Transaction): Promise<PoolerFacts> {
  const { rows } = await tx.query<{ keeps_names: boolean; server_process: number }>(poolerStatement);
  const [row] = rows;
  return { keepsNames: row?.keeps_names !== false, serverProcess: row?.server_process ?? 0 };
}
