import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import type { RunningServer } from '../../src/app.js';
import { anyCharacter } from '../code-points.js';
import { jsonObjectText, jsonText } from '../ingest/json-texts.js';
import type { Answer, TestOrg } from '../support/client.js';
import { createOrg } from '../support/client.js';
import { KeepAliveClient } from '../support/keep-alive-client.js';
import { adminToken, startNode } from '../support/node.js';
import { assertProblem } from '../support/problem.js';
import { createStorage } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const bodies = isSoak ? 100_000 : 5_000;
const addresses = isSoak ? 10_000 : 600;
const inFlightMax = 32;
/** A request without an answer after this hangs. */
const answerMsMax = 30_000;
/** Another run tries others; a failure names the seed that repeats it. */
const seed = Number(process.env['SLUICE_TEST_SEED'] ?? Date.now() % 2 ** 31);

const anyText = fc.string({ unit: anyCharacter, maxLength: 300 });
const anyBytes = fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes));
const oddText = fc.oneof(
  fc.constantFrom('sluice.x', '\0', '\ud800', '\ufeff', 'a'.repeat(256), '😀'.repeat(255), '__proto__', '', '-', '1e9'),
  fc.constantFrom('2026-02-30T00:00:00Z', '9999-12-31T23:59:59.999Z', '0000-01-01T00:00:00Z', '2026-11-21T10:00:00Z'),
  anyText,
);

/** Nearly an event: the right names, some with values that are right, in any order, with repetitions. */
const nearlyEvent = fc
  .array(
    fc.oneof(
      fc.tuple(fc.constant('type'), fc.constantFrom('"a"', '"order.created"', '"a:b/c-d_e"')),
      fc.tuple(fc.constant('payload'), jsonText),
      fc.tuple(
        fc.constantFrom('type', 'subject', 'dedup_id', 'occurred_at'),
        oddText.map((text) => JSON.stringify(text)),
      ),
      fc.tuple(fc.constantFrom('type', 'payload', 'subject', 'dedup_id', 'occurred_at', 'x'), jsonText),
    ),
    { maxLength: 5 },
  )
  .map((members) => `{"type":"a",${members.map(([name, text]) => `"${name}":${text}`).join(', ')}}`.replace(',}', '}'));

const event = jsonText.map((payload) => `{"type":"order.created","payload":${payload}}`);

const extreme = fc.oneof(
  fc
    .tuple(fc.integer({ min: 1, max: 200_000 }), fc.constantFrom('[', '{"a":', '[[],'))
    .map(([levels, open]) => `{"type":"a","payload":${open.repeat(levels).slice(0, 400_000)}`),
  fc
    .integer({ min: 1, max: 100_000 })
    .map((levels) => `{"type":"a","payload":${'['.repeat(levels)}${']'.repeat(levels)}}`),
  fc.integer({ min: 1, max: 100_000 }).map((digits) => `{"type":"a","payload":-${'9'.repeat(digits)}.5e${digits}}`),
  fc
    .integer({ min: 1, max: 5_000 })
    .map((names) => `{${Array.from({ length: names }, (_, i) => `"${i % 3_000}":1`).join(',')}}`),
);

/** Changes, drops or adds some bytes. */
const mutated = fc
  .tuple(
    fc.oneof(event, nearlyEvent),
    fc.array(fc.tuple(fc.nat(), fc.nat(255), fc.nat(2)), { minLength: 1, maxLength: 4 }),
  )
  .map(([text, changes]) => {
    const bytes = [...Buffer.from(text)];
    for (const [at, byte, kind] of changes)
      bytes.splice(at % bytes.length, kind === 0 ? 0 : 1, ...(kind === 1 ? [] : [byte]));
    return Buffer.from(bytes);
  });

interface Fuzzed {
  readonly path: string;
  readonly body: Buffer;
  readonly headers: Record<string, string>;
}

const plainBody = fc.oneof(
  { weight: 2, arbitrary: anyBytes },
  { weight: 6, arbitrary: mutated },
  { weight: 4, arbitrary: event.map((text) => Buffer.from(text)) },
  { weight: 6, arbitrary: nearlyEvent.map((text) => Buffer.from(text)) },
  { weight: 2, arbitrary: jsonObjectText.map(({ text }) => Buffer.from(text)) },
  { weight: 2, arbitrary: jsonText.map((text) => Buffer.from(text)) },
  { weight: 1, arbitrary: extreme.map((text) => Buffer.from(text)) },
);

/** As an array or as lines, with events of every kind, sometimes cut or with a comma too many. */
const batchBody = fc
  .tuple(
    fc.array(
      fc.oneof(
        event,
        nearlyEvent,
        jsonText,
        jsonObjectText.map(({ text }) => text),
      ),
      { maxLength: 5 },
    ),
    fc.boolean(),
    fc.constantFrom('', '', '', ',', ']', '\n', ' '),
    fc.option(fc.nat(), { freq: 5 }),
  )
  .map(([events, isArray, more, cut]) => {
    const text = isArray
      ? `[${events.join(',')}${more}]`
      : events.map((one) => one.replaceAll('\n', ' ')).join('\n') + more;
    return { text: cut === null ? text : text.slice(0, cut % (text.length + 1)), isArray };
  });
