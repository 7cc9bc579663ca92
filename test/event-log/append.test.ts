import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { appendBatch } from '../../src/event-log/append.js';
import type { Appended } from '../../src/event-log/append.js';
import { newEvent, openTestLog, untilBlocked } from '../support/event-log.js';
import type { TestLog } from '../support/event-log.js';
import { signal } from '../support/conformance.js';
import type { Faults } from '../support/faulty-database.js';
import { withFaults } from '../support/faulty-database.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

after(stopServers);

for (const engine of engineNames) {
  describe(`appending a batch (${engine})`, async () => {
    const storage = await createStorage(engine);
    if (storage === null) {
      it('keeps its promises', { skip: 'NOT TESTED: there is no PostgreSQL server on this machine' });
      return;
    }
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
    const append = (batch: Parameters<typeof appendBatch>[1], database: Database = log.database, nowMs = Date.now()) =>
      appendBatch(database, batch, nowMs);

    it('gives each org positions in the order of the batch, without a gap', async () => {
      const [a = '', b = ''] = await log.addOrgs(2);
      const batch = [b, a, a, b, a].map((owner, i) => newEvent(owner, `"${i}"`));
      const { events, storedEvents } = await append(batch);
      assert.equal(storedEvents, 5);
      assert.deepEqual(events.map(positionOf), [1, 1, 2, 2, 3]);
      assert.deepEqual(await payloads(a), ['"1"', '"2"', '"4"']);
      assert.deepEqual(await payloads(b), ['"0"', '"3"']);
    });

    it('refuses the events of an org that does not exist, and stores the others', async () => {
      const { events, storedEvents } = await append([newEvent('1', '1'), newEvent(org, '"with a stranger"')]);
      assert.deepEqual(
        events.map((event) => event.kind),
        ['org_unknown', 'stored'],
      );
      assert.equal(storedEvents, 1);
    });

    it('never lets day and time of receipt run backwards along a log, whatever the clock does', async () => {
      const [own = ''] = await log.addOrgs(1);
      const nowMs = Date.now() + 1_000;
      const first = await append([newEvent(own, '1')], log.database, nowMs);
      const second = await append([newEvent(own, '2')], log.database, nowMs - 3 * 86_400_000);
      const [earlier, later] = [placeOf(first.events[0]), placeOf(second.events[0])];
      assert.equal(earlier.receivedAtMs, nowMs);
      assert.equal(later.receivedAtMs, nowMs);
      assert.equal(later.day, earlier.day);
    });

    it('stores the events of one batch in two days, where the orgs are on different days', async () => {
      const [ahead = '', today = ''] = await log.addOrgs(2);
      const nowMs = Date.now();
      await append([newEvent(ahead, '"tomorrow"')], log.database, nowMs + 86_400_000);
      const { events } = await append([newEvent(ahead, '"both"'), newEvent(today, '"both"')], log.database, nowMs);
      assert.equal(placeOf(events[0]).day, placeOf(events[1]).day + 1);
      assert.deepEqual(await payloads(ahead), ['"tomorrow"', '"both"']);
      assert.deepEqual(await payloads(today), ['"both"']);
    });

    it('settles repeats within a batch: the first leads, the same again is its duplicate, another body is refused', async () => {
      const [own = ''] = await log.addOrgs(1);
      const batch = [
        newEvent(own, '1', 'a'),
        newEvent(own, '1', 'a'),
        newEvent(own, '2', 'a'),
        newEvent(own, '1', 'a', 'other.type'),
        newEvent(own, '1', 'b'),
      ];
      const { events, storedEvents } = await append(batch);
      assert.deepEqual(
        events.map((event) => event.kind),
        ['stored', 'duplicate', 'dedup_mismatch', 'dedup_mismatch', 'stored'],
      );
      assert.deepEqual(placeOf(events[1]), placeOf(events[0]));
      assert.equal(storedEvents, 2);
      assert.deepEqual(await payloads(own), ['1', '1']);
    });

    it('settles repeats against what is stored: leader and followers get the first place, or are refused', async () => {
      const [own = ''] = await log.addOrgs(1);
      const first = await append([newEvent(own, '1', 'a')]);
      const again = [newEvent(own, '2', 'a'), newEvent(own, '1', 'a'), newEvent(own, '1', 'a'), newEvent(own, '9')];
      const { events, storedEvents } = await append(again, log.database, Date.now() + 5_000);
      assert.deepEqual(
        events.map((event) => event.kind),
        ['dedup_mismatch', 'duplicate', 'duplicate', 'stored'],
      );
      assert.deepEqual(placeOf(events[1]), placeOf(first.events[0]));
      assert.deepEqual(placeOf(events[2]), placeOf(first.events[0]));
      assert.equal(storedEvents, 1);
      assert.deepEqual(await payloads(own), ['1', '9']);
    });

    it('stores the same dedup id of two orgs as two events', async () => {
      const [a = '', b = ''] = await log.addOrgs(2);
      const { events } = await append([newEvent(a, '1', 'same'), newEvent(b, '1', 'same')]);
      assert.deepEqual(
        events.map((event) => event.kind),
        ['stored', 'stored'],
      );
      assert.deepEqual([await payloads(a), await payloads(b)], [['1'], ['1']]);
    });

    it('claims a dedup id again that expired between the claim and the look', async () => {
      const [own = ''] = await log.addOrgs(1);
      await append([newEvent(own, '1', 'a')]);
      const expiring = withFaults(log.database, {
        query: async (statement, values, run, tx) => {
          // The ingest role may not delete; the one who expires it may.
          if (statement.name === 'ingest_dedup_find') {
            await tx.script(`RESET ROLE; DELETE FROM dedup WHERE org = ${own}; SET LOCAL ROLE sluice_ingest`);
          }
          return run(values);
        },
      });
      const { events } = await append([newEvent(own, '1', 'a')], expiring);
      assert.equal(events[0]?.kind, 'stored');
      assert.deepEqual(await payloads(own), ['1', '1']);
    });

    it('leaves nothing behind of a batch that is rolled back: no event, no dedup id', async () => {
      const [own = ''] = await log.addOrgs(1);
      const failing = withFaults(log.database, { beforeCommit: () => Promise.reject(new Error('stop')) });
      await assert.rejects(append([newEvent(own, '1', 'a')], failing), /stop/);
      assert.deepEqual(await payloads(own), []);
      const { events } = await append([newEvent(own, '2', 'a')]);
      assert.equal(events[0]?.kind, 'stored');
    });

    const payloads = async (owner: string) => (await log.lines(owner)).map((line) => line.payload);
  });
}

