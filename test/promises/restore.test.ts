/**
 * No event id is given out a second time after a restore, whatever was restored and how. Each case stores an event, keeps the database as it is then, stores
 * another one, which is lost with everything after the backup, restores, and stores again: the new ids must be none of those that were given out.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { Client as Session } from 'pg';
import type { Database } from '../../src/db/database.js';
import { raiseAllEpochs } from '../../src/db/sql/epochs.js';
import { decodeEventId } from '../../src/event-log/event-id.js';
import { verifyOrg } from '../../src/subscriptions/verify.js';
import { Client, createOrg } from '../support/client.js';
import type { Answer } from '../support/client.js';
import { intercept, newLog, openLog } from '../support/log.js';
import { startNode } from '../support/node.js';
import { startOwnPostgresServer, startStandby } from '../support/postgres-server.js';
import type { PostgresServer } from '../support/postgres-server.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

const server = await startOwnPostgresServer();
const skip = server === null && 'NOT TESTED: there is no PostgreSQL server on this machine';
const eventsPerRun = 3;
after(stopServers);

function storageAt(databaseUrl: string): TestStorage {
  return { engine: 'postgres', config: { dataDir: '', databaseUrl }, remove: async () => {} };
}

/** The sender of one org, to whichever node and database there is. */
class Sender {
  key = '';
  readonly ids: string[] = [];

  /** Starts a node, makes the org if there is none yet, stores events one after the other, and stops the node. Returns their ids. */
  async store(storage: TestStorage): Promise<string[]> {
    const node = await startNode(storage);
    try {
      if (this.key === '') this.key = (await createOrg(node.address)).key;
      const client = new Client(node.address, this.key);
      const ids: string[] = [];
      for (let i = 0; i < eventsPerRun; i++) {
        const { status, json, text } = await client.post('/v1/events', { type: 'a', payload: i });
        assert.equal(status, 201, text);
        ids.push(json.id);
      }
      // Those of before the backup, and these, are there; no other one answers to their names.
      for (const id of [...this.ids.slice(0, eventsPerRun), ...ids]) {
        assert.equal((await client.get(`/v1/events/${id}`)).status, 200, id);
      }
      this.ids.push(...ids);
      return ids;
    } finally {
      await node.stop();
    }
  }

  /** How many ids were given out twice. */
  get doubles(): number {
    return this.ids.length - new Set(this.ids).size;
  }

  get epochs(): number[] {
    return this.ids.map((id) => decodeEventId(id)?.epoch ?? 0);
  }

  /** An id of the log says where it stands in it, so they must rise, whichever were lost. */
  assertRisesAfter(kept: readonly string[], later: readonly string[]): void {
    const all = [...kept, ...later];
    assert.deepEqual(all, all.toSorted());
  }
}

async function sql(url: string, ...texts: string[]): Promise<Record<string, unknown>[]> {
  const session = new Session(url);
  // The server may be ended with it.
  session.on('error', () => {});
  await session.connect();
  try {
    let rows: Record<string, unknown>[] = [];
    for (const text of texts) ({ rows } = await session.query(text));
    return rows;
  } finally {
    await session.end().catch(() => {});
  }
}

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-restore-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The same in every database of the server, and at every time: as if a restore left no trace. */
const blind = `CREATE OR REPLACE FUNCTION sluice_server_run() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1::bigint';
  UPDATE heads SET server_run = 1`;

