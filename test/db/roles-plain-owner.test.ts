/**
 * The owner of the database need not be a superuser: a login that owns the database and may create roles is enough. Then forced row-level
 * security binds the owner, too. PostgreSQL 16 changed what CREATEROLE gives; the embedded engine is newer than that.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, it } from 'node:test';
import { Client as PgClient } from 'pg';
import { systemClock } from '../../src/clock.js';
import { composeServer } from '../../src/compose.js';
import type { RunningServer } from '../../src/app.js';
import { createLogger } from '../../src/log.js';
import { createOrg } from '../support/client.js';
import { connectedAs, giveToPlainOwner } from '../support/connected-as.js';
import { openDatabase } from '../support/log.js';
import { startNode, testConfig } from '../support/node.js';
import { createStorage, stopServers } from '../support/storage.js';

const plainRole = (): string => `plain_${randomBytes(6).toString('hex')}`;

after(stopServers);

async function sendsReceivesAndAcknowledges({ address }: RunningServer): Promise<void> {
  const { client } = await createOrg(address);
  const event = { type: 'plain.owner', payload: 1, dedup_id: 'once', subject: 'somebody' };
  const sent = await client.post('/v1/events', event);
  assert.equal(sent.status, 201, sent.text);
  const again = await client.post('/v1/events', event);
  assert.equal(again.status, 200, again.text);
  const received = await client.post('/v1/inbox/receive', {});
  assert.deepEqual(
    received.json.data.map(({ id }: { id: string }) => id),
    [sent.json.id],
  );
  const acked = await client.post('/v1/inbox/ack', { lease_id: received.json.lease_id });
  assert.equal(acked.json.acknowledged, 1, acked.text);
  const key = await client.post('/v1/keys', { name: 'another' });
  assert.equal(key.status, 201, key.text);
  assert.equal((await client.post(`/v1/keys/${key.json.id}/rotate`, {})).status, 201);
  let erasure = await client.call('DELETE', '/v1/subjects/somebody');
  while (erasure.json.status === 'running') erasure = await client.get(`/v1/erasures/${erasure.json.id}`);
  assert.equal(erasure.json.erased?.events.rows, 1, erasure.text);
  assert.equal((await client.get('/readyz')).status, 200);
}

it('a node needs no superuser: on PostgreSQL, a login that owns the database and may create roles', async (t) => {
  const storage = await createStorage('postgres');
  if (storage === null) return t.skip('no PostgreSQL on this machine');
  const { databaseUrl } = storage.config;
  assert.ok(databaseUrl !== null);
  const role = plainRole();
  const superuser = new PgClient(databaseUrl);
  await superuser.connect();
  await superuser.query(`CREATE ROLE ${role} LOGIN CREATEROLE NOSUPERUSER`);
  await superuser.query(`ALTER DATABASE ${new URL(databaseUrl).pathname.slice(1)} OWNER TO ${role}`);
  await superuser.end();

  const url = new URL(databaseUrl);
  url.username = role;
  // The second start finds the schema there.
  for (let start = 1; start <= 2; start++) {
    const node = await startNode(storage, { databaseUrl: url.href });
    try {
      await sendsReceivesAndAcknowledges(node);
    } finally {
      await node.stop();
    }
  }
});

it('a node needs no superuser: on the newer PostgreSQL of the embedded engine', async (t) => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  const database = await openDatabase(storage);
  const role = plainRole();
  t.after(async () => {
    await database.close();
    await storage.remove();
  });
  await giveToPlainOwner(database, role);
  const config = testConfig(storage);
  const node = await composeServer({
    config,
    log: createLogger(config.logLevel),
    onProgress: () => {},
    clock: systemClock,
    database: connectedAs(role, database),
    stats: () => ({ sessionsInUse: 0, waiting: 0, serviceMs: 0, refused: 0 }),
    embedded: null,
    ingestLanes: 1,
  });
  try {
    await sendsReceivesAndAcknowledges(node);
  } finally {
    await node.stop();
  }
});
