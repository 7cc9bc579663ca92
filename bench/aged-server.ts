import { Client as PgClient } from 'pg';
import { startOwnPostgresServer } from '../test/support/postgres-server.js';
import type { PostgresServer } from '../test/support/postgres-server.js';

const segments = 62;

/**
 * A PostgreSQL that has segments of its log in stock, as one has that has been running for a while and writes into those it needs no more. A new server makes
 * each of its first ones anew, 16 MiB of zeros, while commits wait: 20 to 50 ms every second or two. Null where there is no PostgreSQL.
 */
export async function startAgedServer(): Promise<PostgresServer | null> {
  const server = await startOwnPostgresServer([`min_wal_size=${segments * 16}MB`]);
  if (server === null) return null;
  const client = new PgClient(server.url('postgres'));
  try {
    await client.connect();
    for (let made = 0; made < segments; made++) {
      // A switch to the next segment does nothing in an empty one.
      await client.query(`SELECT pg_logical_emit_message(false, 'bench', 'age')`);
      await client.query('SELECT pg_switch_wal()');
    }
    await client.query('CHECKPOINT');
    await client.end();
  } catch (error) {
    await server.stop();
    throw error;
  }
  return server;
}
