import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import { Client, createOrg } from '../support/client.js';
import type { Answer, TestOrg } from '../support/client.js';
import { startNode } from '../support/node.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';

after(stopServers);

const requests = 200;
const keys = 20;

for (const engine of engineNames) {
  const nodeCount = engine === 'postgres' ? 2 : 1;
  describe(`dedup (${engine}, nodes: ${nodeCount})`, async () => {
    const storage = await createStorage(engine);
    if (storage === null) {
      it('holds', { skip: 'NOT TESTED: there is no PostgreSQL server on this machine' });
      return;
    }
    const nodes: RunningServer[] = [];
    let org: TestOrg;
    before(async () => {
      for (let i = 0; i < nodeCount; i++) nodes.push(await startNode(storage));
      org = await createOrg(addressOf(0));
    });
    after(async () => {
      await Promise.all(nodes.map((node) => node.stop()));
      await storage.remove();
    });
    const addressOf = (i: number): string => nodes[i % nodeCount]?.address ?? '';
    const send = (body: Record<string, unknown>, headers: Record<string, string> = {}): Promise<Answer> =>
      org.client.post('/v1/events', { type: 'a.b', ...body }, headers);

    it(`stores one event for each of ${keys} keys of ${requests} concurrent requests; the others get its id`, async () => {
      const own = await createOrg(addressOf(0));
      const answers = await Promise.all(
        Array.from({ length: requests }, async (_, i) => {
          const key = i % keys;
          // Neighbours in time of one key go to different nodes.
          const client = new Client(addressOf(Math.floor(i / keys)), own.key);
          const body = { type: 'a.b', payload: { key }, dedup_id: `key ${key}` };
          return { key, answer: await client.post('/v1/events', body) };
        }),
      );
      for (let key = 0; key < keys; key++) {
        const same = answers.filter((each) => each.key === key).map(({ answer }) => answer);
        assert.deepEqual(statusesOf(same), [...Array(requests / keys - 1).fill(200), 201]);
        assert.equal(new Set(same.map(({ json }) => json.id)).size, 1);
        assert.equal(new Set(same.map(({ json }) => json.received_at)).size, 1);
        for (const { status, json } of same) assert.equal(json.duplicate, status === 200);
      }
      const { json } = await own.client.get('/v1/inbox?limit=1000');
      assert.equal(json.data.length, keys);
    });

    it('stores one of many different events that race for one key, and refuses the others', async () => {
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, i) =>
          new Client(addressOf(i), org.key).post('/v1/events', { type: 'a.b', payload: i, dedup_id: 'race' }),
        ),
      );
      assert.deepEqual(statusesOf(answers), [201, ...Array(19).fill(409)]);
    });

    it('refuses another payload or another type under a dedup id, and keeps the first', async () => {
      const first = await send({ payload: { a: 1 }, dedup_id: 'taken' });
      assert.equal(first.status, 201);
      for (const other of [{ payload: { a: 2 } }, { payload: { a: 1 }, type: 'a.c' }]) {
        const { status, json } = await send({ dedup_id: 'taken', ...other });
        assert.deepEqual([status, json.code], [409, 'dedup_mismatch']);
      }
      const bytes = await org.client.post('/v1/events', '{"type":"a.b","payload":{"a": 1},"dedup_id":"taken"}');
      assert.equal(bytes.status, 409, 'payloads are compared as bytes');
      const { json } = await org.client.get(`/v1/events/${first.json.id}`);
      assert.deepEqual(json.payload, { a: 1 });
    });

    it('answers a repeat that differs in subject and time only with the first event', async () => {
      const first = await send({ payload: 1, dedup_id: 'fields', subject: 'first' });
      const again = await send({
        payload: 1,
        dedup_id: 'fields',
        subject: 'second',
        occurred_at: '2020-01-01T00:00:00Z',
      });
      assert.deepEqual([again.status, again.json.id], [200, first.json.id]);
      assert.equal(again.headers.get('location'), `/v1/events/${first.json.id}`);
    });

    it('stores the same dedup id of two orgs as two events', async () => {
      const other = await createOrg(addressOf(0));
      const body = { type: 'a.b', payload: 1, dedup_id: 'same' };
      const answers = await Promise.all([org, other].map(({ client }) => client.post('/v1/events', body)));
      assert.deepEqual(
        answers.map(({ status }) => status),
        [201, 201],
      );
      assert.notEqual(answers[0]?.json.id, answers[1]?.json.id);
    });

    it('takes Idempotency-Key for a dedup id; where both are sent, the body wins', async () => {
      const first = await send({ payload: 1, dedup_id: 'by body' });
      const byHeader = await send({ payload: 1 }, { 'Idempotency-Key': 'by body' });
      assert.deepEqual([byHeader.status, byHeader.json.id], [200, first.json.id]);
      const both = await send({ payload: 1, dedup_id: 'by body' }, { 'Idempotency-Key': 'ignored' });
      assert.deepEqual([both.status, both.json.id], [200, first.json.id]);
      assert.equal((await send({ payload: 1 }, { 'Idempotency-Key': 'ignored' })).status, 201);
      const beside = await send({ payload: 1, dedup_id: 'by body' }, { 'Idempotency-Key': 'x'.repeat(256) });
      assert.deepEqual([beside.status, beside.json.id], [200, byHeader.json.id]);
    });

    it('stores equal events without a dedup id as many times as they are sent', async () => {
      const answers = await Promise.all(Array.from({ length: 10 }, () => send({ payload: 'same' })));
      assert.deepEqual(
        answers.map(({ status }) => status),
        Array(10).fill(201),
      );
      assert.equal(new Set(answers.map(({ json }) => json.id)).size, 10);
    });
  });
}

function statusesOf(answers: readonly Answer[]): number[] {
  return answers.map(({ status }) => status).toSorted((a, b) => a - b);
}
