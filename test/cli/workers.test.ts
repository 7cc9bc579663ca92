/** Several processes that share a port, on a real PostgreSQL: they are one node to whoever uses it, and none of them matters alone. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { readAcknowledged, repeatAcknowledged, Traffic, walkInbox } from '../promises/traffic.js';
import { violations } from '../promises/ledger.js';
import { Client, createOrg } from '../support/client.js';
import { adminToken, startNode } from '../support/node.js';
import { createStorage, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { runChild } from './child.js';
import { startWorkerGroup } from './worker-group.js';
import type { WorkerGroup } from './worker-group.js';

const made = await createStorage('postgres');
const skip = made === null ? 'no PostgreSQL on this machine' : false;
const kills = process.env['SLUICE_TEST_SOAK'] === '1' ? 12 : 2;

/** A scrape ends within four seconds, whatever is slow. */
const scrapesMax = 30;

/** Of a test, or of those that share workers: many times what they take. */
const timeout = 120_000 + 20_000 * kills;

after(stopServers);

describe('two workers', { skip, timeout }, () => {
  let group: WorkerGroup;
  let address: string;
  before(async () => {
    group = startWorkerGroup(storageOf());
    address = await group.ready();
  });
  after(() => group.end());

  test('are ready when both serve, on one port, and say so once', async () => {
    await group.until(() => group.workers().length === 2);
    assert.equal(group.stdout().match(/ready/g)?.length, 1);
  });

  test('have metrics that are the sums of both, whichever is asked', async () => {
    const { key } = await createOrg(address);
    // None stores before, in this group.
    for (let i = 0; i < 10; i++) assert.equal((await postAlone(key)).status, 201);
    for (let i = 0; i < 4; i++) await metricsAre({ sluice_processes: 2, sluice_events_stored_total: 10 });
  });

  test('give an org its limit once, not twice', async () => {
    const { id, key } = await createOrg(address);
    const burst = 100;
    const admin = new Client(address, adminToken);
    await admin.call('PATCH', `/v1/orgs/${id}`, { limits: { rate_per_minute: 1, burst } });
    let granted = 0;
    let refused = 0;
    // Each on a connection of its own, so that they go round.
    for (let i = 0; i < 2 * burst; i++) {
      const { status } = await postAlone(key);
      if (status === 201) granted++;
      else if (status === 429) refused++;
    }
    assert.equal(granted + refused, 2 * burst);
    // What the other has granted meanwhile is heard of within some 25 ms, when the machine has the time.
    assert.ok(granted >= burst && granted < 1.5 * burst, `${granted} of ${burst} were granted`);
  });

  test('when one is killed under load the other goes on, it is replaced, and nothing acknowledged is lost or doubled', async (t) => {
    const { client } = await createOrg(address);
    const counted = await metric('sluice_events_stored_total');
    const traffic = new Traffic();
    for (let kill = 1; kill <= kills; kill++) {
      const stop = new AbortController();
      t.after(() => stop.abort());
      // Who gets no answer goes on, as a client would: on a connection to whoever is left.
      const send = async (): Promise<void> => {
        while (!stop.signal.aborted) await traffic.sendUntilGone(client, 1, stop.signal);
      };
      const clients = Promise.all(Array.from({ length: 8 }, send));
      await traffic.receipts(30);
      const replaced = group.oneMore();
      process.kill(group.workers()[0] ?? NaN, 'SIGKILL');
      await traffic.receipts(30);
      await replaced;
      stop.abort();
      await clients;
    }
    assert.match(group.stderr(), /"signal":"SIGKILL".*"a worker has ended"/);
    await traffic.retryUnanswered(client);
    const { sendings } = traffic;
    t.diagnostic(
      `${sendings.length} events, ${sendings.filter(({ unknown }) => unknown).length} once without an answer`,
    );
    assert.deepEqual(violations(sendings, await walkInbox(client)), []);
    assert.deepEqual(await repeatAcknowledged(client, sendings.slice(0, 100)), []);
    assert.deepEqual(await readAcknowledged(client, sendings.slice(0, 100)), []);
    // What the killed ones had counted by then is not taken back.
    assert.ok((await metric('sluice_events_stored_total')) >= counted);
  });

  test('a connection that is on its way to a worker when it is killed is closed, not forgotten', async () => {
    await group.until(() => group.workers().length === 2);
    const victim = group.workers()[0] ?? NaN;
    process.kill(victim, 'SIGSTOP');
    const { port } = new URL(address);
    // One of two in a row is for the one that does not move.
    const ends = [1, 2].map(async () => {
      const socket = connect(Number(port), '127.0.0.1');
      // Where it is forgotten, nothing else ends it.
      socket.setTimeout(20_000, () => socket.destroy(new Error('forgotten')));
      let reply = '';
      socket.on('error', (error) => {
        if (error.message === 'forgotten') reply = error.message;
      });
      socket.end('GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
      socket.setEncoding('utf8').on('data', (text: string) => {
        reply += text;
      });
      await new Promise((resolve) => socket.once('close', resolve));
      return reply.split('\r\n', 1)[0];
    });
    assert.equal(await Promise.race(ends), 'HTTP/1.1 200 OK');
    const replaced = group.oneMore();
    process.kill(victim, 'SIGKILL');
    assert.deepEqual(new Set(await Promise.all(ends)), new Set(['', 'HTTP/1.1 200 OK']));
    await replaced;
  });

  test('a worker that gets SIGTERM drains and is replaced', async () => {
    await group.until(() => group.workers().length === 2);
    const replaced = group.oneMore();
    process.kill(group.workers()[0] ?? NaN, 'SIGTERM');
    await replaced;
    assert.match(group.stderr(), /"code":0,"signal":null.*"a worker has ended"/);
  });

  test('when all are killed at once, it serves again on the port that it named', async () => {
    await group.until(() => group.workers().length === 2);
    const killed = group.workers();
    for (const worker of killed) process.kill(worker, 'SIGKILL');
    await group.until(() => group.workers().some((worker) => !killed.includes(worker)));
    assert.equal((await alone('GET', '/healthz', adminToken)).status, 200);
  });

  test('SIGTERM under load ends them all with 0, and nothing acknowledged is lost', async () => {
    await group.until(() => group.workers().length === 2);
    const org = await createOrg(address);
    const traffic = new Traffic();
    const clients = traffic.sendUntilGone(org.client, 8);
    await traffic.receipts(50);
    group.signal('SIGTERM');
    assert.equal(await group.ended, 0, group.stderr());
    await clients;
    await group.allEnded;
    const node = await startNode(storageOf());
    try {
      const client = new Client(node.address, org.key);
      await traffic.retryUnanswered(client);
      assert.deepEqual(violations(traffic.sendings, await walkInbox(client)), []);
    } finally {
      await node.stop();
    }
  });

  async function metric(name: string): Promise<number> {
    return (await metrics([name]))[name] ?? NaN;
  }

  /** Asks again while the machine is too slow for both workers to answer a scrape, which then counts what they said before, or is refused. */
  async function metricsAre(expected: Readonly<Record<string, number>>): Promise<void> {
    let seen = await metrics(Object.keys(expected));
    for (let asked = 1; asked < scrapesMax && !isDeepStrictEqual(seen, expected); asked++) {
      seen = await metrics(Object.keys(expected));
    }
    assert.deepEqual(seen, expected);
  }

  async function metrics(names: readonly string[]): Promise<Record<string, number>> {
    let { status, text } = await getAlone('/metrics', adminToken);
    for (let asked = 1; asked < scrapesMax && status === 503; asked++) {
      ({ status, text } = await getAlone('/metrics', adminToken));
    }
    assert.equal(status, 200, text);
    const read = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? NaN);
    return Object.fromEntries(names.map((name) => [name, read(name)]));
  }

  const getAlone = (path: string, key: string) => alone('GET', path, key);
  const postAlone = (key: string) => alone('POST', '/v1/events', key, '{"type":"a","payload":1}');

  /** On a connection of its own. */
  async function alone(
    method: string,
    path: string,
    key: string,
    body = '',
  ): Promise<{ status: number; text: string }> {
    const headers = { Authorization: `Bearer ${key}`, ...(body === '' ? {} : { 'Content-Type': 'application/json' }) };
    const asked = request(address + path, { method, headers, agent: false });
    asked.end(body);
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    let text = '';
    for await (const chunk of response.setEncoding('utf8')) text += chunk;
    return { status: response.statusCode ?? 0, text };
  }
});

