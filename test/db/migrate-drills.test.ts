/**
 * What happens to a migration on a PostgreSQL that is in use: somebody holds a lock, the migrator is killed, an index build is cut, two migrate at
 * once. The migrations are planted behind the program's own.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, test } from 'node:test';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Client as PgClient } from 'pg';
import type { Database } from '../../src/db/database.js';
import { migrate } from '../../src/db/migrate.js';
import { createOrg } from '../support/client.js';
import { ofKind, refused, signal } from '../support/conformance.js';
import { newLog, openDatabase, openLog } from '../support/log.js';
import { labelBackfill, labelColumns, labelIndex, withPlanted } from '../support/migrations.js';
import { startNode } from '../support/node.js';
import { createStorage, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

after(stopServers);

const noServer = 'no PostgreSQL on this machine';
const child = fileURLToPath(new URL('migrate-child.js', import.meta.url));
const quick = { chunkRows: 2, chunkPauseMs: 0, random: () => 0 };
const columns = withPlanted(['columns', labelColumns]);
/** Of a column that is there, so that only the build waits for a transaction that changes the table. */
const withIndex = withPlanted(['index', labelIndex.replace('(label)', '(name)')]);

/** A storage with a schema, a session of a superuser on it, and what the migrator says. */
interface Drill {
  readonly storage: TestStorage;
  readonly database: Database;
  readonly operator: PgClient;
  readonly said: string[];
  readonly say: (text: string) => void;
  /** Resolves once the migrator has said something like it. */
  readonly heard: (pattern: RegExp) => Promise<void>;
}

async function makeDrill(t: TestContext): Promise<Drill | null> {
  const storage = await createStorage('postgres');
  const url = storage?.config.databaseUrl;
  if (storage === null || typeof url !== 'string') {
    t.skip(noServer);
    return null;
  }
  const database = await openLog(storage);
  const operator = await connect(t, url);
  t.after(() => database.close());
  const said: string[] = [];
  const waiting = new Set<{ pattern: RegExp; fire: () => void }>();
  return {
    storage,
    database,
    operator,
    said,
    say: (text) => {
      said.push(text);
      for (const each of waiting) if (each.pattern.test(text)) each.fire();
    },
    heard: async (pattern) => {
      const { promise, fire } = signal();
      waiting.add({ pattern, fire });
      if (!said.some((text) => pattern.test(text))) await promise;
    },
  };
}

async function connect(t: TestContext, url: string): Promise<PgClient> {
  const client = new PgClient(url);
  // One that is ended from elsewhere must not end the tests.
  client.on('error', () => {});
  await client.connect();
  t.after(() => client.end());
  return client;
}

/** Asks until the answer is a row; a server has no signal for what its sessions do. */
async function until(operator: PgClient, text: string): Promise<Record<string, unknown>> {
  for (let asked = 0; asked < 3_000; asked++) {
    const [row] = (await operator.query(text)).rows;
    if (row !== undefined) return row;
    await operator.query('SELECT pg_sleep(0.01)');
  }
  throw new Error(`never came true: ${text}`);
}

const building = `SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY orgs_label%' AND wait_event_type = 'Lock'
  AND datname = current_database() AND pid <> pg_backend_pid()`;
const indexIsValid = `SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass('orgs_label')`;

test('while somebody holds a lock, others work on, and the migration comes through after', async (t) => {
  const drill = await makeDrill(t);
  if (drill === null) return;
  const { storage, database, operator, said, say, heard } = drill;
  const node = await startNode(storage);
  t.after(() => node.stop());
  const { client } = await createOrg(node.address);
  await operator.query('BEGIN; LOCK TABLE orgs IN ACCESS SHARE MODE');

  // Without the short limit: a change of the table that waits stops everybody who comes after it.
  const impatient = await connect(t, storage.config.databaseUrl ?? '');
  const stuck = impatient.query('ALTER TABLE orgs ADD COLUMN label text').catch(() => {});
  await until(operator, `SELECT FROM pg_locks WHERE relation = 'orgs'::regclass AND NOT granted`);
  const other = await connect(t, storage.config.databaseUrl ?? '');
  await assert.rejects(other.query(`SET lock_timeout = '300ms'; SELECT FROM orgs`), { code: '55P03' });
  await operator.query(`SELECT pg_cancel_backend(${String(Reflect.get(impatient, 'processID'))})`);
  await stuck;

  const migrated = migrate(database, say, columns, quick);
  const served = new AbortController();
  const traffic = async (): Promise<void> => {
    for (let n = 0; !served.signal.aborted; n++) {
      const { status, text } = await client.post('/v1/events', { type: 'a', payload: n });
      assert.equal(status, 201, text);
      await createOrg(node.address);
      const keys = await client.get('/v1/keys');
      assert.equal(keys.status, 200, keys.text);
    }
  };
  const working = traffic();
  try {
    await heard(/: orgs is locked \(AccessShareLock\) by the session \d+: sluice, .*; try 3 of 40/);
  } finally {
    served.abort();
  }
  await working;
  await operator.query('COMMIT');
  assert.deepEqual(await migrated, columns.slice(-1), said.join('\n'));
});

