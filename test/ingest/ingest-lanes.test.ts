import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { randomInt } from 'node:crypto';
import fc from 'fast-check';
import { Client as Session } from 'pg';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { openPostgres } from '../../src/db/postgres.js';
import type { NewEvent } from '../../src/event-log/new-event.js';
import { heldUpMsByDefault as heldUpMs } from '../../src/ingest/group-commit.js';
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
  it('are one while no batch takes long; then the next takes over all that is not in that batch', async () => {
    const clock = new TestClock();
    const { store, batches, finish } = heldBatches();
    const lanes = new IngestLanes(2, { clock, store, ...limits });
    await lanes.start();
    const sent = [lanes.add(newEvent('2', '1'))];
    await turn();
    for (const org of ['2', '3', '3', '4']) sent.push(lanes.add(newEvent(org, '2')));
    clock.advance(heldUpMs - 1);
    await turn();
    assert.deepEqual(batches, [{ lane: 0, orgs: ['2'] }]);
    clock.advance(1);
    await turn();
    sent.push(lanes.add(newEvent('2', '3')), lanes.add(newEvent('5', '1')));
    await turn();
    assert.deepEqual(batches[1], { lane: 1, orgs: ['3', '3', '4'] });
    finish(0);
    await turn();
    finish(1);
    await turn();
    assert.deepEqual(batches.slice(2), [
      { lane: 0, orgs: ['2', '2'] },
      { lane: 1, orgs: ['5'] },
    ]);
    sent.push(lanes.add(newEvent('6', '1')));
    finish(2);
    finish(3);
    await turn();
    assert.deepEqual(batches.slice(4), [{ lane: 0, orgs: ['6'] }]);
    finish(4);
    assert.ok((await Promise.all(sent)).every((result) => refusalOf(result) === null));
    await lanes.stop();
    assert.deepEqual([lanes.waitingEvents, lanes.waitingBytes], [0, 0]);
  });

  it('part orgs that were in one slow batch, so that a head that stays held does not hold them again', async () => {
    const clock = new TestClock();
    const { store, batches, finish } = heldBatches();
    const lanes = new IngestLanes(2, { clock, store, ...limits });
    await lanes.start();
    const sent: Promise<StoredOrRefused>[] = [];
    const sendAll = (): void => {
      for (const org of ['2', '3', '4', '5']) sent.push(lanes.add(newEvent(org, '1')));
    };
    sendAll();
    await turn();
    clock.advance(heldUpMs);
    sendAll();
    await turn();
    assert.equal(batches.length, 1);
    finish(0);
    await turn();
    await turn();
    const parted = [
      { lane: 0, orgs: ['2', '4'] },
      { lane: 1, orgs: ['3', '5'] },
    ];
    assert.deepEqual(batches.slice(1), parted);
    finish(1);
    finish(2);
    await turn();
    // Those that come later as well, for five seconds.
    clock.advance(4_800);
    sendAll();
    await turn();
    assert.deepEqual(batches.slice(3), parted);
    finish(3);
    finish(4);
    await turn();
    clock.advance(200);
    sendAll();
    await turn();
    assert.deepEqual(batches.slice(5), [{ lane: 0, orgs: ['2', '3', '4', '5'] }]);
    finish(5);
    assert.ok((await Promise.all(sent)).every((result) => refusalOf(result) === null));
    await lanes.stop();
  });

  it('take over from a lane that is held up when they are free again, but not once they are stopped', async () => {
    const clock = new TestClock();
    const { store, batches, finish } = heldBatches();
    const lanes = new IngestLanes(2, { clock, store, ...limits });
    await lanes.start();
    const sent: Promise<StoredOrRefused>[] = [];
    for (const org of ['2', '3', '4']) {
      sent.push(lanes.add(newEvent(org, '1')));
      await turn();
      clock.advance(heldUpMs);
    }
    assert.ok(batches.length < 3);
    finish(1);
    await turn();
    assert.deepEqual(batches[2], { lane: 1, orgs: ['4'] });
    finish(0);
    finish(2);
    await turn();

    sent.push(lanes.add(newEvent('2', '2')));
    await turn();
    sent.push(lanes.add(newEvent('4', '2')));
    let isStopped = false;
    const stopped = lanes.stop().then(() => (isStopped = true));
    clock.advance(heldUpMs);
    await turn();
    assert.deepEqual([batches.at(-1), isStopped], [{ lane: 0, orgs: ['2'] }, false]);
    finish(3);
    await turn();
    assert.deepEqual(batches[4], { lane: 0, orgs: ['4'] });
    finish(4);
    await stopped;
    assert.ok((await Promise.all(sent)).every((result) => refusalOf(result) === null));
    assert.equal(lanes.waitingEvents, 0);
  });

  it('name for a transaction of an org the lane that has events of it, else the last', async () => {
    const clock = new TestClock();
    const { store, finish } = heldBatches();
    const lanes = new IngestLanes(3, { clock, store, ...limits });
    await lanes.start();
    const sent = [lanes.add(newEvent('2', '1'))];
    await turn();
    sent.push(lanes.add(newEvent('3', '1')));
    assert.deepEqual(
      ['2', '3', '4'].map((org) => lanes.laneBeside(org)),
      [0, 0, 2],
    );
    clock.advance(heldUpMs);
    await turn();
    assert.deepEqual(
      ['2', '3', '4'].map((org) => lanes.laneBeside(org)),
      [0, 1, 2],
    );
    finish(0);
    finish(1);
    await Promise.all(sent);
    await turn();
    assert.deepEqual(
      ['2', '3', '4'].map((org) => lanes.laneBeside(org)),
      [2, 2, 2],
    );
    await lanes.stop();
  });

  it('share the bytes that may wait', async () => {
    const clock = new TestClock();
    const { store, finish } = heldBatches();
    const lanes = new IngestLanes(2, { clock, store, ...limits, queueBytesMax: 10_000 });
    await lanes.start();
    const first = lanes.add(newEvent('2', '1'));
    await turn();
    const behind = [3, 4, 5].map(() => lanes.add(newEvent('2', '1')));
    assert.equal(lanes.waitingEvents, 3);
    assert.ok(lanes.waitingBytes > 5_000 && lanes.waitingBytes <= 10_000);
    clock.advance(heldUpMs);
    const rest = [1, 2, 3].map(() => lanes.add(newEvent('3', '1')));
    assert.deepEqual((await Promise.all(rest.slice(1))).map(refusalOf), ['overloaded', 'overloaded']);
    await turn();
    finish(0);
    finish(1);
    await turn();
    finish(2);
    await Promise.all([first, ...behind, ...rest]);
    await lanes.stop();
    assert.deepEqual([lanes.waitingEvents, lanes.waitingBytes], [0, 0]);
  });

  it('never have an org in two batches at once, nor turn its events around, whatever takes long', async () => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ org: fc.integer({ min: 1, max: 6 }) }) },
      { weight: 2, arbitrary: fc.record({ waitMs: fc.constantFrom(1, heldUpMs / 2, heldUpMs) }) },
      { weight: 3, arbitrary: fc.record({ finish: fc.nat(3) }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.array(step, { maxLength: 80 }), async (count, steps) => {
        const clock = new TestClock();
        const open: { readonly orgs: Set<string>; readonly end: () => void }[] = [];
        const last = new Map<string, number>();
        const store = async (batch: readonly NewEvent[]): Promise<StoredOrRefused[]> => {
          for (const { org, payload } of batch) {
            assert.ok(!open.some(({ orgs }) => orgs.has(org)), `org ${org} is in two batches`);
            assert.ok(Number(payload) > (last.get(org) ?? 0), `event ${String(payload)} of org ${org} is late`);
            last.set(org, Number(payload));
          }
          const ended = signal<undefined>();
          open.push({ orgs: new Set(batch.map(({ org }) => org)), end: () => ended.fire(undefined) });
          await ended.promise;
          return batch.map(done);
        };
        const lanes = new IngestLanes(count, { clock, store, ...limits, queueAgeMsMax: 60_000 });
        await lanes.start();
        const finish = (index: number): void => open.splice(index % Math.max(1, open.length), 1)[0]?.end();
        const sent: Promise<StoredOrRefused>[] = [];
        for (const [i, one] of steps.entries()) {
          if ('org' in one) sent.push(lanes.add(newEvent(String(one.org), String(i + 1))));
          else if ('waitMs' in one) clock.advance(one.waitMs);
          else finish(one.finish);
          await turn();
          assert.ok(open.length <= count);
        }
        while (open.length > 0 || lanes.waitingEvents > 0) {
          finish(0);
          await turn();
        }
        assert.ok((await Promise.all(sent)).every((result) => refusalOf(result) === null));
        await lanes.stop();
      }),
      { numRuns: 200 },
    );
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
      const { lanes, orgs, database } = await openLanes(t, storage, count, 2);
      const [held = '', other = ''] = orgs;
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
    store: (batch, lane) => storeBatch({ ...options, ...quiet }, batch, lane),
    ...limits,
    queueBytesMax: 64 * 1024 * 1024,
    queueAgeMsMax: 60_000,
  });
  await lanes.start();
  return { lanes, orgs: await log.addOrgs(orgCount), database };
}

/** A store whose batches last until `finish`, in the order in which they began. */
function heldBatches() {
  const batches: { readonly lane: number; readonly orgs: readonly string[] }[] = [];
  const ends: (() => void)[] = [];
  const store = async (batch: readonly NewEvent[], lane: number): Promise<StoredOrRefused[]> => {
    batches.push({ lane, orgs: batch.map(({ org }) => org) });
    await new Promise<void>((end) => ends.push(end));
    return batch.map(done);
  };
  return { store, batches, finish: (index: number): void => ends[index]?.() };
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
