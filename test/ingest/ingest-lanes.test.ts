import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { randomInt } from 'node:crypto';
import { Client as Session } from 'pg';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { openPostgres } from '../../src/db/postgres.js';
import type { NewEvent } from '../../src/event-log/new-event.js';
import type { StoredOrRefused } from '../../src/ingest/group-commit.js';
import { IngestLanes } from '../../src/ingest/ingest-lanes.js';
import { storeBatch } from '../../src/ingest/store-batch.js';
import { signal } from '../support/conformance.js';
import { newEvent, openTestLog, untilBlocked, unwatched } from '../support/event-log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

after(stopServers);

const limits = { batchEventsMax: () => 20, batchBytesMax: 64 * 1024, queueBytesMax: 256 * 1024, queueAgeMsMax: 5_000 };
const refusalOf = (result: StoredOrRefused): string | null => ('refused' in result ? result.refused.code : null);

describe('ingest lanes', () => {
  it('of several share the bytes that may wait, and one whose batch hangs does not hold the others', async () => {
    const hanging = signal<StoredOrRefused[]>();
    const batches: NewEvent[][] = [];
    const store = (batch: readonly NewEvent[]): Promise<StoredOrRefused[]> => {
      batches.push([...batch]);
      return batch[0]?.org === '2' ? hanging.promise : Promise.resolve(batch.map(done));
    };
    const lanes = new IngestLanes(2, { clock: new TestClock(), store, ...limits, queueBytesMax: 10_000 });
    await lanes.start();
    const first = lanes.add(newEvent('2', '1'));
    await turn();
    const behind = [3, 4, 5].map(() => lanes.add(newEvent('4', '1')));
    assert.equal(lanes.waitingEvents, 3);
    assert.ok(lanes.waitingBytes > 5_000 && lanes.waitingBytes <= 10_000);
    // What waits in the lane that hangs counts in the other as well, but stays no longer than it waits there.
    const rest = await Promise.all([1, 2, 3].map(() => lanes.add(newEvent('3', '1'))));
    assert.deepEqual(rest.map(refusalOf), [null, 'overloaded', 'overloaded']);
    assert.equal(refusalOf((await lanes.addAll([newEvent('5', '1')], 1))[0] as StoredOrRefused), null);
    hanging.fire([done()]);
    await Promise.all([first, ...behind]);
    await lanes.stop();
    assert.deepEqual([lanes.waitingEvents, lanes.waitingBytes], [0, 0]);
    // A batch is of the orgs of its lane.
    for (const batch of batches) assert.equal(new Set(batch.map(({ org }) => Number(org) % 2)).size, 1);
  });

  for (const engine of engineNames) {
    it(`keep the order of each org, on ${engine}`, async (t) => {
      const storage = await createStorage(engine);
      if (storage === null) return t.skip('no PostgreSQL on this machine');
      const { lanes, orgs } = await openLanes(t, storage, engine === 'postgres' ? 3 : 1, 12);
      const sent: { readonly org: string; readonly answer: Promise<StoredOrRefused> }[] = [];
      for (let i = 0; i < 1_200; i++) {
        const org = orgs[randomInt(orgs.length)] ?? '';
        sent.push({ org, answer: lanes.add(newEvent(org, String(i))) });
        if (i % 40 === 0) await turn();
      }
      const last = new Map<string, number>();
      for (const [i, { org, answer }] of sent.entries()) {
        const result = await answer;
        assert.ok('appended' in result && 'place' in result.appended, `event ${i} was not stored`);
        const { position } = result.appended.place;
        assert.ok(
          position > (last.get(org) ?? 0),
          `event ${i} of org ${org} is at ${position}, behind ${last.get(org)}`,
        );
        last.set(org, position);
      }
    });
  }

  for (const count of [2, 1]) {
    const promise =
      count === 2
        ? 'go on while another waits for a head that somebody holds'
        : 'are held by a head that somebody holds if there is only one, so that the test above can fail';
    it(promise, async (t) => {
      const storage = await createStorage('postgres');
      if (storage === null) return t.skip('no PostgreSQL on this machine');
      const { lanes, orgs, database } = await openLanes(t, storage, count, 40);
      const [held = '', other = ''] = [0, 1].map((rest) => orgs.find((org) => Number(org) % 2 === rest));
      assert.ok(held !== '' && other !== '', 'forty random numbers, all even or all odd');
      const session = new Session(storage.config.databaseUrl ?? '');
      await session.connect();
      t.after(() => session.end());
      // Who waits for a lock gives up after a second: on a slow machine the other's event may take as long, so it has several tries.
      let overtakes = 0;
      for (let round = 0; round < (count === 2 ? 10 : 2) && overtakes === 0; round++) {
        await session.query(`BEGIN; SELECT FROM heads WHERE org = ${held} FOR UPDATE`);
        const order: string[] = [];
        const blocked = lanes.add(newEvent(held, '1')).finally(() => order.push('held'));
        await untilBlocked(database);
        const free = await lanes.add(newEvent(other, '1')).finally(() => order.push('other'));
        assert.ok('appended' in free);
        if (order[0] === 'other') overtakes++;
        await session.query('ROLLBACK');
        await blocked;
      }
      assert.equal(overtakes, count === 2 ? 1 : 0);
    });
  }
});

/** Lanes on the log of `storage`, as a node has them, and orgs. */
async function openLanes(
  t: TestContext,
  storage: TestStorage,
  count: number,
  orgCount: number,
): Promise<{ lanes: IngestLanes; orgs: string[]; database: Database }> {
  const log = await openTestLog(storage);
  const opened: { close(): Promise<void> }[] = [log];
  t.after(async () => {
    await lanes.stop();
    for (const one of opened.toReversed()) await one.close();
    await storage.remove();
  });
  let { database } = log;
  const url = storage.config.databaseUrl;
  if (url !== null) {
    const several = await openPostgres({ url, clock: systemClock, onLog: () => {}, ingestLanes: count });
    opened.push(several);
    assert.equal(several.ingestLanes, count);
    database = several;
  }
  const options = { database, clock: systemClock, blockedHeads: unwatched, outcomeWaitMsMax: 0 };
  const quiet = { onStored: () => {}, onFailure: () => {} };
  const lanes = new IngestLanes(count, {
    clock: systemClock,
    store: (batch) => storeBatch({ ...options, ...quiet }, batch),
    ...limits,
    queueBytesMax: 64 * 1024 * 1024,
    queueAgeMsMax: 60_000,
  });
  await lanes.start();
  return { lanes, orgs: await log.addOrgs(orgCount), database };
}

function done(): StoredOrRefused {
  return {
    appended: { kind: 'stored', place: { epoch: 1, position: 1, day: 0, receivedAtMs: 0 } },
    durability: 'fsync',
  };
}

function turn(): Promise<void> {
  return new Promise((resume) => {
    setImmediate(resume);
  });
}
