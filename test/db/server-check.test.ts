import assert from 'node:assert/strict';
import { after, it } from 'node:test';
import { Client as Superuser } from 'pg';
import { systemClock } from '../../src/clock.js';
import { openPostgres } from '../../src/db/postgres.js';
import { budgetWarning, durabilityWarning, serverRefusal } from '../../src/db/server-check.js';
import type { ServerFacts } from '../../src/db/sql/server.js';
import { startOwnPostgresServer } from '../support/postgres-server.js';

const sound: ServerFacts = {
  version: 150_004,
  fsync: true,
  fullPageWrites: true,
  synchronousCommit: 'on',
  synchronousStandbyNames: '',
  walSendersMax: 10,
  connectionsMax: 100,
  connectionsReserved: 3,
  connectionsInUse: 1,
};

it('says nothing of a server as it is delivered', () => {
  assert.equal(serverRefusal(sound, 11), null);
  assert.equal(durabilityWarning(sound), null);
  assert.equal(budgetWarning(sound, 11), null);
  assert.equal(durabilityWarning({ ...sound, synchronousStandbyNames: '*' }), null);
});

it('refuses a PostgreSQL older than 15 with what to do', () => {
  assert.match(serverRefusal({ ...sound, version: 140_011 }, 11) ?? '', /PostgreSQL 14; .* 15 or newer/);
  assert.match(serverRefusal({ ...sound, version: 90_624 }, 11) ?? '', /older than 10; .* 15 or newer/);
});

it('refuses more connections than the server takes in all, and warns of more than are free', () => {
  assert.equal(serverRefusal(sound, 97), null);
  assert.match(serverRefusal(sound, 98) ?? '', /up to 98 connections, and PostgreSQL takes 97/);
  // 100 - 3 reserved - 10 spared - those of others.
  assert.equal(budgetWarning({ ...sound, connectionsInUse: 77 }, 11), null);
  assert.match(
    budgetWarning({ ...sound, connectionsInUse: 78 }, 11) ?? '',
    /77 in use and 10 to be spared, .* leaves 10:/,
  );
});

it('counts the connections of all processes of a node, and says so', () => {
  assert.match(
    serverRefusal(sound, 110, 10) ?? '',
    /^The 10 processes of this node .* 110 .* lower SLUICE_DB_POOL or SLUICE_WORKERS\.$/,
  );
  assert.match(
    budgetWarning(sound, 88, 8) ?? '',
    /^The 8 processes of this node may open 88 connections \(8 × SLUICE_DB_POOL and one that listens\), .* lower SLUICE_DB_POOL or SLUICE_WORKERS /,
  );
});

it('names each setting that makes a receipt weaker than an operator may think', () => {
  const warned = (facts: Partial<ServerFacts>): string => durabilityWarning({ ...sound, ...facts }) ?? '';
  assert.match(warned({ fsync: false }), /fsync is off, .*"memory"/);
  assert.match(warned({ fullPageWrites: false }), /full_page_writes is off, .*"memory"/);
  assert.match(warned({ synchronousCommit: 'off' }), /synchronous_commit is off, .*"memory"/);
  assert.match(warned({ synchronousStandbyNames: 'a', synchronousCommit: 'local' }), /is local, .*"fsync"/);
  assert.match(warned({ synchronousStandbyNames: 'a', synchronousCommit: 'remote_write' }), /"fsync"/);
  assert.match(warned({ synchronousStandbyNames: 'a', walSendersMax: 0 }), /max_wal_senders is 0/);
});

const server = await startOwnPostgresServer(['fsync=off', 'max_connections=20']);
after(() => server?.stop());
const skip = server === null ? 'NOT TESTED: there is no PostgreSQL server on this machine' : false;

it(
  'warns of a real server that does not sync, once, and counts the connections that others have',
  { skip },
  async (t) => {
    if (server === null) return;
    const url = await server.createDatabase();
    const open = async (sessionsMax: number): Promise<string[]> => {
      const lines: string[] = [];
      const database = await openPostgres({ url, clock: systemClock, onLog: (line) => lines.push(line), sessionsMax });
      t.after(() => database.close());
      return lines;
    };
    const lines = await open(4);
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? '', /^WARNING: .*fsync is off/);
    const others = await Promise.all(
      [1, 2, 3].map(async () => {
        const client = new Superuser(url);
        await client.connect();
        return client;
      }),
    );
    t.after(() => Promise.all(others.map((client) => client.end())));
    assert.match((await open(4))[1] ?? '', /^WARNING: This process may open 5 connections .* 4 in use/);
    await assert.rejects(open(17), /up to 18 connections, and PostgreSQL takes 17/);
  },
);
