/** A node that is stopped in the middle of a batch holds the heads of its orgs; it must not stop the others for long. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Client as Session } from 'pg';
import type { Connection } from 'pg';
import { systemClock } from '../../src/clock.js';
import { appendBatch } from '../../src/event-log/append.js';
import { endHeadBlockers } from '../../src/db/sql/blocked-heads.js';
import { BlockedHeads } from '../../src/event-log/blocked-heads.js';
import { storeBatch } from '../../src/ingest/store-batch.js';
import { signal } from '../support/conformance.js';
import { newEvent, openTestLog, unwatched, untilBlocked } from '../support/event-log.js';
import type { TestLog } from '../support/event-log.js';
import { startOwnPostgresServer } from '../support/postgres-server.js';
import { createStorage, stopServers } from '../support/storage.js';

const storage = await createStorage('postgres');
after(stopServers);

const skip = storage === null ? 'NOT TESTED: there is no PostgreSQL server on this machine' : false;
/** A paused node must let the others go on within 5 s. */
const freedMsMax = 5_000;

describe('a head that a stopped node holds', { skip }, () => {
  if (storage === null || storage.config.databaseUrl === null) return;
  const { databaseUrl } = storage.config;
  let log: TestLog;
  let org: string;
  before(async () => {
    log = await openTestLog(storage);
    [org = ''] = await log.addOrgs(1);
  });
  after(async () => {
    await log.close();
    await storage.remove();
  });

  /** A session of the same login that has moved the org's head, and goes no further. */
  async function holdHead(): Promise<{ session: Session; ended: Promise<void> }> {
    const session = new Session(databaseUrl);
    session.on('error', () => {});
    const ended = new Promise<void>((resolve) => session.once('end', resolve));
    await session.connect();
    await session.query(`BEGIN; UPDATE heads SET position = position + 1 WHERE org = ${org}`);
    return { session, ended };
  }

  /** Stores an event again and again, as clients do; resolves with the time it took, or null after `freedMsMax`. */
  async function storeWithin(blockedHeads: Pick<BlockedHeads, 'watch'>): Promise<number | null> {
    const quiet = { onStored: () => {}, onFailure: () => {} };
    const options = { database: log.database, clock: systemClock, blockedHeads, outcomeWaitMsMax: 0, ...quiet };
    const startedAt = performance.now();
    while (performance.now() - startedAt < freedMsMax) {
      const [result] = await storeBatch(options, [newEvent(org, '1')]);
      if (result !== undefined && 'appended' in result) return performance.now() - startedAt;
    }
    return null;
  }

  it('is freed within 5 s, also from the middle of a COPY, by ending the session', async () => {
    // The batch that was freed may be stored before the answer to the statement that freed it has come.
    const told = signal<number>();
    const fail = (error: unknown): never => assert.fail(String(error));
    const { session, ended } = await holdHead();
    session.query(new StoppedCopy());
    assert.notEqual(await storeWithin(new BlockedHeads(log.database, systemClock, told.fire, fail)), null);
    await ended;
    assert.equal(await told.promise, 1);
  });

  it('would stay blocked if nobody ended that session', async () => {
    const { session } = await holdHead();
    const copy = new StoppedCopy();
    session.query(copy);
    assert.equal(await storeWithin(unwatched), null);
    copy.connection?.stream.destroy();
    assert.notEqual(await storeWithin(unwatched), null);
  });

  it('is left to a session that blocks nobody, has only begun, or migrates the table', async () => {
    const ageMs = 300;
    const { session } = await holdHead();
    await pause(2 * ageMs);
    assert.equal(await endHeadBlockers(log.database, ageMs), 0);

    const waiter = new Session(databaseUrl);
    await waiter.connect();
    const waiting = waiter.query(`UPDATE heads SET position = position WHERE org = ${org}`);
    await untilBlocked(log.database);
    assert.equal(await endHeadBlockers(log.database, 60_000), 0);
    await session.query('ALTER TABLE heads SET (fillfactor = 50)');
    await pause(2 * ageMs);
    assert.equal(await endHeadBlockers(log.database, ageMs), 0);
    await session.query('ROLLBACK');
    await waiting;
    for (const one of [session, waiter]) await one.end();
  });

  it('is left to a COMMIT that waits for its standby, which would be committed without it', async (t) => {
    const own = await startOwnPostgresServer();
    assert.ok(own !== null);
    const url = await own.createDatabase();
    const superuser = new Session(url);
    await superuser.connect();
    t.after(async () => {
      await superuser.end();
      await own.stop();
    });
    const place = { engine: 'postgres' as const, config: { dataDir: '', databaseUrl: url }, remove: async () => {} };
    const waiting = await openTestLog(place);
    const other = await openTestLog(place);
    const [head = ''] = await waiting.addOrgs(1);
    await superuser.query(`ALTER SYSTEM SET synchronous_standby_names = 'nobody'`);
    await superuser.query('SELECT pg_reload_conf()');
    const batch = appendBatch(waiting.database, [newEvent(head, '1')], Date.now()).catch(() => 'refused');
    const seen = `SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'`;
    while ((await superuser.query(seen)).rowCount === 0);
    const blocked = appendBatch(other.database, [newEvent(head, '2')], Date.now()).catch(() => 'refused');
    while (
      (await superuser.query(`SELECT FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0`)).rowCount ===
      0
    );
    assert.equal(await endHeadBlockers(other.database, 0), 0);
    await superuser.query('ALTER SYSTEM RESET synchronous_standby_names');
    await superuser.query('SELECT pg_reload_conf()');
    await Promise.all([batch, blocked]);
    await Promise.all([waiting.close(), other.close()]);
  });
});

/** A COPY whose client sends nothing: no time limit of the server, and no cancel, ends it. */
class StoppedCopy {
  connection: Connection | undefined;

  submit(connection: Connection): void {
    this.connection = connection;
    connection.query('COPY dedup FROM STDIN');
  }

  handleCopyInResponse(): void {}
  handleError(): void {}
}
