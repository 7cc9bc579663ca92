/** A receipt says `replicated` if, and only if, the commit waited until a synchronous standby had it on disk. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Client as Superuser } from 'pg';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { transactionSetup } from '../../src/db/session-settings.js';
import type { Durability } from '../../src/db/sql/durability.js';
import { WireSession } from '../../src/db/wire-session.js';
import { appendBatch } from '../../src/event-log/append.js';
import { newEvent, openTestLog } from '../support/event-log.js';
import type { TestLog } from '../support/event-log.js';
import { asOwner, intercept } from '../support/log.js';
import type { PostgresServer } from '../support/postgres-server.js';
import { startOwnPostgresServer, startStandby } from '../support/postgres-server.js';

const primary = await startOwnPostgresServer();
const skip = primary === null ? 'NOT TESTED: there is no PostgreSQL server on this machine' : false;

describe('with a synchronous standby', { skip }, () => {
  if (primary === null) return;
  let standby: PostgresServer | undefined;
  let superuser: Superuser;
  let log: TestLog | undefined;
  let org = '';
  before(async () => {
    const databaseUrl = await primary.createDatabase();
    log = await openTestLog({ engine: 'postgres', config: { dataDir: '', databaseUrl }, remove: async () => {} });
    [org = ''] = await log.addOrgs(1);
    superuser = new Superuser(databaseUrl);
    await superuser.connect();
    standby = await startStandby(primary);
    await untilStreaming();
  });
  after(async () => {
    await superuser?.end();
    await log?.close();
    await standby?.stop();
    await primary.stop();
  });

  const untilStreaming = async (): Promise<void> => {
    const text = `SELECT FROM pg_stat_replication WHERE state = 'streaming'`;
    while ((await superuser.query(text)).rowCount === 0) await pause(50);
  };
  const set = async (name: string, value: string): Promise<void> => {
    await superuser.query(`ALTER SYSTEM SET ${name} = '${value}'`);
    await superuser.query('SELECT pg_reload_conf()');
    while ((await superuser.query(`SHOW ${name}`)).rows[0][name] !== value) await pause(10);
  };
  const level = async (database = log?.database, orgs: readonly string[] = [org]): Promise<Durability> => {
    assert.ok(database);
    const batch = orgs.map((one) => newEvent(one, '1'));
    return (await appendBatch(database, batch, Date.now())).durability;
  };
  const untilReplicated = async (): Promise<void> => {
    while ((await level()) !== 'replicated') await pause(200);
  };
  /** Ends the wait for the standby of a batch, once it waits. */
  const cancelled = async (database: Database, orgs?: readonly string[]): Promise<Durability> => {
    const waiting = level(database, orgs);
    const text = `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`;
    while ((await superuser.query(text)).rowCount === 0) await pause(20);
    return waiting;
  };
  const committed = async (): Promise<number> => (await log?.lines(org))?.length ?? 0;

  it('a receipt says fsync without synchronous standbys, and replicated some time after they are named', async () => {
    assert.equal(await level(), 'fsync');
    await set('synchronous_standby_names', '*');
    // The checkpointer may not know of it yet, so a commit of this moment may not have waited.
    assert.equal(await level(), 'fsync');
    await untilReplicated();
  });

  it('a commit that waits only until the standby has it in memory is not replicated, nor one that does not wait', async () => {
    assert.ok(log);
    for (const [value, expected] of [
      ['remote_write', 'fsync'],
      ['local', 'fsync'],
      ['off', 'memory'],
      ['remote_apply', 'replicated'],
      ['on', 'replicated'],
    ] as const) {
      const held = intercept(log.database, async (statement, values, real) => {
        // For this transaction only: a changed configuration would need its time again.
        const text = `SELECT set_config('synchronous_commit', '${value}', true)`;
        await real({ name: `test_${value}`, text });
        return real(statement, values);
      });
      assert.equal(await level(held), expected, value);
    }
  });

  it('a wait for the standby that is cancelled is no longer replicated, though the event is stored', async () => {
    assert.ok(standby && log);
    const receiver = await walReceiver(standby);
    process.kill(receiver, 'SIGSTOP');
    try {
      const stored = await committed();
      assert.equal(await cancelled(log.database), 'fsync');
      assert.equal(await committed(), stored + 1);
      // Whoever does not hear the server's warning takes the COMMIT for what it looks like.
      const { database } = log;
      const deaf: Database = {
        ...intercept(database, (statement, values, real) => real(statement, values)),
        transaction: (scope, work) => database.transaction({ ...scope, onCommitWarning: () => {} }, work),
      };
      assert.equal(await cancelled(deaf), 'replicated');
    } finally {
      process.kill(receiver, 'SIGCONT');
    }
    assert.equal(await level(), 'replicated');
  });

  it('nor is it through a pooler, where COPY waits for the server, with events on two days', async (t) => {
    assert.ok(standby && log);
    const { database } = log;
    const [today = '', tomorrow = ''] = await log.addOrgs(2);
    await asOwner(database, `UPDATE heads SET day = day + 1 WHERE org = ${tomorrow}`);
    const session = await openPooled(superuser.database);
    t.after(() => session.end());
    const targets: string[] = [];
    const pooled: Database = {
      ...intercept(database, (statement, values, real) => real(statement, values)),
      transaction: (scope, work) =>
        session.transaction(scope, (tx) => {
          const copyIn = (target: string, rows: Buffer): Promise<number> => {
            targets.push(target);
            return tx.copyIn(target, rows);
          };
          return work({ query: tx.query.bind(tx), script: tx.script.bind(tx), copyIn });
        }),
    };
    assert.equal(await level(pooled, [today, tomorrow]), 'replicated');
    assert.equal(new Set(targets).size, 2, `it was to be written to two days: ${targets.join()}`);
    const receiver = await walReceiver(standby);
    process.kill(receiver, 'SIGSTOP');
    try {
      assert.equal(await cancelled(pooled, [today, tomorrow]), 'fsync');
    } finally {
      process.kill(receiver, 'SIGCONT');
    }
    assert.equal(await level(pooled, [today, tomorrow]), 'replicated');
  });

  it('the next receipt is weaker when the standby settings are emptied, also in the middle of a batch', async () => {
    assert.ok(log);
    const emptied = intercept(log.database, async (statement, values, real) => {
      const answer = await real(statement, values);
      if (statement.name === 'ingest_reserve') await set('synchronous_standby_names', '');
      return answer;
    });
    assert.equal(await level(emptied), 'fsync');
    assert.equal(await level(), 'fsync');
    await set('synchronous_standby_names', '*');
    await untilReplicated();
  });

  it('a batch whose standby is lost while it waits is never called replicated', async () => {
    assert.ok(standby);
    await standby.kill('SIGKILL');
    while ((await superuser.query('SELECT FROM pg_stat_replication')).rowCount !== 0) await pause(20);
    const waiting = level();
    const text = `SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'`;
    while ((await superuser.query(text)).rowCount === 0) await pause(20);
    await set('synchronous_standby_names', '');
    assert.equal(await waiting, 'fsync');
    assert.equal(await level(), 'fsync');
  });
});

/** A session of the primary that is used as if a pooler were in between. */
async function openPooled(database: string | undefined): Promise<WireSession> {
  assert.ok(primary !== null && database !== undefined);
  const config = { connectionString: primary.url(database) };
  const session = await WireSession.open(config, { clock: systemClock, stallMsMax: 15_000 });
  session.beginEachWith(transactionSetup);
  return session;
}

/** The process of a standby that takes what its primary writes. */
async function walReceiver(standby: PostgresServer): Promise<number> {
  const client = new Superuser(standby.url('postgres'));
  await client.connect();
  const { rows } = await client.query(`SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'`);
  await client.end();
  return rows[0].pid;
}