const batch: fc.Arbitrary<Fuzzed> = fc
  .tuple(batchBody, fc.boolean(), fc.option(mutated, { freq: 6 }))
  .map(([{ text, isArray }, atomic, other]) => ({
    path: `/v1/events/batch?atomic=${atomic}`,
    body: other ?? Buffer.from(text),
    headers: { 'Content-Type': isArray ? 'application/json' : 'application/x-ndjson' },
  }));

/** Nearly a CloudEvent, in one of its modes. */
const cloudEvent: fc.Arbitrary<Fuzzed> = fc
  .tuple(
    fc.constantFrom('structured', 'batch', 'binary'),
    fc.dictionary(
      fc.constantFrom(
        'id',
        'source',
        'specversion',
        'type',
        'subject',
        'time',
        'data',
        'data_base64',
        'ext',
        'X',
        'datacontenttype',
      ),
      fc.oneof(oddText, fc.constantFrom('1.0', 'AAH/', '%e2%82%ac', '%ff', '"a"'), fc.jsonValue()),
    ),
    fc.constantFrom({}, { specversion: '1.0', id: '1', source: 'a', type: 'a' }),
    plainBody,
  )
  .map(([mode, odd, more, body]) => {
    const attributes: Record<string, unknown> = { specversion: '1.0', ...odd, ...more };
    if (mode === 'binary') {
      const printable = Object.entries(attributes).map(([name, value]) => [
        `ce-${name}`,
        String(value)
          .replaceAll(/[^ -~]/g, '')
          .slice(0, 500),
      ]);
      return { path: '/v1/events', body, headers: Object.fromEntries(printable) };
    }
    const isBatch = mode === 'batch';
    const text = JSON.stringify(isBatch ? [attributes, odd] : attributes);
    const type = isBatch ? 'application/cloudevents-batch+json' : 'application/cloudevents+json';
    return { path: `/v1/events${isBatch ? '/batch' : ''}`, body: Buffer.from(text), headers: { 'Content-Type': type } };
  });

const gzipped = fc
  .tuple(plainBody, fc.option(fc.nat(), { freq: 2 }), fc.option(fc.nat(), { freq: 4 }))
  .map(([body, cut, flip]) => {
    const zipped = gzipSync(body);
    if (flip !== null) zipped[flip % zipped.length]! ^= 1 << (flip % 8);
    return cut === null ? zipped : zipped.subarray(0, cut % zipped.length);
  });

/** Not receive, whose wait_seconds would be honoured. */
const path = fc.oneof(
  { weight: 8, arbitrary: fc.constant('/v1/events') },
  { weight: 1, arbitrary: fc.constantFrom('/v1/inbox/ack', '/v1/keys', '/v1/keys/key_1/rotate', '/v1/events?x=%zz') },
);

const request: fc.Arbitrary<Fuzzed> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ path, body: plainBody, headers: fc.constant({}) }) },
  { weight: 1, arbitrary: fc.record({ path, body: gzipped, headers: fc.constant({ 'Content-Encoding': 'gzip' }) }) },
  { weight: 2, arbitrary: batch },
  { weight: 1, arbitrary: cloudEvent },
);

const queryText = fc
  .array(
    fc.tuple(
      fc.constantFrom(
        'limit',
        'cursor',
        'fields',
        'type',
        'status',
        'since',
        'until',
        'order',
        '__proto__',
        'constructor',
        'x',
        '',
      ),
      fc.oneof(
        fc.constantFrom(
          '1',
          '0',
          '1000',
          '-1',
          '1e3',
          'asc',
          '2026-02-30T00:00:00Z',
          '0001-01-01T00:00:00Z',
          '9999-12-31T23:59:59.999999Z',
          'id,type',
          'payload',
          'user.*',
          '*',
          'pending',
          'dead',
          '%zz',
          '%ff',
          '%00',
        ),
        anyText.map((text) => encodeURIComponent(text.toWellFormed())),
        fc.base64String({ maxLength: 60 }),
      ),
    ),
    { maxLength: 4 },
  )
  .map((pairs) => pairs.map(([name, value]) => `${name}=${value}`).join('&'));

const pathText = fc.oneof(
  // Not the stream of events, whose answer would not end.
  { weight: 3, arbitrary: fc.constantFrom('/v1/inbox', '/v1/inboxes/default', '/v1/keys', '/v1/org', '/v1/orgs') },
  { weight: 3, arbitrary: fc.constant('/v1/events') },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '/v1/inbox/stats',
      '/v1/keys/current',
      '/healthz',
      '/readyz',
      '/metrics',
      '/docs/errors',
    ),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(
        fc.constantFrom('/v1/events/', '/v1/events/evt_', '/v1/orgs/', '/v1/orgs/org_', '/v1/', '/'),
        fc.oneof(
          anyText.map((text) => encodeURIComponent(text.toWellFormed())),
          fc.string({ unit: fc.constantFrom('0', 'Z', 'u', '%', '/', '.', ';', '2', 'f'), maxLength: 40 }),
        ),
      )
      .map(([start, rest]) => start + rest),
  },
);

