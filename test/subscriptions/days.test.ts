import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Database, Transaction } from '../../src/db/database.js';
import { acknowledge } from '../../src/subscriptions/acknowledge.js';
import { peek, readStats } from '../../src/subscriptions/peek.js';
import type { PeekPlace } from '../../src/subscriptions/peek.js';
import { PositionSet } from '../../src/subscriptions/position-set.js';
import { daysPerStatementMax, everything, readBounded } from '../../src/subscriptions/read-bounded.js';
import { receive } from '../../src/subscriptions/receive.js';
import { append, dayMs, ensurePartitions, intercept, newLog, openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

const firstDay = 20_000;
const days = 200;
const lastDay = firstDay + days;
/** Events lie on these days after the first: neighbours, then a hole of hundreds of days. */
const eventDays = [0, 0, 1, 2, 3, 190, 191, 200];
const nowMs = lastDay * dayMs;

describe('a log of hundreds of days, most of them without an event', () => {
  for (const engine of engineNames) {
    describe(`on ${engine}`, () => {
      let storage: TestStorage | null;
      let database: Database;
      let org: string;
      before(async () => {
        storage = await createStorage(engine);
        if (storage === null) return;
        const clock = new TestClock(firstDay * dayMs);
        database = await openLog(storage, clock);
        for (let day = firstDay; day < lastDay; day += 8) {
          clock.advance(8 * dayMs);
          await ensurePartitions(database, clock);
        }
      });
      after(async () => {
        if (storage === null) return;
        await database.close();
        await storage.remove();
      });

      async function fill(): Promise<number[]> {
        org = await newLog(database, firstDay * dayMs);
        const positions: number[] = [];
        for (const day of eventDays) {
          for (const place of await append(database, org, [{}, {}], (firstDay + day) * dayMs)) {
            assert.equal(place?.day, firstDay + day);
            positions.push(place.position);
          }
        }
        return positions;
      }

      let leases = 0;
      const receiveOf = (used: Database, eventsMax: number) =>
        receive(used, {
          org,
          subscription: 0,
          eventsMax,
          wantsPayload: true,
          nowMs,
          lease: `lse_${++leases}`,
          leaseEndsAtMs: nowMs + 1000,
        });

      test('is received in order across every border, each receive with a bounded number of statements', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const positions = await fill();
        const received: number[] = [];
        let statements = 0;
        const counted = intercept(database, (statement, values, real) => {
          statements++;
          return real(statement, values);
        });
        for (;;) {
          statements = 0;
          const page = await receiveOf(counted, 3);
          assert.ok(statements <= days / daysPerStatementMax + 10, `${statements} statements`);
          if (page?.events.length === 0) break;
          received.push(...(page?.events ?? []).map((event) => Number(event.position)));
        }
        assert.deepEqual(received, positions);
        assert.ok(statements < 10, `an empty inbox of an old log took ${statements} statements`);
      });

      test('is listed in order across every border, each page with a bounded number of statements', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const positions = await fill();
        const listed: number[] = [];
        let statements = 0;
        const counted = intercept(database, (statement, values, real) => {
          statements++;
          return real(statement, values);
        });
        let [place, pages]: [PeekPlace | null, number] = [null, 0];
        do {
          statements = 0;
          const request = { org, subscription: 0, status: undefined, types: null, limit: 3, wantsPayload: true, nowMs };
          const page = await peek(counted, { ...request, after: place });
          assert.ok(page && statements <= 14, `${statements} statements`);
          listed.push(...page.events.map((event) => Number(event.event.position)));
          place = page.next;
          pages++;
        } while (place !== null);
        assert.deepEqual(listed, positions);
        assert.ok(pages < 20, `${pages} pages`);
      });

      test('that is acknowledged without being received is listed and counted from its end, not from its beginning', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const positions = await fill();
        const addresses = positions.map((position, i) => ({
          epoch: 1,
          position,
          day: firstDay + (eventDays[Math.floor(i / 2)] ?? 0),
        }));
        await acknowledge(database, org, 0, addresses.slice(0, -1));
        const opened = await partitionsOpened(database, org, async (_tx, used) => {
          await readStats(used, org, 0, nowMs);
        });
        assert.deepEqual(opened, partitionsOf(lastDay, lastDay));
      });

      test('opens no partition but those of the days that a statement names, also once its plan is kept', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        await fill();
        const window = { first: firstDay + 1, last: firstDay + 4 };
        const opened = await partitionsOpened(database, org, async (tx) => {
          // A server keeps a generic plan from the sixth execution on, if it thinks it as good.
          for (let i = 0; i < 12; i++) {
            await readBounded(tx, org, PositionSet.range(1, 1000), window, everything, 50, true);
          }
        });
        assert.deepEqual(opened, partitionsOf(window.first, window.last));
      });

      test('opens partitions of its own days only for an id that claims any other', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        org = await newLog(database, nowMs);
        await append(database, org, [{}], nowMs);
        const forged = [0, firstDay, firstDay + 100, lastDay, lastDay + 1, 2 ** 20 - 1];
        const addresses = forged.map((day) => ({ epoch: 1, position: 1, day }));
        const opened = await partitionsOpened(database, org, async (_tx, used) => {
          const results = await acknowledge(used, org, 0, addresses);
          assert.deepEqual(
            results,
            forged.map((day) => (day === lastDay ? 'acknowledged' : 'unknown')),
          );
        });
        assert.deepEqual(opened, partitionsOf(lastDay, lastDay));
      });
    });
  }
  after(stopServers);
});

const locksStatement = {
  name: 'test_partition_locks',
  text: `SELECT c.relname AS name FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
    WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relname LIKE 'events\\_%' ORDER BY c.relname`,
};

/** The partitions that are locked at the end of a transaction, and so were opened in it. `work` may use it as a database, too. */
async function partitionsOpened(
  database: Database,
  org: string,
  work: (tx: Transaction, used: Database) => Promise<void>,
): Promise<string[]> {
  return database.transaction({ role: 'app', org }, async (tx) => {
    const used: Database = { ...database, engine: database.engine, transaction: (_scope, inner) => inner(tx) };
    await work(tx, used);
    return (await tx.query<{ name: string }>(locksStatement)).rows.map((row) => row.name);
  });
}

function partitionsOf(first: number, last: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, i) => {
    const date = new Date((first + i) * dayMs).toISOString().slice(0, 10);
    return `events_${date.replaceAll('-', '')}`;
  });
}