test('workers whose primary is killed drain and end by themselves', { skip, timeout }, async (t) => {
  const group = startWorkerGroup(storageOf());
  t.after(() => group.end());
  const address = await group.ready();
  const org = await createOrg(address);
  const waiting = org.client.post('/v1/inbox/receive', { wait_seconds: 20 });
  waiting.catch(() => {});
  const admin = new Client(address, adminToken);
  while (!/^sluice_inbox_waiters 1$/m.test((await admin.get('/metrics')).text));
  group.signal('SIGKILL');
  assert.equal(await group.ended, 'SIGKILL');
  // A request under way is answered.
  assert.equal((await waiting).status, 200);
  await group.allEnded;
  assert.equal(group.stderr().match(/"msg":"stopped"/g)?.length, 2, group.stderr());
});

test('a start that cannot be says so once, and ends with 1', { skip, timeout }, async (t) => {
  const taken = await startNode(storageOf());
  t.after(() => taken.stop());
  const { port } = new URL(taken.address);
  const failing = [
    { flags: ['--port', port], sentence: /^Port \d+ of 127\.0\.0\.1 is in use; .*\n$/ },
    {
      flags: ['--workers', '20'],
      sentence:
        /^The 20 processes of this node would open up to 220 connections, .*SLUICE_DB_POOL or SLUICE_WORKERS\.\n$/,
    },
    { flags: ['--database-url', 'postgres://nobody@127.0.0.1:1/none'], sentence: /^No PostgreSQL answers at .*\n$/ },
  ];
  for (const { flags, sentence } of failing) {
    const group = startWorkerGroup(storageOf(), [...flags, '--log-level', 'warn']);
    t.after(() => group.end());
    assert.equal(await group.ended, 1);
    await group.allEnded;
    assert.match(group.stderr(), sentence);
    assert.equal(group.stdout(), '');
  }
});

