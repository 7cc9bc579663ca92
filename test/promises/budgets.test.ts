/**
 * What a request may cost, in counts that do not depend on the machine: transactions, statements and round trips to the database, bytes stored for an
 * event, syncs of a commit. The figures are those of the day they were written: a change that needs more has to raise them, and say why. How many rows a
 * statement may look at, test/promises/plans.test.ts holds.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { RunningServer } from '../../src/app.js';
import { composeServer } from '../../src/compose.js';
import type { Database, Transaction } from '../../src/db/database.js';
import type { EmbeddedDatabase } from '../../src/db/embedded.js';
import { partitionName } from '../../src/db/sql/partitions.js';
import { createLogger } from '../../src/log.js';
import { createOrg } from '../support/client.js';
import type { Answer, TestOrg } from '../support/client.js';
import { dayMs, openLog } from '../support/log.js';
import { testConfig } from '../support/node.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';
import { startTurnProxy } from '../support/turn-proxy.js';
import type { TurnProxy } from '../support/turn-proxy.js';

after(stopServers);

/** Time stands still here, also at midnight. */
const startedAtMs = Date.now();

/** Of one request whose key is known already, with the notification that follows a batch on PostgreSQL. */
interface Budget {
  readonly transactions: number;
  /** COPY is one; BEGIN, COMMIT and what is sent along with them are none. */
  readonly statements: number;
  /** To PostgreSQL; the embedded engine is in this process. */
  readonly roundTrips: number;
}

type Spent = Budget & { readonly names: readonly string[] };

const event = { type: 'user.created', payload: { user_id: '12345', text: 'x'.repeat(235) } };
const hundred = Array.from({ length: 100 }, () => event);
/** As many as all tests receive, and more than a page of a list. */
const batchesBefore = 2;
/** So many of each request are counted: a cost that comes now and then is seen as well. */
const repeats = 5;

/** Events of 300 bytes each, and what their table and its index take on disk for one of them: 413 to 446, as the index happens to fill. */
const eventsStored = 2_000;
const storedBytesPerEventMax = 450;
/** More than one in a commit: the log's next segment, a checkpoint. */
const commits = 20;
const syncsMax = commits + 3;

interface Request {
  readonly name: string;
  readonly embedded: Omit<Budget, 'roundTrips'>;
  readonly postgres: Budget;
  /** `id` is that of an event in the log. */
  readonly send: (org: TestOrg, turn: number, id: string) => Promise<Answer>;
}

const requests: readonly Request[] = [
  {
    name: 'an event',
    embedded: { transactions: 1, statements: 2 },
    postgres: { transactions: 2, statements: 3, roundTrips: 4 },
    send: ({ client }) => client.post('/v1/events', event),
  },
  {
    name: 'an event with a dedup id',
    embedded: { transactions: 1, statements: 3 },
    postgres: { transactions: 2, statements: 4, roundTrips: 6 },
    send: ({ client }, turn) => client.post('/v1/events', { ...event, dedup_id: `one ${turn}` }),
  },
  {
    name: 'an event that was stored before',
    embedded: { transactions: 1, statements: 3 },
    postgres: { transactions: 2, statements: 4, roundTrips: 6 },
    send: ({ client }) => client.post('/v1/events', { ...event, dedup_id: 'again' }),
  },
  {
    name: 'a batch of 100 events',
    embedded: { transactions: 1, statements: 2 },
    postgres: { transactions: 2, statements: 3, roundTrips: 4 },
    send: ({ client }) => client.post('/v1/events/batch', hundred),
  },
  {
    name: 'a batch of 100 events, all or nothing',
    embedded: { transactions: 1, statements: 2 },
    postgres: { transactions: 2, statements: 3, roundTrips: 5 },
    send: ({ client }) => client.post('/v1/events/batch?atomic=true', hundred),
  },
  {
    name: 'to receive 10 events, and acknowledge their lease',
    embedded: { transactions: 2, statements: 5 },
    postgres: { transactions: 2, statements: 5, roundTrips: 4 },
    send: async ({ client }) => {
      const received = await client.post('/v1/inbox/receive', { max: 10 });
      assert.equal(received.json.data.length, 10);
      return client.post('/v1/inbox/ack', { lease_id: received.json.lease_id });
    },
  },
  {
    name: 'to receive 10 events, and acknowledge them by their ids',
    embedded: { transactions: 2, statements: 9 },
    postgres: { transactions: 2, statements: 9, roundTrips: 7 },
    send: async ({ client }) => {
      const received = await client.post('/v1/inbox/receive', { max: 10 });
      const ids = received.json.data.map(({ id }: { id: string }) => id);
      return client.post('/v1/inbox/ack', { ids });
    },
  },
  {
    name: 'a list of 50 events',
    embedded: { transactions: 1, statements: 4 },
    postgres: { transactions: 1, statements: 4, roundTrips: 3 },
    send: async ({ client }) => {
      const listed = await client.get('/v1/events');
      assert.equal(listed.json.data.length, 50);
      return listed;
    },
  },
  {
    name: 'one event by its id',
    embedded: { transactions: 1, statements: 1 },
    postgres: { transactions: 1, statements: 1, roundTrips: 2 },
    send: ({ client }, _, id) => client.get(`/v1/events/${id}`),
  },
];