describe('after a restore of PostgreSQL', { skip }, () => {
  if (server === null) return;
  const servers: PostgresServer[] = [server];
  after(async () => {
    for (const one of servers.toReversed()) await one.stop();
  });

  for (const isBlind of [false, true]) {
    const promise = isBlind
      ? 'of its files an id is given out a second time, if the run of the server is not looked at'
      : 'of its files, twice within a minute, no id is given out a second time';
    it(promise, async (t) => {
      const storage = storageAt(await server.createDatabase());
      const folder = temporaryFolder(t);
      const sender = new Sender();
      const kept = await sender.store(storage);
      if (isBlind) await sql(storage.config.databaseUrl ?? '', blind);
      const [row] = await sql(server.url('postgres'), 'SHOW data_directory');
      const data = String(row?.['data_directory']);
      const copy = join(folder, 'data');
      // Fast shutdown: the copy is that of a stopped server.
      await server.kill('SIGINT');
      cp(data, copy);
      await server.restart();
      const lost = await sender.store(storage);
      for (let restore = 0; restore < (isBlind ? 1 : 2); restore++) {
        await server.kill('SIGKILL');
        rmSync(data, { recursive: true });
        cp(copy, data);
        await server.restart();
        const later = await sender.store(storage);
        sender.assertRisesAfter(kept, later);
      }
      assert.equal(lost.length, eventsPerRun);
      assert.equal(sender.doubles, isBlind ? eventsPerRun : 0, sender.ids.join(' '));
    });
  }

  for (const target of ['another database', 'the same database, emptied']) {
    it(`by pg_dump into ${target} no id is given out a second time`, async (t) => {
      const url = await server.createDatabase();
      const file = join(temporaryFolder(t), 'dump');
      const sender = new Sender();
      const kept = await sender.store(storageAt(url));
      execFileSync('pg_dump', ['--format=custom', `--file=${file}`, `--dbname=${url}`]);
      await sender.store(storageAt(url));
      let restored = url;
      if (target === 'another database') restored = await server.createDatabase();
      else await sql(url, 'DROP SCHEMA public CASCADE', 'CREATE SCHEMA public');
      execFileSync('pg_restore', [`--dbname=${restored}`, file]);
      sender.assertRisesAfter(kept, await sender.store(storageAt(restored)));
      assert.equal(sender.doubles, 0, sender.ids.join(' '));
    });
  }

  it('by a database that is its copy, on the same server, no id is given out a second time', async () => {
    const url = await server.createDatabase();
    const name = new URL(url).pathname.slice(1);
    const sender = new Sender();
    await sender.store(storageAt(url));
    await sql(server.url('postgres'), `CREATE DATABASE ${name}_kept TEMPLATE ${name}`);
    await sender.store(storageAt(url));
    await sql(
      server.url('postgres'),
      `DROP DATABASE ${name} WITH (FORCE)`,
      `ALTER DATABASE ${name}_kept RENAME TO ${name}`,
    );
    await sender.store(storageAt(url));
    assert.equal(sender.doubles, 0, sender.ids.join(' '));
  });

  it('nothing is raised while the server runs, and once after it crashed', async () => {
    const url = await server.createDatabase();
    const sender = new Sender();
    await sender.store(storageAt(url));
    await sender.store(storageAt(url));
    assert.equal(new Set(sender.epochs).size, 1, sender.epochs.join(' '));
    // A crash that it recovers from by itself loses what was acknowledged from memory; its start is no other one.
    const started = await sql(url, 'SELECT pg_postmaster_start_time() AS at');
    const [row] = await sql(server.url('postgres'), 'SELECT pg_backend_pid() AS pid, pg_sleep(0)');
    const victim = new Session(url);
    victim.on('error', () => {});
    await victim.connect();
    const { rows } = await victim.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const gone = new Promise<void>((resolve) => victim.once('end', resolve));
    process.kill(rows[0]?.pid ?? Number(row?.['pid']), 'SIGKILL');
    await gone;
    await untilItAnswers(url);
    assert.deepEqual(await sql(url, 'SELECT pg_postmaster_start_time() AS at'), started);
    await sender.store(storageAt(url));
    await sender.store(storageAt(url));
    assert.equal(new Set(sender.epochs).size, 2, sender.epochs.join(' '));
    assert.equal(sender.doubles, 0);
  });

  it('a standby that is promoted without the last events gives no id out a second time', async () => {
    const url = await server.createDatabase();
    const name = new URL(url).pathname.slice(1);
    const sender = new Sender();
    const kept = await sender.store(storageAt(url));
    const standby = await startStandby(server);
    servers.push(standby);
    // From now on it receives nothing.
    await sql(standby.url('postgres'), `ALTER SYSTEM SET primary_conninfo = ''`, 'SELECT pg_reload_conf()');
    await untilTrue(standby.url('postgres'), 'SELECT count(*) = 0 AS is FROM pg_stat_wal_receiver');
    await sender.store(storageAt(url));
    await sql(standby.url('postgres'), 'SELECT pg_promote()');
    const later = await sender.store(storageAt(standby.url(name)));
    sender.assertRisesAfter(kept, later);
    assert.equal(sender.doubles, 0, sender.ids.join(' '));
  });
});

it('after a copy of an embedded folder was put back, twice within a minute, no id is given out a second time', async (t) => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  t.after(() => storage.remove());
  const { dataDir } = storage.config;
  const copy = join(temporaryFolder(t), 'data');
  const sender = new Sender();
  const kept = await sender.store(storage);
  cp(dataDir, copy);
  await sender.store(storage);
  for (let restore = 0; restore < 2; restore++) {
    rmSync(dataDir, { recursive: true });
    cp(copy, dataDir);
    sender.assertRisesAfter(kept, await sender.store(storage));
  }
  assert.equal(sender.doubles, 0, sender.ids.join(' '));
});

