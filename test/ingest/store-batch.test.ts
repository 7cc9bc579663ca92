import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { StorageError } from '../../src/db/database.js';
import type { NewEvent } from '../../src/event-log/new-event.js';
import { storeBatch } from '../../src/ingest/store-batch.js';
import type { StoredOrRefused } from '../../src/ingest/group-commit.js';
import { newEvent, openTestLog, unwatched } from '../support/event-log.js';
import type { TestLog } from '../support/event-log.js';
import { withFaults } from '../support/faulty-database.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';

after(stopServers);

for (const engine of engineNames) {
  describe(`storing a batch (${engine})`, async () => {
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
    /** Three events for an empty org, one with a dedup id. */
    const threeEvents = async (): Promise<NewEvent[]> => {
      [org = ''] = await log.addOrgs(1);
      return [newEvent(org, '1'), newEvent(org, '2', 'two'), newEvent(org, '3')];
    };

    it('answers stored, and stores, what nothing is wrong with', async () => {
      const results = await store(log.database, await threeEvents());
      assert.deepEqual(results.map(verdict), ['stored', 'stored', 'stored']);
      assert.deepEqual(await payloads(), ['1', '2', '3']);
    });

    it('answers neither stored nor refused when COPY counted another number of rows than were sent and is committed', async () => {
      [org = ''] = await log.addOrgs(1);
      const batch = [newEvent(org, '1'), newEvent(org, '2')];
      const miscounting = withFaults(log.database, {
        copyIn: async (tx, target, rows) => (await tx.copyIn(target, rows)) - 1,
      });
      const results = await store(miscounting, batch);
      assert.deepEqual(results.map(verdict), ['outcome_unknown', 'outcome_unknown']);
      assert.deepEqual(await payloads(), ['1', '2']);
    });

    it('stores nothing when COPY counts another number of rows than were sent and one of them has a dedup id', async () => {
      for (const off of [-1, 1]) {
        const batch = await threeEvents();
        const miscounting = withFaults(log.database, {
          copyIn: async (tx, target, rows) => (await tx.copyIn(target, rows)) + off,
        });
        const results = await store(miscounting, batch);
        assert.deepEqual(results.map(verdict), Array(3).fill('storage_unavailable'));
        assert.deepEqual(await payloads(), []);
        assert.deepEqual((await store(log.database, batch)).map(verdict), ['stored', 'stored', 'stored']);
      }
    });

    it('stores nothing when a COPY fails and the transaction is committed all the same', async () => {
      const batch = await threeEvents();
      let commits = 0;
      const swallowing = withFaults(log.database, {
        copyIn: async (tx, target, rows) => {
          await assert.rejects(tx.copyIn(target, rows.subarray(0, 40)));
          commits++;
          return 3;
        },
      });
      const results = await store(swallowing, batch);
      assert.ok(commits > 0);
      for (const result of results) assert.ok('refused' in result);
      assert.deepEqual(await payloads(), []);
      assert.deepEqual((await store(log.database, batch)).map(verdict), ['stored', 'stored', 'stored']);
    });

    it('refuses alone the one event that cannot be stored, and keeps the others in their order', async () => {
      [org = ''] = await log.addOrgs(1);
      const batch = Array.from({ length: 10 }, (_, i) => newEvent(org, String(i), i % 2 === 0 ? `id ${i}` : null));
      batch[6] = { ...newEvent(org, '6'), subject: 'no\0text' };
      const results = await store(log.database, batch);
      assert.deepEqual(
        results.map(verdict),
        batch.map((_, i) => (i === 6 ? 'validation_failed' : 'stored')),
      );
      assert.deepEqual(await payloads(), ['0', '1', '2', '3', '4', '5', '7', '8', '9']);
    });

    it('gives the place of a refused event to the next one with its dedup id', async () => {
      [org = ''] = await log.addOrgs(1);
      const batch = [
        { ...newEvent(org, '1', 'a'), subject: 'no\0text' },
        newEvent(org, '1', 'a'),
        newEvent(org, '1', 'a'),
      ];
      const results = await store(log.database, batch);
      assert.deepEqual(results.map(verdict), ['validation_failed', 'stored', 'duplicate']);
      assert.deepEqual(await payloads(), ['1']);
    });

    it('blames no event for what is the fault of the server', async () => {
      const batch = await threeEvents();
      for (const sqlstate of ['23505', '53100', '42501', '55P03']) {
        const results = await store(failing(log.database, sqlstate, 1), batch);
        assert.deepEqual(results.map(verdict), Array(3).fill('storage_unavailable'), sqlstate);
        assert.deepEqual(await payloads(), []);
      }
    });

    it('tries again after a deadlock or a serialization failure, and stores each event once', async () => {
      for (const sqlstate of ['40P01', '40001']) {
        const batch = await threeEvents();
        const results = await store(failing(log.database, sqlstate, 2), batch);
        assert.deepEqual(results.map(verdict), ['stored', 'stored', 'stored'], sqlstate);
        assert.deepEqual(await payloads(), ['1', '2', '3']);
      }
    });

    it('gives up on deadlocks that do not end, with nothing stored', async () => {
      const batch = await threeEvents();
      const results = await store(failing(log.database, '40P01', Infinity), batch);
      assert.deepEqual(results.map(verdict), Array(3).fill('storage_unavailable'));
      assert.deepEqual(await payloads(), []);
    });

    describe('when the connection breaks after COMMIT was sent', () => {
      const lost = (): never => {
        throw new StorageError('outcome_unknown', 'the connection broke');
      };
      const committed = async <T>(run: () => Promise<T>): Promise<T> => {
        await run();
        return lost();
      };
      const rolledBack = async <T>(run: () => Promise<T>): Promise<T> => {
        await assert.rejects(run(), /crash/);
        return lost();
      };
      const crash = (): Promise<void> => Promise.reject(new Error('crash'));

      it('answers stored, with the ids under which the events are, if it did commit', async () => {
        const batch = await threeEvents();
        const results = await store(withFaults(log.database, { transaction: committed }), batch);
        assert.deepEqual(results.map(verdict), ['stored', 'stored', 'stored']);
        assert.deepEqual(results.map(positionOf), [1, 2, 3]);
        assert.deepEqual(await payloads(), ['1', '2', '3']);
      });

      it('claims nothing of a batch that is stored in part, because something on the server swallows rows', async () => {
        [org = ''] = await log.addOrgs(1);
        await log.database.transaction({ role: 'owner' }, (tx) =>
          tx.script(`
            CREATE OR REPLACE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
            CREATE OR REPLACE TRIGGER swallow BEFORE INSERT ON events FOR EACH ROW
              WHEN (NEW.org = ${org} AND NEW.payload = '2') EXECUTE FUNCTION swallow()`),
        );
        const batch = ['1', '2', '3'].map((payload) => newEvent(org, payload));
        const results = await store(withFaults(log.database, { transaction: committed }), batch, 300);
        assert.deepEqual(results.map(verdict), Array(3).fill('outcome_unknown'));
        assert.deepEqual((await store(log.database, batch)).map(verdict), Array(3).fill('outcome_unknown'));
        assert.deepEqual(await payloads(), ['1', '3', '1', '3']);
      });

      it('refuses all of it, with nothing stored, if it did not', async () => {
        const batch = await threeEvents();
        const database = withFaults(log.database, { transaction: rolledBack, beforeCommit: crash });
        const results = await store(database, batch);
        assert.deepEqual(results.map(verdict), Array(3).fill('storage_unavailable'));
        assert.deepEqual(await payloads(), []);
      });

      /** As after a crash in which the server lost the transaction: what is asked for by its number is something else. */
      const crashed = (xid: string): Database =>
        withFaults(log.database, {
          transaction: rolledBack,
          beforeCommit: crash,
          query: async (statement, values, run) => {
            const { rows, rowCount } = await run(values);
            return {
              rows: statement.name === 'ingest_reserve' ? rows.map((row) => ({ ...row, xid })) : rows,
              rowCount,
            };
          },
        });

      it('is not taken in by another transaction that got the same number after a crash', async () => {
        const batch = await threeEvents();
        const text = 'SELECT pg_current_xact_id()::text AS xid';
        const other = await log.database.query<{ xid: string }>({ role: 'owner' }, { name: 'test_xid', text });
        const results = await store(crashed(other.rows[0]?.xid ?? ''), batch);
        assert.deepEqual(results.map(verdict), Array(3).fill('storage_unavailable'));
        assert.deepEqual(await payloads(), []);
      });

      it('is not taken in by another event that got the same number and the same place after a crash', async () => {
        const batch = await threeEvents();
        let lostXid = '';
        let otherXid = '';
        const faulty = withFaults(log.database, {
          beforeCommit: crash,
          query: async (_statement, values, run) => {
            const result = await run(values);
            const xid = result.rows[0]?.['xid'];
            if (lostXid === '' && typeof xid === 'string') lostXid = xid;
            return result;
          },
          transaction: async (run) => {
            await assert.rejects(run(), /crash/);
            const other = await store(log.database, [newEvent(org, '"of another node"')]);
            assert.deepEqual(other.map(positionOf), [1]);
            const text = `SELECT xmin::text AS xid FROM events WHERE org = ${org}`;
            const found = await log.database.query<{ xid: string }>({ role: 'owner' }, { name: `xid_${org}`, text });
            otherXid = found.rows[0]?.xid ?? '';
            return lost();
          },
        });
        /** The server gave the lost number to the other event's transaction. */
        const reused: Database = {
          ...faulty,
          transaction: (scope, work) => {
            if (scope.role === 'ingest') return faulty.transaction(scope, work);
            return log.database.transaction(scope, (tx) =>
              work({
                query: (statement, values = []) =>
                  tx.query(
                    statement,
                    values.map((value) => (value === lostXid ? otherXid : value)),
                  ),
                copyIn: (target, rows) => tx.copyIn(target, rows),
                script: (script) => tx.script(script),
              }),
            );
          },
        };
        const results = await store(reused, batch);
        assert.notEqual(otherXid, '');
        assert.deepEqual(results.map(verdict), Array(3).fill('storage_unavailable'));
        assert.deepEqual(await payloads(), ['"of another node"']);
      });

      it('knows at once that nothing is stored, if the server lost even the number in a crash', async () => {
        const results = await store(crashed('4000000000'), await threeEvents(), 60_000);
        assert.deepEqual(results.map(verdict), Array(3).fill('storage_unavailable'));
        assert.deepEqual(await payloads(), []);
      });

      it('says so, and when to retry, if the storage cannot be asked within the time for it', async () => {
        const batch = await threeEvents();
        const silent: Database = {
          ...withFaults(log.database, { transaction: committed }),
          query: () => Promise.reject(new StorageError('unavailable', 'nobody answers')),
        };
        const transaction = silent.transaction.bind(silent);
        const unreachable: Database = {
          ...silent,
          transaction: (scope, work) =>
            scope.role === 'ingest'
              ? transaction(scope, work)
              : Promise.reject(new StorageError('unavailable', 'nobody answers')),
        };
        const results = await store(unreachable, batch, 200);
        assert.deepEqual(results.map(verdict), Array(3).fill('outcome_unknown'));
        for (const result of results) assert.ok('refused' in result && result.refused.retryAfterSeconds === 1);
      });
    });
  });
}

function store(database: Database, batch: readonly NewEvent[], outcomeWaitMsMax = 5_000) {
  const quiet = { onStored: () => {}, onFailure: () => {} };
  return storeBatch({ database, clock: systemClock, blockedHeads: unwatched, outcomeWaitMsMax, ...quiet }, batch);
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

function positionOf(result: StoredOrRefused): number | undefined {
  return 'appended' in result && 'place' in result.appended ? result.appended.place.position : undefined;
}
