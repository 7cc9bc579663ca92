import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, test } from 'node:test';
import { Client as PgClient } from 'pg';
import { readMigrations } from '../../src/db/migrate.js';
import { rolesScript } from '../../src/db/sql/roles.js';
import { createOrg } from '../support/client.js';
import { asOwner, openDatabase } from '../support/log.js';
import { startNode } from '../support/node.js';
import { startOwnPostgresServer } from '../support/postgres-server.js';
import { createStorage, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { sluice } from '../transfer/command.js';
import type { Command } from '../transfer/command.js';

after(stopServers);

const own = readMigrations();

test('the command says each step and its time, and a dry run before it changes nothing', async (t) => {
  const storage = await createStorage('postgres');
  if (storage === null) return t.skip('no PostgreSQL on this machine');
  for (let run = 1; run <= 2; run++) {
    const dry: Awaited<Command['ended']> = await sluice(storage, ['migrate', '--dry-run']).ended;
    assert.equal(dry.code, 0, dry.stderr);
    assert.deepEqual(
      Array.from(dry.stdout.toString().matchAll(/^(\w+): /gm), ([, name]) => name),
      own.map(({ name }) => name),
    );
    assert.match(
      dry.stderr,
      new RegExp(`^The schema is at version 0: ${own.length} migrations to apply. Nothing was changed.$`, 'm'),
    );
  }
  const real = await sluice(storage, ['migrate']).ended;
  assert.equal(real.code, 0, real.stderr);
  for (const { name } of own) assert.match(real.stderr, new RegExp(`^applied ${name} in \\d+\\.\\d s$`, 'm'));
  assert.match(
    real.stderr,
    new RegExp(`^The schema is at version ${own.length}: ${own.length} migrations applied in`, 'm'),
  );
  const again = await sluice(storage, ['migrate']).ended;
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stderr, /: 0 migrations applied in/);
});

test('a dry run makes no folder, and finds the schema of one that is there', async (t) => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  t.after(() => storage.remove());
  const nowhere: TestStorage = { ...storage, config: { ...storage.config, dataDir: `${storage.config.dataDir}-none` } };
  const none = await sluice(nowhere, ['migrate', '--dry-run']).ended;
  assert.equal(none.code, 1);
  assert.match(none.stderr, /^There is no database in .*-none; a start makes one/m);
  const there = await sluice(storage, ['migrate', '--dry-run']).ended;
  assert.equal(there.code, 0, there.stderr);
  assert.match(there.stderr, new RegExp(`at version ${own.length}: 0 migrations to apply`));
  const database = await openDatabase(storage);
  await asOwner(database, `INSERT INTO schema_migrations VALUES (${own.length + 1}, '9999_contract_all', now())`);
  await database.close();
  const newer = await sluice(storage, ['migrate']).ended;
  assert.equal(newer.code, 1);
  assert.match(newer.stderr, /9999_contract_all took away what it needs: start a newer Sluice/);
});

test('with the roles of --print-roles, the user of the service needs no right to make roles', async (t) => {
  // Of its own, because roles belong to the whole server: elsewhere another file may have made them.
  const server = await startOwnPostgresServer();
  if (server === null) return t.skip('no PostgreSQL on this machine');
  t.after(() => server.stop());
  const databaseUrl = await server.createDatabase();
  const name = new URL(databaseUrl).pathname.slice(1);
  const login = `service_${randomBytes(4).toString('hex')}`;
  const url = new URL(databaseUrl);
  url.username = login;
  const storage: TestStorage = {
    engine: 'postgres',
    config: { dataDir: '/nonexistent', databaseUrl: url.href },
    remove: () => Promise.resolve(),
  };
  const asSuperuser = async (text: string): Promise<void> => {
    const client = new PgClient(databaseUrl);
    await client.connect();
    try {
      await client.query(text);
    } finally {
      await client.end();
    }
  };
  await asSuperuser(`CREATE ROLE ${login} LOGIN NOSUPERUSER NOCREATEROLE; GRANT CREATE ON SCHEMA public TO ${login}`);
  const refused = await sluice(storage, ['migrate']).ended;
  assert.equal(refused.code, 1, 'without the roles it has to make them, and may not');
  assert.match(refused.stderr, /give it CREATEROLE .*, or run what `sluice migrate --print-roles` prints\.$/m);

  const printed = await sluice(storage, ['migrate', '--print-roles']).ended;
  assert.equal(printed.code, 0, printed.stderr);
  assert.equal(printed.stdout.toString().trimEnd(), rolesScript(login, name).trimEnd());
  for (let run = 1; run <= 2; run++) await asSuperuser(printed.stdout.toString());

  // As PostgreSQL is set up by those who are careful: nobody makes anything in public but by a grant.
  const migrated = await sluice(storage, ['migrate']).ended;
  assert.equal(migrated.code, 0, migrated.stderr);
  const node = await startNode(storage, { migrate: 'off' });
  t.after(() => node.stop());
  const { client } = await createOrg(node.address);
  assert.equal((await client.post('/v1/events', { type: 'a', payload: 1, dedup_id: 'once' })).status, 201);
  const received = await client.post('/v1/inbox/receive', {});
  assert.equal(received.json.data.length, 1, received.text);
  assert.equal((await client.post('/v1/inbox/ack', { lease_id: received.json.lease_id })).json.acknowledged, 1);
});

test('a name that could not be written as it is, is in no script', () => {
  assert.throws(() => rolesScript(`x"; DROP TABLE orgs; --`, 'sluice'), /a name of letters/);
  assert.throws(() => rolesScript('sluice', `a'b`), /a name of letters/);
});
