/** The way to PostgreSQL becomes a black hole under a node: connections stay open, and nothing comes any more. */
import assert from 'node:assert/strict';
import { after, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { Answer } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { startNode } from '../support/node.js';
import { startSilentProxy } from '../support/silent-proxy.js';
import { createStorage, stopServers } from '../support/storage.js';

after(stopServers);

/** A commit that waits to begin (5 s), a session that is given up (15 s), and the look for what became of it (8 s), with some room. */
const deadlineMs = 45_000;
const events = 60;
const readers = 20;
/** Far more than it takes until everything is taken again. */
const backMsMax = 20_000;

it('ends every request with a refusal in its time, and has each event once when the database is back', async (t) => {
  const storage = await createStorage('postgres');
  if (storage === null) return t.skip('NOT TESTED: there is no PostgreSQL server on this machine');
  const direct = new URL(storage.config.databaseUrl ?? '');
  const proxy = await startSilentProxy(Number(direct.port));
  const proxied = new URL(direct);
  proxied.port = String(proxy.port);
  const node = await startNode({ ...storage, config: { ...storage.config, databaseUrl: proxied.href } });
  t.after(async () => {
    await proxy.close();
    await node.stop();
  });
  const { client } = await createOrg(node.address);
  const call = (method: string, path: string, body?: unknown): Promise<Answer> =>
    client.call(method, path, body, {}, AbortSignal.timeout(deadlineMs));
  const send = (payload: number): Promise<Answer> =>
    call('POST', '/v1/events', { type: 'a', payload, dedup_id: `n${payload}` });
  const numbers = Array.from({ length: events }, (_, i) => i);
  assert.equal((await send(0)).status, 201);

  // Half of them are under way when it happens, half come after it.
  const early = numbers.slice(0, events / 2).map(send);
  proxy.silence();
  const late = numbers.slice(events / 2).map(send);
  const reads = Array.from({ length: readers }, () => call('POST', '/v1/inbox/receive', { max: 1 }));
  for (const { status, json, headers } of await Promise.all([...early, ...late, ...reads])) {
    if (status === 201 || status === 200) continue;
    assert.equal(status, 503);
    assert.match(json.code, /^(storage_unavailable|outcome_unknown|overloaded)$/);
    assert.ok(headers.has('retry-after'));
  }

  proxy.restore();
  while ((await new Client(node.address, null).get('/readyz')).status !== 200) await pause(50);
  // A session of before may still be on its way out: a client that is told to come again does so.
  const giveUpAt = performance.now() + backMsMax;
  const sendAgain = async (payload: number): Promise<Answer> => {
    for (;;) {
      const answer = await send(payload);
      if (answer.status !== 503 || performance.now() > giveUpAt) return answer;
      await pause(1000 * Number(answer.headers.get('retry-after')));
    }
  };
  for (const { status, text } of await Promise.all(numbers.map(sendAgain))) {
    assert.ok(status === 201 || status === 200, text);
  }
  for (const { status, json } of await Promise.all(numbers.map(send))) {
    assert.deepEqual([status, json.duplicate], [200, true]);
  }
  const { json } = await client.get('/v1/inbox/stats');
  assert.equal(json.pending + json.leased, events);
});
