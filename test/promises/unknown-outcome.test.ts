import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import { Client, createOrg } from '../support/client.js';
import type { TestOrg } from '../support/client.js';
import { startCommitProxy } from '../support/commit-proxy.js';
import type { CommitProxy } from '../support/commit-proxy.js';
import { startNode } from '../support/node.js';
import { createStorage, stopServers } from '../support/storage.js';

const storage = await createStorage('postgres');
after(stopServers);

const skip = storage === null ? 'NOT TESTED: there is no PostgreSQL server on this machine' : false;

describe('an event whose COMMIT gets no answer', { skip }, () => {
  if (storage === null || storage.config.databaseUrl === null) return;
  const { databaseUrl } = storage.config;
  let proxy: CommitProxy;
  /** The one behind the proxy. */
  let node: RunningServer;
  /** Sees the same database, whatever the proxy does. */
  let witness: RunningServer;
  let sender: Client;
  let org: TestOrg;
  before(async () => {
    const direct = new URL(databaseUrl);
    proxy = await startCommitProxy(Number(direct.port));
    const proxied = new URL(databaseUrl);
    proxied.port = String(proxy.port);
    witness = await startNode(storage);
    node = await startNode({ ...storage, config: { ...storage.config, databaseUrl: proxied.href } });
  });
  beforeEach(async () => {
    org = await createOrg(witness.address);
    sender = new Client(node.address, org.key);
    // The sessions, and what is known of the key, are there before anything breaks.
    assert.equal((await sender.post('/v1/events', { type: 'a', payload: 'before' })).status, 201);
  });
  afterEach(() => proxy.restore());
  after(async () => {
    await node.stop();
    await witness.stop();
    await proxy.close();
    await storage.remove();
  });

  it('is a 201 with the id under which it is, once the server tells that it did commit', async () => {
    const broken = proxy.breakCommit('unanswered');
    const { status, json } = await sender.post('/v1/events', { type: 'a', payload: 'kept', dedup_id: '1' });
    await broken;
    assert.equal(status, 201);
    assert.deepEqual(await stored(), ['before', 'kept']);
    assert.equal((await org.client.get(`/v1/events/${json.id}`)).json.payload, 'kept');
    const again = await sender.post('/v1/events', { type: 'a', payload: 'kept', dedup_id: '1' });
    assert.deepEqual([again.status, again.json.id], [200, json.id]);
  });

  it('is a 503, and not stored, if it never reached the server', async () => {
    const broken = proxy.breakCommit('lost');
    const { status, json, headers } = await sender.post('/v1/events', { type: 'a', payload: 'lost', dedup_id: '1' });
    await broken;
    assert.deepEqual([status, json.code], [503, 'storage_unavailable']);
    assert.ok(Number(headers.get('retry-after')) >= 1);
    assert.deepEqual(await stored(), ['before']);
    assert.equal((await sender.post('/v1/events', { type: 'a', payload: 'lost', dedup_id: '1' })).status, 201);
  });

  it('is a 503 that says so and when to retry, if the server cannot be asked; the retry finds what was stored', async () => {
    const broken = proxy.breakCommit('blackout');
    const { status, json, headers } = await sender.post('/v1/events', { type: 'a', payload: 'dark', dedup_id: '1' });
    await broken;
    assert.deepEqual([status, json.code], [503, 'outcome_unknown']);
    assert.ok(Number(headers.get('retry-after')) >= 1);
    assert.equal(json.retry_after, Number(headers.get('retry-after')));
    assert.deepEqual(await stored(), ['before', 'dark']);
    proxy.restore();
    const again = await sender.post('/v1/events', { type: 'a', payload: 'dark', dedup_id: '1' });
    assert.deepEqual([again.status, again.json.duplicate], [200, true]);
    assert.deepEqual(await stored(), ['before', 'dark']);
  });

  async function stored(): Promise<unknown[]> {
    const { json } = await org.client.get('/v1/inbox');
    return json.data.map(({ payload }: { payload: unknown }) => payload);
  }
});
