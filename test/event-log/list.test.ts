import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import type { Database } from '../../src/db/database.js';
import { partitionName } from '../../src/db/sql/partitions.js';
import type { ListOrder, ListPage, ListRequest, Walk } from '../../src/event-log/list.js';
import { listedDaysMax, listEvents, scannedEventsMax } from '../../src/event-log/list.js';
import { append, asOwner, dayMs, ensurePartitions, intercept, newLog, openLog } from '../support/log.js';
import { explaining, rowsTouched, stepsOf } from '../support/plans.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

const firstDay = 20_000;
const days = 160;
const startMs = firstDay * dayMs;
const logs = process.env['SLUICE_TEST_SOAK'] === '1' ? 300 : 25;
/** The head and the settings, two boundaries, a window of days four times, the events. */
const statementsMax = 2 + 2 + 4 + 1;
const types = ['order.paid', 'order.sent', 'orders', 'user.created'];

interface Stored {
  readonly position: number;
  readonly type: string;
  readonly receivedAtMs: number;
}

const filters = [
  { types: null, wants: () => true },
  { types: { exact: ['orders'], prefixes: [] }, wants: (type: string) => type === 'orders' },
  {
    types: { exact: ['user.created'], prefixes: ['order.'] },
    wants: (type: string) => type === 'user.created' || type.startsWith('order.'),
  },
  { types: { exact: ['none'], prefixes: [] }, wants: () => false },
] as const;

const everything: Omit<ListRequest, 'org'> = {
  order: 'asc',
  types: null,
  sinceMs: null,
  untilMs: null,
  limit: 50,
  bytesMax: 4 * 1024 * 1024,
  wantsPayload: true,
  from: null,
};

