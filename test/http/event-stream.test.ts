import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { RunningServer } from '../../src/app.js';
import { encodeEventId } from '../../src/event-log/event-id.js';
import { decodeOrgId } from '../../src/ids.js';
import { send } from '../inbox/consumer.js';
import { Client, createOrg } from '../support/client.js';
import type { TestOrg } from '../support/client.js';
import { EventSource } from '../support/event-source.js';
import { append, openDatabase } from '../support/log.js';
import { adminToken, startNode } from '../support/node.js';
import { assertProblem } from '../support/problem.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { NodeClock } from '../support/test-clock.js';

const streamsPerOrgMax = 100;
const keyCheckMs = 500;
const pollMs = 5_000;

/** Resolves when exactly this many streams are open on a node, as its own metrics say. */
async function untilOpen(address: string, count: number): Promise<void> {
  const admin = new Client(address, adminToken);
  while (!new RegExp(`^sluice_event_streams ${count}$`, 'm').test((await admin.get('/metrics')).text)) await pause(5);
}

interface World {
  readonly storage: TestStorage;
  /** One on the embedded engine, two on PostgreSQL. Their time stands still, so nothing but a message or `advance` makes a stream look again. */
  readonly nodes: readonly RunningServer[];
  readonly address: string;
  readonly advance: (ms: number) => void;
  readonly anOrg: () => Promise<TestOrg>;
}

async function withWorld(storage: TestStorage, work: (world: World) => Promise<void>): Promise<void> {
  const clocks = (storage.engine === 'postgres' ? [1, 2] : [1]).map(() => new NodeClock());
  const nodes: RunningServer[] = [];
  try {
    for (const clock of clocks) nodes.push(await startNode(storage, {}, clock));
    const address = nodes[0]?.address ?? '';
    const advance = (ms: number): void => {
      for (const clock of clocks) clock.advance(ms);
    };
    await work({ storage, nodes, address, advance, anOrg: () => createOrg(address) });
  } finally {
    await Promise.all(nodes.map((node) => node.stop()));
  }
}

/** The credentials of an org at another node. */
const at = (node: RunningServer | undefined, { client }: TestOrg): Client =>
  new Client(node?.address ?? '', client.credential);

