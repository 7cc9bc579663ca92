import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { inboxesMax } from '../../src/inbox/inboxes.js';
import type { Client } from '../support/client.js';
import { createOrg } from '../support/client.js';
import type { RunningServer } from '../../src/app.js';
import { startNode } from '../support/node.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

after(stopServers);

for (const engine of engineNames) {
  const storage = await createStorage(engine);
  describe(`inboxes on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage !== null) describeInboxes(storage);
  });
}

function describeInboxes(storage: TestStorage): void {
  const clock = new TestClock(Date.now());
  let node: RunningServer;
  let client: Client;
  before(async () => {
    node = await startNode(storage, {}, clock);
  });
  after(async () => {
    await node.stop();
    await storage.remove();
  });

  const org = async (): Promise<Client> => {
    ({ client } = await createOrg(node.address));
    return client;
  };
  const send = async (type: string, payload: unknown = 1): Promise<string> => {
    const sent = await client.post('/v1/events', { type, payload });
    assert.equal(sent.status, 201);
    return sent.json.id as string;
  };
  const create = async (spec: Readonly<Record<string, unknown>>) => {
    const created = await client.post('/v1/inboxes', spec);
    assert.equal(created.status, 201, JSON.stringify(created.json));
    return created;
  };
  const receive = async (inbox: string, options: Readonly<Record<string, unknown>> = {}) => {
    const received = await client.post(`${inbox}/receive`, options);
    assert.equal(received.status, 200, JSON.stringify(received.json));
    const { lease_id: lease, data } = received.json as { lease_id: string; data: { id: string; attempt: number }[] };
    return { lease, ids: data.map(({ id }) => id), attempts: data.map(({ attempt }) => attempt) };
  };
  const stats = async (inbox: string) => {
    const { pending, leased, dead } = (await client.get(`${inbox}/stats`)).json;
    return [pending, leased, dead];
  };
  const refusal = async (answer: ReturnType<Client['post']>): Promise<unknown[]> => {
    const { status, json } = await answer;
    return [status, json.code];
  };

  it('are made, listed, shown, changed and deleted by name', async () => {
    await org();
    const created = await create({ name: 'orders', types: ['order.*'] });
    assert.equal(created.headers.get('location'), '/v1/inboxes/orders');
    const { created_at: createdAt, ...rest } = created.json;
    assert.deepEqual(rest, { name: 'orders', types: ['order.*'], max_attempts: 10, expired: 0, erased: 0 });
    assert.match(createdAt, /Z$/);
    assert.deepEqual((await client.get('/v1/inboxes/orders')).json, created.json);
    const names = (await client.get('/v1/inboxes')).json.data.map(({ name }: { name: string }) => name);
    assert.deepEqual(names, ['default', 'orders']);
    const changed = await client.call('PATCH', '/v1/inboxes/orders', { types: null, max_attempts: 3 });
    assert.deepEqual([changed.status, changed.json.types, changed.json.max_attempts], [200, null, 3]);
    // Neither changes anything.
    await client.call('PATCH', '/v1/inboxes/orders', {});
    await client.call('PATCH', '/v1/inboxes/orders', { types: ['*'], max_attempts: 3 });
    const changes = (await client.get('/v1/audit')).json.data.filter(
      ({ action }: { action: string }) => action === 'inbox.changed',
    );
    assert.equal(changes.length, 1);
    assert.equal((await client.call('DELETE', '/v1/inboxes/orders')).status, 204);
    assert.deepEqual(await refusal(client.call('DELETE', '/v1/inboxes/orders')), [404, 'not_found']);
    assert.deepEqual(await refusal(client.get('/v1/inboxes/orders')), [404, 'not_found']);
    assert.deepEqual(await refusal(client.post('/v1/inboxes/orders/receive', {})), [404, 'not_found']);
  });

  it('refuse what they cannot be', async () => {
    await org();
    await create({ name: 'a' });
    assert.deepEqual(await refusal(client.post('/v1/inboxes', { name: 'a' })), [409, 'name_taken']);
    assert.deepEqual(await refusal(client.post('/v1/inboxes', { name: 'default' })), [409, 'name_taken']);
    const invalid = [422, 'validation_failed'];
    for (const name of ['', 'A', '1a', 'a.b', 'a'.repeat(65), 'ä']) {
      assert.deepEqual(await refusal(client.post('/v1/inboxes', { name })), invalid, name);
    }
    for (const more of [
      { types: [] },
      { types: ['*.a'] },
      { start: 'soon' },
      { max_attempts: 0 },
      { max_attempts: 101 },
    ]) {
      assert.deepEqual(
        await refusal(client.post('/v1/inboxes', { name: 'b', ...more })),
        invalid,
        JSON.stringify(more),
      );
    }
    const elsewhere = await send('x');
    const first = client;
    await org();
    assert.deepEqual(await refusal(client.post('/v1/inboxes', { name: 'b', start: elsewhere })), [404, 'not_found']);
    assert.deepEqual(await refusal(client.get('/v1/inboxes/a')), [404, 'not_found']);
    client = first;
    assert.deepEqual(await refusal(client.call('DELETE', '/v1/inboxes/default')), invalid);
    assert.deepEqual(await refusal(client.call('PATCH', '/v1/inboxes/default', { types: ['a'] })), invalid);
  });

  it('are limited in number', async () => {
    await org();
    for (let i = 1; i < inboxesMax; i++) await create({ name: `n${i}` });
    assert.deepEqual(await refusal(client.post('/v1/inboxes', { name: 'more' })), [409, 'limit_reached']);
    await client.call('DELETE', '/v1/inboxes/n1');
    await create({ name: 'more' });
  });

  it('begin now, at the beginning, at a time or at an event, and hold nothing of before', async () => {
    await org();
    const first = await send('a');
    clock.advance(5_000);
    const at = new Date(clock.now()).toISOString();
    const second = await send('a');
    for (const [start, expected] of [
      ['beginning', [first, second]],
      [at, [second]],
      [second, [second]],
      ['now', []],
      [undefined, []],
    ] as const) {
      const name = `from-${String(start).slice(0, 3).toLowerCase()}`;
      await create({ name, ...(start !== undefined && { start }) });
      assert.deepEqual((await receive(`/v1/inboxes/${name}`)).ids, expected, String(start));
      const delivered = await client.get(`/v1/inboxes/${name}/events?status=delivered`);
      assert.deepEqual(delivered.json.data, []);
      await client.call('DELETE', `/v1/inboxes/${name}`);
    }
  });

  it('want the types that they name, and other types only of events stored after the change', async () => {
    await org();
    await create({ name: 'some', types: ['a.*', 'b'] });
    const early = [await send('a.x'), await send('b')];
    const unwanted = await send('c');
    await client.call('PATCH', '/v1/inboxes/some', { types: ['c'] });
    const wanted = await send('c');
    await send('a.x');
    assert.deepEqual(await stats('/v1/inboxes/some'), [3, 0, 0]);
    assert.deepEqual((await receive('/v1/inboxes/some')).ids, early);
    assert.deepEqual((await receive('/v1/inboxes/some')).ids, [wanted]);
    assert.deepEqual((await receive('/v1/inboxes/some')).ids, []);
    const ack = await client.post('/v1/inboxes/some/ack', { ids: [unwanted, wanted, ...early] });
    assert.deepEqual(ack.json, { acknowledged: 3, already_acknowledged: 0, unknown: [unwanted] });
    const delivered = await client.get('/v1/inboxes/some/events?status=delivered&fields=id');
    assert.equal(delivered.json.data.length, 2);
    const rest = await client.get(
      `/v1/inboxes/some/events?status=delivered&fields=id&cursor=${encodeURIComponent(delivered.json.next_cursor)}`,
    );
    assert.deepEqual([rest.json.data.length, rest.json.next_cursor], [1, null]);
    assert.deepEqual((await receive('/v1/inbox')).ids.length, 5);
  });

  it('wake the waiting receivers of each of them', async () => {
    await org();
    await create({ name: 'one' });
    await create({ name: 'two' });
    const waiting = ['/v1/inbox', '/v1/inboxes/one', '/v1/inboxes/two'].map((inbox) =>
      receive(inbox, { wait_seconds: 30 }),
    );
    const id = await send('a');
    for (const { ids } of await Promise.all(waiting)) assert.deepEqual(ids, [id]);
  });

  it('take events back at once or after a while, whoever waits for them', async () => {
    await org();
    const id = await send('a');
    const { lease } = await receive('/v1/inbox');
    const nack = await client.post('/v1/inbox/nack', { lease_id: lease });
    assert.deepEqual([nack.status, nack.json], [200, { released: 1 }]);
    assert.deepEqual((await client.post('/v1/inbox/nack', { ids: [id] })).json, { released: 0 });
    assert.deepEqual((await client.post('/v1/inbox/ack', { lease_id: lease })).json.acknowledged, 0);
    assert.deepEqual((await receive('/v1/inbox')).attempts, [2]);
    await client.post('/v1/inbox/nack', { ids: [id], delay_seconds: 60 });
    assert.deepEqual(await stats('/v1/inbox'), [1, 0, 0]);
    assert.deepEqual((await receive('/v1/inbox')).ids, []);
    clock.advance(60_000);
    assert.deepEqual((await receive('/v1/inbox')).attempts, [3]);
    const waiting = receive('/v1/inbox', { wait_seconds: 30 });
    await client.post('/v1/inbox/nack', { ids: [id] });
    assert.deepEqual((await waiting).attempts, [4]);
  });

  it('extend a lease that lasts, and no other', async () => {
    await org();
    await send('a');
    const { lease } = await receive('/v1/inbox', { lease_seconds: 10 });
    clock.advance(9_000);
    const extended = await client.post('/v1/inbox/extend', { lease_id: lease, lease_seconds: 20 });
    assert.deepEqual([extended.status, extended.json.lease_id], [200, lease]);
    assert.equal(Date.parse(extended.json.lease_expires_at), clock.now() + 20_000);
    clock.advance(19_000);
    assert.deepEqual((await receive('/v1/inbox')).ids, []);
    clock.advance(1_000);
    const late = client.post('/v1/inbox/extend', { lease_id: lease, lease_seconds: 20 });
    assert.deepEqual(await refusal(late), [409, 'lease_expired']);
    const owner = client;
    await org();
    const foreign = client.post('/v1/inbox/extend', { lease_id: lease, lease_seconds: 20 });
    assert.deepEqual(await refusal(foreign), [404, 'not_found']);
    assert.deepEqual(await refusal(client.post('/v1/inbox/nack', { lease_id: lease })), [404, 'not_found']);
    client = owner;
    assert.deepEqual((await receive('/v1/inbox')).attempts, [2]);
  });

  it('acknowledge one event by its path, again and again', async () => {
    await org();
    const id = await send('a');
    assert.equal((await client.call('DELETE', `/v1/inbox/${id}`)).status, 204);
    assert.equal((await client.call('DELETE', `/v1/inboxes/default/${id}`)).status, 204);
    assert.deepEqual(await stats('/v1/inbox'), [0, 0, 0]);
    await org();
    assert.deepEqual(await refusal(client.call('DELETE', `/v1/inbox/${id}`)), [404, 'not_found']);
    assert.deepEqual(await refusal(client.call('DELETE', '/v1/inbox/evt_0')), [404, 'not_found']);
  });

  it('go back and ahead', async () => {
    await org();
    const ids = [await send('a'), await send('a'), await send('a')];
    await client.post('/v1/inbox/ack', { ids });
    const seek = await client.post('/v1/inbox/seek', { to: ids[1] });
    assert.deepEqual([seek.status, seek.json], [200, { to: ids[1] }]);
    assert.deepEqual((await receive('/v1/inbox')).ids, ids.slice(1));
    await client.post('/v1/inbox/seek', { to: 'beginning' });
    assert.deepEqual(await stats('/v1/inbox'), [3, 0, 0]);
    const waiting = receive('/v1/inbox', { wait_seconds: 30 });
    assert.deepEqual((await waiting).ids, ids);
    await client.post('/v1/inbox/seek', { to: 'now' });
    assert.deepEqual(await stats('/v1/inbox'), [0, 3, 0], 'what is handed out below the target stays so');
    for (const to of ['', 'then', 'evt_x', '2026-13-01T00:00:00Z']) {
      assert.equal((await client.post('/v1/inbox/seek', { to })).status, to.startsWith('evt_') ? 404 : 422, to);
    }
  });

  it('give dead letters another life', async () => {
    await org();
    await create({ name: 'fragile', max_attempts: 1 });
    const ids = [await send('a'), await send('a')];
    await receive('/v1/inboxes/fragile');
    await client.post('/v1/inboxes/fragile/nack', { ids });
    assert.deepEqual(await stats('/v1/inboxes/fragile'), [0, 0, 2]);
    const one = await client.post('/v1/inboxes/fragile/redrive', { ids: [ids[1]] });
    assert.deepEqual([one.status, one.json], [200, { redriven: 1 }]);
    assert.deepEqual((await receive('/v1/inboxes/fragile')).attempts, [1]);
    clock.advance(60_000);
    assert.deepEqual(await stats('/v1/inboxes/fragile'), [0, 0, 2]);
    assert.deepEqual((await client.post('/v1/inboxes/fragile/redrive', { all: true })).json, { redriven: 2 });
    assert.deepEqual(await stats('/v1/inboxes/fragile'), [2, 0, 0]);
    for (const body of [{}, { all: true, ids }, { all: false }]) {
      assert.equal((await client.post('/v1/inboxes/fragile/redrive', body)).status, 422);
    }
  });

  it('tell what became of an event, each for itself', async () => {
    await org();
    await create({ name: 'fragile', max_attempts: 1 });
    await create({ name: 'other', types: ['b'] });
    const id = await send('a');
    await create({ name: 'later' });
    const states = async (): Promise<unknown[]> => {
      const { status, json } = await client.get(`/v1/events/${id}/deliveries`);
      assert.equal(status, 200);
      return (json.data as Record<string, unknown>[]).map((delivery) => {
        assert.deepEqual([delivery['kind'], delivery['last_error']], ['inbox', null]);
        return [delivery['subscription'], delivery['state'], delivery['attempts'], delivery['next_attempt_at']];
      });
    };
    const aside = [
      ['later', 'skipped', null, null],
      ['other', 'filtered', null, null],
    ];
    const pending = (name: string) => [name, 'pending', 0, null];
    assert.deepEqual(await states(), [pending('default'), pending('fragile'), ...aside]);
    await receive('/v1/inbox');
    await receive('/v1/inboxes/fragile');
    const end = new Date(clock.now() + 60_000).toISOString();
    const leased = ['default', 'leased', 1, end];
    assert.deepEqual(await states(), [leased, ['fragile', 'leased', 1, null], ...aside]);
    await client.post('/v1/inboxes/fragile/nack', { ids: [id] });
    await client.post('/v1/inbox/nack', { ids: [id], delay_seconds: 60 });
    assert.deepEqual(await states(), [['default', 'pending', 1, end], ['fragile', 'dead', 1, null], ...aside]);
    await client.post('/v1/inbox/ack', { ids: [id] });
    assert.deepEqual(await states(), [['default', 'delivered', null, null], ['fragile', 'dead', 1, null], ...aside]);
    await org();
    assert.deepEqual(await refusal(client.get(`/v1/events/${id}/deliveries`)), [404, 'not_found']);
  });
}
