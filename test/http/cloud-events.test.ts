import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { Answer, Client } from '../support/client.js';
import { createOrg } from '../support/client.js';
import { onEachEngine } from '../support/each-engine.js';
import { assertProblem } from '../support/problem.js';

const structured = { 'Content-Type': 'application/cloudevents+json' };
const batched = { 'Content-Type': 'application/cloudevents-batch+json; charset=utf-8' };
const asCloudEvent = { Accept: 'application/cloudevents+json' };
const required = { specversion: '1.0', id: 'A-1', source: '/shop/1', type: 'order.created' };
const binary = { 'ce-specversion': '1.0', 'ce-id': 'B-1', 'ce-source': '/shop/2', 'ce-type': 'order.created' };

await onEachEngine({}, ({ node }) => {
  let client: Client;
  before(async () => {
    ({ client } = await createOrg(node().address));
  });

  const read = (answer: Answer, headers = {}): Promise<Answer> => client.get(`/v1/events/${answer.json.id}`, headers);
  const pathsOf = (answer: Answer) =>
    assertProblem(answer, 'validation_failed')
      .errors?.map(({ path }) => path)
      .toSorted();

  test('an event in structured mode is an event, and comes back as it was sent, its data byte for byte', async () => {
    const time = '2026-11-21T10:00:00.123456+01:00';
    const attributes = {
      ...required,
      subject: 'é/1',
      time,
      datacontenttype: 'application/json',
      ext1: 'x',
      count: 7,
      yes: true,
    };
    const data = '{"n": 1.00, "n":2}';
    const body = `${JSON.stringify({ ...attributes, gone: null }).slice(0, -1)}, "data" : ${data} }`;
    const sent = await client.post('/v1/events', body, structured);
    assert.equal(sent.status, 201, sent.text);
    const { text, json } = await read(sent);
    assert.ok(text.endsWith(`"payload":${data}}`), text);
    const { type, subject, ...kept } = attributes;
    assert.deepEqual([json.type, json.subject, json.occurred_at], [type, subject, '2026-11-21T09:00:00.123Z']);
    assert.deepEqual(json.attributes, kept);
    const back = await read(sent, asCloudEvent);
    assert.equal(back.headers.get('content-type'), 'application/cloudevents+json');
    assert.ok(back.text.endsWith(`,"data":${data}}`), back.text);
    assert.deepEqual({ ...back.json, data: null }, { ...attributes, data: null });
    assert.notEqual(back.headers.get('etag'), (await read(sent)).headers.get('etag'));
    assert.equal((await read(sent, { ...asCloudEvent, 'If-None-Match': back.headers.get('etag') ?? '' })).status, 304);
  });

  test('whether data was absent, null or base64 is known when it comes back', async () => {
    const forms: Record<string, [sent: string, back: string]> = {
      absent: ['', ''],
      null: [',"data":null', ',"data":null'],
      base64: [',"data_base64":"AAH/"', ',"data_base64":"AAH/"'],
    };
    for (const [id, [more, back]] of Object.entries(forms)) {
      const body = `${JSON.stringify({ ...required, id }).slice(0, -1)}${more}}`;
      const { text } = await read(await client.post('/v1/events', body, structured), asCloudEvent);
      assert.equal(text.includes(',"data'), more !== '', text);
      assert.ok(text.endsWith(`${back}}`), text);
    }
  });

  test('an event in binary mode has its attributes in headers, percent-encoded, and its data in the body', async () => {
    const headers = {
      ...binary,
      'ce-subject': 'Euro%20%E2%82%AC',
      'ce-time': '2026-11-21T10:00:00Z',
      'ce-ext1': '"a b"',
    };
    const sent = await client.post('/v1/events', ' {"n": 1.0}\n', headers);
    assert.equal(sent.status, 201, sent.text);
    const { text, json } = await read(sent, asCloudEvent);
    assert.ok(text.endsWith('"data":{"n": 1.0}}'), text);
    const { data, ...attributes } = json;
    assert.deepEqual(data, { n: 1 });
    const time = '2026-11-21T10:00:00Z';
    const own = { specversion: '1.0', id: 'B-1', source: '/shop/2', type: 'order.created', subject: 'Euro €', time };
    assert.deepEqual(attributes, { ...own, ext1: 'a b', datacontenttype: 'application/json' });

    const bytes = Buffer.from([0, 1, 255]);
    const image = await client.post('/v1/events', bytes, { ...binary, 'ce-id': 'B-2', 'Content-Type': 'image/png' });
    const { json: png } = await read(image, asCloudEvent);
    assert.deepEqual([png.data_base64, png.datacontenttype], ['AAH/', 'image/png']);
    const nothing = await client.call('POST', '/v1/events', undefined, { ...binary, 'ce-id': 'B-3' });
    assert.equal('data' in (await read(nothing, asCloudEvent)).json, false);
  });

  test('source and id name an event: a repeat in either mode is a duplicate, another source or split of the two is not', async () => {
    const post = (more: object): Promise<Answer> =>
      client.post('/v1/events', { ...required, ...more, data: 1 }, structured);
    const first = await post({ id: 'twice' });
    const again = await post({ id: 'twice', time: '2026-11-21T10:00:00Z' });
    assert.deepEqual([first.status, again.status, again.json.id], [201, 200, first.json.id]);
    const inHeaders = { ...binary, 'ce-id': 'twice', 'ce-source': required.source };
    assert.equal((await client.post('/v1/events', '1', inHeaders)).json.id, first.json.id);
    assert.equal((await post({ id: 'twice', source: '/shop/3' })).status, 201);
    assert.equal((await post({ id: 'ab', source: 'c' })).status, 201);
    assert.equal((await post({ id: 'b', source: 'ca' })).status, 201);
    assertProblem(await post({ id: 'twice', type: 'other' }), 'dedup_mismatch');
  });

  test('a batch of CloudEvents is a batch', async () => {
    const events = [
      { ...required, id: 'batch 1', data: 1 },
      { ...required, id: 'batch 2', source: '' },
      { type: 'a', payload: 1 },
    ];
    const answer = await client.post('/v1/events/batch', events, batched);
    assert.deepEqual(
      answer.json.results.map(({ status }: { status: number }) => status),
      [201, 422, 422],
    );
    const { json } = await client.get(`/v1/events/${answer.json.results[0].id}`, asCloudEvent);
    assert.deepEqual([json.id, json.data], ['batch 1', 1]);
  });

  test('a list is a batch of CloudEvents where it is asked for, its next page a link', async () => {
    const { client: own } = await createOrg(node().address);
    for (const id of ['1', '2', '3']) await own.post('/v1/events', { ...required, id, data: [1] }, structured);
    await own.post('/v1/inboxes', { name: 'all', start: 'beginning' });
    const one = await own.get(
      (await own.post('/v1/events', { type: 'a', payload: 1 })).headers.get('location') ?? '',
      asCloudEvent,
    );
    const asBatch = { Accept: 'application/cloudevents-batch+json' };
    for (const path of [
      '/v1/events?order=asc&type=order.*&type=a',
      '/v1/inbox?type=*',
      '/v1/inboxes/all/events?status=pending',
    ]) {
      const events: { id: string; data: unknown }[] = [];
      let at: string | undefined = `${path}&limit=3`;
      const sizes: number[] = [];
      while (at !== undefined) {
        const answer: Answer = await own.get(at, asBatch);
        assert.equal(answer.headers.get('content-type'), 'application/cloudevents-batch+json', answer.text);
        assert.match(answer.headers.get('vary') ?? '', /Accept,/);
        events.push(...answer.json);
        sizes.push(answer.json.length);
        at = /^<(\/v1\/[^>]+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1];
      }
      assert.deepEqual(sizes.slice(0, 2), [3, 1], path);
      assert.deepEqual(
        events.slice(0, 3),
        [1, 2, 3].map((id) => ({ ...required, id: String(id), data: [1] })),
      );
      assert.deepEqual(events[3], one.json);
      assert.deepEqual(pathsOf(await own.get(`${path}&fields=id`, asBatch)), ['?fields']);
      assertProblem(await own.get(path, asCloudEvent), 'not_acceptable');
    }
    assert.equal((await own.get('/v1/events', { Accept: 'application/*' })).json.data.length, 4);
    assert.deepEqual((await own.get('/v1/events?type=none', asBatch)).json, []);
    assertProblem(await own.post('/v1/inbox/receive', {}, asBatch), 'not_acceptable');
  });

  test('an event that was not sent as a CloudEvent is one all the same when it is asked for as one', async () => {
    const sent = await client.post('/v1/events', { type: 'a', payload: [1], subject: 's' });
    const { json } = await read(sent, asCloudEvent);
    const { time, ...rest } = json;
    assert.equal(time, sent.json.received_at);
    const { id } = sent.json;
    const own = { specversion: '1.0', id, source: '/v1/events', datacontenttype: 'application/json' };
    assert.deepEqual(rest, { ...own, type: 'a', subject: 's', data: [1] });
  });

  test('what is no CloudEvent is refused with all that is wrong', async () => {
    const post = (body: unknown): Promise<Answer> => client.post('/v1/events', body, structured);
    assert.deepEqual(pathsOf(await post({})), ['/id', '/source', '/specversion', '/type']);
    assert.deepEqual(pathsOf(await post({ ...required, specversion: '0.3', id: '', source: 1, type: 'sluice.x' })), [
      '/id',
      '/source',
      '/specversion',
      '/type',
    ]);
    assert.deepEqual(pathsOf(await post({ ...required, time: 'now', subject: '', Big: 1, n: 1.5, o: {}, s: '\0' })), [
      '/Big',
      '/n',
      '/o',
      '/s',
      '/subject',
      '/time',
    ]);
    assert.deepEqual(pathsOf(await post({ ...required, data: 1, data_base64: 'x' })), ['/data_base64', '/data_base64']);
    assert.deepEqual(pathsOf(await post('{"specversion":"1.0","id":"1","i\\u0064":"2","source":"a","type":"a"}')), [
      '/id',
    ]);
    assert.deepEqual(pathsOf(await post({ ...required, long: 'x'.repeat(9_000) })), ['']);
    assertProblem(await post(`{"specversion":"1.0","id":"1"`), 'invalid_json');
    assertProblem(await post({ ...required, data: 'x'.repeat(262_143) }), 'payload_too_large');
    const bare = await client.post('/v1/events', '1', { 'ce-id': '1', 'ce-Type': 'a' });
    assert.deepEqual(pathsOf(bare), ['ce-source', 'ce-specversion']);
    assert.deepEqual(pathsOf(await client.post('/v1/events', '1', { ...binary, 'ce-ext': '%ff' })), ['ce-ext']);
    for (const name of ['ce-data', 'ce-data_base64']) {
      assert.deepEqual(pathsOf(await client.post('/v1/events', '{"a":1}', { ...binary, [name]: 'base64' })), [name]);
    }
    assertProblem(await client.post('/v1/events', '{', binary), 'invalid_json');
    const tooLarge = Buffer.alloc(200_000);
    const octets = { ...binary, 'Content-Type': 'application/octet-stream' };
    assertProblem(await client.post('/v1/events', tooLarge, octets), 'payload_too_large');
    assertProblem(await client.post('/v1/events/batch', [], structured), 'unsupported_media_type');
  });

  test('the reply has the media type that the client likes best, and is refused where it takes neither', async () => {
    const sent = await client.post('/v1/events', { type: 'a', payload: 1 });
    const types: Record<string, string> = {
      '*/*': 'application/json',
      'application/*': 'application/json',
      'application/cloudevents+json, application/json;q=0.5': 'application/cloudevents+json',
      'application/cloudevents+json;q=0.1, application/json': 'application/json',
      'application/json;q=0, */*': 'application/cloudevents+json',
    };
    for (const [Accept, type] of Object.entries(types)) {
      assert.equal((await read(sent, { Accept })).headers.get('content-type'), type, Accept);
    }
    assertProblem(await read(sent, { Accept: 'text/html' }), 'not_acceptable');
    assertProblem(await client.get('/v1/org', asCloudEvent), 'not_acceptable');
    assert.deepEqual(pathsOf(await client.get(`/v1/events/${sent.json.id}?fields=id`, asCloudEvent)), ['?fields']);
  });
});