const promises: Readonly<Record<string, (world: World) => Promise<void>>> = {
  'sends each event as it is stored, with its id and as it is read alone': async ({ anOrg }) => {
    const { client } = await anOrg();
    await send(client, [{}]);
    const source = await EventSource.open(client);
    for (const payload of ['1', '{"a":\n [1,\r\n2,\r3]\n}', '"\\u000a"', '[ "line\\r\\n" ]']) {
      const { json } = await client.post('/v1/events', `{"type":"a","subject":"s","payload":${payload}}`);
      const event = await source.next();
      const alone = await client.get(`/v1/events/${json.id}`);
      assert.equal(event?.id, json.id);
      // A client joins lines with a line feed, whatever they were broken by; between the values of JSON it makes no difference.
      assert.equal(event?.data, alone.text.replaceAll(/\r\n|\r/g, '\n'));
      assert.deepEqual(JSON.parse(event?.data ?? ''), alone.json);
    }
    assert.equal(source.headers['cache-control'], 'no-store');
    assert.ok(source.headers['x-request-id']);
    source.close();
  },

  'sends every event to each of many streams, and not to those of another org': async ({ nodes, address, anOrg }) => {
    const [mine, other] = [await anOrg(), await anOrg()];
    const clients = [...nodes.map((node) => at(node, mine)), mine.client, mine.client];
    const sources = await Promise.all(clients.map((client) => EventSource.open(client)));
    const foreign = await EventSource.open(other.client);
    for (let round = 0; round < 5; round++) {
      const [id] = await send(mine.client, [{}]);
      for (const source of sources) assert.equal((await source.next())?.id, id);
    }
    const [own] = await send(other.client, [{}]);
    assert.equal((await foreign.next())?.id, own);
    for (const source of [...sources, foreign]) source.close();
    await untilOpen(address, 0);
  },

  'goes on after an event, by header or by parameter, and the header is the later': async ({ anOrg }) => {
    const { client } = await anOrg();
    const ids = await send(client, [{}, {}, {}]);
    const resumed = async (search: string, headers: Record<string, string>, count: number): Promise<string[]> => {
      const source = await EventSource.open(client, search, headers);
      const events = await source.take(count);
      source.close();
      return events.map(({ id }) => id);
    };
    assert.deepEqual(await resumed(`?after=${ids[0]}`, {}, 2), ids.slice(1));
    assert.deepEqual(await resumed('', { 'Last-Event-ID': ids[1] ?? '' }, 1), ids.slice(2));
    assert.deepEqual(await resumed(`?after=${ids[0]}`, { 'Last-Event-ID': ids[1] ?? '' }, 1), ids.slice(2));
    assert.deepEqual(await resumed(`?after=${ids[0]}`, { 'Last-Event-ID': '' }, 2), ids.slice(1));
  },

  'misses and repeats nothing, however often the client connects again while events are stored': async ({ anOrg }) => {
    const { client } = await anOrg();
    const ids = await send(client, [{}]);
    const sending = (async () => {
      for (let i = 0; i < 60; i++) {
        const batch = Array.from({ length: 1 + (i % 4) }, () => client.post('/v1/events', { type: 'a', payload: i }));
        ids.push(...(await Promise.all(batch)).map(({ json }) => json.id as string));
      }
    })();
    const received = ids.slice(0, 1);
    for (let connection = 1; received.length < 1 + 150; connection++) {
      const source = await EventSource.open(client, '', { 'Last-Event-ID': received.at(-1) ?? '' });
      const count = Math.min(1 + ((connection * 7) % 13), 151 - received.length);
      received.push(...(await source.take(count)).map(({ id }) => id));
      source.close();
    }
    await sending;
    // Ids sort in log order.
    assert.deepEqual(received, ids.toSorted());
  },

  'sends the types and the fields that are asked for': async ({ anOrg }) => {
    const { client } = await anOrg();
    const source = await EventSource.open(client, '?type=user.*&type=orders&fields=id,type');
    const ids = await send(client, [
      { type: 'users' },
      { type: 'user.created' },
      { type: 'order' },
      { type: 'orders' },
    ]);
    assert.deepEqual(await source.take(2), [
      { id: ids[1], data: `{"id":"${ids[1]}","type":"user.created"}` },
      { id: ids[3], data: `{"id":"${ids[3]}","type":"orders"}` },
    ]);
    source.close();
  },

  'sends a backlog of more than one look': async ({ anOrg }) => {
    const { client } = await anOrg();
    const [first] = await send(client, [{}]);
    const large = 'x'.repeat(30_000);
    const events = Array.from({ length: 230 }, (_, i) => ({ type: 'a', payload: i % 10 === 0 ? large : i }));
    const ids = await Promise.all(
      events.map(async (event) => (await client.post('/v1/events', event)).json.id as string),
    );
    const source = await EventSource.open(client, `?after=${first}`);
    assert.deepEqual(
      (await source.take(230)).map(({ id }) => id),
      ids.toSorted(),
    );
    source.close();
  },

  'refuses to go on after what was never an event of this log, and what it does not know': async ({ anOrg }) => {
    const [{ client, id }, other] = [await anOrg(), await anOrg()];
    await send(client, [{}]);
    const [foreign] = await send(other.client, [{}]);
    const place = { org: decodeOrgId(id) ?? '', epoch: 1, position: 1, day: Math.floor(Date.now() / 86_400_000) };
    const never = [
      foreign ?? '',
      'evt_nothing',
      encodeEventId({ ...place, position: 2 }),
      encodeEventId({ ...place, epoch: 2 }),
      encodeEventId({ ...place, day: place.day + 1 }),
    ];
    for (const event of never) {
      assertProblem(await client.get(`/v1/events/stream?after=${event}`), 'not_found');
      assertProblem(await client.get('/v1/events/stream', { 'Last-Event-ID': event }), 'not_found');
    }
    for (const search of ['limit=1', 'after=a&after=b', 'fields=x', 'type=a*', 'since=2026-01-01T00:00:00Z']) {
      assertProblem(await client.get(`/v1/events/stream?${search}`), 'validation_failed');
    }
    assertProblem(await client.get('/v1/events/stream', { Accept: 'application/json' }), 'not_acceptable');
    const { json } = await client.post('/v1/keys', { name: 'writer', scopes: ['events:write'] });
    const writer = await client.get('/v1/events/stream', { Authorization: `Bearer ${json.key}` });
    assert.match(assertProblem(writer, 'insufficient_scope').detail, /events:read/);
  },

  'is opened by any client that takes it, and a HEAD ends at once': async ({ anOrg, address }) => {
    const { client } = await anOrg();
    for (const accept of ['*/*', 'text/*', 'application/json;q=0.1, text/event-stream']) {
      const source = await EventSource.open(client, '', { Accept: accept });
      source.close();
    }
    const head = await client.call('HEAD', '/v1/events/stream');
    assert.deepEqual([head.status, head.headers.get('content-type'), head.text], [200, 'text/event-stream', '']);
    await untilOpen(address, 0);
  },

  'is kept open by a comment every 15 s': async ({ anOrg, advance, address }) => {
    const { client } = await anOrg();
    const source = await EventSource.open(client);
    const [id] = await send(client, [{}]);
    assert.equal((await source.next())?.id, id);
    for (let round = 0; round < 3; round++) {
      advance(15_000);
      await source.comment();
    }
    assert.equal(source.comments, 3);
    source.close();
    await untilOpen(address, 0);
  },

  'goes on while its key holds, and ends when it is deleted, on every node': async ({ nodes, anOrg, advance }) => {
    const org = await anOrg();
    const { json } = await org.client.post('/v1/keys', { name: 'reader', scopes: ['events:read'] });
    const readers = nodes.map((node) => new Client(node.address, json.key));
    const doomed = await Promise.all(readers.map((client) => EventSource.open(client)));
    const living = await EventSource.open(org.client);
    for (let round = 0; round < 3; round++) {
      advance(keyCheckMs);
      const [id] = await send(org.client, [{}]);
      for (const source of [...doomed, living]) assert.equal((await source.next())?.id, id);
    }
    const ended = Promise.all(doomed.map((source) => source.next()));
    assert.equal((await org.client.call('DELETE', `/v1/keys/${json.id}`)).status, 204);
    assert.ok((await whileTimeGoesOn(ended, () => advance(keyCheckMs))).every((event) => event === null));
    const [id] = await send(org.client, [{}]);
    assert.equal((await living.next())?.id, id);
    living.close();
  },

  'ends when its org is suspended': async ({ anOrg, advance, address }) => {
    const org = await anOrg();
    const source = await EventSource.open(org.client);
    const admin = new Client(address, adminToken);
    assert.equal((await admin.call('PATCH', `/v1/orgs/${org.id}`, { suspended: true })).status, 200);
    assert.equal(await whileTimeGoesOn(source.next(), () => advance(keyCheckMs)), null);
  },

  'has a place among a hundred of its org; the next is refused until one is closed': async ({ anOrg, address }) => {
    const [org, other] = [await anOrg(), await anOrg()];
    const sources = await Promise.all(Array.from({ length: streamsPerOrgMax }, () => EventSource.open(org.client)));
    const { retry_after } = assertProblem(await org.client.get('/v1/events/stream'), 'overloaded');
    assert.ok((retry_after ?? 0) > 0);
    (await EventSource.open(other.client)).close();
    sources.pop()?.close();
    await untilOpen(address, streamsPerOrgMax - 1);
    sources.push(await EventSource.open(org.client));
    const [id] = await send(org.client, [{}]);
    for (const source of sources) assert.equal((await source.next())?.id, id);
    for (const source of sources) source.close();
    await untilOpen(address, 0);
  },

  'ends when the node stops, and the client goes on at the next node': async ({ storage, nodes, anOrg }) => {
    const org = await anOrg();
    const source = await EventSource.open(org.client);
    const [id] = await send(org.client, [{}]);
    assert.equal((await source.next())?.id, id);
    const ended = source.next();
    await nodes[0]?.stop();
    assert.equal(await ended, null);
    const node = nodes[1] ?? (await startNode(storage));
    const client = at(node, org);
    const resumed = await EventSource.open(client, '', { 'Last-Event-ID': id ?? '' });
    const [next] = await send(client, [{}]);
    assert.equal((await resumed.next())?.id, next);
    resumed.close();
    await node.stop();
  },
};

