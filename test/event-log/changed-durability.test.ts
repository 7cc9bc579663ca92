/** An operator may weaken the server in the middle of a batch. The receipt then names the weaker level. */
import assert from 'node:assert/strict';
import { after, it } from 'node:test';
import { Client as Superuser } from 'pg';
import type { Database } from '../../src/db/database.js';
import { appendBatch } from '../../src/event-log/append.js';
import { newEvent, openTestLog } from '../support/event-log.js';
import { withFaults } from '../support/faulty-database.js';
import { startOwnPostgresServer } from '../support/postgres-server.js';

const server = await startOwnPostgresServer();
after(() => server?.stop());

it('names memory when the server stops to write full pages between reserve and COMMIT', async (t) => {
  if (server === null) return t.skip('NOT TESTED: there is no PostgreSQL server on this machine');
  const databaseUrl = await server.createDatabase();
  const superuser = new Superuser(databaseUrl);
  await superuser.connect();
  t.after(() => superuser.end());
  const set = async (value: 'on' | 'off'): Promise<void> => {
    await superuser.query(`ALTER SYSTEM SET full_page_writes = ${value}`);
    await superuser.query('SELECT pg_reload_conf()');
    while ((await superuser.query('SHOW full_page_writes')).rows[0].full_page_writes !== value);
  };
  const config = { dataDir: '', databaseUrl };
  const log = await openTestLog({ engine: 'postgres', config, remove: () => Promise.resolve() });
  t.after(() => log.close());
  const [org = ''] = await log.addOrgs(1);
  const durability = async (database: Database): Promise<string> => {
    const outcome = await appendBatch(database, [newEvent(org, '1')], Date.now());
    return outcome.durability;
  };
  assert.equal(await durability(log.database), 'fsync');

  const weakened = withFaults(log.database, { beforeCommit: () => set('off') });
  assert.equal(await durability(weakened), 'memory');
  assert.equal(await durability(log.database), 'memory');
  await set('on');
  assert.equal(await durability(log.database), 'fsync');

  // Where nobody asks behind the commit, the receipt would claim too much.
  assert.equal(await durability({ ...weakened, engine: 'embedded' }), 'fsync');
  await set('on');
});
