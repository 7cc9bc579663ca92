import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import type { TestOrg } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { startNode } from '../support/node.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { receive, send, stats, untilWaiting } from './consumer.js';

/** Far below the wait of 25 s, and below the 5 s after which a waiter looks by itself: so what wakes it is the event. */
const promptMsMax = 4_000;

async function timed<T>(work: Promise<T>): Promise<{ readonly result: T; readonly ms: number }> {
  const startedAtMs = performance.now();
  const result = await work;
  return { result, ms: performance.now() - startedAtMs };
}

describe('a receiver that waits', () => {
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

      test('is told at once that its inbox is gone, and so are those behind it', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        await client.post('/v1/inboxes', { name: 'brief' });
        const wait = () => timed(client.post('/v1/inboxes/brief/receive', { wait_seconds: 25 }));
        const waiting = [wait(), wait(), wait()];
        await untilWaiting(node.address, 3);
        assert.equal((await client.call('DELETE', '/v1/inboxes/brief')).status, 204);
        for (const { result, ms } of await Promise.all(waiting)) {
          assert.equal(result.json.code, 'not_found');
          assert.ok(ms < promptMsMax, `${ms} ms`);
        }
      });

      test('is answered as soon as an event arrives', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        const waiting = receive(client, { wait_seconds: 25 });
        await untilWaiting(node.address, 1);
        const [id] = await send(client, [{}]);
        const { result, ms } = await timed(waiting);
        assert.deepEqual([result.json.data[0].id, result.json.data[0].attempt], [id, 1]);
        assert.ok(ms < promptMsMax, `${ms} ms`);
      });

      test('is not woken to an empty answer by the event of another org', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const [mine, other] = [await anOrg(), await anOrg()];
        const waiting = receive(mine.client, { wait_seconds: 25 });
        await untilWaiting(node.address, 1);
        await send(other.client, [{}]);
        const [id] = await send(mine.client, [{}]);
        assert.equal((await waiting).json.data[0].id, id);
        assert.equal((await stats(other.client)).pending, 1);
      });

      test('is one of many, and each event wakes one to take it', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        const waiting = Array.from({ length: 20 }, () => receive(client, { wait_seconds: 25, max: 1 }));
        await untilWaiting(node.address, 20);
        const ids = await send(
          client,
          Array.from({ length: 20 }, () => ({})),
        );
        const { result, ms } = await timed(Promise.all(waiting));
        const received: string[] = result.map(({ json }) => json.data[0].id);
        assert.deepEqual(received.toSorted(), ids.toSorted());
        assert.ok(ms < promptMsMax, `${ms} ms`);
      });

      test('is answered when the lease of another ends', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        const [id] = await send(client, [{}]);
        const first = await receive(client, { lease_seconds: 1 });
        const { result, ms } = await timed(receive(client, { wait_seconds: 25 }));
        assert.ok(Date.now() >= Date.parse(first.json.lease_expires_at));
        assert.deepEqual([result.json.data[0].id, result.json.data[0].attempt], [id, 2]);
        assert.ok(ms < 1000 + promptMsMax, `${ms} ms`);
      });

      test('is answered without a lease when its time is up', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        const { result, ms } = await timed(receive(client, { wait_seconds: 1 }));
        assert.deepEqual(result.json, { lease_id: null, lease_expires_at: null, data: [] });
        assert.ok(ms >= 995, `${ms} ms`);
      });

      test('leaves no lease behind when it goes away', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        const gone = new AbortController();
        const waiting = client.call('POST', '/v1/inbox/receive', { wait_seconds: 25 }, {}, gone.signal);
        await untilWaiting(node.address, 1);
        gone.abort();
        await assert.rejects(waiting);
        await untilWaiting(node.address, 0);
        const [id] = await send(client, [{}]);
        const { json } = await receive(client);
        assert.deepEqual([json.data[0].id, json.data[0].attempt], [id, 1]);
      });

      test('is answered at once, empty, when the node stops', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const { client } = await anOrg();
        const waiting = receive(client, { wait_seconds: 25 });
        await untilWaiting(node.address, 1);
        const { ms } = await timed(node.stop());
        assert.deepEqual((await waiting).json, { lease_id: null, lease_expires_at: null, data: [] });
        assert.ok(ms < promptMsMax, `${ms} ms`);
      });
    });
  }

  test('on one node is answered when the event arrives through another', async (t) => {
    const storage = await createStorage('postgres');
    if (storage === null) return t.skip('no PostgreSQL');
    const nodes = await Promise.all([startNode(storage), startNode(storage)]);
    try {
      const { client, key } = await createOrg(nodes[0].address);
      const waiting = receive(client, { wait_seconds: 25 });
      await untilWaiting(nodes[0].address, 1);
      const [id] = await send(new Client(nodes[1].address, key), [{}]);
      const { result, ms } = await timed(waiting);
      assert.equal(result.json.data[0].id, id);
      assert.ok(ms < promptMsMax, `${ms} ms`);
    } finally {
      await Promise.all(nodes.map((node) => node.stop()));
    }
  });
  after(stopServers);
});
