import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import pg from 'pg';
import { StorageError } from '../../src/db/database.js';
import { renderProblem, toProblem } from '../../src/http/problem.js';
import { Client, createOrg } from '../support/client.js';
import { startCommitProxy } from '../support/commit-proxy.js';
import { startNode } from '../support/node.js';
import { assertProblem } from '../support/problem.js';
import { createStorage, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

after(stopServers);

const readyMsMax = 20_000;

/** Asks until the node is ready: the question is the only signal there is from outside. */
async function untilReady(client: Client): Promise<void> {
  const giveUpAt = performance.now() + readyMsMax;
  while ((await client.get('/readyz')).status !== 200) {
    assert.ok(performance.now() < giveUpAt, 'the node did not become ready again');
  }
}

/** A node whose way to PostgreSQL can be cut. */
async function startBehindProxy(storage: TestStorage) {
  const url = new URL(storage.config.databaseUrl ?? '');
  const proxy = await startCommitProxy(Number(url.port));
  url.port = String(proxy.port);
  const node = await startNode({ ...storage, config: { ...storage.config, databaseUrl: url.href } });
  return { proxy, node };
}

test('a storage that goes away in the middle of a commit is told as what it is, and everything works when it is back', async (t) => {
  const storage = await createStorage('postgres');
  if (storage === null) return t.skip('no PostgreSQL on this machine');
  const { proxy, node } = await startBehindProxy(storage);
  t.after(async () => {
    await node.stop();
    await proxy.close();
  });
  const { client } = await createOrg(node.address);
  const event = { type: 'a', payload: 1, dedup_id: 'once' };

  const broken = proxy.breakCommit('blackout');
  const unsettled = client.post('/v1/events', event);
  await broken;

  const notReady = await client.get('/readyz');
  assert.equal(notReady.status, 503);
  assert.equal(notReady.json.failing, 'storage');
  assert.equal(notReady.headers.get('retry-after'), '1');
  assert.equal((await client.get('/healthz')).status, 200);
  assertProblem(await client.get('/v1/org'), 'storage_unavailable');
  assertProblem(await unsettled, 'outcome_unknown');
  assertProblem(await client.post('/v1/events', { type: 'a', payload: 2 }), 'storage_unavailable');

  proxy.restore();
  await untilReady(client);
  const again = await client.post('/v1/events', event);
  assert.equal(again.status, 200);
  assert.equal(again.json.duplicate, true);
  assert.equal((await client.get('/v1/inbox/stats')).json.pending, 1);
});

test('the events of a batch whose commit is lost are told of one by one, and stored once when they are sent again', async (t) => {
  const storage = await createStorage('postgres');
  if (storage === null) return t.skip('no PostgreSQL on this machine');
  const { proxy, node } = await startBehindProxy(storage);
  t.after(async () => {
    await node.stop();
    await proxy.close();
  });
  const { client } = await createOrg(node.address);
  const batch = [1, 2, 3].map((payload) => ({ type: 'a', payload, dedup_id: `n${payload}` }));
  const broken = proxy.breakCommit('blackout');
  const unsettled = client.post('/v1/events/batch', [...batch, {}]);
  await broken;
  const { status, json } = await unsettled;
  assert.equal(status, 200);
  const codes = json.results.map((result: { status: number; code: string }) => `${result.status} ${result.code}`);
  assert.deepEqual(codes, [...Array(3).fill('503 outcome_unknown'), '422 validation_failed']);
  proxy.restore();
  await untilReady(client);
  for (const atomic of [false, true]) {
    const again = await client.post(`/v1/events/batch?atomic=${atomic}`, batch);
    assert.deepEqual([again.json.duplicates, again.json.rejected], [3, 0]);
  }
  assert.equal((await client.get('/v1/inbox/stats')).json.pending, 3);
});

test('a node stops without a failure while its storage is gone', async (t) => {
  const storage = await createStorage('postgres');
  if (storage === null) return t.skip('no PostgreSQL on this machine');
  const { proxy, node } = await startBehindProxy(storage);
  await proxy.close();
  await node.stop();
  await assert.rejects(new Client(node.address, null).get('/healthz'));
});

test('a fault of the server is 500 and says nothing of SQL, tables or stacks', async (t) => {
  const storage = await createStorage('postgres');
  if (storage === null) return t.skip('no PostgreSQL on this machine');
  const node = await startNode(storage);
  t.after(() => node.stop());
  const { client } = await createOrg(node.address);
  const superuser = new pg.Client(storage.config.databaseUrl ?? '');
  await superuser.connect();
  await superuser.query('ALTER TABLE subscriptions RENAME COLUMN cursor TO gone');
  await superuser.end();

  const answer = await client.get('/v1/inbox/stats');
  const problem = assertProblem(answer, 'internal');
  assert.match(problem.detail, /request_id/);
  assert.doesNotMatch(answer.text, /column|subscriptions|cursor|42703|select|at .*\.js/i);
});

test('each kind of storage failure has its code, and what is no refusal is internal without its text', () => {
  const codeOf = (error: unknown): string => {
    const { status, headers, body, mediaType } = renderProblem(toProblem(error), 'id-1');
    assert.equal(String(body).includes('SECRET'), false);
    const all = new Headers({ ...headers, 'Content-Type': mediaType ?? '', 'X-Request-Id': 'id-1' });
    return assertProblem({ status, headers: all, text: String(body) }).code;
  };
  const sql = (sqlstate: string): StorageError => new StorageError('sql', 'SECRET', { sqlstate, where: 'SECRET' });
  assert.equal(codeOf(new StorageError('unavailable', 'SECRET')), 'storage_unavailable');
  assert.equal(codeOf(new StorageError('outcome_unknown', 'SECRET')), 'outcome_unknown');
  for (const passing of ['55P03', '57014', '40P01', '53300', '08006', '25006', '42P01']) {
    assert.equal(codeOf(sql(passing)), 'storage_unavailable', passing);
  }
  for (const lasting of ['42703', '23505', '22021', '42501']) assert.equal(codeOf(sql(lasting)), 'internal', lasting);
  assert.equal(codeOf(new Error('SECRET')), 'internal');
  assert.equal(codeOf('SECRET'), 'internal');
});
