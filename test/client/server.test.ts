/** The client on a real server, one way through each of its parts. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import { Sluice, SluiceError } from '../../src/client/index.js';
import type { NewOrg, SendSummary } from '../../src/client/index.js';
import { adminToken, startNode } from '../support/node.js';
import { createStorage } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

let storage: TestStorage | null;
let server: RunningServer;
let admin: Sluice;

before(async () => {
  storage = await createStorage('embedded');
  assert.ok(storage !== null);
  server = await startNode(storage);
  admin = new Sluice({ url: server.address, key: adminToken });
});

after(async () => {
  await server.stop();
  await storage?.remove();
});

async function newOrg(): Promise<{ readonly org: NewOrg; readonly sluice: Sluice }> {
  const org = await admin.orgs.create({ name: 'client', tier: 'enterprise' });
  return { org, sluice: new Sluice({ url: server.address, key: org.key }) };
}

async function code(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => assert.fail('it succeeded'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof SluiceError, String(error));
  return error.code;
}

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found: Item[] = [];
  for await (const item of items) found.push(item);
  return found;
}

test('an event is sent, read and repeated', async () => {
  const { sluice } = await newOrg();
  const event = {
    type: 'user.created',
    payload: { n: 1 },
    dedup_id: 'one',
    subject: 'user/1',
    occurred_at: new Date(0),
  };
  const receipt = await sluice.events.send(event);
  assert.deepEqual([receipt.type, receipt.duplicate], ['user.created', false]);
  const stored = await sluice.events.get(receipt.id);
  assert.deepEqual(stored, {
    id: receipt.id,
    type: 'user.created',
    subject: 'user/1',
    occurred_at: '1970-01-01T00:00:00.000Z',
    received_at: receipt.received_at,
    attributes: null,
    payload: { n: 1 },
  });
  assert.deepEqual(await sluice.events.get(receipt.id, { fields: ['type'] }), { type: 'user.created' });
  assert.deepEqual(await sluice.events.send(event), { ...receipt, duplicate: true });
  assert.equal(await code(sluice.events.send({ ...event, payload: 2 })), 'dedup_mismatch');
  assert.equal(await code(sluice.events.get('evt_none')), 'not_found');
});

test('a raw payload comes back byte for byte, on every way out', async () => {
  const { sluice } = await newOrg();
  const rawPayload = '{"precise": 0.1000000000000000000001, "a":1,\n "a" : "\\u0000 }]\\"" }';
  const { id } = await sluice.events.send({ type: 'a.b', rawPayload });
  assert.equal((await sluice.events.get(id, { rawPayload: true })).rawPayload, rawPayload);
  assert.equal('rawPayload' in (await sluice.events.get(id)), false);
  const inbox = sluice.inbox();
  assert.equal((await all(inbox.list({ rawPayload: true })))[0]?.rawPayload, rawPayload);
  const { data } = await inbox.receive({ rawPayload: true });
  assert.equal(data[0]?.rawPayload, rawPayload);
  assert.deepEqual(data[0]?.payload, JSON.parse(rawPayload));
});

test('what is pending is listed page after page, received, acknowledged and counted', async () => {
  const { sluice } = await newOrg();
  const ids: string[] = [];
  for (let n = 0; n < 7; n++) ids.push((await sluice.events.send({ type: `t.${n % 2}`, payload: n })).id);
  const inbox = sluice.inbox();
  const listed = await all(inbox.list({ pageSize: 2, types: ['t.0'], fields: ['id', 'payload'] }));
  assert.deepEqual(
    listed.map(({ payload, status, attempts }) => [payload, status, attempts]),
    [0, 2, 4, 6].map((n) => [n, 'pending', 0]),
  );
  const delivery = await inbox.receive({ max: 3, leaseSeconds: 30 });
  assert.deepEqual(
    delivery.data.map(({ id, attempt }) => [id, attempt]),
    ids.slice(0, 3).map((id) => [id, 1]),
  );
  assert.deepEqual(await inbox.ack({ leaseId: delivery.lease_id ?? '' }), {
    acknowledged: 3,
    already_acknowledged: 0,
    unknown: [],
  });
  assert.deepEqual(await inbox.ack(ids.slice(2)), { acknowledged: 4, already_acknowledged: 1, unknown: [] });
  assert.deepEqual(await inbox.stats(), { pending: 0, leased: 0, dead: 0, oldest_pending_seconds: null });
  assert.deepEqual(await inbox.receive(), { lease_id: null, lease_expires_at: null, data: [] });
});

test('more than 1,000 ids are acknowledged in several requests', async () => {
  const { sluice } = await newOrg();
  const { id } = await sluice.events.send({ type: 'a.b', payload: 1 });
  const unknown = Array.from({ length: 1_500 }, (_, n) => `evt_${n}`);
  const result = await sluice.inbox().ack([...unknown, id]);
  assert.equal(result.acknowledged, 1);
  assert.deepEqual(result.unknown, unknown);
});

test('a consumer handles all that comes, and nothing is left', async () => {
  const { sluice } = await newOrg();
  const controller = new AbortController();
  const handled = new Set<unknown>();
  const consuming = sluice.inbox().consume(
    ({ payload }) => {
      handled.add(payload);
      if (handled.size === 50) controller.abort();
    },
    { concurrency: 5, signal: controller.signal },
  );
  await Promise.all(Array.from({ length: 50 }, (_, n) => sluice.events.send({ type: 'a.b', payload: n })));
  await consuming;
  assert.deepEqual(handled, new Set(Array.from({ length: 50 }, (_, n) => n)));
  assert.deepEqual(await sluice.inbox().stats(), { pending: 0, leased: 0, dead: 0, oldest_pending_seconds: null });
});

test('keys are made, listed, rotated and deleted', async () => {
  const { org, sluice } = await newOrg();
  assert.equal((await sluice.keys.current()).id, org.key_id);
  const made = await sluice.keys.create({ name: 'reader', scopes: ['events:read'] });
  const reader = new Sluice({ url: server.address, key: made.key });
  assert.equal(await code(reader.events.send({ type: 'a.b', payload: 1 })), 'insufficient_scope');
  assert.deepEqual(
    (await all(sluice.keys.list({ pageSize: 1 }))).map(({ id }) => id).toSorted(),
    [org.key_id, made.id].toSorted(),
  );
  const rotated = await sluice.keys.rotate(made.id, { graceSeconds: 60 });
  assert.equal((await new Sluice({ url: server.address, key: rotated.key }).keys.current()).id, rotated.id);
  assert.equal(await sluice.keys.delete(rotated.id), undefined);
  assert.equal(await code(sluice.keys.delete(rotated.id)), 'not_found');
});

test('orgs are made, listed and changed with the admin token', async () => {
  const { org, sluice } = await newOrg();
  assert.equal((await sluice.org.get()).id, org.id);
  const changed = await admin.orgs.update(org.id, { name: 'renamed', limits: { burst: 5 } });
  assert.deepEqual([changed.name, changed.limits.burst], ['renamed', 5]);
  assert.deepEqual(await admin.orgs.get(org.id), changed);
  const found = (await all(admin.orgs.list({ pageSize: 2 }))).find(({ id }) => id === org.id);
  assert.deepEqual(found, changed);
  await admin.orgs.update(org.id, { suspended: true });
  assert.equal(await code(sluice.org.get()), 'org_suspended');
  assert.equal(await code(admin.org.get()), 'insufficient_scope');
});

test('many events are sent in batches and listed again in their order', async () => {
  const { sluice } = await newOrg();
  const source = Array.from({ length: 2_300 }, (_, n) => ({ type: `n.${n % 3}`, payload: n, dedup_id: `d${n}` }));
  const expected: SendSummary = { accepted: 2_300, duplicates: 0, rejected: 0, refusals: [] };
  assert.deepEqual(await sluice.events.sendMany(source), expected);
  assert.deepEqual(await sluice.events.sendMany(source), { ...expected, accepted: 0, duplicates: 2_300 });
  const listed = await all(sluice.events.list({ types: ['n.*'], order: 'asc', pageSize: 700 }));
  assert.deepEqual(
    listed.map(({ payload }) => payload),
    source.map(({ payload }) => payload),
  );
});

test('an inbox of its own is made, gives events back, keeps leases, goes back and is deleted', async () => {
  const { sluice } = await newOrg();
  const spec = { name: 'orders', types: ['order.*'], start: 'beginning', max_attempts: 3 };
  assert.equal((await sluice.inboxes.create(spec)).max_attempts, 3);
  assert.equal(await code(sluice.inboxes.create(spec)), 'name_taken');
  assert.deepEqual((await all(sluice.inboxes.list())).map(({ name }) => name).toSorted(), ['default', 'orders']);
  assert.equal((await sluice.inboxes.get('orders')).max_attempts, 3);
  assert.equal((await sluice.inboxes.update('orders', { max_attempts: 2 })).max_attempts, 2);
  await sluice.events.send({ type: 'user.created', payload: 0 });
  const { id } = await sluice.events.send({ type: 'order.paid', payload: 1 });
  const inbox = sluice.inbox('orders');
  for (const attempt of [1, 2]) {
    const { lease_id, data } = await inbox.receive({ leaseSeconds: 5 });
    assert.deepEqual(
      data.map((event) => [event.id, event.attempt]),
      [[id, attempt]],
    );
    const { lease_expires_at } = await inbox.extend(lease_id ?? '', 600);
    assert.ok(Date.parse(lease_expires_at) > Date.now() + 300_000);
    assert.deepEqual(await inbox.nack([id]), { released: 1 });
  }
  assert.deepEqual(
    (await all(inbox.list({ status: 'dead', fields: ['id'] }))).map((event) => event.id),
    [id],
  );
  assert.deepEqual(await inbox.redrive([id]), { redriven: 1 });
  assert.equal((await inbox.stats()).pending, 1);
  await inbox.delete(id);
  await inbox.delete(id);
  assert.equal((await inbox.stats()).pending, 0);
  await inbox.seek('beginning');
  assert.equal((await inbox.stats()).pending, 1);
  const became = await sluice.events.deliveries(id);
  assert.deepEqual(
    became.map(({ subscription, state }) => [subscription, state]),
    [
      ['default', 'pending'],
      ['orders', 'pending'],
    ],
  );
  await sluice.inboxes.delete('orders');
  assert.equal(await code(sluice.inboxes.get('orders')), 'not_found');
});

test('whatever answers are lost, each event is stored once', async (t) => {
  const { org, sluice: direct } = await newOrg();
  const lossy = await startLossyProxy(t, server.address, 2);
  const sluice = new Sluice({ url: lossy.address, key: org.key, retry: { attemptsMax: 20 } });
  const receipts = await Promise.all(
    Array.from({ length: 10 }, (_, n) => sluice.events.send({ type: 'a.b', payload: n })),
  );
  assert.ok(receipts.every(({ duplicate }) => !duplicate));
  const source = Array.from({ length: 3_000 }, (_, n) => ({ type: 'a.b', payload: 10 + n }));
  assert.equal((await sluice.events.sendMany(source)).accepted, 3_000);
  assert.ok(lossy.lost() > 5, `${lossy.lost()} answers were lost`);
  const listed = await all(direct.events.list({ order: 'asc', pageSize: 1_000, fields: ['payload'] }));
  assert.equal(listed.length, 3_010, 'a lost answer doubled nothing');
  assert.equal(new Set(listed.map(({ payload }) => payload)).size, 3_010);
});

test('whatever answers are lost, a consumer gets every event and leaves nothing behind', async (t) => {
  const { org, sluice: direct } = await newOrg();
  await direct.events.sendMany(Array.from({ length: 100 }, (_, n) => ({ type: 'a.b', payload: n })));
  const lossy = await startLossyProxy(t, server.address, 4);
  const ended = new AbortController();
  const handled = new Set<string>();
  const consuming = new Sluice({ url: lossy.address, key: org.key }).inbox().consume(
    ({ id }) => {
      handled.add(id);
      if (handled.size === 100) ended.abort();
    },
    // What was leased by an answer that was lost comes again after its lease.
    { max: 20, leaseSeconds: 2, signal: ended.signal },
  );
  await consuming;
  assert.equal(handled.size, 100);
  assert.ok(lossy.lost() > 2, `${lossy.lost()} answers were lost`);
  const { pending, leased, dead } = await direct.inbox().stats();
  assert.deepEqual([pending, leased, dead], [0, 0, 0]);
});

/** Passes requests on, and of every so many POSTs, from the first on, loses the answer: the server has done it, and the client never hears of it. */
async function startLossyProxy(t: TestContext, target: string, every: number) {
  let posts = 0;
  let lost = 0;
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await buffer(request);
    const reply = await fetch(target + request.url, {
      method: request.method ?? 'GET',
      headers: { Authorization: request.headers.authorization ?? '', 'Content-Type': 'application/json' },
      ...(body.length === 0 ? {} : { body }),
    });
    const text = await reply.text();
    if (request.method === 'POST' && posts++ % every === 0) {
      lost++;
      request.socket.destroy();
      return;
    }
    response.writeHead(reply.status, { 'Content-Type': reply.headers.get('content-type') ?? '' }).end(text);
  };
  const proxy = createServer((request, response) => void serve(request, response));
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  return { address: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, lost: () => lost };
}
