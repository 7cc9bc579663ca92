/**
 * Versions N and N+1 on one schema: the program as it is, under traffic, while the schema grows by planted migrations of every kind; then it
 * starts again on the newer schema.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { migrate } from '../../src/db/migrate.js';
import type { Client } from '../support/client.js';
import { createOrg } from '../support/client.js';
import { asOwner, ensurePartitions, openDatabase } from '../support/log.js';
import { labelBackfill, labelColumns, labelIndex, withPlanted } from '../support/migrations.js';
import { startNode } from '../support/node.js';
import { createStorage, stopServers } from '../support/storage.js';

after(stopServers);

const grown = withPlanted(
  ['org_columns', labelColumns],
  ['org_labels', labelBackfill],
  ['org_index', labelIndex],
  ['event_column', 'ALTER TABLE events ADD COLUMN priority smallint'],
  ['head_column', 'ALTER TABLE heads ADD COLUMN shard integer NOT NULL DEFAULT 0'],
  ['dedup_column', `ALTER TABLE dedup ADD COLUMN source text NOT NULL DEFAULT 'api'`],
  ['subscription_column', `ALTER TABLE subscriptions ADD COLUMN settings jsonb NOT NULL DEFAULT '{}'`],
  ['lease_column', 'ALTER TABLE leases ADD COLUMN consumer text'],
  ['key_column', 'ALTER TABLE api_keys ADD COLUMN note text'],
  ['lease_index', '-- sluice: indexes\nCREATE INDEX CONCURRENTLY leases_consumer ON leases (org, consumer)'],
  ['audit_check', `ALTER TABLE audit_log ADD CONSTRAINT action_short CHECK (length(action) < 200) NOT VALID`],
);

/** Sends, receives and acknowledges until `stop` and until nothing is left. Every reply has to be a success. */
async function traffic(
  client: Client,
  name: string,
  stop: AbortSignal,
): Promise<{ sent: string[]; acknowledged: string[] }> {
  const sent: string[] = [];
  const acknowledged: string[] = [];
  for (let n = 0; ; n++) {
    const isLast = stop.aborted;
    if (!isLast) {
      const { status, text, json } = await client.post('/v1/events', {
        type: 'a',
        payload: n,
        dedup_id: `${name}-${n}`,
      });
      assert.equal(status, 201, text);
      sent.push(json.id);
    }
    const received = await client.post('/v1/inbox/receive', { max: 10 });
    assert.equal(received.status, 200, received.text);
    const ids = received.json.data.map(({ id }: { id: string }) => id);
    if (isLast && ids.length === 0) return { sent, acknowledged };
    if (ids.length === 0) continue;
    const acked = await client.post('/v1/inbox/ack', { lease_id: received.json.lease_id });
    assert.equal(acked.json.acknowledged, ids.length, acked.text);
    acknowledged.push(...ids);
  }
}

test('the schema grows under traffic that notices nothing, and the older program starts on it again', async (t) => {
  const storage = await createStorage('postgres');
  if (storage === null) return t.skip('no PostgreSQL on this machine');
  const nodes = [await startNode(storage), await startNode(storage)];
  t.after(() => Promise.all(nodes.map((node) => node.stop())));
  const migrator = await openDatabase(storage);
  t.after(() => migrator.close());
  const stop = new AbortController();
  const orgs = await Promise.all(nodes.map((node) => createOrg(node.address)));
  const running = orgs.map(({ client }, i) => traffic(client, `client-${i}`, stop.signal));
  try {
    const applied = await migrate(migrator, () => {}, grown, { chunkRows: 1 });
    assert.equal(applied.length, 11);
  } finally {
    stop.abort();
  }
  for (const { sent, acknowledged } of await Promise.all(running)) {
    assert.ok(sent.length > 0);
    assert.deepEqual(acknowledged, sent);
  }

  const again = await startNode(storage);
  t.after(() => again.stop());
  const { client } = await createOrg(again.address);
  const stopped = new AbortController();
  const later = traffic(client, 'later', stopped.signal);
  // A day whose partition is made of the newer table.
  await asOwner(
    migrator,
    `DROP TABLE events_${new Date(Date.now() + 6 * 86_400_000).toISOString().slice(0, 10).replaceAll('-', '')}`,
  );
  await ensurePartitions(migrator, { now: () => Date.now(), monotonic: () => 0, after: () => () => {} });
  stopped.abort();
  await later;
});

test('a schema that has lost a column stops the traffic, so that the test above would see it', async (t) => {
  const storage = await createStorage('postgres');
  if (storage === null) return t.skip('no PostgreSQL on this machine');
  const node = await startNode(storage);
  t.after(() => node.stop());
  const migrator = await openDatabase(storage);
  t.after(() => migrator.close());
  const { client } = await createOrg(node.address);
  await migrate(migrator, () => {}, withPlanted(['rename', 'ALTER TABLE leases RENAME COLUMN attempt TO attempts']));
  const stop = new AbortController();
  stop.abort();
  assert.equal((await client.post('/v1/events', { type: 'a', payload: 1 })).status, 201);
  await assert.rejects(traffic(client, 'client', stop.signal), assert.AssertionError);
});