let storage: TestStorage;
let node: RunningServer;
let org: TestOrg;
let client: KeepAliveClient;

before(async () => {
  const created = await createStorage('embedded');
  assert.ok(created);
  storage = created;
  node = await startNode(storage);
  org = await createOrg(node.address);
  client = new KeepAliveClient(node.address, inFlightMax, answerMsMax);
});
after(async () => {
  client.close();
  await node.stop();
  await storage.remove();
});

/** Runs `ask` for each item, several at a time, and says which one it was that failed. */
async function forEachInFlight<Item>(items: readonly Item[], ask: (item: Item) => Promise<void>): Promise<void> {
  const left = items.entries();
  const worker = async (): Promise<void> => {
    for (const [i, item] of left) {
      try {
        await ask(item);
      } catch (error) {
        throw new Error(`request ${i} of SLUICE_TEST_SEED=${seed}`, { cause: error });
      }
    }
  };
  await Promise.all(Array.from({ length: inFlightMax }, worker));
}

function assertAnswered({ status, headers, text }: Answer): void {
  assert.ok(status < 500, `${status} ${text.slice(0, 500)}`);
  if (status >= 400) assertProblem({ status, headers, text }, undefined, ['results']);
  else assert.match(headers.get('x-request-id') ?? '', /./);
}

function assertResults({ status, json, text }: Answer): void {
  if (json.results === undefined) return assert.ok(status >= 400, text);
  for (const result of json.results) {
    assert.ok([200, 201, 400, 409, 413, 422].includes(result.status), text);
    assert.equal(typeof (result.status < 300 ? result.id : result.code), 'string', text);
  }
  if (status === 200) return assert.equal(json.accepted + json.duplicates + json.rejected, json.results.length);
  return assert.ok(json.results.length > 0);
}

test(`no body of ${bodies} does harm: each is stored as sent, or refused as a problem`, async (t) => {
  const asOrg = { Authorization: `Bearer ${org.key}` };
  const seen = new Map<number, number>();
  let stored = 0;
  await forEachInFlight(fc.sample(request, { numRuns: bodies, seed }), async ({ path: to, body, headers }) => {
    const answer = await client.call('POST', to, body, { ...asOrg, 'Content-Type': 'application/json', ...headers });
    assertAnswered(answer);
    seen.set(answer.status, (seen.get(answer.status) ?? 0) + 1);
    if (to.startsWith('/v1/events/batch')) assertResults(answer);
    const isCloudEvent = Object.keys(headers).some((name) => name === 'Content-Type' || name.startsWith('ce-'));
    if (answer.status !== 201 || to !== '/v1/events' || isCloudEvent) return;
    stored++;
    const { text, json } = await client.call('GET', `/v1/events/${answer.json.id}`, null, asOrg);
    const sent = ('Content-Encoding' in headers ? gunzipSync(body) : body).toString();
    const start = text.indexOf(',"attributes":null,"payload":') + ',"attributes":null,"payload":'.length;
    const payload = text.slice(start, -1);
    assert.ok(sent.includes(payload), `${payload} is no part of ${sent}`);
    assert.equal(payload, payload.trim());
    assert.deepEqual(json.payload, JSON.parse(sent).payload);
  });
  t.diagnostic(`seed ${seed}: ${Array.from(seen, ([status, count]) => `${status} × ${count}`).join(', ')}`);
  // Otherwise the generator would show little.
  assert.ok(stored > bodies / 20, `only ${stored} were stored`);
  for (const status of [400, 413, 422]) assert.ok((seen.get(status) ?? 0) > 0, `no ${status}`);
  assert.equal((await org.client.post('/v1/events', { type: 'a', payload: 1 })).status, 201);
});

test(`no address of ${addresses} does harm`, async (t) => {
  const seen = new Map<number, number>();
  const asked = fc.sample(fc.tuple(pathText, queryText, fc.boolean()), { numRuns: addresses, seed });
  await forEachInFlight(asked, async ([to, query, asAdmin]) => {
    const url = query === '' ? to : `${to}?${query}`;
    const key = asAdmin ? adminToken : org.key;
    const answer = await client.call('GET', url, null, { Authorization: `Bearer ${key}` });
    assertAnswered(answer);
    seen.set(answer.status, (seen.get(answer.status) ?? 0) + 1);
  });
  t.diagnostic(`seed ${seed}: ${Array.from(seen, ([status, count]) => `${status} × ${count}`).join(', ')}`);
  for (const status of [200, 400, 403, 404, 422]) assert.ok((seen.get(status) ?? 0) > 0, `no ${status}`);
});