for (const engine of engineNames) {
  const storage = await createStorage(engine);
  describe(
    `what a request may cost (${engine})`,
    { skip: storage === null ? 'no PostgreSQL on this machine' : false },
    () => {
      if (storage !== null) describeBudgets(storage);
    },
  );
}

function describeBudgets(storage: TestStorage): void {
  let proxy: TurnProxy | null = null;
  let database: Database;
  let node: RunningServer;
  let org: TestOrg;
  let id: string;
  const counted = { transactions: 0, pending: 0, names: [] as string[], isWasteful: false };
  /** Of all requests, so that each has a number of its own. */
  let sent = 0;

  before(async () => {
    const { databaseUrl } = storage.config;
    proxy = databaseUrl === null ? null : await startTurnProxy(Number(new URL(databaseUrl).port));
    // Time stands still, so nothing happens in the background.
    const clock = new TestClock(startedAtMs);
    database = await openLog(proxy === null ? storage : through(storage, proxy.port), clock);
    const config = testConfig(storage);
    const stats = () => ({ sessionsInUse: 0, waiting: 0, serviceMs: 0, refused: 0 });
    const parts = { config, log: createLogger(config.logLevel), onProgress: () => {}, clock, stats, embedded: null };
    node = await composeServer({ ...parts, ingestLanes: 1, database: counting(database, counted) });
    org = await createOrg(node.address);
    for (let batch = 0; batch < batchesBefore; batch++) await org.client.post('/v1/events/batch', hundred);
    id = (await org.client.post('/v1/events', event)).json.id as string;
  });
  after(async () => {
    await node?.stop();
    await database?.close();
    await proxy?.close();
    await storage.remove();
  });

  /** What one of so many requests took, on average, each after the one before it and all that followed from it. */
  async function spend(send: Request['send'], times: number): Promise<Spent> {
    const start = { transactions: counted.transactions, turns: proxy?.turns() ?? 0 };
    counted.names = [];
    for (let turn = 0; turn < times; turn++) {
      const answer = await send(org, sent++, id);
      assert.ok(answer.status < 300, `${answer.status} ${answer.text}`);
      await untilQuiet(counted);
    }
    return {
      transactions: (counted.transactions - start.transactions) / times,
      statements: counted.names.length / times,
      roundTrips: ((proxy?.turns() ?? 0) - start.turns) / times,
      names: [...new Set(counted.names)],
    };
  }

  for (const { name, send, ...budgets } of requests) {
    it(`${name} costs no more than its budget`, async () => {
      // Sessions are opened, statements prepared, the key looked up.
      await spend(send, 2);
      const spent = await spend(send, repeats);
      const budget = storage.engine === 'embedded' ? { ...budgets.embedded, roundTrips: 0 } : budgets.postgres;
      assert.deepEqual(overBudget(spent, budget), [], `its statements: ${spent.names.join(', ')}`);

      counted.isWasteful = true;
      const wasteful = await spend(send, 1).finally(() => (counted.isWasteful = false));
      assert.equal(overBudget(wasteful, spent).length, proxy === null ? 1 : 2, 'a statement too many is not noticed');
    });
  }

  it('an event of 300 bytes takes no more room on disk than its budget', async () => {
    const own = await createOrg(node.address);
    const emptyBytes = await relationBytes();
    for (let stored = 0; stored < eventsStored; stored += hundred.length)
      await own.client.post('/v1/events/batch', hundred);
    const bytes = ((await relationBytes()) - emptyBytes) / eventsStored;
    assert.ok(bytes >= 300, `${bytes} bytes an event: they are not all here`);
    assert.ok(bytes <= storedBytesPerEventMax, `${bytes} bytes an event, and ${storedBytesPerEventMax} are allowed`);
  });

  if (storage.engine === 'embedded') {
    it('a commit is one sync', async () => {
      const engine = database as EmbeddedDatabase;
      const syncsBefore = engine.fsyncs;
      for (let commit = 0; commit < commits; commit++) await org.client.post('/v1/events', event);
      const syncs = engine.fsyncs - syncsBefore;
      assert.ok(syncs >= commits, `${syncs} syncs for ${commits} commits: one was not on disk before its reply`);
      assert.ok(syncs <= syncsMax, `${syncs} syncs for ${commits} commits, and ${syncsMax} are allowed`);
    });
  }

  /** Table, index and the rest of today's partition. */
  async function relationBytes(): Promise<number> {
    const text = `SELECT pg_total_relation_size('${partitionName(Math.floor(startedAtMs / dayMs))}') AS bytes`;
    const { rows } = await database.query<{ bytes: string }>({ role: 'owner' }, { name: 'test_size', text });
    return Number(rows[0]?.bytes);
  }
}