/** Moves the time until something has happened: whoever waits for it may not have begun to. */
async function whileTimeGoesOn<T>(happening: Promise<T>, advance: () => void): Promise<T> {
  const happened = happening.then(() => true);
  do advance();
  while (!(await Promise.race([happened, pause(50, false)])));
  return happening;
}

const storages = await Promise.all(engineNames.map(createStorage));
for (const [i, engine] of engineNames.entries()) {
  const storage = storages[i] ?? null;
  describe(`a stream on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage === null) return;
    after(() => storage.remove());
    for (const [promise, hold] of Object.entries(promises)) test(promise, () => withWorld(storage, hold));
  });
}

test('what no message told of is found after 5 s', async (t) => {
  const storage = storages[engineNames.indexOf('postgres')] ?? null;
  if (storage === null) return t.skip('no PostgreSQL on this machine');
  await withWorld(storage, async ({ anOrg, advance }) => {
    const { client, id } = await anOrg();
    const source = await EventSource.open(client);
    const database = await openDatabase(storage);
    try {
      await append(database, decodeOrgId(id) ?? '', [{}], Date.now());
    } finally {
      await database.close();
    }
    assert.ok(await whileTimeGoesOn(source.next(), () => advance(pollMs)));
    source.close();
  });
});
after(stopServers);
