import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { existingPartitions, partitionName } from '../../src/db/sql/partitions.js';
import { Partitions } from '../../src/event-log/partitions.js';
import { createOrg } from '../support/client.js';
import { signal } from '../support/conformance.js';
import { dayMs, openLog } from '../support/log.js';
import { startNode } from '../support/node.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

const today = 20_000;
const names = (first: number, last: number): string[] =>
  Array.from({ length: last - first + 1 }, (_, i) => partitionName(first + i));

const unexpected = (error: unknown): never => assert.fail(String(error));

describe('partitions', () => {
  for (const engine of engineNames) {
    describe(`on ${engine}`, () => {
      let storage: TestStorage | null;
      let database: Database;
      let clock: TestClock;
      before(async () => {
        storage = await createStorage(engine);
        if (storage === null) return;
        // Half a minute before midnight, by a clock of its own.
        clock = new TestClock((today + 1) * dayMs - 30_000);
        database = await openLog(storage, clock);
      });
      after(async () => {
        if (storage === null) return;
        await database.close();
        await storage.remove();
      });

      /** Calls `start`, then waits until every look that `move` causes is over. */
      async function running(partitions: Partitions, move: () => void): Promise<void> {
        await partitions.start();
        move();
        await partitions.stop();
      }

      test('exist from yesterday to a week ahead', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        assert.deepEqual([...(await existingPartitions(database))].toSorted(), names(today - 1, today + 7));
      });

      test('are made for one day more after midnight, within the hour', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        await running(new Partitions(database, clock, unexpected), () => clock.advance(3_600_000));
        assert.deepEqual([...(await existingPartitions(database))].toSorted(), names(today - 1, today + 8));
      });

      test('of three days are waited for by a start, and the others follow', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const day = today + 100;
        const partitions = new Partitions(database, new TestClock(day * dayMs), unexpected);
        await partitions.start();
        const existing = await existingPartitions(database);
        assert.ok(names(day - 1, day + 1).every((name) => existing.has(name)));
        while (!(await existingPartitions(database)).has(partitionName(day + 7)));
        await partitions.stop();
      });

      test('that could not be made are tried again after a minute, and the failure is reported', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        let isBroken = false;
        const breakable: Database = {
          ...database,
          engine: database.engine,
          query: (scope, statement, values) =>
            isBroken ? Promise.reject(new Error('gone')) : database.query(scope, statement, values),
          transaction: (scope, work) => database.transaction(scope, work),
        };
        const failed = signal();
        const partitions = new Partitions(breakable, clock, () => failed.fire());
        await partitions.start();
        isBroken = true;
        clock.advance(dayMs);
        await failed.promise;
        isBroken = false;
        // The retry is armed by the look that failed, once it is over.
        await new Promise((resume) => setImmediate(resume));
        clock.advance(60_000);
        await partitions.stop();
        assert.ok((await existingPartitions(database)).has(partitionName(today + 9)));
      });

      test('made by several at the same moment are made once, and nobody fails', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        clock.advance(20 * dayMs);
        const day = Math.floor(clock.now() / dayMs);
        const nodes = Array.from({ length: 6 }, () => new Partitions(database, clock, unexpected));
        await Promise.all(nodes.map((partitions) => partitions.ensure()));
        const existing = await existingPartitions(database);
        assert.ok(names(day - 1, day + 7).every((name) => existing.has(name)));
      });
    });

    test(`a day without one, after the clock has jumped, is a 503 and is mended by that (${engine})`, async (t) => {
      const storage = await createStorage(engine);
      if (storage === null) return t.skip('no PostgreSQL');
      const clock = new TestClock(today * dayMs);
      const node = await startNode(storage, {}, clock);
      try {
        const { client } = await createOrg(node.address);
        const event = { type: 'test', payload: 1 };
        assert.equal((await client.post('/v1/events', event)).status, 201);
        // As after a sleep of the machine: no timer of the days between did anything.
        clock.advance(10 * dayMs);
        const refused = await client.post('/v1/events', event);
        assert.deepEqual([refused.status, refused.json.code], [503, 'storage_unavailable']);
        assert.ok(Number(refused.headers.get('retry-after')) >= 1);
        let answer = refused;
        for (let tries = 0; answer.status === 503 && tries < 500; tries++)
          answer = await client.post('/v1/events', event);
        assert.equal(answer.status, 201);
      } finally {
        await node.stop();
        await storage.remove();
      }
    });
  }

  test('nodes that start at the same moment on an empty database all become ready', async (t) => {
    const storage = await createStorage('postgres');
    if (storage === null) return t.skip('no PostgreSQL');
    const started = await Promise.allSettled([startNode(storage), startNode(storage), startNode(storage)]);
    const nodes = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    try {
      for (const result of started) if (result.status === 'rejected') throw result.reason;
      for (const node of nodes) assert.equal((await fetch(`${node.address}/readyz`)).status, 200);
    } finally {
      await Promise.all(nodes.map((node) => node.stop()));
    }
  });
  after(stopServers);
});