/** The figures above their budget, in words. */
function overBudget(spent: Spent, budget: Budget): string[] {
  return (['transactions', 'statements', 'roundTrips'] as const).flatMap((figure) =>
    spent[figure] > budget[figure] ? [`${figure}: ${spent[figure]}, and ${budget[figure]} are allowed`] : [],
  );
}

interface Counted {
  transactions: number;
  /** Transactions under way. */
  pending: number;
  names: string[];
  /** A statement that nobody needs goes with every transaction. */
  isWasteful: boolean;
}

/** The same database, but what it is asked is noted down. */
function counting(database: Database, counted: Counted): Database {
  const noted = (tx: Transaction): Transaction => ({
    query(statement, values) {
      counted.names.push(statement.name);
      return tx.query(statement, values);
    },
    copyIn(target, rows) {
      counted.names.push('COPY');
      return tx.copyIn(target, rows);
    },
    script(text) {
      counted.names.push('script');
      return tx.script(text);
    },
  });
  return {
    engine: database.engine,
    async transaction(scope, work) {
      counted.transactions++;
      counted.pending++;
      try {
        return await database.transaction(scope, async (tx) => {
          const watched = noted(tx);
          const value = await work(watched);
          if (counted.isWasteful) await watched.query({ name: 'wasted', text: 'SELECT 1' });
          return value;
        });
      } finally {
        counted.pending--;
      }
    },
    query(scope, statement, values) {
      return this.transaction(scope, (tx) => tx.query(statement, values));
    },
    listen: (channel, onNotify, onGap) => database.listen(channel, onNotify, onGap),
    close: () => database.close(),
  };
}

/** Until what follows from a request, after its reply, is done too. */
async function untilQuiet(counted: Readonly<Counted>): Promise<void> {
  for (let waits = 0; counted.pending > 0; waits++) {
    assert.ok(waits < 5_000, 'a transaction did not end within some seconds');
    await pause(1);
  }
}

function through(storage: TestStorage, port: number): TestStorage {
  const url = new URL(storage.config.databaseUrl ?? '');
  url.port = String(port);
  return { ...storage, config: { ...storage.config, databaseUrl: url.href } };
}