test('a lock that is held for too long ends the migration, and leaves nothing half done', async (t) => {
  const drill = await makeDrill(t);
  if (drill === null) return;
  const { database, operator } = drill;
  await operator.query('BEGIN; LOCK TABLE orgs IN ACCESS SHARE MODE');
  await assert.rejects(
    migrate(database, () => {}, columns, { ...quick, triesMax: 2 }),
    (error) => refused('55P03')(error) && /gave up after 2 tries, the last because orgs is locked/.test(String(error)),
  );
  await operator.query('COMMIT');
  assert.equal((await operator.query(`SELECT FROM schema_migrations WHERE name LIKE '%columns'`)).rowCount, 0);
  assert.deepEqual(await migrate(database, () => {}, columns, quick), columns.slice(-1));
});

for (const [moment, chunk] of [
  ['update', 1],
  ['update', 3],
  ['save', 2],
] as const) {
  test(`a backfill whose migrator is killed in chunk ${chunk}, after its ${moment}, goes on where it was`, async (t) => {
    const drill = await makeDrill(t);
    if (drill === null) return;
    const { storage, database, operator } = drill;
    const orgs = 9;
    for (let i = 0; i < orgs; i++) await newLog(database, Date.now());
    const killed = spawn(process.execPath, [child, storage.config.databaseUrl ?? '', moment, String(chunk)]);
    const [, signalName] = (await once(killed, 'exit')) as [number | null, string | null];
    assert.equal(signalName, 'SIGKILL');
    const counts = async (): Promise<number[]> =>
      (await operator.query<{ touched: number }>('SELECT touched FROM orgs ORDER BY org')).rows.map(
        (row) => row.touched,
      );
    const done = 2 * (chunk - 1);
    assert.deepEqual(
      await counts(),
      Array.from({ length: orgs }, (_, i) => (i < done ? 1 : 0)),
      'it was in the middle',
    );
    const planted = withPlanted(['columns', labelColumns], ['backfill', labelBackfill]);
    assert.deepEqual(await migrate(database, () => {}, planted, quick), planted.slice(-1));
    assert.deepEqual(
      await counts(),
      Array.from({ length: orgs }, () => 1),
    );
  });
}

for (const end of ['pg_cancel_backend', 'pg_terminate_backend'] as const) {
  test(`an index whose build was cut by ${end} is built again`, async (t) => {
    const drill = await makeDrill(t);
    if (drill === null) return;
    const { storage, database, operator, said, say } = drill;
    await newLog(database, Date.now());
    // A transaction that changed the table: the build waits for its end.
    const writer = await connect(t, storage.config.databaseUrl ?? '');
    await writer.query(`BEGIN; UPDATE orgs SET name = 'changed'`);
    const cut = migrate(database, say, withIndex, quick);
    const outcome = assert.rejects(cut, end === 'pg_cancel_backend' ? refused('57014') : ofKind('unavailable'));
    const { pid } = await until(operator, building);
    await operator.query(`SELECT ${end}(${String(pid)})`);
    await outcome;
    await writer.query('COMMIT');
    assert.deepEqual((await operator.query(indexIsValid)).rows, [{ valid: false }], 'what was cut is still there');
    assert.deepEqual(await migrate(database, say, withIndex, quick), withIndex.slice(-1));
    assert.deepEqual((await operator.query(indexIsValid)).rows, [{ valid: true }]);
    assert.ok(
      said.some((text) => text.includes('dropped orgs_label, which an earlier build left incomplete')),
      said.join('\n'),
    );
  });
}

test('an index that another migrator is building is waited for, not dropped', async (t) => {
  const drill = await makeDrill(t);
  if (drill === null) return;
  const { storage, database, operator, said, say, heard } = drill;
  await newLog(database, Date.now());
  const writer = await connect(t, storage.config.databaseUrl ?? '');
  await writer.query(`BEGIN; UPDATE orgs SET name = 'changed'`);
  const first = migrate(database, () => {}, withIndex, quick);
  await until(operator, building);
  const other = await openDatabase(storage);
  t.after(() => other.close());
  const second = migrate(other, say, withIndex, quick);
  await heard(/orgs is locked|somebody else has locked the table/);
  await writer.query('COMMIT');
  const applied = [...(await first), ...(await second)];
  assert.deepEqual(applied, withIndex.slice(-1));
  assert.deepEqual((await operator.query(indexIsValid)).rows, [{ valid: true }]);
  assert.equal(
    said.some((text) => text.includes('dropped')),
    false,
    said.join('\n'),
  );
});

test('two migrators at once bring an empty database to its schema, each step once', async (t) => {
  const storage = await createStorage('postgres');
  if (storage === null) return t.skip(noServer);
  const [one, two] = [await openDatabase(storage), await openDatabase(storage)];
  t.after(() => Promise.all([one.close(), two.close()]));
  const own = withPlanted();
  const begun = await Promise.all([one, two].map((database) => migrate(database, () => {}, own, quick)));
  assert.deepEqual(
    begun
      .flat()
      .map(({ version }) => version)
      .toSorted((a, b) => a - b),
    own.map(({ version }) => version),
  );
  const orgs = 12;
  for (let i = 0; i < orgs; i++) await newLog(one, Date.now());
  const planted = withPlanted(['columns', labelColumns], ['backfill', labelBackfill], ['index', labelIndex]);
  const grown = await Promise.all([one, two].map((database) => migrate(database, () => {}, planted, quick)));
  assert.deepEqual(
    grown
      .flat()
      .map(({ version }) => version)
      .toSorted((a, b) => a - b),
    planted.slice(-3).map(({ version }) => version),
  );
  const touched = { name: 'test_touched', text: 'SELECT touched, count(*)::int AS orgs FROM orgs GROUP BY touched' };
  assert.deepEqual((await one.query({ role: 'owner' }, touched)).rows, [{ touched: 1, orgs }]);
});
