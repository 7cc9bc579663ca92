import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { StorageError } from '../../src/db/database.js';
import type { NewEvent } from '../../src/event-log/new-event.js';
import type { StoredOrRefused } from '../../src/ingest/group-commit.js';
import { storeAtomic } from '../../src/ingest/store-atomic.js';
import { storeBatch } from '../../src/ingest/store-batch.js';
import { newEvent, openTestLog, unwatched } from '../support/event-log.js';
import type { TestLog } from '../support/event-log.js';
import { withFaults } from '../support/faulty-database.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';

after(stopServers);

for (const engine of engineNames) {
  describe(`storing all or nothing (${engine})`, async () => {
    const storage = await createStorage(engine);
    if (storage === null) {
      it('keeps its promises', { skip: 'NOT TESTED: there is no PostgreSQL server on this machine' });
      return;
    }
    let log: TestLog;
    let org: string;
    before(async () => {
      log = await openTestLog(storage);
    });
    after(async () => {
      await log.close();
      await storage.remove();
    });
    const payloads = async (): Promise<string[]> => (await log.lines(org)).map((line) => line.payload);
    const eventsOf = async (count: number): Promise<NewEvent[]> => {
      [org = ''] = await log.addOrgs(1);
      return Array.from({ length: count }, (_, i) => newEvent(org, String(i), i % 2 === 0 ? `id ${i}` : null));
    };

    it('stores all of it in their order, duplicates included', async () => {
      const batch = await eventsOf(5);
      assert.deepEqual((await store(log.database, batch.slice(2, 3))).map(verdict), ['stored']);
      const results = await store(log.database, [...batch, newEvent(org, '0', 'id 0')]);
      assert.deepEqual(results.map(verdict), ['stored', 'stored', 'duplicate', 'stored', 'stored', 'duplicate']);
      assert.deepEqual(await payloads(), ['2', '0', '1', '3', '4']);
    });

    it('stores nothing if one dedup id is of another event, where a batch that is not atomic stores the rest', async () => {
      const batch = await eventsOf(4);
      await store(log.database, [newEvent(org, '"another"', 'id 2')]);
      const expected = ['not_stored', 'not_stored', 'dedup_mismatch', 'not_stored'];
      for (let repeat = 0; repeat < 2; repeat++) {
        assert.deepEqual((await store(log.database, batch)).map(verdict), expected);
        assert.deepEqual(await payloads(), ['"another"']);
      }
      // The control, and proof that none of its dedup ids was taken.
      const each = (await storeBatch(optionsOf(log.database), batch)).map(verdict);
      assert.deepEqual(each, ['stored', 'stored', 'dedup_mismatch', 'stored']);
    });

    it('names the event that the database cannot hold, wherever it stands, and stores nothing', async () => {
      for (const bad of [0, 4, 6, 9]) {
        const batch = await eventsOf(10);
        batch[bad] = { ...newEvent(org, '0'), subject: 'no\0text' };
        const results = await store(log.database, batch);
        assert.deepEqual(
          results.map(verdict),
          batch.map((_, i) => (i === bad ? 'validation_failed' : 'not_stored')),
        );
        assert.deepEqual(await payloads(), []);
        const good = batch.filter((_, i) => i !== bad);
        assert.deepEqual(
          (await store(log.database, good)).map(verdict),
          good.map(() => 'stored'),
        );
      }
    });

    it('blames no event for a data error of the server that no event causes, nor for any other of its faults', async () => {
      for (const [sqlstate, times] of [
        ['22023', 1],
        ['53100', 1],
        ['40P01', Infinity],
      ] as const) {
        const batch = await eventsOf(4);
        await assert.rejects(store(failing(log.database, sqlstate, times), batch), { code: 'storage_unavailable' });
        assert.deepEqual(await payloads(), []);
      }
    });

    it('tries again after a deadlock', async () => {
      const batch = await eventsOf(3);
      assert.deepEqual((await store(failing(log.database, '40P01', 2), batch)).map(verdict), Array(3).fill('stored'));
      assert.deepEqual(await payloads(), ['0', '1', '2']);
    });

    it('stores nothing if COPY counts another number of rows than were sent', async () => {
      [org = ''] = await log.addOrgs(1);
      const batch = [newEvent(org, '1'), newEvent(org, '2')];
      const copyIn = async (
        ...[tx, target, rows]: Parameters<NonNullable<Parameters<typeof withFaults>[1]['copyIn']>>
      ) => (await tx.copyIn(target, rows)) - 1;
      const miscounting = withFaults(log.database, { copyIn });
      await assert.rejects(store(miscounting, batch), { code: 'storage_unavailable' });
      assert.deepEqual(await payloads(), []);
    });

    it('answers stored if the connection broke after COMMIT and it did commit, and refuses all if it did not', async () => {
      const lost = (): never => {
        throw new StorageError('outcome_unknown', 'the connection broke');
      };
      const batch = await eventsOf(3);
      const rolledBack = withFaults(log.database, {
        transaction: async (run) => {
          await assert.rejects(run(), /crash/);
          return lost();
        },
        beforeCommit: () => Promise.reject(new Error('crash')),
      });
      await assert.rejects(store(rolledBack, batch), { code: 'storage_unavailable' });
      assert.deepEqual(await payloads(), []);
      const committed = withFaults(log.database, {
        transaction: async (run) => {
          await run();
          return lost();
        },
      });
      assert.deepEqual((await store(committed, batch)).map(verdict), Array(3).fill('stored'));
      assert.deepEqual(await payloads(), ['0', '1', '2']);
    });

    it('refuses for an org that is gone as its key is refused', async () => {
      await assert.rejects(store(log.database, [newEvent('281474976710655', '1')]), { code: 'invalid_key' });
    });
  });
}

function optionsOf(database: Database) {
  const quiet = { onStored: () => {}, onFailure: () => {} };
  return { database, clock: systemClock, blockedHeads: unwatched, outcomeWaitMsMax: 5_000, ...quiet };
}

function store(database: Database, batch: readonly NewEvent[]): Promise<readonly StoredOrRefused[]> {
  return storeAtomic(optionsOf(database), batch);
}

/** A database on which the COPY of an ingest transaction fails with `sqlstate`, as many times. */
function failing(database: Database, sqlstate: string, times: number): Database {
  let left = times;
  return withFaults(database, {
    copyIn: async (tx, target, rows) => {
      if (left-- > 0) await tx.script(`DO $$ BEGIN RAISE 'injected' USING ERRCODE = '${sqlstate}'; END $$`);
      return tx.copyIn(target, rows);
    },
  });
}

function verdict(result: StoredOrRefused): string {
  return 'refused' in result ? result.refused.code : result.appended.kind;
}
