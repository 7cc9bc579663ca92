import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { listEvents } from '../../src/event-log/list.js';
import { acknowledge } from '../../src/subscriptions/acknowledge.js';
import { readStats } from '../../src/subscriptions/peek.js';
import type { ReceiveRequest } from '../../src/subscriptions/receive.js';
import { Together } from '../../src/subscriptions/together.js';
import { signal } from '../support/conformance.js';
import { append, dayMs, intercept, newLog, openLog } from '../support/log.js';
import { importMutant } from '../support/mutant.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

const nowMs = Date.now();
const leaseMs = 60_000;

/** The same database; its first transaction waits until it is let go, and all are counted. */
class HeldDatabase {
  readonly #letGo = signal();
  transactions = 0;
  failsFrom = Infinity;
  readonly database: Database;

  constructor(real: Database) {
    this.database = {
      ...real,
      engine: real.engine,
      transaction: async (scope, work) => {
        const number = ++this.transactions;
        if (number === 1) await this.#letGo.promise;
        return real.transaction(scope, async (tx) => {
          const value = await work(tx);
          if (number >= this.failsFrom) throw new Error('not committed');
          return value;
        });
      },
    };
  }

  letGo(): void {
    this.#letGo.fire();
  }
}

for (const engine of engineNames) {
  describe(`requests of one subscription at the same time, on ${engine}`, () => {
    let storage: TestStorage | null;
    let database: Database;
    let org: string;
    before(async () => {
      storage = await createStorage(engine);
      if (storage !== null) database = await openLog(storage);
    });
    after(async () => {
      if (storage === null) return;
      await database?.close();
      await storage.remove();
    });

    const requestOf = (lease: string, eventsMax = 10, atMs = nowMs): ReceiveRequest => {
      const ends = { lease, leaseEndsAtMs: atMs + leaseMs };
      return { org, subscription: 0, eventsMax, wantsPayload: true, nowMs: atMs, ...ends };
    };

    /** Events in the log of a new org, and what asks for them: the first request is held until `held.letGo()`, so that the others wait for it. */
    async function start(events: number, clock = new TestClock(), Class = Together) {
      org = await newLog(database, nowMs);
      if (events > 0)
        await append(
          database,
          org,
          Array.from({ length: events }, () => ({})),
          nowMs,
        );
      return of(database, clock, Class);
    }

    function of(used: Database, clock = new TestClock(), Class = Together) {
      const held = new HeldDatabase(used);
      const together = new Class(held.database, clock);
      const receive = async (...request: Parameters<typeof requestOf>): Promise<number[]> => {
        const received = await together.receive(requestOf(...request));
        return (received?.events ?? []).map(({ position }) => Number(position));
      };
      const ack = (lease: string) => together.acknowledgeLease(org, 0, lease);
      return { held, together, receive, ack };
    }

    const upTo = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);
    const leased = async (): Promise<number | undefined> => (await readStats(database, org, 0, nowMs))?.leased;

    test('are one transaction, in which each event goes to one of them', async (t) => {
      if (storage === null) return t.skip('no PostgreSQL');
      const { held, receive } = await start(45);
      const all = Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map((lease) => receive(lease)));
      held.letGo();
      assert.deepEqual(await all, [upTo(1, 10), upTo(11, 20), upTo(21, 30), upTo(31, 40), upTo(41, 45), []]);
      assert.equal(held.transactions, 3, 'the first, the four that it held up, and the one for which nothing was left');
      assert.equal(await leased(), 45);
    });

    test('are acknowledged with what others receive, and a lease once', async (t) => {
      if (storage === null) return t.skip('no PostgreSQL');
      const { held, receive, ack } = await start(40);
      const first = receive('a');
      const others = Promise.all([receive('b'), ack('none'), receive('c', 5)]);
      held.letGo();
      assert.deepEqual(await first, upTo(1, 10));
      assert.deepEqual(await others, [upTo(11, 20), 0, upTo(21, 25)]);
      const earlier = held.transactions;
      const acknowledged = await Promise.all([receive('d'), ack('a'), ack('a'), ack('b'), receive('e', 1), ack('c')]);
      assert.deepEqual(acknowledged, [upTo(26, 35), 10, 0, 10, [36], 5]);
      assert.equal(held.transactions - earlier, 2);
      assert.equal(await leased(), 11);
    });

    test('a lease that is acknowledged twice would count twice, if it were not taken out', async (t) => {
      if (storage === null) return t.skip('no PostgreSQL');
      const mutant = await importMutant<{ Together: typeof Together }>(
        'subscriptions/together.js',
        'settled?.delete(acknowledges);',
        '',
      );
      const { held, receive, ack } = await start(20, new TestClock(), mutant.Together);
      held.letGo();
      await receive('a');
      assert.deepEqual(await Promise.all([receive('b'), ack('a'), ack('a')]), [upTo(11, 20), 10, 10]);
    });

    test('get what is due again before what is new, and none of it twice', async (t) => {
      if (storage === null) return t.skip('no PostgreSQL');
      const { held, receive } = await start(30);
      held.letGo();
      await receive('a', 6);
      await receive('b', 4);
      const laterMs = nowMs + leaseMs;
      const again = await Promise.all(['c', 'd', 'e'].map((lease) => receive(lease, 10, laterMs)));
      const all = again.flat().toSorted((a, b) => a - b);
      assert.deepEqual(all, upTo(1, 30), `received ${JSON.stringify(again)}`);
      assert.ok(again[0]?.includes(1), `the first received ${JSON.stringify(again[0])}`);
    });

    test('fail together, and nothing is handed out', async (t) => {
      if (storage === null) return t.skip('no PostgreSQL');
      const { held, receive, ack } = await start(30);
      held.failsFrom = 2;
      const first = receive('a');
      const others = Promise.allSettled([receive('b'), ack('a'), receive('c')]);
      held.letGo();
      await first;
      assert.deepEqual(
        (await others).map(({ status }) => status),
        ['rejected', 'rejected', 'rejected'],
      );
      assert.equal(await leased(), 10);
      held.failsFrom = Infinity;
      assert.deepEqual(await receive('d'), upTo(11, 20));
    });

    // The process would end by a rejection that nobody handles.
    test('a statement that fails along with its COMMIT fails its request, and nothing else', async (t) => {
      if (storage === null) return t.skip('no PostgreSQL');
      await start(30);
      const broken = intercept(database, (statement, values, real) => {
        if (!['leases_settle', 'lease_hand_out', 'subscription_move', 'event_list_read'].includes(statement.name))
          return real(statement, values);
        return real({ name: 'test_broken', text: 'SELECT 1 / 0' });
      });
      const { held: first, receive: brokenReceive, ack: brokenAck } = of(broken);
      first.letGo();
      const address = { epoch: 1, position: 1, day: Math.floor(nowMs / dayMs) };
      const page = { org, order: 'asc', types: null, sinceMs: null, untilMs: null, limit: 5, from: null } as const;
      for (const request of [
        () => brokenReceive('a'),
        () => brokenAck('a'),
        () => Promise.all([brokenAck('a'), brokenAck('b'), brokenReceive('c'), brokenReceive('d')]),
        () => acknowledge(broken, org, 0, [address]),
        () => listEvents(broken, { ...page, bytesMax: 1_000, wantsPayload: true }),
      ]) {
        await assert.rejects(request(), { sqlstate: '22012' });
        await new Promise((resume) => setImmediate(resume));
      }
      const { held, receive: whole } = of(database);
      held.letGo();
      assert.deepEqual(await whole('e'), upTo(1, 10));
    });

    test('wait no longer than a second for one that is held up', async (t) => {
      if (storage === null) return t.skip('no PostgreSQL');
      const clock = new TestClock();
      const { held, receive } = await start(30, clock);
      const stuck = receive('a');
      const waits = receive('b');
      clock.advance(999);
      assert.equal(held.transactions, 1, 'what waits has not gone on alone yet');
      clock.advance(1);
      assert.deepEqual(await waits, upTo(1, 10));
      assert.deepEqual(await receive('c'), upTo(11, 20), 'nor does one that comes now');
      held.letGo();
      assert.deepEqual(await stuck, upTo(21, 30));
    });

    test('of an inbox that is gone, all hear so', async (t) => {
      if (storage === null) return t.skip('no PostgreSQL');
      const { held, together } = await start(1);
      const at = (lease: string) => together.receive({ ...requestOf(lease), subscription: 7 });
      const all = Promise.all([at('a'), at('b'), together.acknowledgeLease(org, 7, 'a')]);
      held.letGo();
      assert.deepEqual(await all, [null, null, null]);
    });
  });
}
after(stopServers);