test('workers that end again and again are given up, with a sentence and 1', { timeout }, async (t) => {
  const child = runChild(t, 'workers-child.js', ['crash']);
  assert.equal(await child.ended, 1);
  assert.match(child.stderr(), /^Workers end soon after their start, again and again \(the last one by exit code 7\)/m);
  const starts = child.stderr().match(/"msg":"a worker serves"/g)?.length ?? 0;
  assert.ok(starts > 5 && starts < 15, `${starts} starts`);
});

test('a signal before the workers are ready ends them with 0, without a banner', { timeout }, async (t) => {
  const child = runChild(t, 'workers-child.js', ['never-ready']);
  await child.saw('stderr', /^opening$/m);
  child.signal('SIGTERM');
  await child.saw('stderr', /"msg":"stopping"/);
  assert.equal(await child.ended, 0);
  assert.equal(child.stdout(), '');
});

test('a second signal ends workers that do not stop', { timeout }, async (t) => {
  const child = runChild(t, 'workers-child.js', ['never-stops']);
  await child.saw('stdout', /ready/);
  child.signal('SIGTERM');
  await child.saw('stderr', /^stop called$/m);
  // What comes within half a second is the same Ctrl-C.
  const again = setInterval(() => child.signal('SIGTERM'), 200);
  t.after(() => clearInterval(again));
  // It ends when nobody has its output open any more, so the workers have ended as well.
  assert.equal(await child.ended, 1);
});

function storageOf(): TestStorage {
  assert.ok(made !== null);
  return made;
}
