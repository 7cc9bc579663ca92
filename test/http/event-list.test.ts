import assert from 'node:assert/strict';
import { test } from 'node:test';
import { send } from '../inbox/consumer.js';
import { createOrg } from '../support/client.js';
import type { Client, TestOrg } from '../support/client.js';
import { onEachEngine } from '../support/each-engine.js';
import { assertProblem } from '../support/problem.js';

const replyBytesMax = 4 * 1024 * 1024;
const types = ['user.created', 'user.deleted', 'users', 'order.paid'];
const typed = (count: number) => Array.from({ length: count }, (_, i) => ({ type: types[i % types.length] ?? '' }));
const idOf = (event: { id: string }): string => event.id;

async function list(client: Client, query: string): Promise<{ ids: string[]; next: string | null }> {
  const { status, json, text } = await client.get(`/v1/events${query}`);
  assert.equal(status, 200, text);
  assert.deepEqual(Object.keys(json), ['data', 'next_cursor']);
  return { ids: json.data.map(idOf), next: json.next_cursor };
}

/** Every page of a list. */
async function walk(client: Client, query: string): Promise<string[]> {
  const ids: string[] = [];
  let next: string | null = null;
  do {
    const page = await list(client, `${query}${next === null ? '' : `&cursor=${next}`}`);
    ids.push(...page.ids);
    ({ next } = page);
  } while (next !== null);
  return ids;
}

