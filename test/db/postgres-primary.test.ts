/** Several hosts in one address: sessions are opened on the one that takes writes. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Client as Superuser } from 'pg';
import { systemClock } from '../../src/clock.js';
import { StorageError } from '../../src/db/database.js';
import type { Database } from '../../src/db/database.js';
import { openPostgres } from '../../src/db/postgres.js';
import { ofKind } from '../support/conformance.js';
import { freePort, startOwnPostgresServer, startStandby } from '../support/postgres-server.js';
import type { PostgresServer } from '../support/postgres-server.js';

const primary = await startOwnPostgresServer();
const skip = primary === null ? 'NOT TESTED: there is no PostgreSQL server on this machine' : false;
const owner = { role: 'owner' } as const;

describe('an address of several hosts', { skip }, () => {
  if (primary === null) return;
  let standby: PostgresServer;
  const opened: Database[] = [];
  before(async () => {
    standby = await startStandby(primary);
  });
  after(async () => {
    await Promise.all(opened.map((database) => database.close()));
    await standby?.stop();
    await primary.stop();
  });

  const open = async (ports: readonly number[], parameters = ''): Promise<Database> => {
    const hosts = ports.map((port) => `127.0.0.1:${port}`).join(',');
    const url = `postgres://sluice@${hosts}/postgres?target_session_attrs=read-write${parameters}`;
    const database = await openPostgres({ url, clock: systemClock, onLog: () => {}, sessionsMax: 2 });
    opened.push(database);
    return database;
  };
  const portOf = async (database: Database): Promise<number> => {
    const text = `SELECT current_setting('port')::integer AS port, pg_current_xact_id() IS NULL AS never`;
    const { rows } = await database.query<{ port: number }>(owner, { name: 'test_port', text });
    return rows[0]?.port ?? 0;
  };

  it('leads to the one that takes writes, past a standby and past one that is down', async () => {
    assert.equal(await portOf(await open([standby.port, await freePort(), primary.port])), primary.port);
    assert.equal(await portOf(await open([primary.port, standby.port])), primary.port);
  });

  it('leads past a host that takes the connection and stays silent, in the time of one attempt', async (t) => {
    const silent = await startSilent();
    t.after(() => silent.close());
    assert.equal(await portOf(await open([silent.port, primary.port], '&connect_timeout=1')), primary.port);
    assert.ok(silent.connections() > 0);
  });

  it('is refused, saying of each host why, when none takes writes', async () => {
    const refused = (error: unknown): boolean => {
      assert.ok(error instanceof StorageError && error.kind === 'unavailable');
      assert.match(error.message, /no PostgreSQL that takes writes: .*is a standby; .*ECONNREFUSED/);
      return true;
    };
    await assert.rejects(open([standby.port, await freePort()]), refused);
    await assert.rejects(open([standby.port]), /is a standby/);
  });

  it('leads to another server once the one in use takes no writes any more', async () => {
    const database = await open([primary.port, standby.port]);
    assert.equal(await portOf(database), primary.port);
    const old = new Superuser(primary.url('postgres'));
    const next = new Superuser(standby.url('postgres'));
    await Promise.all([old.connect(), next.connect()]);
    try {
      await old.query('ALTER SYSTEM SET default_transaction_read_only = on');
      await old.query('SELECT pg_reload_conf()');
      while ((await old.query('SHOW default_transaction_read_only')).rows[0].default_transaction_read_only !== 'on') {
        await pause(10);
      }
      await next.query('SELECT pg_promote()');
      // A client is never told that it was its fault.
      const write = { name: 'test_write', text: 'CREATE TABLE IF NOT EXISTS written (a integer)' };
      await assert.rejects(database.query(owner, write), ofKind('unavailable'));
      assert.equal(await portOf(database), standby.port);
      await database.query(owner, write);
    } finally {
      await Promise.all([old.end(), next.end()]);
    }
  });
});

/** Takes connections and never says a word. */
async function startSilent(): Promise<{ port: number; connections(): number; close(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => sockets.size,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
