import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import { createOrg } from '../support/client.js';
import type { TestOrg } from '../support/client.js';
import { startNode } from '../support/node.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { ack, listAll, receive, send, stats } from './consumer.js';

const replyBytesMax = 4 * 1024 * 1024;
const types = ['user.created', 'user.deleted', 'users', 'order.paid'];
const idOf = (event: { id: string }): string => event.id;

describe('the inbox', () => {
  for (const engine of engineNames) {
    describe(`on ${engine}`, () => {
      let storage: TestStorage | null;
      let node: RunningServer;
      before(async () => {
        storage = await createStorage(engine);
        if (storage !== null) node = await startNode(storage);
      });
      after(async () => {
        if (storage === null) return;
        await node.stop();
        await storage.remove();
      });

      const anOrg = (): Promise<TestOrg> => createOrg(node.address);
      const typed = (count: number) =>
        Array.from({ length: count }, (_, i) => ({ type: types[i % types.length] ?? '' }));

      test('is listed page by page, oldest first, with what became of each event', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        const ids = await send(client, typed(12));
        await receive(client, { max: 4 });
        await ack(client, { ids: [ids[1] ?? '', ids[7] ?? ''] });
        const { data, pages } = await listAll(client, { limit: '3' });
        assert.deepEqual(
          data.map(({ id, status, attempts }) => [id, status, attempts]),
          ids.flatMap((id, i) => (i === 1 || i === 7 ? [] : [[id, i < 4 ? 'leased' : 'pending', i < 4 ? 1 : 0]])),
        );
        assert.ok(pages >= 4);
        const delivered = await listAll(client, { status: 'delivered' });
        assert.deepEqual(
          delivered.data.map(({ id, attempts }) => [id, attempts]),
          [
            [ids[1], null],
            [ids[7], null],
          ],
        );
        assert.deepEqual((await listAll(client, { status: 'dead' })).data, []);
        const { pending, leased, dead } = await stats(client);
        assert.deepEqual({ pending, leased, dead }, { pending: 7, leased: 3, dead: 0 });
        assert.deepEqual((await listAll(client, { status: 'leased', limit: '2' })).data.map(idOf), [
          ids[0],
          ids[2],
          ids[3],
        ]);
      });

      test('is filtered by types and by what follows a prefix', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        const ids = await send(client, typed(8));
        const of = (...wanted: string[]) => ids.filter((_, i) => wanted.includes(types[i % types.length] ?? ''));
        const listed = async (search: string): Promise<string[]> =>
          (await client.get(`/v1/inbox?${search}`)).json.data.map(idOf);
        assert.deepEqual(await listed('type=user.*'), of('user.created', 'user.deleted'));
        assert.deepEqual(await listed('type=users&type=order.*'), of('users', 'order.paid'));
        assert.deepEqual(await listed('type=user'), []);
        assert.deepEqual(await listed('type=*&type=users'), ids);
        assert.deepEqual((await listAll(client, { type: 'order.paid', limit: '1' })).data.map(idOf), of('order.paid'));
      });

      test('takes a cursor back only unchanged, from the same org and with the same filters', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const [mine, other] = [await anOrg(), await anOrg()];
        await send(mine.client, typed(4));
        await send(other.client, typed(4));
        const cursor: string = (await mine.client.get('/v1/inbox?limit=1&type=user.*')).json.next_cursor;
        const list = (client: TestOrg['client'], used: string, filter = 'type=user.*') =>
          client.get(`/v1/inbox?limit=1&${filter}&cursor=${encodeURIComponent(used)}`);
        assert.equal((await list(mine.client, cursor)).status, 200);
        const flip = (at: number): string =>
          cursor.slice(0, at) + (cursor[at] === 'A' ? 'B' : 'A') + cursor.slice(at + 1);
        const refused = [
          await list(other.client, cursor),
          await list(mine.client, cursor, 'type=users'),
          await list(mine.client, cursor, 'type=user.*&status=pending'),
          await list(mine.client, cursor, ''),
          await list(mine.client, `${cursor}=`),
          await list(mine.client, cursor.slice(0, -4)),
          await list(mine.client, ''),
          ...(await Promise.all([0, 10, cursor.length - 3].map((at) => list(mine.client, flip(at))))),
        ];
        for (const { status, json } of refused) assert.deepEqual([status, json.code], [400, 'invalid_cursor']);
      });

      test('answers with at most 4 MiB, and the rest follows', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        const ids = await send(
          client,
          Array.from({ length: 20 }, () => ({ payload: 'x'.repeat(250_000) })),
        );
        const first = await client.get('/v1/inbox?limit=20');
        assert.ok(Buffer.byteLength(first.text) <= replyBytesMax);
        assert.ok(first.json.data.length >= 15);
        const second = await client.get(`/v1/inbox?limit=20&cursor=${first.json.next_cursor}`);
        assert.deepEqual([...first.json.data, ...second.json.data].map(idOf), ids);

        const received: string[] = [];
        while (received.length < 20) {
          const { text, json } = await receive(client, { max: 20 });
          assert.ok(Buffer.byteLength(text) <= replyBytesMax && json.data.length > 0);
          received.push(...json.data.map(idOf));
        }
        assert.deepEqual(received, ids);
      });

      test('counts more than payloads towards the 4 MiB', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        // Each control character of a subject is written with six.
        const event = { type: 't'.repeat(255), subject: '\u0001'.repeat(255), payload: 'x'.repeat(3_000) };
        await Promise.all(Array.from({ length: 1_000 }, () => client.post('/v1/events', event)));
        const { text, json } = await client.get('/v1/inbox?limit=1000');
        assert.ok(Buffer.byteLength(text) <= replyBytesMax, `${Buffer.byteLength(text)} bytes`);
        assert.ok(json.data.length > 700 && json.next_cursor !== null);
      });

      test('answers with an event of the greatest size among small ones', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        const great = 'x'.repeat(262_142);
        const ids = await send(client, [{}, { payload: great }, {}]);
        const { json } = await receive(client);
        assert.deepEqual(json.data.map(idOf), ids);
        assert.equal(json.data[1].payload, great);
      });

      test('gives the fields that are asked for, and no others', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        const [id] = await send(client, [{ type: 'user.created', payload: 1 }]);
        assert.deepEqual((await client.get('/v1/inbox?fields=id,type')).json.data, [
          { id, type: 'user.created', status: 'pending', attempts: 0 },
        ]);
        const received = await receive(client, {}, '?fields=id');
        assert.deepEqual(received.json.data, [{ id, attempt: 1 }]);
        const { status, json } = await client.get('/v1/inbox?fields=id,nothing');
        assert.deepEqual([status, json.code, json.errors[0].path], [422, 'validation_failed', '?fields']);
      });

      test('acknowledges by id and by lease, tells unknown ids, and repeats without harm', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const [mine, other] = [await anOrg(), await anOrg()];
        const ids = await send(mine.client, typed(3));
        const [foreign] = await send(other.client, typed(1));
        const unknown = [foreign ?? '', 'evt_nothing', (ids[0] ?? '').toLowerCase()];
        assert.deepEqual(await ack(mine.client, { ids: [ids[0] ?? '', ...unknown, ids[0] ?? ''] }), {
          acknowledged: 1,
          already_acknowledged: 1,
          unknown,
        });
        const { json } = await receive(mine.client);
        assert.deepEqual(json.data.map(idOf), ids.slice(1));
        const byLease = { lease_id: json.lease_id };
        assert.equal((await ack(mine.client, byLease)).acknowledged, 2);
        assert.deepEqual(await ack(mine.client, byLease), { acknowledged: 0, already_acknowledged: 0, unknown: [] });
        for (const lease of [json.lease_id, 'lse_nothing']) {
          const refused = await other.client.post('/v1/inbox/ack', { lease_id: lease });
          assert.deepEqual([refused.status, refused.json.code], [404, 'not_found']);
        }
        assert.equal((await stats(other.client)).pending, 1);
      });

      test('an id of any length, none included, is one that does not exist', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        const post = async (path: string, body: object): Promise<unknown[]> => {
          const answer = await client.post(`/v1/inbox/${path}`, body);
          return [answer.status, answer.status === 200 ? answer.json : answer.json.code];
        };
        const [sent] = await send(client, typed(1));
        const endless = 'x'.repeat(100_000);
        assert.deepEqual(await post('ack', { ids: ['', endless, sent] }), [
          200,
          { acknowledged: 1, already_acknowledged: 0, unknown: ['', endless] },
        ]);
        assert.deepEqual(await post('nack', { ids: [endless] }), [200, { released: 0 }]);
        assert.deepEqual(await post('redrive', { ids: [endless] }), [200, { redriven: 0 }]);
        for (const lease of ['', endless]) {
          assert.deepEqual(await post('ack', { lease_id: lease }), [404, 'not_found']);
          assert.deepEqual(await post('nack', { lease_id: lease }), [404, 'not_found']);
          assert.deepEqual(await post('extend', { lease_id: lease, lease_seconds: 1 }), [404, 'not_found']);
        }
        assert.deepEqual(await post('seek', { to: `evt_${endless}` }), [404, 'not_found']);
        assert.deepEqual(await post('seek', { to: endless }), [422, 'validation_failed']);
      });
    });
  }
  after(stopServers);
});
