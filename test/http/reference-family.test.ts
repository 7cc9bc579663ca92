/** The tests that earlier implementations of this API share, in Sluice's routes. Webhooks are not in this version. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { TestOrg } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { onEachEngine } from '../support/each-engine.js';

await onEachEngine({}, ({ node }) => {
  let org: TestOrg;
  let client: Client;
  before(async () => {
    org = await createOrg(node().address);
    client = org.client;
  });

  test('the server is healthy', async () => {
    assert.deepEqual((await new Client(node().address, null).get('/healthz')).json, { status: 'ok' });
    assert.deepEqual((await new Client(node().address, null).get('/readyz')).json, { status: 'ready' });
  });

  test('a key is made, and works', async () => {
    const { status, json } = await client.post('/v1/keys', { name: 'second' });
    assert.equal(status, 201);
    assert.match(json.key, /^slk_live_[A-Za-z0-9_-]{43}$/);
    assert.equal((await new Client(node().address, json.key).get('/v1/org')).json.id, org.id);
  });

  test('a key tells of itself, but not itself', async () => {
    const { status, json, text } = await client.get('/v1/keys/current');
    assert.equal(status, 200);
    assert.equal(json.id, org.keyId);
    assert.ok(json.scopes.includes('events:write'));
    assert.equal(text.includes(org.key), false);
  });

  test('a missing and an unknown key get 401', async () => {
    for (const credential of [null, `slk_live_${'0'.repeat(43)}`]) {
      const stranger = new Client(node().address, credential);
      assert.equal((await stranger.post('/v1/events', { type: 'a', payload: 1 })).status, 401);
      assert.equal((await stranger.get('/v1/inbox')).status, 401);
    }
  });

  test('an inbox without events is empty', async () => {
    assert.deepEqual((await client.get('/v1/inbox')).json, { data: [], next_cursor: null });
    const { json } = await client.post('/v1/inbox/receive');
    assert.deepEqual(json, { lease_id: null, lease_expires_at: null, data: [] });
  });

  test('an event is created', async () => {
    const { status, json } = await client.post('/v1/events', { type: 'user.created', payload: { user_id: '12345' } });
    assert.equal(status, 201);
    assert.match(json.id, /^evt_/);
    assert.equal(json.duplicate, false);
  });

  test('an event created twice is recognised', async () => {
    const event = { type: 'user.created', payload: { user_id: '1' }, dedup_id: 'twice' };
    const [first, second] = [await client.post('/v1/events', event), await client.post('/v1/events', event)];
    assert.deepEqual([first.status, second.status], [201, 200]);
    assert.equal(second.json.duplicate, true);
    assert.equal(second.json.id, first.json.id);
    assert.equal(second.json.received_at, first.json.received_at);
  });

  test('a payload just under 256 KiB passes, 300 KB is too large', async () => {
    const send = (bytes: number) => client.post('/v1/events', { type: 'large', payload: 'x'.repeat(bytes - 2) });
    assert.equal((await send(256 * 1024 - 100)).status, 201);
    assert.equal((await send(300_000)).status, 413);
  });

  test('an event that is none is refused', async () => {
    for (const event of [{}, { payload: 1 }, { type: 'a' }, { type: '', payload: 1 }, [], 'x']) {
      assert.equal((await client.post('/v1/events', JSON.stringify(event))).status, 422);
    }
  });

  test('several events get distinct ids', async () => {
    const sent = await Promise.all(
      Array.from({ length: 20 }, () => client.post('/v1/events', { type: 'a', payload: 1 })),
    );
    assert.equal(new Set(sent.map(({ json }) => json.id)).size, 20);
  });

  test('an inbox lists its events, page by page, each once and in order', async () => {
    const other = await createOrg(node().address);
    const sent: string[] = [];
    for (let i = 0; i < 7; i++) {
      sent.push((await other.client.post('/v1/events', { type: 'a', payload: i })).json.id);
    }
    const listed: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const page: { data: { id: string }[]; next_cursor: string | null } = (
        await other.client.get(`/v1/inbox?limit=3${cursor === '' ? '' : `&cursor=${cursor}`}`)
      ).json;
      assert.ok(page.data.length <= 3);
      listed.push(...page.data.map(({ id }) => id));
      cursor = page.next_cursor;
    }
    assert.deepEqual(listed, sent);
  });

  test('an org of the free tier gets 429 within its first 101 to 120 events', async () => {
    const free = await createOrg(node().address, 'free');
    const statuses: number[] = [];
    for (let i = 0; i < 120; i++) {
      statuses.push((await free.client.post('/v1/events', { type: 'a', payload: i })).status);
    }
    const first = statuses.indexOf(429);
    assert.ok(first >= 100, `429 for event ${first + 1}`);
    assert.ok(statuses.slice(0, first).every((status) => status === 201));
  });
});
