import assert from 'node:assert/strict';
import { before, it } from 'node:test';
import type { ClockedNodes } from '../support/clocked-nodes.js';
import { onClockedNodes } from '../support/clocked-nodes.js';
import type { Answer, TestOrg } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { adminToken } from '../support/node.js';
import { assertProblem } from '../support/problem.js';
import { exchange, parseReplies } from '../support/raw-http.js';

const freeBurst = 100;

await onClockedNodes(limitTests);

function limitTests(nodes: ClockedNodes): void {
  let admin: Client;
  before(() => {
    admin = new Client(nodes.address(), adminToken);
  });

  const send = ({ client }: TestOrg, fields: object = {}): Promise<Answer> =>
    client.post('/v1/events', { type: 'limit.test', payload: 1, ...fields });
  const setLimits = async ({ id }: TestOrg, limits: object): Promise<void> => {
    assert.equal((await admin.call('PATCH', `/v1/orgs/${id}`, { limits })).status, 200);
  };
  /** An org whose buckets hold `burst` and 10 × `burst`, and refill by one and ten tokens a minute. */
  const orgWith = async (burst: number): Promise<TestOrg> => {
    const org = await createOrg(nodes.address(), 'free');
    await setLimits(org, { rate_per_minute: 1, burst });
    return org;
  };

  it('an org of the free tier sends 100 events, and then gets 429 until the time in Retry-After has passed', async () => {
    const org = await createOrg(nodes.address(), 'free');
    for (let sent = 1; sent <= freeBurst; sent++) {
      const { status, headers } = await send(org);
      assert.equal(status, 201);
      assert.equal(headers.get('ratelimit-limit'), '100');
      assert.equal(headers.get('ratelimit-remaining'), String(freeBurst - sent));
      assert.equal(headers.get('ratelimit-reset'), String(Math.ceil(sent * 0.6)));
    }
    const refused = await send(org);
    const { retry_after: retryAfterSeconds } = assertProblem(refused, 'rate_limited');
    assert.equal(retryAfterSeconds, 1);
    assert.deepEqual(
      ['limit', 'remaining', 'reset'].map((name) => refused.headers.get(`ratelimit-${name}`)),
      ['100', '0', '60'],
    );
    nodes.advance(599);
    assertProblem(await send(org), 'rate_limited');
    nodes.advance(501);
    assert.equal((await send(org)).status, 201);
    assertProblem(await send(org), 'rate_limited');
    nodes.advance(60_000);
    assert.equal((await send(org)).headers.get('ratelimit-remaining'), '99');
  });

  it('sending, reading and consuming have buckets of their own, the latter ten times as large', async () => {
    const org = await orgWith(2);
    const spend: Record<string, () => Promise<Answer>> = {
      write: () => send(org),
      read: () => org.client.get('/v1/inbox/stats'),
      consume: () => org.client.post('/v1/inbox/receive', {}),
    };
    const sizes = { write: 2, read: 20, consume: 20 };
    for (const [bucket, size] of Object.entries(sizes)) {
      for (let spent = 1; spent <= size; spent++)
        assert.equal((await spend[bucket]?.())?.headers.get('ratelimit-remaining'), String(size - spent));
      const refused = await spend[bucket]?.();
      assert.ok(refused);
      assertProblem(refused, 'rate_limited');
    }
    const twin = await orgWith(2);
    assert.equal((await send(twin)).headers.get('ratelimit-remaining'), '1');
  });

  it('events that are refused or repeated cost their tokens; requests without a key or a route cost none', async () => {
    const org = await orgWith(10);
    const anybody = new Client(nodes.address(), null);
    assert.equal((await send(org, { dedup_id: 'a' })).status, 201);
    assert.equal((await send(org, { dedup_id: 'a' })).status, 200);
    assertProblem(await send(org, { dedup_id: 'a', payload: 2 }), 'dedup_mismatch');
    assertProblem(await send(org, { type: 'not a type' }), 'validation_failed');
    assertProblem(await org.client.post('/v1/events', '{'), 'invalid_json');
    assertProblem(await anybody.post('/v1/events', {}), 'missing_key');
    assertProblem(await org.client.post('/v1/event', {}), 'not_found');
    assertProblem(await org.client.post('/v1/events', '1', { 'Content-Type': 'text/plain' }), 'unsupported_media_type');
    assert.equal((await send(org)).headers.get('ratelimit-remaining'), '4');
  });

  it('changed limits hold from the next request on, at once on this node and within a second on the others', async () => {
    const org = await orgWith(1);
    const clients = nodes.addresses().map((address) => new Client(address, org.key));
    for (const client of clients) assert.equal((await client.get('/v1/org')).headers.get('ratelimit-limit'), '10');
    await setLimits(org, { burst: 5 });
    assert.equal((await org.client.get('/v1/org')).headers.get('ratelimit-limit'), '50');
    nodes.advance(999);
    for (const client of clients) assert.equal((await client.get('/v1/org')).headers.get('ratelimit-limit'), '50');
  });

  it('shadow mode lets everything through and counts what it would have refused', async () => {
    const org = await orgWith(2);
    await setLimits(org, { mode: 'shadow' });
    const counted = async (): Promise<number> => {
      const { text } = await admin.get('/metrics');
      return Number(/^sluice_rate_limited_total\{bucket="write",mode="shadow"\} (\d+)$/m.exec(text)?.[1] ?? 0);
    };
    const earlier = await counted();
    for (let sent = 0; sent < 5; sent++) assert.equal((await send(org)).status, 201);
    assert.equal((await counted()) - earlier, 3);
    await setLimits(org, { mode: 'enforce' });
    assertProblem(await send(org), 'rate_limited');
  });

  it('an org that asks on while it is refused gets its refusals half a millisecond apart', async () => {
    const org = await orgWith(1);
    const ask = (more = ''): string =>
      `GET /v1/org HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${org.key}\r\n${more}\r\n`;
    const startedAtMs = performance.now();
    // It does not wait for answers, so it is slow only where they are held back.
    const first = await exchange(nodes.address(), ask().repeat(1_000) + ask('Connection: close\r\n'));
    const tookMs = performance.now() - startedAtMs;
    const replies = [first, ...parseReplies(Buffer.from(first.rest))];
    assert.deepEqual(
      replies.map(({ status }) => status),
      Array.from({ length: 1_001 }, (_, i) => (i < 10 ? 200 : 429)),
    );
    assert.ok(tookMs > 490, `991 refusals took ${tookMs} ms`);
  });
}