await onEachEngine({}, ({ node }) => {
  const anOrg = (): Promise<TestOrg> => createOrg(node().address);

  test('events are listed newest first, or oldest first, page by page', async () => {
    const { client } = await anOrg();
    const ids = await send(client, typed(7));
    assert.deepEqual((await list(client, '')).ids, ids.toReversed());
    assert.deepEqual(await walk(client, '?limit=3'), ids.toReversed());
    assert.deepEqual(await walk(client, '?limit=3&order=asc'), ids);
    assert.deepEqual(await list((await anOrg()).client, ''), { ids: [], next: null });
  });

  test('a page has 50 events where no limit is asked for, and a thousand at most', async () => {
    const { client } = await anOrg();
    await Promise.all(Array.from({ length: 60 }, () => client.post('/v1/events', { type: 'a', payload: 1 })));
    assert.equal((await list(client, '')).ids.length, 50);
    assert.equal((await list(client, '?limit=1000')).ids.length, 60);
    for (const limit of ['1001', '0', 'x', '-1', '1.5']) {
      const { errors } = assertProblem(await client.get(`/v1/events?limit=${limit}`), 'validation_failed');
      assert.equal(errors?.[0]?.path, '?limit');
    }
  });

  test('an event in a list is as it is alone: the same fields, the payload to the byte', async () => {
    const { client } = await anOrg();
    const payload = '{ "b":1.50,\n "a":12345678901234567890, "a":[] }';
    const event = `{"type":"a","subject":"user/\\u00e9\\"","occurred_at":"2026-11-21T10:00:00Z","payload":${payload}}`;
    const { json } = await client.post('/v1/events', event);
    const alone = await client.get(`/v1/events/${json.id}`);
    assert.equal((await client.get('/v1/events')).text, `{"data":[${alone.text}],"next_cursor":null}`);
    const some = await client.get('/v1/events?fields=payload,id');
    assert.equal(some.text, `{"data":[{"id":"${json.id}","payload":${payload}}],"next_cursor":null}`);
    assert.deepEqual((await client.get('/v1/events?fields=type')).json.data, [{ type: 'a' }]);
  });

  test('types are filtered by name and by what follows a prefix', async () => {
    const { client } = await anOrg();
    const ids = await send(client, typed(8));
    const of = (...wanted: string[]) => ids.filter((_, i) => wanted.includes(types[i % types.length] ?? ''));
    assert.deepEqual(await walk(client, '?order=asc&type=user.*'), of('user.created', 'user.deleted'));
    assert.deepEqual(await walk(client, '?order=asc&limit=1&type=users&type=order.*'), of('users', 'order.paid'));
    assert.deepEqual(await walk(client, '?type=user'), []);
    assert.deepEqual(await walk(client, '?order=asc&type=*&type=users'), ids);
    assertProblem(await client.get('/v1/events?type=user*'), 'validation_failed');
  });

  test('since is the first time that is wanted, until the first that is not', async () => {
    const { client } = await anOrg();
    const ids: string[] = [];
    const times: number[] = [];
    while (new Set(times).size < 4) {
      const { json } = await client.post('/v1/events', { type: 'a', payload: 1 });
      ids.push(json.id);
      times.push(Date.parse(json.received_at));
    }
    const between = (sinceMs: number, untilMs: number) =>
      ids.filter((_, i) => (times[i] ?? 0) >= sinceMs && (times[i] ?? 0) < untilMs);
    for (const time of new Set(times)) {
      const text = new Date(time).toISOString();
      assert.deepEqual(await walk(client, `?order=asc&limit=2&since=${text}`), between(time, Infinity));
      assert.deepEqual(await walk(client, `?order=asc&limit=2&until=${text}`), between(0, time));
      assert.deepEqual(await walk(client, `?limit=2&until=${text}`), between(0, time).toReversed());
      // Between two milliseconds: the event of the first is before it.
      const finer = text.replace('Z', '001Z');
      assert.deepEqual(await walk(client, `?order=asc&since=${finer}`), between(time + 1, Infinity));
      assert.deepEqual(await walk(client, `?order=asc&until=${finer}`), between(0, time + 1));
    }
    const zoned = encodeURIComponent('2020-01-01T00:00:00+01:00');
    assert.deepEqual(await walk(client, `?order=asc&since=${zoned}`), ids);
    assert.deepEqual(await walk(client, '?since=9999-12-31T23:59:59.9999Z'), []);
    assert.deepEqual(await walk(client, '?until=0001-01-01T00:00:00Z'), []);
    for (const search of ['since=yesterday', 'until=2026-02-30T00:00:00Z', 'since=', 'until=1700000000']) {
      const { errors } = assertProblem(await client.get(`/v1/events?${search}`), 'validation_failed');
      assert.equal(errors?.[0]?.path, `?${search.slice(0, 5)}`);
    }
  });

  test('a cursor is taken back only unchanged, on its route, from its org, with its order and filters', async () => {
    const [mine, other] = [await anOrg(), await anOrg()];
    for (const { client } of [mine, other]) await send(client, typed(8));
    const filter = 'type=user.*&since=2020-01-01T00:00:00Z';
    const { next } = await list(mine.client, `?limit=1&${filter}`);
    assert.ok(next !== null);
    const flipped = (next.startsWith('A') ? 'B' : 'A') + next.slice(1);
    const again = await mine.client.get(`/v1/events?limit=2&fields=id&${filter}&cursor=${next}`);
    assert.equal(again.json.data.length, 2);
    for (const [client, path] of [
      [other.client, `/v1/events?${filter}&cursor=${next}`],
      [mine.client, `/v1/events?${filter}&cursor=${flipped}`],
      [mine.client, `/v1/events?${filter}&cursor=`],
      [mine.client, `/v1/events?${filter}&order=asc&cursor=${next}`],
      [mine.client, `/v1/events?type=user.*&cursor=${next}`],
      [mine.client, `/v1/events?type=users&since=2020-01-01T00:00:00Z&cursor=${next}`],
      [mine.client, `/v1/events?${filter}&until=2030-01-01T00:00:00Z&cursor=${next}`],
      [mine.client, `/v1/inbox?type=user.*&cursor=${next}`],
    ] as const) {
      assertProblem(await client.get(path), 'invalid_cursor');
    }
  });

  test('unknown and repeated parameters are refused, and so is a key without the scope', async () => {
    const { client } = await anOrg();
    for (const search of ['x=1', 'limit=1&limit=1', 'order=up', 'order=asc&order=asc', 'fields=id,nothing']) {
      assertProblem(await client.get(`/v1/events?${search}`), 'validation_failed');
    }
    const { json } = await client.post('/v1/keys', { name: 'writer', scopes: ['events:write'] });
    const writer = await client.get('/v1/events', { Authorization: `Bearer ${json.key}` });
    assert.match(assertProblem(writer, 'insufficient_scope').detail, /events:read/);
  });

  test('a reply has 4 MiB at most, but at least one event, and the rest follows', async () => {
    const { client } = await anOrg();
    const ids = await send(
      client,
      Array.from({ length: 20 }, () => ({ payload: 'x'.repeat(250_000) })),
    );
    const { text, json } = await client.get('/v1/events?order=asc&limit=20');
    assert.ok(Buffer.byteLength(text) <= replyBytesMax);
    assert.ok(json.data.length >= 15);
    assert.deepEqual(await walk(client, '?order=asc&limit=20'), ids);
    assert.deepEqual((await list(client, '?order=asc&limit=20&fields=id,type')).ids, ids);
  });
});