function describeLists(storage: TestStorage): void {
  let database: Database;
  before(async () => {
    const clock = new TestClock(startMs);
    database = await openLog(storage, clock);
    for (let day = 0; day < days; day += 8) {
      clock.advance(8 * dayMs);
      await ensurePartitions(database, clock);
    }
  });
  after(async () => {
    await database.close();
    await storage.remove();
  });

  /** Appends one batch at a time after the start. Every third event repeats a dedup id, so that there are gaps. */
  async function fill(org: string, batches: readonly (readonly [atMs: number, types: readonly string[]])[]) {
    const stored: Stored[] = [];
    for (const [atMs, batch] of batches) {
      const events = batch.map((type, i) => ({ type, ...(i % 3 === 2 ? { dedupId: 'again' } : {}) }));
      const places = await append(database, org, events, startMs + atMs);
      for (const [i, place] of places.entries()) {
        const { type } = events[i] ?? { type: '' };
        if (place) stored.push({ position: place.position, type, receivedAtMs: place.receivedAtMs });
      }
    }
    return stored;
  }

  async function list(request: Partial<ListRequest> & { org: string }, used = database): Promise<ListPage> {
    const page = await listEvents(used, { ...everything, ...request });
    assert.ok(page);
    return page;
  }

  const positionsOf = ({ events }: ListPage): number[] => events.map((event) => Number(event.position));

  async function walk(request: Partial<ListRequest> & { org: string }): Promise<number[]> {
    const positions: number[] = [];
    let from: Walk | null = null;
    do {
      let statements = 0;
      const counted = intercept(database, (statement, values, real) => {
        statements++;
        return real(statement, values);
      });
      const page: ListPage = await list({ ...request, from }, counted);
      assert.ok(page.events.length <= (request.limit ?? everything.limit));
      assert.ok(statements <= statementsMax, `${statements} statements`);
      positions.push(...positionsOf(page));
      from = page.next;
    } while (from !== null);
    return positions;
  }

  test('a walk in any order, with any filter, times and limit, is the log without what the filter leaves out', async () => {
    const gapMs = fc.constantFrom(0, 0, 1, 1_000, dayMs / 2, dayMs, 3 * dayMs, 40 * dayMs);
    const batch = fc.tuple(gapMs, fc.array(fc.constantFrom(...types), { minLength: 1, maxLength: 5 }));
    const time = fc.option(fc.tuple(fc.nat({ max: 11 }), fc.constantFrom(-1, 0, 1, -dayMs, dayMs)));
    const question = fc.record({
      order: fc.constantFrom<ListOrder>('asc', 'desc'),
      filter: fc.constantFrom(...filters),
      since: time,
      until: time,
      limit: fc.constantFrom(1, 2, 3, 50),
    });
    const property = fc.asyncProperty(
      fc.array(batch, { maxLength: 12 }),
      fc.array(question, { minLength: 8, maxLength: 8 }),
      async (batches, questions) => {
        let atMs = 0;
        const timed = batches.map(([gap, batchTypes]) => {
          atMs = Math.min(atMs + gap, (days - 1) * dayMs);
          return [atMs, batchTypes] as const;
        });
        const org = await newLog(database, startMs);
        const stored = await fill(org, timed);
        for (const { order, filter, since, until, limit } of questions) {
          const timeOf = (at: typeof since): number | null =>
            at === null ? null : (timed[at[0] % timed.length]?.[0] ?? 0) + at[1] + startMs;
          const [sinceMs, untilMs] = [timeOf(since), timeOf(until)];
          const wanted = stored.filter(
            ({ type, receivedAtMs }) =>
              filter.wants(type) && receivedAtMs >= (sinceMs ?? 0) && receivedAtMs < (untilMs ?? Infinity),
          );
          const expected = wanted.map(({ position }) => position);
          if (order === 'desc') expected.reverse();
          assert.deepEqual(await walk({ org, order, types: filter.types, sinceMs, untilMs, limit }), expected);
        }
      },
    );
    await fc.assert(property, { numRuns: logs, endOnFailure: true });
  });

  test('of a log of a hundred days without an event every page still takes a bounded number of statements', async () => {
    const org = await newLog(database, startMs);
    const stored = await fill(org, [
      [0, ['a']],
      [150 * dayMs, ['b']],
    ]);
    const expected = stored.map(({ position }) => position);
    // `walk` counts them.
    assert.deepEqual(await walk({ org }), expected);
    assert.deepEqual(await walk({ org, order: 'desc' }), expected.toReversed());
  });

  test('a page of one event and a page of a thousand take the same statements', async () => {
    const org = await newLog(database, startMs);
    const batch = Array.from({ length: 1_000 }, (_, i) => types[i % 4] ?? '');
    await fill(org, [
      [0, batch],
      [1_000, batch],
      [2_000, batch],
    ]);
    const statementsOf = async (request: Partial<ListRequest>): Promise<string[]> => {
      const names: string[] = [];
      const watched = intercept(database, (statement, values, real) => {
        names.push(statement.name);
        return real(statement, values);
      });
      const { events } = await list({ org, ...request }, watched);
      assert.equal(events.length, request.limit);
      return names;
    };
    for (const order of ['asc', 'desc'] as const) {
      for (const filter of filters.slice(0, 3)) {
        const request = { order, types: filter.types, sinceMs: startMs, untilMs: startMs + 3_000 };
        const one = await statementsOf({ ...request, limit: 1 });
        assert.deepEqual(await statementsOf({ ...request, limit: 300 }), one);
        if (filter.types === null) assert.deepEqual(await statementsOf({ ...request, limit: 1_000 }), one);
      }
    }
  });

  test('a filter that passes over everything ends its page after a bounded number of events, and the walk goes on', async () => {
    const org = await newLog(database, startMs);
    const dull = Array.from({ length: 3_000 }, () => ({ type: 'dull' }));
    await append(database, org, [{ type: 'rare' }, ...dull], startMs);
    await append(database, org, [...dull, ...dull, { type: 'rare' }], startMs + 1);
    const rare = { exact: ['rare'], prefixes: [] };
    for (const order of ['asc', 'desc'] as const) {
      const first = await list({ org, order, types: rare });
      assert.equal(first.events.length, 1);
      assert.equal(
        Math.abs((first.next?.next.position ?? 0) - Number(first.events[0]?.position)),
        scannedEventsMax,
        'it stands behind the last event that it looked at',
      );
      const second = await list({ org, order, types: rare, from: first.next });
      assert.equal(second.events.length, 1);
      assert.equal(second.next, null);
    }
  });

  test('events that are appended meanwhile come at the end of a walk in log order, and not in one against it', async () => {
    const org = await newLog(database, startMs);
    await fill(org, [[0, ['a', 'b']]]);
    const [rising, falling] = [await list({ org, limit: 1 }), await list({ org, limit: 1, order: 'desc' })];
    await fill(org, [[1_000, ['c', 'd']]]);
    assert.deepEqual(await rest(rising, { org }), [2, 3, 4]);
    assert.deepEqual(await rest(falling, { org, order: 'desc' }), [1]);
  });

  test('an end in the future stays open until the log has come to it, and is then fixed', async () => {
    const org = await newLog(database, startMs);
    await fill(org, [[0, ['a', 'b']]]);
    const request = { org, untilMs: startMs + dayMs, limit: 1 };
    const first = await list(request);
    await fill(org, [
      [dayMs - 1, ['before the end']],
      [dayMs, ['at the end']],
      [2 * dayMs, ['after it']],
    ]);
    const second = await list({ ...request, from: first.next });
    assert.deepEqual(second.next, { next: { position: 3, day: firstDay }, end: { position: 3, day: firstDay + 1 } });
    assert.deepEqual(await rest(second, request), [3]);
  });

  test('events that retention removes are passed over by a walk that was under way', async () => {
    const org = await newLog(database, startMs);
    await fill(org, [
      [0, ['a', 'b']],
      [dayMs, ['c', 'd']],
      [2 * dayMs, ['e', 'f']],
    ]);
    const rising = await list({ org, limit: 1 });
    const falling = await list({ org, limit: 1, order: 'desc' });
    const bounded = await list({ org, limit: 1, order: 'desc', sinceMs: startMs + 1 });
    const floor = `UPDATE heads SET first_position = 4, first_day = ${firstDay + 1} WHERE org = ${org}`;
    await asOwner(database, `DELETE FROM events WHERE org = ${org} AND position < 4; ${floor}`);
    assert.deepEqual(await rest(rising, { org }), [4, 5, 6]);
    assert.deepEqual(await rest(falling, { org, order: 'desc' }), [5, 4]);
    assert.deepEqual(await rest(bounded, { org, order: 'desc' }), [5, 4]);
    // All of what is left of it may be gone.
    const past = await list({ org, limit: 1, order: 'desc', untilMs: startMs + dayMs + 1 });
    assert.deepEqual(positionsOf(past), [4]);
    assert.equal(past.next, null);
    // An event whose row is still there is below the floor all the same.
    await asOwner(database, `UPDATE heads SET first_position = 6 WHERE org = ${org}`);
    assert.deepEqual(await walk({ org }), [6]);
  });

  async function rest(page: ListPage, request: Partial<ListRequest> & { org: string }): Promise<number[]> {
    const positions: number[] = [];
    for (let from = page.next; from !== null;) {
      const next = await list({ ...request, from });
      positions.push(...positionsOf(next));
      from = next.next;
    }
    return positions;
  }

  test('opens no day but those of the log, and those a month at a time, also once its plans are kept', async () => {
    const org = await newLog(database, startMs + 5 * dayMs);
    await fill(org, [
      [5 * dayMs, ['a']],
      [7 * dayMs, ['b']],
      [60 * dayMs, ['c']],
    ]);
    const opened = async (request: Partial<ListRequest>): Promise<string[]> => {
      return database.transaction({ role: 'app', org }, async (tx) => {
        const used: Database = { ...database, engine: database.engine, transaction: (_scope, work) => work(tx) };
        // A server keeps a generic plan from the sixth execution on, if it thinks it as good.
        for (let i = 0; i < 10; i++) await list({ org, ...request }, used);
        return (await tx.query<{ name: string }>(locksStatement)).rows.map(({ name }) => name);
      });
    };
    const named = (first: number, last: number): string[] =>
      Array.from({ length: last - first + 1 }, (_, i) => partitionName(firstDay + first + i));
    assert.deepEqual(await opened({}), named(5, 5 + listedDaysMax - 1));
    assert.deepEqual(await opened({ order: 'desc' }), named(60 - listedDaysMax + 1, 60));
    assert.deepEqual(await opened({ sinceMs: startMs + 7 * dayMs, untilMs: startMs + 8 * dayMs }), named(7, 8));
    assert.deepEqual(await opened({ sinceMs: startMs + 61 * dayMs }), []);
    assert.deepEqual(await opened({ untilMs: startMs + 4 * dayMs }), []);
  });

  describe('looks at few rows, each by the primary key', () => {
    const backlog = 20_000;
    let org: string;
    before(async () => {
      org = await newLog(database, startMs);
      const batch = Array.from({ length: 1_000 }, (_, i) => ({ type: types[i % 4] ?? '' }));
      for (let i = 0; i < backlog; i += 1_000) await append(database, org, batch, startMs + i);
    });

    async function mostRows(alter?: (text: string) => string): Promise<Map<string, number>> {
      const most = new Map<string, number>();
      const watched = explaining(
        database,
        ({ name }, plan) => {
          most.set(name, Math.max(most.get(name) ?? 0, rowsTouched(plan)));
          for (const step of stepsOf(plan)) {
            if (!step['Relation Name']?.startsWith('events_')) continue;
            assert.match(`${step['Node Type']} by ${step['Index Name']}`, /^Index (Only )?Scan.* by events_\d+_pkey$/);
          }
        },
        alter,
      );
      for (const order of ['asc', 'desc'] as const) {
        const { next } = await list({ org, order }, watched);
        await list({ org, order, from: next }, watched);
        const middle = { sinceMs: startMs + 6_000, untilMs: startMs + 15_001 };
        assert.equal((await list({ org, order, ...middle }, watched)).events.length, 50);
        assert.equal((await list({ org, order, types: filters[1].types }, watched)).events.length, 50);
      }
      assert.deepEqual([...most.keys()].toSorted(), [
        'event_list_asc',
        'event_list_boundary',
        'event_list_desc',
        'event_list_read',
      ]);
      return most;
    }

    for (const statistics of ['without statistics', 'with statistics']) {
      test(statistics, async () => {
        if (statistics === 'with statistics') await asOwner(database, 'ANALYZE');
        const most = await mostRows();
        assert.ok((most.get('event_list_boundary') ?? Infinity) <= 2 * Math.ceil(Math.log2(backlog)));
        assert.ok((most.get('event_list_read') ?? Infinity) <= 100);
        assert.ok((most.get('event_list_asc') ?? Infinity) <= scannedEventsMax + listedDaysMax);
        assert.ok((most.get('event_list_desc') ?? Infinity) <= scannedEventsMax + listedDaysMax);
      });
    }

    test('and more would be noticed', async () => {
      const most = await mostRows((text) => text.replace('LIMIT $8', 'LIMIT $8 + 1000000'));
      assert.ok((most.get('event_list_asc') ?? 0) > scannedEventsMax + listedDaysMax);
    });
  });

  test('a payload that is not asked for is not read, and does not count towards the bytes of a page', async () => {
    const org = await newLog(database, startMs);
    await append(
      database,
      org,
      Array.from({ length: 4 }, () => ({ payload: JSON.stringify('x'.repeat(10_000)) })),
      startMs,
    );
    const bytesMax = 25_000;
    const full = await list({ org, bytesMax });
    assert.deepEqual(
      full.events.map(({ payload }) => payload?.length),
      [10_002, 10_002],
    );
    assert.deepEqual(
      (await list({ org, bytesMax, wantsPayload: false })).events.map(({ payload }) => payload),
      [null, null, null, null],
    );
    assert.equal((await list({ org, bytesMax: 1 })).events.length, 1);
    assert.deepEqual(await walk({ org, bytesMax: 1, order: 'desc' }), [4, 3, 2, 1]);
  });
}

const locksStatement = {
  name: 'test_list_locks',
  text: `SELECT c.relname AS name FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
    WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relname LIKE 'events\\_%' ORDER BY c.relname`,
};

const storages = await Promise.all(engineNames.map(createStorage));
after(stopServers);
for (const [i, engine] of engineNames.entries()) {
  const storage = storages[i] ?? null;
  describe(`on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage !== null) describeLists(storage);
  });
}
