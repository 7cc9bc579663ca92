/** Events older than their org keeps them go, all at once for whoever reads, and what was not done of them is counted. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { existingPartitions, partitionName } from '../../src/db/sql/partitions.js';
import { dropPartition } from '../../src/db/sql/retention.js';
import { Retention } from '../../src/event-log/retention.js';
import { acknowledge } from '../../src/subscriptions/acknowledge.js';
import { expireBefore } from '../../src/subscriptions/expire.js';
import { peek, readStats } from '../../src/subscriptions/peek.js';
import { receive } from '../../src/subscriptions/receive.js';
import { signal } from '../support/conformance.js';
import { append, asOwner, dayMs, ensurePartitions, newLog, openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

after(stopServers);

const firstDay = 20_000;

for (const engine of engineNames) {
  const storage = await createStorage(engine);
  describe(`retention on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage !== null) describeRetention(storage);
  });
}

function describeRetention(storage: TestStorage): void {
  after(() => storage.remove());

  const inDatabase = async (work: (database: Database, clock: TestClock) => Promise<void>): Promise<void> => {
    const clock = new TestClock((firstDay + 0.5) * dayMs);
    const database = await openLog(storage, clock);
    try {
      await work(database, clock);
    } finally {
      await database.close();
    }
  };
  const retentionOf = (database: Database, clock: TestClock): Retention =>
    new Retention(
      database,
      // Its pauses are real.
      { ...systemClock, now: () => clock.now() },
      (org, day) => expireBefore(database, org, day),
      () => {},
      (error) => assert.fail(String(error)),
    );
  const keepDays = (database: Database, org: string, days: number): Promise<void> =>
    asOwner(database, `UPDATE orgs SET retention_days = ${days} WHERE org = ${org}`);
  const stored = async (database: Database, org: string): Promise<number> => {
    const text = 'SELECT count(*)::integer AS n FROM events WHERE org = $1';
    const { rows } = await database.query<{ n: number }>({ role: 'owner' }, { name: 'test_stored', text }, [org]);
    return rows[0]?.n ?? NaN;
  };
  const expiredOf = async (database: Database, org: string): Promise<number> => {
    const text = 'SELECT expired FROM subscriptions WHERE org = $1 AND subscription = 0';
    const statement = { name: 'test_expired', text };
    return Number((await database.query<{ expired: string }>({ role: 'owner' }, statement, [org])).rows[0]?.expired);
  };
  const take = async (database: Database, org: string, eventsMax: number, nowMs: number, leaseMs = 60_000) => {
    const lease = `lse_${nowMs}_${eventsMax}_${leaseMs}`;
    const request = { org, subscription: 0, eventsMax, wantsPayload: false, nowMs, lease };
    return (await receive(database, { ...request, leaseEndsAtMs: nowMs + leaseMs }))?.events ?? [];
  };

  it('is looked at half a minute after a start, and every ten minutes from then on, until a stop', async () => {
    await inDatabase(async (database, clock) => {
      let passes = 0;
      let next = signal();
      const onDone = (): void => {
        passes++;
        next.fire();
      };
      const never = (error: unknown): void => assert.fail(String(error));
      const retention = new Retention(database, clock, () => Promise.resolve(true), onDone, never);
      await retention.start();
      clock.advance(29_999);
      await new Promise(setImmediate);
      assert.equal(passes, 0);
      for (const ms of [1, 600_000]) {
        const expected: number = passes + 1;
        clock.advance(ms);
        await next.promise;
        assert.equal(passes, expected);
        next = signal();
        // The pass arms the next one when it has ended.
        await new Promise(setImmediate);
      }
      await retention.stop();
      clock.advance(2 * 600_000);
      assert.equal(passes, 2);
    });
  });

  it('stops without a rest, also in the middle of a deletion with more behind it', { timeout: 20_000 }, async () => {
    await inDatabase(async (database, clock) => {
      const asked = signal();
      const answer = signal();
      const endless: Database = {
        engine: database.engine,
        transaction: (scope, work) => database.transaction(scope, work),
        async query<Row>(...[scope, statement, values]: Parameters<Database['query']>) {
          if (statement.name !== 'retention_delete_dedup') return database.query<Row>(scope, statement, values);
          asked.fire();
          await answer.promise;
          return { rows: [], rowCount: 2_000 };
        },
        listen: (...args) => database.listen(...args),
        close: () => Promise.resolve(),
      };
      const never = (error: unknown): void => assert.fail(String(error));
      const retention = new Retention(
        endless,
        clock,
        () => Promise.resolve(true),
        () => {},
        never,
      );
      await retention.start();
      clock.advance(30_000);
      await asked.promise;
      // This clock never ends a rest by itself.
      const stopped = retention.stop();
      answer.fire();
      await stopped;
    });
  });

  it('every event of a subscription is pending, leased, delivered, dead or expired, whatever state its day was in', async () => {
    await inDatabase(async (database, clock) => {
      const org = await newLog(database, clock.now(), 1);
      await keepDays(database, org, 2);
      const days = 5;
      for (let day = 0; day < days; day++) {
        await ensurePartitions(database, clock);
        await append(
          database,
          org,
          Array.from({ length: 10 }, () => ({})),
          clock.now(),
        );
        // Of the first day: 2 dead, 3 leased for long, 2 acknowledged, 1 of them ahead; the others stay pending.
        if (day === 0) {
          await take(database, org, 2, clock.now(), 1);
          await take(database, org, 3, clock.now() + 10, 100 * dayMs);
          const [done] = await take(database, org, 1, clock.now() + 20);
          assert.ok(done !== undefined);
          const place = { epoch: 1, position: Number(done.position), day: done.day };
          await acknowledge(database, org, 0, [place, { ...place, position: place.position + 2 }]);
        }
        clock.advance(dayMs);
      }
      const look = async () => {
        const stats = await readStats(database, org, 0, clock.now());
        const request = { org, subscription: 0, types: null, limit: 100, wantsPayload: false, after: null };
        const page = await peek(database, { ...request, status: 'delivered', nowMs: clock.now() });
        assert.ok(stats !== null && page !== null);
        return {
          ...stats,
          oldestPendingAtMs: null,
          delivered: page.events.length,
          expired: await expiredOf(database, org),
        };
      };
      const before = { pending: 43, leased: 3, dead: 2, oldestPendingAtMs: null, delivered: 2, expired: 0 };
      assert.deepEqual(await look(), before);
      // Two days are kept, and the present one: the first two go, with 8 undone events of the first and all ten of the second.
      const counts = await retentionOf(database, clock).run();
      assert.equal(counts.droppedDays >= 2, true, JSON.stringify(counts));
      const afterwards = { pending: 20, leased: 0, dead: 0, oldestPendingAtMs: null, delivered: 0, expired: 28 };
      const kept = await look();
      assert.equal(kept.pending + kept.expired, 20 + 10 + 18, JSON.stringify(kept));
      assert.deepEqual({ ...kept }, { ...afterwards, pending: kept.pending, expired: kept.expired });
      assert.equal(await stored(database, org), kept.pending);
      const events = await take(database, org, 100, clock.now());
      assert.equal(events.length, kept.pending);
      assert.deepEqual(await retentionOf(database, clock).run(), { droppedDays: 0, deletedEvents: 0, deletedDedup: 0 });
    });
  });

  it('a day goes whole once nobody keeps it; what one org keeps no longer and another does is deleted', async () => {
    await inDatabase(async (database, clock) => {
      const [short, long] = [await newLog(database, clock.now()), await newLog(database, clock.now())];
      await keepDays(database, short, 1);
      await keepDays(database, long, 400);
      await ensurePartitions(database, clock);
      for (const org of [short, long]) await append(database, org, [{}, {}, {}], clock.now());
      const today = Math.floor(clock.now() / dayMs);
      clock.advance(3 * dayMs);
      await ensurePartitions(database, clock);
      await append(database, short, [{}], clock.now());
      const counts = await retentionOf(database, clock).run();
      assert.equal(counts.deletedEvents, 3);
      assert.deepEqual([await stored(database, short), await stored(database, long)], [1, 3]);
      assert.ok((await existingPartitions(database)).has(partitionName(today)));
      await keepDays(database, long, 1);
      await retentionOf(database, clock).run();
      assert.equal((await existingPartitions(database)).has(partitionName(today)), false);
      assert.equal(await stored(database, long), 0);
    });
  });

  it('a backlog is counted in bounded steps, and a pass that ends between them is gone on with', async () => {
    await inDatabase(async (database, clock) => {
      const org = await newLog(database, clock.now());
      await keepDays(database, org, 1);
      await ensurePartitions(database, clock);
      const events = Array.from({ length: 1_000 }, () => ({}));
      for (let i = 0; i < 51; i++) await append(database, org, events, clock.now());
      const day = Math.floor(clock.now() / dayMs) + 2;
      clock.advance(3 * dayMs);
      assert.equal(await expireBefore(database, org, day), false);
      assert.equal(await expiredOf(database, org), 50_000);
      assert.equal((await readStats(database, org, 0, clock.now()))?.pending, 1_000);
      assert.equal(await expireBefore(database, org, day), true);
      assert.equal(await expiredOf(database, org), 51_000);
      assert.equal(await expireBefore(database, org, day), true);
      assert.equal(await expiredOf(database, org), 51_000);
    });
  });

  it('dedup ids outlive their window and go after it, whether or not the event is still there', async () => {
    await inDatabase(async (database, clock) => {
      const org = await newLog(database, clock.now());
      await ensurePartitions(database, clock);
      const send = (id: string) => append(database, org, [{ dedupId: id }], clock.now());
      await send('old');
      clock.advance(dayMs);
      await ensurePartitions(database, clock);
      await send('young');
      await retentionOf(database, clock).run();
      assert.deepEqual([...(await send('old')), ...(await send('young'))], [null, null], 'repeats within the window');
      clock.advance(dayMs);
      await ensurePartitions(database, clock);
      await send('newest');
      const { deletedDedup } = await retentionOf(database, clock).run();
      assert.equal(deletedDedup, 1);
      assert.notEqual((await send('old'))[0], null, 'after the window it is another event');
      assert.deepEqual(await send('young'), [null]);
    });
  });

  it('a day that is being read is dropped later, and nobody waits for that', async (t) => {
    await inDatabase(async (database, clock) => {
      if (database.engine === 'embedded') return t.skip('one session: nobody reads beside it');
      const org = await newLog(database, clock.now());
      await ensurePartitions(database, clock);
      const day = Math.floor(clock.now() / dayMs);
      await database.transaction({ role: 'app', org, priority: 'read' }, async (tx) => {
        await tx.query({ name: 'test_read', text: 'SELECT count(*) FROM events WHERE org = $1 AND day = $2' }, [
          org,
          day,
        ]);
        assert.equal(await dropPartition(database, day), false);
      });
      assert.equal(await dropPartition(database, day), true);
    });
  });

  it('what is below no floor cannot be deleted, whatever is asked for', async () => {
    await inDatabase(async (database, clock) => {
      // Later than any other org's newest event.
      clock.advance(30 * dayMs);
      const org = await newLog(database, clock.now());
      await ensurePartitions(database, clock);
      await append(database, org, [{ dedupId: 'a' }, {}], clock.now());
      for (const text of ['DELETE FROM events WHERE org = $1', 'DELETE FROM dedup WHERE org = $1']) {
        const { rowCount } = await database.query({ role: 'erasure' }, { name: text.slice(0, 18), text }, [org]);
        assert.equal(rowCount, 0, text);
      }
    });
  });
}
