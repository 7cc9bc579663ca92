import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { StorageError } from '../../src/db/database.js';
import { migrate, planMigration, readMigrations, requireUsableSchema } from '../../src/db/migrate.js';
import { stepOf } from '../../src/db/migration-text.js';
import { asOwner, newLog, openDatabase, openLog } from '../support/log.js';
import { labelBackfill, labelColumns, labelIndex, withPlanted } from '../support/migrations.js';
import { startNode } from '../support/node.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { EngineName, TestStorage } from '../support/storage.js';

after(stopServers);

interface World {
  readonly storage: TestStorage;
  readonly database: Database;
  readonly orgs: number;
}

/** A migrated database with some orgs, or null where there is no such engine. */
async function makeWorld(t: TestContext, engine: EngineName, orgs = 7): Promise<World | null> {
  const storage = await createStorage(engine);
  if (storage === null) {
    t.skip('no PostgreSQL on this machine');
    return null;
  }
  const database = await openLog(storage);
  t.after(async () => {
    await database.close();
    await storage.remove();
  });
  for (let i = 0; i < orgs; i++) await newLog(database, Date.now());
  return { storage, database, orgs };
}

const read = async <Row>(database: Database, text: string): Promise<Row[]> =>
  (await database.query<Row>({ role: 'owner', priority: 'read' }, { name: text.slice(0, 60), text })).rows;

const quick = { chunkRows: 2, chunkPauseMs: 0 };

for (const engine of engineNames) {
  describe(`on ${engine}`, () => {
    test('columns, a backfill and an index come in their order, once, and are told with their time', async (t) => {
      const world = await makeWorld(t, engine);
      if (world === null) return;
      const { database, orgs } = world;
      const said: string[] = [];
      const say = (text: string): void => void said.push(text);
      const planted = withPlanted(['columns', labelColumns], ['backfill', labelBackfill], ['index', labelIndex]);
      const applied = await migrate(database, say, planted, quick);
      assert.deepEqual(applied, planted.slice(-3));
      assert.deepEqual(await read(database, 'SELECT label, touched, count(*)::int AS orgs FROM orgs GROUP BY 1, 2'), [
        { label: 'TEST', touched: 1, orgs },
      ]);
      assert.deepEqual(
        await read(database, `SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = 'orgs_label'::regclass`),
        [{ valid: true }],
      );
      assert.deepEqual(await read(database, 'SELECT FROM schema_backfills'), [], 'nothing is left of the way');
      for (const { name } of applied)
        assert.ok(
          said.some((line) => new RegExp(`^applied ${name} in \\d+\\.\\d s$`).test(line)),
          said.join('\n'),
        );
      assert.ok(
        said.some((line) => line.endsWith(`: ${orgs} rows changed`)),
        said.join('\n'),
      );
      assert.deepEqual(await migrate(database, say, planted, quick), []);
    });

    test('a dry run says what would be done and locked, and changes nothing', async (t) => {
      const world = await makeWorld(t, engine, 0);
      if (world === null) return;
      const { database } = world;
      const planted = withPlanted(
        ['columns', `${labelColumns}; CREATE TABLE other (org bigint REFERENCES heads); CREATE INDEX ON other (org)`],
        ['backfill', labelBackfill],
        ['index', labelIndex],
      );
      const { version, sentences } = await planMigration(database, planted);
      assert.equal(version, readMigrations().at(-1)?.version);
      assert.deepEqual(
        sentences.map((sentence) => sentence.replace(/^\d{4}_/, '')),
        [
          'columns: one transaction; locks orgs (ACCESS EXCLUSIVE), heads (SHARE ROW EXCLUSIVE)',
          'backfill: changes rows in small chunks as sluice_system, each in a transaction of its own',
          'index: builds the index orgs_label on orgs; outside of a transaction, and others go on reading and writing',
        ],
      );
      assert.equal((await planMigration(database)).sentences.length, 0);
    });

    test('a backfill that returns no row, or comes no further, is refused instead of repeated', async (t) => {
      const world = await makeWorld(t, engine, 3);
      if (world === null) return;
      const { database } = world;
      const lost = withPlanted(['lost', `-- sluice: backfill\nSELECT $1::text AS after, $2::int AS rows WHERE false`]);
      await assert.rejects(
        migrate(database, () => {}, lost),
        /returned no row/,
      );
      const stuck = withPlanted([
        'stuck',
        `-- sluice: backfill\nSELECT 'here' AS after, $2::int AS rows WHERE $1::text IS NULL OR true`,
      ]);
      await assert.rejects(
        migrate(database, () => {}, stuck, quick),
        /does not come forward/,
      );
    });

    test('a program starts on a newer schema, unless that has taken something away', async (t) => {
      const world = await makeWorld(t, engine, 0);
      if (world === null) return;
      const { storage, database } = world;
      const own = readMigrations();
      await migrate(database, () => {}, withPlanted(['columns', labelColumns]));
      const said: string[] = [];
      assert.deepEqual(await migrate(database, (text) => void said.push(text), own), []);
      assert.match(said.join(), /newer than this program, which can work on it/);
      await requireUsableSchema(database, own);
      await migrate(
        database,
        () => {},
        withPlanted(['columns', labelColumns], ['contract_orgs', 'ALTER TABLE orgs DROP COLUMN label']),
      );
      const tooNew = (error: unknown): boolean =>
        error instanceof StorageError &&
        /_contract_orgs took away what it needs: start a newer Sluice/.test(error.message);
      await assert.rejects(
        migrate(database, () => {}, own),
        tooNew,
      );
      await assert.rejects(requireUsableSchema(database, own), tooNew);
      await database.close();
      await assert.rejects(startNode(storage), tooNew);
    });

    test('a start that is not to migrate names the command that does', async (t) => {
      const storage = await createStorage(engine);
      if (storage === null) return t.skip('no PostgreSQL on this machine');
      const database = await openDatabase(storage);
      t.after(async () => {
        await database.close();
        await storage.remove();
      });
      // The embedded engine's folder comes with a schema: there it is an older one.
      if (engine === 'embedded') await asOwner(database, 'DELETE FROM schema_migrations WHERE version > 4');
      await assert.rejects(requireUsableSchema(database), /run `sluice migrate`, which this start was told not to do$/);
      if (engine === 'postgres') {
        await assert.rejects(startNode(storage, { migrate: 'off' }), /run `sluice migrate`/);
        await migrate(database, () => {});
        await (await startNode(storage, { migrate: 'off' })).stop();
      }
    });
  });
}

test('a first line that nobody understands is refused', () => {
  const step = (text: string) => () => stepOf({ version: 9, name: '0009_x', text });
  assert.equal(stepOf({ version: 9, name: '0009_x', text: '-- About sluice: nothing.\nSELECT 1' }).kind, 'transaction');
  for (const text of [
    '-- sluice: index\nSELECT 1',
    '-- sluice: backfill\nSELECT 1; SELECT 2',
    '-- sluice: backfill\n',
    '-- sluice: indexes as owner\nCREATE INDEX CONCURRENTLY a ON b (c)',
    '-- sluice: indexes\nCREATE INDEX a ON b (c)',
    '-- sluice: indexes\nCREATE INDEX CONCURRENTLY ON b (c)',
    '-- sluice: indexes\nDROP INDEX CONCURRENTLY a',
  ]) {
    assert.throws(step(text), /0009_x/, text);
  }
});
