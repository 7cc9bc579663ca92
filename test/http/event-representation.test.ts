import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { TestOrg } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { onEachEngine } from '../support/each-engine.js';
import { assertProblem } from '../support/problem.js';

const fields = ['id', 'type', 'subject', 'occurred_at', 'received_at', 'attributes', 'payload'];

await onEachEngine({}, ({ node }) => {
  let org: TestOrg;
  let path: string;
  let body: string;
  let tag: string;

  before(async () => {
    org = await createOrg(node().address);
    const sent = await org.client.post('/v1/events', '{"type":"a","payload": {"n" : 1.0} ,"subject":"s"}');
    path = sent.headers.get('location') ?? '';
    assert.equal(path, `/v1/events/${sent.json.id}`);
    const got = await org.client.get(path);
    body = got.text;
    tag = got.headers.get('etag') ?? '';
    assert.deepEqual(Object.keys(got.json), fields);
    assert.equal(got.json.received_at, sent.json.received_at);
    assert.match(body, /"payload":\{"n" : 1\.0\}\}$/);
  });

  test('an event has a strong tag and the headers that keep a cache from sharing it', async () => {
    const { headers } = await org.client.get(path);
    assert.match(tag, /^"[A-Za-z0-9_-]{20,}"$/);
    assert.equal(headers.get('etag'), tag);
    assert.equal(headers.get('cache-control'), 'private, no-cache');
    assert.equal(headers.get('vary'), 'Authorization, X-API-Key, Accept, Accept-Encoding');
  });

  test('a client that has the event gets 304 without a body, in every form of If-None-Match', async () => {
    for (const known of [tag, `W/${tag}`, `"other", ${tag}`, `"a,b" ,W/${tag},"c"`, '*']) {
      const { status, headers, text } = await org.client.get(path, { 'If-None-Match': known });
      assert.equal(status, 304, known);
      assert.equal(text, '');
      assert.equal(headers.get('etag'), tag);
      assert.equal(headers.get('cache-control'), 'private, no-cache');
      assert.match(headers.get('vary') ?? '', /Authorization/);
      assert.match(headers.get('x-request-id') ?? '', /./);
    }
    for (const known of ['"other"', tag.slice(1, -1), `${tag.slice(0, -2)}"`, '']) {
      const { status, text } = await org.client.get(path, { 'If-None-Match': known });
      assert.equal(status, 200, known);
      assert.equal(text, body);
    }
  });

  test('a tag is of the fields that were asked for', async () => {
    const some = await org.client.get(`${path}?fields=type,id`);
    assert.deepEqual(Object.keys(some.json), ['id', 'type']);
    assert.notEqual(some.headers.get('etag'), tag);
    assert.equal((await org.client.get(`${path}?fields=type,id`, { 'If-None-Match': tag })).status, 200);
    const all = await org.client.get(`${path}?fields=${fields.join(',')}`);
    assert.equal(all.text, body);
    assert.equal(all.headers.get('etag'), tag);
    for (const field of fields) {
      assert.deepEqual(Object.keys((await org.client.get(`${path}?fields=${field}`)).json), [field]);
    }
    for (const wrong of ['', 'id,', 'ID', 'id,id,secret', '*']) {
      assertProblem(await org.client.get(`${path}?fields=${wrong}`), 'validation_failed');
    }
  });

  test('knowing a tag opens nothing: 304 comes after the key', async () => {
    const known = { 'If-None-Match': tag };
    assertProblem(await new Client(node().address, null).get(path, known), 'missing_key');
    const other = await createOrg(node().address);
    assertProblem(await other.client.get(path, { 'If-None-Match': '*' }), 'not_found');
    assertProblem(await other.client.get(path, known), 'not_found');
  });

  test('HEAD has the headers of GET', async () => {
    const [got, head] = [await org.client.get(path), await org.client.call('HEAD', path)];
    assert.equal(head.status, 200);
    assert.equal(head.text, '');
    for (const name of ['content-type', 'content-length', 'etag', 'cache-control', 'vary']) {
      assert.equal(head.headers.get(name), got.headers.get(name), name);
    }
    assert.equal((await org.client.call('HEAD', path, undefined, { 'If-None-Match': tag })).status, 304);
  });

  test('fields are left out of received and listed events, too', async () => {
    const listed = await org.client.get('/v1/inbox?fields=id');
    assert.deepEqual(Object.keys(listed.json.data[0]), ['id', 'status', 'attempts']);
    const received = await org.client.post('/v1/inbox/receive?fields=type,payload', { lease_seconds: 1 });
    assert.deepEqual(Object.keys(received.json.data[0]), ['type', 'payload', 'attempt']);
    assertProblem(await org.client.post('/v1/inbox/receive?fields=x'), 'validation_failed');
  });
});
