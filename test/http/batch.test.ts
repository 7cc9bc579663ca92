import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { Answer, TestOrg } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { onEachEngine } from '../support/each-engine.js';
import { adminToken } from '../support/node.js';
import { assertProblem } from '../support/problem.js';
import { exchange } from '../support/raw-http.js';

const route = '/v1/events/batch';
const lines = { 'Content-Type': 'application/x-ndjson' };
const good = { type: 'order.created', payload: { n: 1 } };
const eventsMax = 1_000;

const copies = (count: number) => Array.from({ length: count }, () => good);

interface Result {
  readonly status: number;
  readonly id?: string;
  readonly code?: string;
  readonly duplicate?: boolean;
  readonly errors?: readonly { readonly path: string }[];
}

function resultsOf({ status, json, text }: Answer): Result[] {
  assert.equal(status, 200, text);
  return json.results;
}

function statuses(answer: Answer): number[] {
  return resultsOf(answer).map(({ status }) => status);
}

await onEachEngine({}, ({ node }) => {
  let org: TestOrg;
  let client: Client;
  before(async () => {
    org = await createOrg(node().address);
    client = org.client;
  });

  /** The payload's bytes as they are read back. */
  const storedPayload = async (id: string): Promise<string> => {
    const { text } = await client.get(`/v1/events/${id}?fields=payload`);
    return text.slice('{"payload":'.length, -1);
  };
  const pendingOf = async (of: Client): Promise<number> => (await of.get('/v1/inbox/stats')).json.pending;
  /** An org with these many tokens, which do not come back. */
  const poorOrg = async (burst: number): Promise<Client> => {
    const { id, client: poor } = await createOrg(node().address);
    const admin = new Client(node().address, adminToken);
    await admin.call('PATCH', `/v1/orgs/${id}`, { limits: { rate_per_minute: 1, burst } });
    return poor;
  };

  test('each event of an array is stored as it was sent, in its order, with a receipt of its own', async () => {
    const { client: fresh } = await createOrg(node().address);
    const payloads = ['{"a": 1.00,"a":2}', '[ ]', '"\\u0000é"', '12345678901234567890', 'null'];
    const body = ` [ ${payloads.map((payload) => `{"payload":${payload} ,"type":"a"}`).join('\n,')}]\n`;
    const answer = await fresh.post(route, body);
    assert.deepEqual(statuses(answer), [201, 201, 201, 201, 201]);
    const { accepted, duplicates, rejected, results } = answer.json;
    assert.deepEqual({ accepted, duplicates, rejected }, { accepted: 5, duplicates: 0, rejected: 0 });
    for (const result of results) {
      assert.deepEqual(Object.keys(result), ['status', 'id', 'received_at', 'durability', 'duplicate']);
      assert.equal(result.durability, 'fsync');
      assert.equal(result.duplicate, false);
    }
    const received = await fresh.post('/v1/inbox/receive', {});
    assert.deepEqual(
      received.json.data.map(({ id }: { id: string }) => id),
      results.map(({ id }: { id: string }) => id),
    );
    for (const payload of payloads) assert.ok(received.text.includes(`"payload":${payload},`), payload);
  });

  test('lines hold an event each; blank ones at the end are none, and one in between is no JSON', async () => {
    const event = JSON.stringify(good);
    const answer = await client.post(route, `${event}\r\n\n${event}\n \r\n\n`, lines);
    assert.deepEqual(
      resultsOf(answer).map(({ status, code }) => [status, code]),
      [
        [201, undefined],
        [400, 'invalid_json'],
        [201, undefined],
      ],
    );
    assert.deepEqual(statuses(await client.post(route, event, lines)), [201]);
  });

  test('a compressed batch is a batch, of either kind', async () => {
    const gzip = { 'Content-Encoding': 'gzip' };
    assert.deepEqual(statuses(await client.post(route, gzipSync(JSON.stringify([good, good])), gzip)), [201, 201]);
    const zipped = gzipSync(`${JSON.stringify(good)}\n`);
    assert.deepEqual(statuses(await client.post(route, zipped, { ...lines, ...gzip })), [201]);
  });

  test('a bad event does not take the others down, and says what is wrong with it', async () => {
    const huge = `{"type":"a","payload":"${'x'.repeat(262_143)}"}`;
    const oversize = `{"type":"a","payload":1,"subject":"${'x'.repeat(400_000)}"}`;
    const items = [
      JSON.stringify({ ...good, dedup_id: 'one' }),
      '{"type":"a"}',
      '{"type":"a","payload":1,"payl\\u006fad":2,"x":3}',
      '7',
      huge,
      oversize,
      JSON.stringify({ ...good, dedup_id: 'one' }),
      JSON.stringify({ ...good, type: 'other', dedup_id: 'one' }),
      `{"type":"a","payload":${'['.repeat(129)}${']'.repeat(129)}}`,
      JSON.stringify(good),
    ];
    const expected = [
      [201, undefined],
      [422, 'validation_failed'],
      [422, 'validation_failed'],
      [422, 'validation_failed'],
      [413, 'payload_too_large'],
      [413, 'payload_too_large'],
      [200, undefined],
      [409, 'dedup_mismatch'],
      [422, 'validation_failed'],
      [201, undefined],
    ];
    const { client: fresh } = await createOrg(node().address);
    const answer = await fresh.post(route, `[${items.join(',')}]`);
    const results = resultsOf(answer);
    assert.deepEqual(
      results.map(({ status, code }) => [status, code]),
      expected,
    );
    assert.deepEqual([answer.json.accepted, answer.json.duplicates, answer.json.rejected], [2, 1, 7]);
    const paths = (at: number) => results[at]?.errors?.map(({ path }) => path);
    assert.deepEqual([paths(1), paths(2), paths(3)], [['/payload'], ['/payload', '/x'], ['']]);
    assert.equal(results[6]?.id, results[0]?.id);
    assert.equal(await pendingOf(fresh), 2);
    const asLines = await fresh.post(route, items.join('\n'), lines);
    assert.deepEqual(
      resultsOf(asLines).map(({ status }) => status),
      [200, 422, 422, 422, 413, 413, 200, 409, 422, 201],
    );
  });

  test('a line that is not UTF-8 is refused alone, an array that is not as a whole', async () => {
    const bytes = Buffer.from(`${JSON.stringify(good)}\n"\xff"\n{"type":"a","payload":"\xc3\xa9"}`, 'latin1');
    const results = resultsOf(await client.post(route, bytes, lines));
    assert.deepEqual(
      results.map(({ status, code }) => code ?? status),
      [201, 'invalid_utf8', 201],
    );
    assert.equal(await storedPayload(results[2]?.id ?? ''), '"é"');
    assertProblem(await client.post(route, Buffer.from('["\xff"]', 'latin1')), 'invalid_utf8');
  });

  test('an array that does not parse is refused as a whole, and nothing of it is stored', async () => {
    const { client: fresh } = await createOrg(node().address);
    const event = JSON.stringify(good);
    const broken = [
      '',
      '[',
      `[${event}`,
      `[${event},]`,
      `[${event}]]`,
      `[${event} ${event}]`,
      `[,${event}]`,
      `[${event},{]`,
    ];
    for (const body of [
      ...broken,
      `[${event},{"type":"a","payload":01}]`,
      `[${event}]\0`,
      `\ufeff[${event}]`,
      '{"type":',
    ]) {
      assertProblem(await fresh.post(route, body), 'invalid_json');
    }
    assert.equal(await pendingOf(fresh), 0);
  });

  test('what is no batch is refused as a whole', async () => {
    const event = JSON.stringify(good);
    for (const body of [event, '[]', ' [ ] ', 'null'])
      assertProblem(await client.post(route, body), 'validation_failed');
    for (const body of ['', '\n\n']) assertProblem(await client.post(route, body, lines), 'validation_failed');
    const keyed = await client.post(route, [good], { 'Idempotency-Key': 'a' });
    assert.deepEqual(
      assertProblem(keyed, 'validation_failed').errors?.map(({ path }) => path),
      ['Idempotency-Key'],
    );
    assertProblem(await client.post(`${route}?atomic=yes`, [good]), 'validation_failed');
    assertProblem(await client.post(`${route}?atomic=yes`, '[{'), 'invalid_json');
    assertProblem(await client.post(`${route}?x=1`, event, lines), 'validation_failed');
    assertProblem(await client.post(route, event, { 'Content-Type': 'text/plain' }), 'unsupported_media_type');
  });

  test('1,000 events and 8 MiB are a batch, one more of either is not', async () => {
    const most = Array.from({ length: eventsMax }, (_, n) => ({ ...good, dedup_id: `n${n}` }));
    const { client: fresh, key } = await createOrg(node().address);
    const answer = await fresh.post(route, most);
    assert.deepEqual([answer.json.accepted, answer.json.results.length], [eventsMax, eventsMax]);
    const again = await fresh.post(route, most.map((event) => JSON.stringify(event)).join('\n'), lines);
    assert.deepEqual([again.json.duplicates, again.json.accepted], [eventsMax, 0]);
    assert.equal(await pendingOf(fresh), eventsMax);
    assertProblem(await fresh.post(route, [...most, good]), 'batch_too_large');
    const tooMany = [...most, good].map((event) => JSON.stringify(event)).join('\n');
    assertProblem(await fresh.post(route, tooMany, lines), 'batch_too_large');

    const bytesMax = 8 * 1024 * 1024;
    const large = JSON.stringify(Array.from({ length: 33 }, () => ({ type: 'a', payload: 'x'.repeat(250_000) })));
    const full = large.padEnd(bytesMax);
    assert.equal((await fresh.post(route, full)).json.accepted, 33);
    assertProblem(await fresh.post(route, `${full} `), 'batch_too_large');
    const gzip = { 'Content-Encoding': 'gzip' };
    assertProblem(await fresh.post(route, gzipSync(`${full} `), gzip), 'batch_too_large');
    const head = `POST ${route} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json`;
    const chunk = `${(bytesMax + 1).toString(16)}\r\n${full} \r\n0\r\n\r\n`;
    const chunked = await exchange(node().address, `${head}\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}`);
    assertProblem(chunked, 'batch_too_large');
    // Other routes take no more for it.
    assertProblem(await fresh.post('/v1/events', large), 'payload_too_large');
  });

  test('a batch costs as many tokens as it has events, good or bad', async () => {
    const poor = await poorOrg(10);
    const first = await poor.post(route, [good, {}, 7]);
    assert.equal(first.headers.get('ratelimit-remaining'), '7');
    const refused = await poor.post(route, copies(8));
    assert.equal(assertProblem(refused, 'rate_limited').retry_after, 60);
    assertProblem(await poor.post(route, copies(11)), 'rate_exceeds_burst');
    assert.equal(await pendingOf(poor), 1);
    const rest = await poor.post(`${route}?atomic=true`, copies(7));
    assert.equal(rest.headers.get('ratelimit-remaining'), '0');
    // After parsing: what cannot be read is told before what there is no token for.
    assertProblem(await poor.post(route, '['), 'invalid_json');
    assertProblem(await poor.post(route, [good]), 'rate_limited');
  });

  test('a batch that is refused for its syntax, its query or its size in chunks costs one token', async () => {
    const poor = await poorOrg(10);
    await poor.post(route, '[');
    await poor.post(route, '[]');
    await poor.post(`${route}?x=1`, [good]);
    await poor.post(route, 'no gzip', { 'Content-Encoding': 'gzip' });
    const { headers } = await poor.post(route, [good]);
    assert.equal(headers.get('ratelimit-remaining'), '5');
  });

  test('an atomic batch is stored as a whole', async () => {
    const { client: fresh } = await createOrg(node().address);
    await fresh.post('/v1/events', { ...good, dedup_id: 'first' });
    const batch = [good, { ...good, dedup_id: 'first' }, { ...good, dedup_id: 'new' }, { ...good, dedup_id: 'new' }];
    const answer = await fresh.post(`${route}?atomic=true`, batch);
    assert.deepEqual(statuses(answer), [201, 200, 201, 200]);
    assert.equal(await pendingOf(fresh), 3);
    assert.deepEqual(statuses(await fresh.post(`${route}?atomic=false`, [good, 7])), [201, 422]);
  });

  test('of an atomic batch with a bad event nothing is stored, and every event has its result', async () => {
    const { client: fresh } = await createOrg(node().address);
    await fresh.post('/v1/events', { ...good, dedup_id: 'first' });
    const other = { ...good, type: 'other', dedup_id: 'first' };
    const refusals: [unknown[], [number, string][]][] = [
      [
        [good, 7],
        [
          [422, 'not_stored'],
          [422, 'validation_failed'],
        ],
      ],
      [
        [{ ...good, dedup_id: 'x' }, other, good],
        [
          [422, 'not_stored'],
          [409, 'dedup_mismatch'],
          [422, 'not_stored'],
        ],
      ],
      [
        [
          { ...good, dedup_id: 'y' },
          { ...good, type: 'b', dedup_id: 'y' },
        ],
        [
          [422, 'not_stored'],
          [409, 'dedup_mismatch'],
        ],
      ],
    ];
    for (const [batch, expected] of refusals) {
      const refused = await fresh.post(`${route}?atomic=true`, batch);
      assertProblem(refused, 'validation_failed', ['results']);
      assert.deepEqual(
        refused.json.results.map(({ status, code }: Result) => [status, code]),
        expected,
      );
    }
    const mixed = await fresh.post(`${route}?atomic=true`, `${JSON.stringify(good)}\n{`, lines);
    assertProblem(mixed, 'validation_failed', ['results']);
    assert.deepEqual(mixed.json.results[1].code, 'invalid_json');
    assert.equal(await pendingOf(fresh), 1);
    // The dedup ids of the refused are free.
    const free = [
      { ...good, dedup_id: 'x' },
      { ...good, dedup_id: 'y' },
    ];
    assert.deepEqual(statuses(await fresh.post(`${route}?atomic=true`, free)), [201, 201]);
  });

  test('batches of many senders, atomic or not, store each dedup id once', async () => {
    const { client: fresh } = await createOrg(node().address);
    const batches = Array.from({ length: 12 }, (_, sender) =>
      Array.from({ length: 40 }, (__, n) => ({ ...good, dedup_id: `n${(n * 7 + sender * 11) % 60}` })),
    );
    const answers = await Promise.all(batches.map((batch, n) => fresh.post(`${route}?atomic=${n % 2 === 0}`, batch)));
    const accepted = answers.reduce((sum, { json }) => sum + json.accepted, 0);
    const duplicates = answers.reduce((sum, { json }) => sum + json.duplicates, 0);
    assert.deepEqual([accepted, duplicates], [60, 12 * 40 - 60]);
    assert.equal(await pendingOf(fresh), 60);
  });
});