for (const engine of engineNames) {
  it(`what consumers and readers see goes on over the jump of a new run, on ${engine}`, async (t) => {
    const storage = await createStorage(engine);
    if (storage === null) return t.skip('NOT TESTED: there is no PostgreSQL server on this machine');
    t.after(() => storage.remove());
    const sender = new Sender();
    for (let run = 0; run < 2; run++) {
      // The shared server cannot be started anew; the log is told that it was.
      if (run > 0) await withLog(storage, raiseAllEpochs);
      await sender.store(storage);
    }
    assert.equal(new Set(sender.epochs).size, 2, sender.epochs.join(' '));
    const node = await startNode(storage);
    t.after(() => node.stop());
    const client = new Client(node.address, sender.key);
    const stats = async (): Promise<number[]> => {
      const { json } = await client.get('/v1/inbox/stats');
      return [json.pending, json.leased, json.dead];
    };
    const all = sender.ids;
    assert.deepEqual(await stats(), [6, 0, 0]);
    const first = await client.post('/v1/inbox/receive', { max: 4 });
    assert.deepEqual(idsOf(first), all.slice(0, 4));
    await client.post('/v1/inbox/ack', { ids: all.slice(1, 4) });
    const second = await client.post('/v1/inbox/receive', { max: 100 });
    assert.deepEqual(idsOf(second), all.slice(4));
    await client.post('/v1/inbox/nack', { lease_id: second.json.lease_id });
    assert.deepEqual(await stats(), [2, 1, 0]);
    const third = await client.post('/v1/inbox/receive', { max: 100 });
    assert.deepEqual(idsOf(third), all.slice(4));
    await client.post('/v1/inbox/ack', { lease_id: third.json.lease_id });
    await client.post('/v1/inbox/ack', { ids: all.slice(0, 1) });
    assert.deepEqual(await stats(), [0, 0, 0]);
    for (const [order, expected] of [
      ['asc', all],
      ['desc', all.toReversed()],
    ] as const) {
      const seen: string[] = [];
      for (let cursor: string | null = ''; cursor !== null;) {
        const query = `order=${order}&limit=2${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`;
        const page = await client.get(`/v1/events?${query}`);
        seen.push(...idsOf(page));
        cursor = page.json.next_cursor as string | null;
      }
      assert.deepEqual(seen, expected);
    }
    await client.post('/v1/inbox/seek', { to: all[2] });
    assert.deepEqual(idsOf(await client.post('/v1/inbox/receive', { max: 100 })), all.slice(2));
    await node.stop();
    const org = decodeEventId(all[0] ?? '')?.org ?? '';
    const accounts = await withLog(storage, (database) => verifyOrg(database, org, 'it', Date.now()));
    assert.equal(accounts?.[0]?.stored, all.length);
  });
}

async function withLog<T>(storage: TestStorage, work: (database: Database) => Promise<T>): Promise<T> {
  const database = await openLog(storage);
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

function idsOf({ json }: Answer): string[] {
  return (json.data as { id: string }[]).map(({ id }) => id);
}

it('every org is told of a restore, a few at a time', async (t) => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  t.after(() => storage.remove());
  await withLog(storage, async (database) => {
    for (let org = 0; org < 5; org++) await newLog(database, Date.now());
    let transactions = 0;
    const counting = intercept(database, (statement, values, real) => {
      transactions++;
      return real(statement, values);
    });
    assert.equal(await raiseAllEpochs(counting, 2), 5);
    assert.equal(transactions, 3);
    const text = 'SELECT FROM heads WHERE server_run IS NOT NULL';
    assert.equal((await database.query({ role: 'owner' }, { name: 'test_told', text })).rowCount, 0);
  });
});

/** A copy of a folder, owners included. */
function cp(from: string, to: string): void {
  execFileSync('cp', ['-a', from, to]);
}

const triesMax = 600;

async function untilTrue(url: string, question: string): Promise<void> {
  for (let i = 0; i < triesMax; i++) {
    const [row] = await sql(url, question, 'SELECT pg_sleep(0.05)', question);
    if (row?.['is'] === true) return;
  }
  throw new Error(`not so after ${triesMax} tries: ${question}`);
}

async function untilItAnswers(url: string): Promise<void> {
  for (let i = 0; i < triesMax; i++) {
    try {
      await sql(url, 'SELECT 1');
      return;
    } catch {
      await new Promise((resume) => setTimeout(resume, 50));
    }
  }
  throw new Error('the server does not answer');
}
