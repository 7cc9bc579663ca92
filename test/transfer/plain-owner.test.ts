/** As in roles-plain-owner: a login that owns the database and may create roles, but is no superuser, can export and import. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, test } from 'node:test';
import { Client as PgClient } from 'pg';
import type { Database } from '../../src/db/database.js';
import { migrate } from '../../src/db/migrate.js';
import { connectedAs, giveToPlainOwner } from '../support/connected-as.js';
import { openDatabase, openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { comparable, exported, imported, makeWorld } from './world.js';

after(stopServers);

/** The storage's database, for its plain owner. */
async function openAsPlainOwner({ engine, config }: TestStorage): Promise<Database> {
  const role = `plain_${randomBytes(6).toString('hex')}`;
  if (config.databaseUrl === null) {
    const database = await openDatabase({ engine, config, remove: () => Promise.resolve() });
    await giveToPlainOwner(database, role);
    return connectedAs(role, database);
  }
  const url = new URL(config.databaseUrl);
  const superuser = new PgClient(config.databaseUrl);
  await superuser.connect();
  await superuser.query(`CREATE ROLE ${role} LOGIN CREATEROLE NOSUPERUSER`);
  await superuser.query(`ALTER DATABASE ${url.pathname.slice(1)} OWNER TO ${role}`);
  await superuser.end();
  url.username = role;
  return openDatabase({ engine, config: { ...config, databaseUrl: url.href }, remove: () => Promise.resolve() });
}

for (const engine of engineNames) {
  test(`on ${engine}, export and import need no superuser`, async (t) => {
    const [from, to] = [await createStorage('embedded'), await createStorage(engine)];
    if (from === null || to === null) return t.skip('no PostgreSQL on this machine');
    const source = await openLog(from);
    await makeWorld(source, 500);
    const bytes = await exported(source);
    await source.close();
    await from.remove();

    const database = await openAsPlainOwner(to);
    t.after(async () => {
      await database.close();
      await to.remove();
    });
    await migrate(database, () => {});
    assert.equal((await imported(database, bytes)).outcome, 'imported');
    assert.deepEqual(comparable(await exported(database), 1), comparable(bytes));
  });
}
