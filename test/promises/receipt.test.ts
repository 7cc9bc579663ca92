/** The receipt says how the event was stored: what a COMMIT meant on this server, and not what was hoped for. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { Client as Superuser } from 'pg';
import { Client, createOrg } from '../support/client.js';
import { startNode } from '../support/node.js';
import { createStorage, stopServers } from '../support/storage.js';

const storage = await createStorage('postgres');
after(stopServers);

const skip = storage === null ? 'NOT TESTED: there is no PostgreSQL server on this machine' : false;
const first = { type: 'a', payload: 1, dedup_id: 'first' };
const second = { type: 'a', payload: 2, dedup_id: 'second' };

describe('the receipt of an event', { skip }, () => {
  if (storage === null || storage.config.databaseUrl === null) return;
  const { databaseUrl } = storage.config;
  after(() => storage.remove());

  it('says fsync where a COMMIT waits for the disk, and memory where it does not; so does that of a duplicate', async (t) => {
    const node = await startNode(storage);
    t.after(() => node.stop());
    const org = await createOrg(node.address);
    assert.deepEqual(await receipt(org.client, first), [201, 'fsync', false]);
    assert.deepEqual(await receipt(org.client, first), [200, 'fsync', true]);

    await commitWithoutWaiting(databaseUrl);
    // Only sessions that begin after the change have it.
    const later = await startNode(storage);
    t.after(() => later.stop());
    const client = new Client(later.address, org.key);
    assert.deepEqual(await receipt(client, second), [201, 'memory', false]);
    assert.deepEqual(await receipt(client, second), [200, 'memory', true]);
    assert.deepEqual(await receipt(client, first), [200, 'memory', true]);
  });
});

async function receipt(
  client: Client,
  event: object,
): Promise<[status: number, durability: string, duplicate: boolean]> {
  const { status, json } = await client.post('/v1/events', event);
  return [status, json.durability, json.duplicate];
}

async function commitWithoutWaiting(databaseUrl: string): Promise<void> {
  const superuser = new Superuser(databaseUrl);
  await superuser.connect();
  try {
    const database = superuser.escapeIdentifier(new URL(databaseUrl).pathname.slice(1));
    await superuser.query(`ALTER DATABASE ${database} SET synchronous_commit = off`);
  } finally {
    await superuser.end();
  }
}
