import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { StorageError } from '../../src/db/database.js';
import { appendBatch } from '../../src/event-log/append.js';
import { newEvent, openTestLog } from '../support/event-log.js';
import type { TestLog } from '../support/event-log.js';
import { withFaults } from '../support/faulty-database.js';
import { asOwner } from '../support/log.js';
import { createStorage, stopServers } from '../support/storage.js';

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const writers = 4;
const sharedOrgs = 200;
const orgsPerBatch = 60;
const batchesPerWriter = isSoak ? 5_000 : 150;
const otherOrgs = 100_000;
/** How often a batch is written again that waited too long for a lock: on a slow machine, behind several others, it may. */
const lockTriesMax = 20;

const storage = await createStorage('postgres');
after(stopServers);

const plansMade = {
  name: 'test_plans_made',
  text: 'SELECT custom_plans::integer AS anew, generic_plans::integer AS once FROM pg_prepared_statements WHERE name = $1',
};

const skip = storage === null ? 'NOT TESTED: there is no PostgreSQL server on this machine' : false;

describe(`${writers} writers on ${sharedOrgs} shared orgs`, { skip }, () => {
  if (storage === null) return;
  const logs: TestLog[] = [];
  before(async () => {
    const first = await openTestLog(storage);
    // A deadlock shows at once, before the second after which a wait for a lock is given up.
    await asOwner(
      first.database,
      `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''30ms''', current_database()); END $$`,
    );
    await first.close();
    for (let i = 0; i < writers; i++) logs.push(await openTestLog(storage));
  });
  after(async () => {
    await Promise.all(logs.map((log) => log.close()));
    await storage.remove();
  });
  const [small, large] = ['few heads', `${otherOrgs} more heads`];

  it(`never deadlock, and leave each log without gap or double (${small})`, async () => {
    await writeAndCheck();
  });

  it('would deadlock, were the orgs of a batch joined, and so locked in no order', async () => {
    const orgs = await logAt(0).addOrgs(sharedOrgs);
    const unsorted = logs.map(({ database }) =>
      withFaults(database, {
        query: async (statement, values, run, tx) => {
          if (statement.name !== 'ingest_reserve') return run(values);
          const joined = 'FROM unnest($1::bigint[]) AS b (org) WHERE h.org = b.org';
          const text = statement.text.replace(/WHERE h\.org = ANY .*/, joined);
          assert.notEqual(text, statement.text);
          const inOrder = `{${shuffle(itemsOf(String(values[0]))).join(',')}}`;
          return tx.query({ name: 'test_reserve_in_no_order', text }, [inOrder, ...values.slice(1)]);
        },
      }),
    );
    const failures: unknown[] = [];
    await Promise.all(unsorted.map((database) => write(database, orgs, 30, (error) => failures.push(error))));
    assert.ok(failures.some((error) => error instanceof StorageError && error.sqlstate === '40P01'));
  });

  it(`never deadlock, and leave each log without gap or double (${large})`, async () => {
    const { database } = logAt(0);
    await asOwner(
      database,
      `INSERT INTO orgs (org, name, tier, created_at) SELECT n, 'filler', 'free', now() FROM generate_series(1, ${otherOrgs}) AS n;
       INSERT INTO heads (org, epoch, position, day, received_at, first_position, first_day)
         SELECT n, 1, 0, 0, now(), 1, 0 FROM generate_series(1, ${otherOrgs}) AS n;
       ANALYZE heads`,
    );
    await writeAndCheck();
  });

  it('lock in the order of orgs because the plan walks their index, which the server makes once a session', async () => {
    // Sessions of its own, which have planned nothing yet.
    const log = await openTestLog(storage);
    const orgs = await log.addOrgs(sharedOrgs);
    const batchesMax = 20;
    let batches = 0;
    let [plan, columns] = ['', ''];
    let planned: unknown[] = [];
    const explained = withFaults(log.database, {
      query: async (statement, values, run, tx) => {
        if (statement.name === 'ingest_reserve' && batches === batchesMax - 1) {
          // What was prepared, so that it is the plan in use that is shown.
          const explain = async (option: string): Promise<string> => {
            const given = values.map((value) => `'${String(value)}'`).join(', ');
            const text = `EXPLAIN (COSTS off${option}) EXECUTE ${statement.name}(${given})`;
            const { rows } = await tx.query({ name: '', text });
            return rows.map((row) => String(row['QUERY PLAN'])).join('\n');
          };
          plan = await explain('');
          columns = await explain(', VERBOSE');
          planned = (await tx.query(plansMade, [statement.name])).rows;
        }
        return run(values);
      },
    });
    // One org a batch, for which a plan of its own would look cheaper than one for any number.
    try {
      for (; batches < batchesMax; batches++) {
        await appendBatch(explained, [newEvent(orgs[batches] ?? '', '1')], Date.now());
      }
    } finally {
      await log.close();
    }
    assert.match(
      plan,
      /^Update on heads h\n(?: +CTE run\n +-> +Result\n)?(?: +InitPlan.*\n +-> +(?:CTE Scan on run.*|Result)\n)* +-> +Index Scan using heads_pkey on heads h\n +Index Cond: \(org = ANY/,
    );
    const [counts] = planned as { anew: number; once: number }[];
    assert.ok(counts !== undefined && counts.anew <= 5 && counts.once >= 10, JSON.stringify(planned));
    // What is asked of the server is asked once a batch, and not for each org.
    for (const asked of ['pg_current_xact_id', 'set_config', 'clock_timestamp']) {
      const lines = columns.split('\n').filter((line) => line.includes(asked));
      assert.equal(lines.length, 1, columns);
      assert.doesNotMatch(lines[0] ?? '', /h\.org/);
    }
  });

  const logAt = (i: number): TestLog => logs[i] ?? assert.fail();

  async function writeAndCheck(): Promise<void> {
    const orgs = await logAt(0).addOrgs(sharedOrgs);
    const failures: unknown[] = [];
    const written = await Promise.all(
      logs.map(({ database }) => write(database, orgs, batchesPerWriter, (error) => failures.push(error))),
    );
    assert.deepEqual(failures, []);
    const expected = new Map<string, number>();
    for (const org of written.flat()) expected.set(org, (expected.get(org) ?? 0) + 1);
    for (const org of orgs) {
      const positions = (await logAt(0).lines(org)).map((line) => line.position);
      assert.deepEqual(
        positions,
        Array.from({ length: expected.get(org) ?? 0 }, (_, i) => i + 1),
      );
    }
  }
});

/**
 * Writes batches with one event each for many of `orgs`, in random order. Returns the org of each event that is stored. A wait for a lock that was given up
 * is no failure unless it comes again and again; a deadlock is found long before.
 */
async function write(
  database: Database,
  orgs: readonly string[],
  batches: number,
  onFailure: (error: unknown) => void,
): Promise<string[]> {
  const written: string[] = [];
  for (let i = 0; i < batches; i++) {
    const chosen = shuffle(orgs).slice(0, orgsPerBatch);
    const events = chosen.map((org) => newEvent(org, '"x"'));
    for (let left = lockTriesMax - 1; ; left--) {
      try {
        await appendBatch(database, events, Date.now());
        written.push(...chosen);
      } catch (error) {
        if (left > 0 && error instanceof StorageError && error.sqlstate === '55P03') continue;
        onFailure(error);
      }
      break;
    }
  }
  return written;
}

function shuffle<T>(items: readonly T[]): T[] {
  const shuffled = [...items];
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [shuffled[i], shuffled[j]] = [shuffled[j] as T, shuffled[i] as T];
  }
  return shuffled;
}

/** Of an array as PostgreSQL writes it. */
function itemsOf(array: string): string[] {
  return array.slice(1, -1).split(',');
}
