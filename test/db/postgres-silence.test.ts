/** The connection stays open and nothing comes any more: a black hole on the way, or a server that is stopped (SIGSTOP). */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { Client as Superuser } from 'pg';
import { systemClock } from '../../src/clock.js';
import { StorageError } from '../../src/db/database.js';
import { openPostgres } from '../../src/db/postgres.js';
import type { PostgresDatabase } from '../../src/db/postgres.js';
import { ofKind, signal } from '../support/conformance.js';
import { startOwnPostgresServer } from '../support/postgres-server.js';
import { startSilentProxy } from '../support/silent-proxy.js';
import type { SilentProxy } from '../support/silent-proxy.js';

const server = await startOwnPostgresServer();
const skip = server === null ? 'NOT TESTED: there is no PostgreSQL server on this machine' : false;
const owner = { role: 'owner' } as const;
const statement = (text: string) => ({ name: text.slice(0, 60), text });

describe('PostgreSQL that says nothing any more', { skip }, () => {
  if (server === null) return;
  let proxy: SilentProxy;
  let database: PostgresDatabase;
  let superuser: Superuser;
  before(async () => {
    superuser = new Superuser(server.url('postgres'));
    await superuser.connect();
    await superuser.query('CREATE TABLE kept (a integer)');
    // The product's timers do not keep a process alive.
    alive = setInterval(() => {}, 1_000);
  });
  let alive: NodeJS.Timeout;
  const open = async (): Promise<void> => {
    proxy = await startSilentProxy(server.port);
    const url = `postgres://sluice@127.0.0.1:${proxy.port}/postgres?connect_timeout=1`;
    const limits = { waitersMax: 1_000, sessionsMax: 4, stallMsMax: 600, waitMsMax: 2_000 };
    database = await openPostgres({ url, clock: systemClock, onLog: () => {}, ...limits });
  };
  afterEach(async () => {
    await proxy.close();
    await database.close();
  });
  after(async () => {
    clearInterval(alive);
    await superuser?.end();
    await server.stop();
  });
  /** Has every session of the pool open and idle. */
  const fillPool = async (): Promise<void> => {
    const [all, release] = [signal(), signal()];
    let inside = 0;
    const hold = () =>
      database.transaction(owner, async (tx) => {
        await tx.query(statement('SELECT 1'));
        if (++inside === 3) all.fire();
        await release.promise;
      });
    const holding = [hold(), hold(), hold()];
    await all.promise;
    release.fire();
    await Promise.all(holding);
  };

  it('ends what runs as unavailable, and the idle sessions with it, so that the next request gets a new one', async () => {
    await open();
    await fillPool();
    proxy.silence();
    await assert.rejects(database.query(owner, statement('SELECT 1')), ofKind('unavailable'));
    proxy.restore();
    assert.equal((await database.query(owner, statement('SELECT 1'))).rowCount, 1);
    assertQuiet(database);
  });

  it('ends a COMMIT that gets no answer as an unknown outcome', async () => {
    await open();
    const broken = database.transaction(owner, async (tx) => {
      await tx.query(statement('INSERT INTO kept VALUES (1)'));
      proxy.silence();
    });
    await assert.rejects(broken, ofKind('outcome_unknown'));
  });

  it('refuses every request in its time, however many there are, and leaves nothing behind', async () => {
    await open();
    proxy.silence();
    const asked = await Promise.allSettled(
      Array.from({ length: 1_200 }, () => database.query({ ...owner, priority: 'read' }, statement('SELECT 1'))),
    );
    for (const outcome of asked) {
      assert.ok(outcome.status === 'rejected' && outcome.reason instanceof StorageError);
      assert.equal(outcome.reason.kind, 'unavailable');
    }
    // 1,000 may wait; the others are told at once.
    const told = asked.filter((one) => one.status === 'rejected' && /more than 1000 wait/.test(String(one.reason)));
    assert.ok(told.length > 0);
    proxy.restore();
    while ((await Promise.allSettled([database.query(owner, statement('SELECT 1'))]))[0].status === 'rejected');
    assertQuiet(database);
  });

  it('is left by everybody when it is stopped, and used again when it goes on', async () => {
    await open();
    await fillPool();
    const { rows } = await superuser.query('SELECT pid FROM pg_stat_activity');
    const pids = [server.pid, ...rows.map(({ pid }) => pid as number)].filter((pid) => pid !== undefined);
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    try {
      const asked = await Promise.allSettled(
        Array.from({ length: 20 }, () => database.query(owner, statement('SELECT 1'))),
      );
      for (const { status } of asked) assert.equal(status, 'rejected');
    } finally {
      for (const pid of pids) process.kill(pid, 'SIGCONT');
    }
    while ((await Promise.allSettled([database.query(owner, statement('SELECT 1'))]))[0].status === 'rejected');
    assertQuiet(database);
  });

  it('is slow without being given up: an answer in time counts', async () => {
    await open();
    assert.equal((await database.query(owner, statement('SELECT pg_sleep(0.4)'))).rowCount, 1);
  });
});

/** Nothing of what was refused is left behind. */
function assertQuiet(database: PostgresDatabase): void {
  const { sessionsInUse, waiting } = database.stats();
  assert.deepEqual({ sessionsInUse, waiting }, { sessionsInUse: 0, waiting: 0 });
}