describe('two batches of one org on postgres', async () => {
  const storage = await createStorage('postgres');
  if (storage === null) {
    it('are ordered', { skip: 'NOT TESTED: there is no PostgreSQL server on this machine' });
    return;
  }
  after(() => storage.remove());

  /** Two writers; the first is held before its COMMIT until the second has committed, or is seen to wait for it. */
  async function readWhileCommitting(faults: Faults, place: TestStorage) {
    const [log, other] = [await openTestLog(place), await openTestLog(place)];
    try {
      const [org = ''] = await log.addOrgs(1);
      const atCommit = signal();
      const mayCommit = signal();
      const held = withFaults(log.database, {
        ...faults,
        beforeCommit: () => {
          atCommit.fire();
          return mayCommit.promise;
        },
      });
      const slow = appendBatch(held, [newEvent(org, '"first"')], Date.now());
      await atCommit.promise;
      const quick = appendBatch(withFaults(other.database, faults), [newEvent(org, '"second"')], Date.now()).then(
        () => true,
      );
      const overtaken = await Promise.race([quick, untilBlocked(log.database).then(() => false)]);
      const seen = await log.lines(org);
      mayCommit.fire();
      await Promise.all([slow, quick]);
      const lastSeen = seen.at(-1)?.position ?? 0;
      const rest = (await log.lines(org)).filter((line) => line.position > lastSeen);
      return { overtaken, read: [...seen, ...rest].map((line) => line.payload) };
    } finally {
      await Promise.all([log.close(), other.close()]);
    }
  }

  it('become visible in the order of their positions, so that a reader by position misses none', async () => {
    const { overtaken, read } = await readWhileCommitting({}, storage);
    assert.equal(overtaken, false);
    assert.deepEqual(read, ['"first"', '"second"']);
  });

  it('would be missed by that reader, were positions taken outside of the transaction', async () => {
    const aside = await openTestLog(storage);
    try {
      const faults: Faults = {
        query: (statement, values, run) =>
          statement.name === 'ingest_reserve'
            ? aside.database.query({ role: 'ingest' }, statement, values)
            : run(values),
      };
      const { overtaken, read } = await readWhileCommitting(faults, storage);
      assert.equal(overtaken, true);
      assert.deepEqual(read, ['"second"']);
    } finally {
      await aside.close();
    }
  });
});

function placeOf(appended: Appended | undefined) {
  if (appended === undefined || !('place' in appended)) assert.fail(`not stored: ${JSON.stringify(appended)}`);
  return appended.place;
}

function positionOf(appended: Appended): number {
  return placeOf(appended).position;
}
