/** P5: the payload comes back byte for byte, over the wire, from every route that returns events. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { jsonText } from '../ingest/json-texts.js';
import { createOrg } from '../support/client.js';
import type { TestOrg } from '../support/client.js';
import { onEachEngine } from '../support/each-engine.js';
import { assertProblem } from '../support/problem.js';

/** What a reader that parses and writes again would change. */
const changedByParsing: readonly string[] = [
  '1e400',
  '-1E-400',
  '12345678901234567890',
  '-0',
  '0.10',
  '1.0',
  '1e+2',
  '{"a":1,"a":2}',
  '{"b":1,"1":2,"a":3}',
  '{"a":1,"\\u0061":2}',
  '{ "a" :\t1 ,\r\n"b":[ ] }',
  '[ 1 , 2 ]',
  '"\\/"',
  '"\\u0041"',
  '"\\u00E9\\uD83D\\ude00"',
  '{"payload":1,"payload":2}',
];

const untouched: readonly string[] = [
  'null',
  'true',
  'false',
  '0',
  '""',
  '[]',
  '{}',
  '{"__proto__":{"x":1}}',
  '"\\u0000"',
  '"a\\u0000b"',
  '"\\ud800"',
  '"\\udc00\\ud800"',
  '"😀𝄞é漢\u2028\u2029\ufeff\u007f"',
  '"}],\\"payload\\":{"',
  '"\\\\"',
  '"\\\\\\""',
  '"\\\\.\\n"',
  '[1,"\\t\\\\N",null]',
];

const nested = (levels: number, open: string, inner: string, close: string): string =>
  open.repeat(levels) + inner + close.repeat(levels);
const largest = `"${'😀'.repeat(65_535)}xx"`;
const payloadBytesMax = 262_144;

const atTheLimits: readonly string[] = [
  nested(128, '[', '', ']'),
  nested(128, '{"a":', '0', '}'),
  `[${Array.from({ length: 1000 }, () => nested(127, '[', '', ']')).join(',')}]`,
  largest,
  `[${' '.repeat(payloadBytesMax - 2)}]`,
];

/** Sends each text and asserts that the event, listed, received and read by its id, is exactly what it must be. */
async function assertReturned(org: TestOrg, texts: readonly string[]): Promise<void> {
  const { client } = org;
  const heads: string[] = [];
  const ids: string[] = [];
  for (const [i, text] of texts.entries()) {
    const around = i % 2 === 0 ? '' : ' \r\n\t';
    const { status, json } = await client.post('/v1/events', `{"payload":${around}${text}${around},"type":"t"}`);
    assert.equal(status, 201, text.slice(0, 200));
    const { id, received_at: receivedAt } = json as { id: string; received_at: string };
    ids.push(id);
    heads.push(
      `{"id":"${id}","type":"t","subject":null,"occurred_at":null,"received_at":"${receivedAt}","attributes":null,"payload":${text}`,
    );
  }
  const read = await Promise.all(ids.map((id) => client.get(`/v1/events/${id}`)));
  assert.deepEqual(
    read.map(({ text }) => text),
    heads.map((head) => `${head}}`),
  );
  const listed = heads.map((head) => `${head},"status":"pending","attempts":0}`);
  assert.equal((await client.get('/v1/inbox?limit=1000')).text, `{"data":[${listed.join(',')}],"next_cursor":null}`);
  const received = await client.post('/v1/inbox/receive', { max: 1000 });
  const data = heads.map((head) => `${head},"attempt":1}`).join(',');
  const { lease_id: lease, lease_expires_at: expires } = received.json;
  assert.equal(received.text, `{"lease_id":"${lease}","lease_expires_at":"${expires}","data":[${data}]}`);
  assert.equal((await client.post('/v1/inbox/ack', { lease_id: lease })).json.acknowledged, texts.length);
}

await onEachEngine({}, ({ node }) => {
  test('any JSON text comes back as it was sent', async () => {
    await assertReturned(await createOrg(node().address), [...changedByParsing, ...untouched, ...atTheLimits]);
  });

  test('random JSON texts come back as they were sent', async () => {
    const org = await createOrg(node().address);
    const numRuns = process.env['SLUICE_TEST_SOAK'] === '1' ? 300 : 8;
    await fc.assert(
      fc.asyncProperty(fc.array(jsonText, { minLength: 20, maxLength: 20 }), (texts) => assertReturned(org, texts)),
      // Runs share the org's log, so a failure is reported as it is: a smaller one would start on what this one left.
      { numRuns, endOnFailure: true },
    );
  });

  test('one level or one byte more is refused', async () => {
    const { client } = await createOrg(node().address);
    assert.equal(Buffer.byteLength(largest), payloadBytesMax);
    const send = (payload: string) => client.post('/v1/events', `{"type":"t","payload":${payload}}`);
    for (const deep of [nested(129, '[', '', ']'), nested(129, '{"a":', '0', '}'), nested(60_000, '[', '', ']')]) {
      assert.equal(assertProblem(await send(deep), 'validation_failed').errors?.[0]?.path, '/payload');
    }
    assertProblem(await send(`"${'😀'.repeat(65_535)}xxx"`), 'payload_too_large');
    assertProblem(await send(`[${' '.repeat(payloadBytesMax - 1)}]`), 'payload_too_large');
    assert.equal((await client.get('/v1/inbox/stats')).json.pending, 0);
  });

  test('type, subject and time at their limits come back', async () => {
    const { client } = await createOrg(node().address);
    const events = [
      { type: 'x'.repeat(255), subject: '😀'.repeat(255), occurred_at: '0001-01-01T00:00:00.000Z' },
      { type: '0._-:/A', subject: '"\\\n\u007f\u2028', occurred_at: '9999-12-31T23:59:59.999Z' },
      { type: 'a', subject: ' ', occurred_at: '1969-12-31T23:59:59.999Z' },
    ];
    for (const event of events) {
      const sent = await client.post('/v1/events', { ...event, payload: null, dedup_id: event.subject });
      const { json } = await client.get(sent.headers.get('location') ?? '');
      const { type, subject, occurred_at, payload } = json;
      assert.deepEqual({ type, subject, occurred_at }, event);
      assert.equal(payload, null);
    }
    const { json } = await client.get('/v1/inbox');
    assert.deepEqual(
      json.data.map(({ subject }: { subject: string }) => subject),
      events.map(({ subject }) => subject),
    );
    for (const wrong of [
      { type: 'x'.repeat(256) },
      { subject: '😀'.repeat(256) },
      { occurred_at: '0000-12-31T23:59:59Z' },
      { occurred_at: '9999-12-31T23:59:59-00:01' },
    ]) {
      assertProblem(await client.post('/v1/events', { type: 'a', payload: 1, ...wrong }), 'validation_failed');
    }
  });
});

test('a server that parsed payloads and wrote them again would fail here', () => {
  for (const text of changedByParsing) assert.notEqual(JSON.stringify(JSON.parse(text)), text);
});
