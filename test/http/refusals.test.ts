import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { errorTable } from '../../src/errors.js';
import type { ErrorCode } from '../../src/errors.js';
import type { Answer } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import type { TestOrg } from '../support/client.js';
import { onEachEngine } from '../support/each-engine.js';
import { adminToken } from '../support/node.js';
import type { ProblemBody } from '../support/problem.js';
import { assertProblem } from '../support/problem.js';

/** Who asks, and what there is to ask for. */
interface World {
  readonly address: string;
  readonly nobody: Client;
  readonly stranger: Client;
  readonly admin: Client;
  /** All scopes. */
  readonly own: TestOrg;
  /** Only the scope webhooks:manage. */
  readonly powerless: Client;
  readonly suspended: Client;
  /** Has no token left in any bucket. */
  readonly drained: Client;
  /** An event and a lease of another org. */
  readonly foreignEvent: string;
  readonly foreignLease: string;
}

interface Case {
  readonly what: string;
  readonly code: ErrorCode;
  readonly ask: (world: World) => Promise<Answer>;
  readonly check?: (problem: ProblemBody, answer: Answer) => void;
}

const event = { type: 'order.created', payload: { n: 1 } };
const tooLarge = `{"type":"a","payload":"${'x'.repeat(400_000)}"}`;
const unknownId = 'evt_00000000000000000000000000C0';
const queueBytesMax = 128 * 1024;

function pathIs(...paths: string[]) {
  return ({ errors }: ProblemBody) => assert.deepEqual(errors?.map(({ path }) => path).toSorted(), paths);
}

const plain = { 'Content-Type': 'text/plain' };
const gzip = { 'Content-Encoding': 'gzip' };

const byCode: readonly Case[] = [
  // 400
  { what: 'a body that is not gzip', code: 'bad_request', ask: ({ own }) => own.client.post('/v1/events', '{}', gzip) },
  {
    what: 'gzip that ends too early',
    code: 'bad_request',
    ask: ({ own }) => own.client.post('/v1/events', gzipSync(JSON.stringify(event)).subarray(0, -9), gzip),
  },
  {
    what: 'a path that is not percent-encoded',
    code: 'bad_request',
    ask: ({ own }) => own.client.get('/v1/events/%zz'),
  },
  { what: 'no body', code: 'invalid_json', ask: ({ own }) => own.client.post('/v1/events') },
  { what: 'half a body', code: 'invalid_json', ask: ({ own }) => own.client.post('/v1/events', '{"type":') },
  { what: 'a receive of no JSON', code: 'invalid_json', ask: ({ own }) => own.client.post('/v1/inbox/receive', '[') },
  {
    what: 'bytes that are not UTF-8',
    code: 'invalid_utf8',
    ask: ({ own }) => own.client.post('/v1/events', Buffer.from('{"type":"a","payload":"\xff"}', 'latin1')),
  },
  { what: 'a cursor made up', code: 'invalid_cursor', ask: ({ own }) => own.client.get('/v1/inbox?cursor=abc') },
  {
    what: 'a cursor of another list',
    code: 'invalid_cursor',
    ask: async ({ own, admin }) => {
      const { json } = await admin.get('/v1/orgs?limit=1');
      assert.equal(typeof json.next_cursor, 'string');
      return own.client.get(`/v1/keys?cursor=${json.next_cursor}`);
    },
  },
  // 401
  { what: 'no key', code: 'missing_key', ask: ({ nobody }) => nobody.get('/v1/org') },
  { what: 'no admin token', code: 'missing_key', ask: ({ nobody }) => nobody.get('/metrics') },
  { what: 'an unknown key', code: 'invalid_key', ask: ({ stranger }) => stranger.get('/v1/org') },
  { what: 'a text that is no key', code: 'invalid_key', ask: (world) => new Client(world.address, 'x').get('/v1/org') },
  {
    what: 'another scheme than Bearer',
    code: 'invalid_key',
    ask: ({ nobody }) => nobody.get('/v1/org', { Authorization: 'Basic YTpi' }),
  },
  {
    what: 'two headers that disagree',
    code: 'invalid_key',
    ask: ({ own }) => own.client.get('/v1/org', { 'X-API-Key': `${own.key.slice(0, -1)}_` }),
  },
  // 403
  {
    what: 'a key on a route of the admin',
    code: 'insufficient_scope',
    ask: ({ own }) => own.client.get('/v1/orgs'),
  },
  {
    what: 'the admin token on a route of keys',
    code: 'insufficient_scope',
    ask: ({ admin }) => admin.get('/v1/org'),
  },
  {
    what: 'a key that would grant more than it holds',
    code: 'insufficient_scope',
    ask: async ({ own, address }) => {
      const { json } = await own.client.post('/v1/keys', { name: 'keys only', scopes: ['keys:manage'] });
      return new Client(address, json.key).post('/v1/keys', { name: 'more', scopes: ['events:read'] });
    },
    check: ({ detail }) => assert.match(detail, /events:read/),
  },
  { what: 'a suspended org', code: 'org_suspended', ask: ({ suspended }) => suspended.get('/v1/org') },
  // 404
  { what: 'an unknown path', code: 'not_found', ask: ({ own }) => own.client.get('/v1/nothing') },
  { what: 'a path in capitals', code: 'not_found', ask: ({ own }) => own.client.get('/V1/org') },
  { what: 'an event that never was', code: 'not_found', ask: ({ own }) => own.client.get(`/v1/events/${unknownId}`) },
  { what: 'a text that is no event id', code: 'not_found', ask: ({ own }) => own.client.get('/v1/events/%00') },
  {
    what: 'an event of another org',
    code: 'not_found',
    ask: ({ own, foreignEvent }) => own.client.get(`/v1/events/${foreignEvent}`),
  },
  {
    what: 'an own event in another spelling',
    code: 'not_found',
    ask: async ({ own }) => {
      const { json } = await own.client.post('/v1/events', event);
      return own.client.get(`/v1/events/${json.id.toLowerCase()}`);
    },
  },
  {
    what: 'a lease of another org',
    code: 'not_found',
    ask: ({ own, foreignLease }) => own.client.post('/v1/inbox/ack', { lease_id: foreignLease }),
  },
  { what: 'a key that never was', code: 'not_found', ask: ({ own }) => own.client.call('DELETE', '/v1/keys/key_1') },
  { what: 'an org that never was', code: 'not_found', ask: ({ admin }) => admin.get('/v1/orgs/org_0000000001') },
  // 405, 406, 414, 415
  {
    what: 'a method that the path does not take',
    code: 'method_not_allowed',
    ask: ({ own }) => own.client.call('PUT', '/v1/events', event),
    check: (_problem, { headers }) => assert.equal(headers.get('allow'), 'POST'),
  },
  {
    what: 'a method that the percent-encoded path does not take',
    code: 'method_not_allowed',
    ask: ({ own }) => own.client.post('/v1/%6frg', {}),
    check: (_problem, { headers }) => assert.equal(headers.get('allow'), 'GET, HEAD'),
  },
  {
    what: 'a method that no path takes',
    code: 'method_not_allowed',
    ask: ({ own }) => own.client.call('OPTIONS', '/v1/keys/key_1/rotate'),
    check: (_problem, { headers }) => assert.equal(headers.get('allow'), 'POST'),
  },
  ...['image/png', 'text/html', 'application/json;q=0', 'application/json; q=0.0, */*'].map((accept): Case => ({
    what: `Accept: ${accept}`,
    code: 'not_acceptable',
    ask: ({ own }) => own.client.get('/v1/org', { Accept: accept }),
  })),
  {
    what: 'a path with an endless id',
    code: 'uri_too_long',
    ask: ({ own }) => own.client.get(`/v1/events/${'a'.repeat(600)}`),
  },
  { what: 'text', code: 'unsupported_media_type', ask: ({ own }) => own.client.post('/v1/events', '{}', plain) },
  {
    what: 'a form',
    code: 'unsupported_media_type',
    ask: ({ own }) =>
      own.client.post('/v1/inbox/receive', 'max=1', { 'Content-Type': 'application/x-www-form-urlencoded' }),
  },
  {
    what: 'a body without a type',
    code: 'unsupported_media_type',
    ask: ({ own }) => own.client.post('/v1/events', Buffer.from('{}'), { 'Content-Type': '' }),
  },
  {
    what: 'another charset',
    code: 'unsupported_media_type',
    ask: ({ own }) =>
      own.client.post('/v1/events', event, { 'Content-Type': 'application/json; charset="iso-8859-1"' }),
  },
  {
    what: 'another coding than gzip',
    code: 'unsupported_media_type',
    ask: ({ own }) => own.client.post('/v1/events', event, { 'Content-Encoding': 'br' }),
    check: (_problem, { headers }) => assert.equal(headers.get('accept-encoding'), 'gzip'),
  },
  // 409
  {
    what: 'another payload under a dedup id',
    code: 'dedup_mismatch',
    ask: async ({ own }) => {
      await own.client.post('/v1/events', { ...event, dedup_id: 'mismatch' });
      return own.client.post('/v1/events', { ...event, payload: {}, dedup_id: 'mismatch' });
    },
  },
  {
    what: 'another type under an Idempotency-Key',
    code: 'dedup_mismatch',
    ask: async ({ own }) => {
      await own.client.post('/v1/events', event, { 'Idempotency-Key': 'mismatch too' });
      return own.client.post('/v1/events', { ...event, type: 'b' }, { 'Idempotency-Key': 'mismatch too' });
    },
  },
  {
    what: 'one key too many',
    code: 'limit_reached',
    ask: async ({ address }) => {
      const { client } = await createOrg(address);
      const made = await Promise.all(Array.from({ length: 99 }, () => client.post('/v1/keys', { name: 'n' })));
      assert.ok(made.every(({ status }) => status === 201));
      return client.post('/v1/keys', { name: 'n' });
    },
  },
  // 413
  {
    what: 'a body over the limit',
    code: 'payload_too_large',
    ask: ({ own }) => own.client.post('/v1/events', tooLarge),
  },
  {
    what: 'a payload over the limit in a body below it',
    code: 'payload_too_large',
    ask: ({ own }) => own.client.post('/v1/events', `{"type":"a","payload":"${'x'.repeat(262_143)}"}`),
  },
  {
    what: 'a gzip bomb',
    code: 'payload_too_large',
    ask: ({ own }) => own.client.post('/v1/events', gzipSync(Buffer.alloc(40_000_000)), gzip),
  },
  // 422
  {
    what: 'no field at all',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/events', {}),
    check: pathIs('/payload', '/type'),
  },
  {
    what: 'an array of events',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/events', [event]),
    check: pathIs(''),
  },
  {
    what: 'an unknown field of an event',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/events', { ...event, 'a/b~c': 1 }),
    check: pathIs('/a~1b~0c'),
  },
  {
    what: 'a repeated field of an event, once in escapes',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/events', '{"type":"a","payload":1,"payl\\u006fad":2}'),
    check: pathIs('/payload'),
  },
  {
    what: 'a reserved type',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/events', { ...event, type: 'sluice.test' }),
    check: pathIs('/type'),
  },
  {
    what: 'strings that cannot be stored',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/events', { ...event, subject: 'a\0', dedup_id: '\ud800' }),
    check: pathIs('/dedup_id', '/subject'),
  },
  {
    what: 'an Idempotency-Key outside of ASCII',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/events', event, { 'Idempotency-Key': 'ä' }),
    check: pathIs('Idempotency-Key'),
  },
  {
    what: 'an unknown field elsewhere',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/inbox/receive', { maximum: 1, __proto__: null, 'x/y': 1 }),
    check: pathIs('/maximum', '/x~1y'),
  },
  {
    what: 'more unknown fields than a reply lists',
    code: 'validation_failed',
    ask: ({ own }) =>
      own.client.post('/v1/inbox/receive', Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`x${i}`, i]))),
    check: ({ errors }) => assert.ok(errors !== undefined && errors.length >= 5 && errors.length <= 10),
  },
  {
    what: 'an unknown field below a known one',
    code: 'validation_failed',
    ask: ({ own, admin }) => admin.call('PATCH', `/v1/orgs/${own.id}`, { limits: { 'per/day': 1 } }),
    check: (problem) => {
      pathIs('/limits/per~1day')(problem);
      assert.match(problem.detail, /rate_per_minute/);
    },
  },
  {
    what: 'a field __proto__',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/inbox/receive', '{"__proto__":{"max":1}}'),
    check: pathIs('/__proto__'),
  },
  {
    what: 'a repeated field elsewhere, once in escapes',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/inbox/receive', '{"max":1,"m\\u0061x":1}'),
    check: pathIs('/max'),
  },
  {
    what: 'a number out of range',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/inbox/receive', '{"max":1e400,"wait_seconds":31,"lease_seconds":0}'),
    check: pathIs('/lease_seconds', '/max', '/wait_seconds'),
  },
  {
    what: 'an acknowledgement of two kinds',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/inbox/ack', { ids: [unknownId], lease_id: 'lse_1' }),
    check: pathIs(''),
  },
  {
    what: 'an acknowledgement of nothing',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/inbox/ack', { ids: [] }),
    check: pathIs('/ids'),
  },
  {
    what: 'an acknowledgement of too much',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/inbox/ack', { ids: Array.from({ length: 1001 }, () => unknownId) }),
    check: pathIs('/ids'),
  },
  {
    what: 'a scope that does not exist',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/keys', { name: 'n', scopes: ['events:erase'] }),
    check: (problem) => assert.match(problem.detail, /events:write/),
  },
  {
    what: 'a key that has ended already',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/keys', { name: 'n', expires_at: '2001-01-01T00:00:00Z' }),
    check: pathIs('/expires_at'),
  },
  {
    what: 'an org of an unknown tier',
    code: 'validation_failed',
    ask: ({ admin }) => admin.post('/v1/orgs', { name: 'n', tier: 'gold' }),
    check: pathIs('/tier'),
  },
  {
    what: 'an org name that is too long',
    code: 'validation_failed',
    ask: ({ admin }) => admin.post('/v1/orgs', { name: '😀'.repeat(256) }),
    check: pathIs('/name'),
  },
  ...['/v1/inbox?x=1', '/v1/keys?x=1', '/v1/org?x=1', '/healthz?x=1', '/readyz?x=1'].map((path): Case => ({
    what: `an unknown parameter: ${path}`,
    code: 'validation_failed',
    ask: ({ own }) => own.client.get(path),
    check: pathIs('?x'),
  })),
  {
    what: 'a parameter __proto__',
    code: 'validation_failed',
    ask: ({ own }) => own.client.get('/v1/keys?__proto__=1'),
    check: pathIs('?__proto__'),
  },
  {
    what: 'a repeated parameter, once in escapes',
    code: 'validation_failed',
    ask: ({ own }) => own.client.get('/v1/inbox?limit=1&l%69mit=1'),
    check: pathIs('?limit'),
  },
  {
    what: 'parameters out of range',
    code: 'validation_failed',
    ask: ({ own }) => own.client.get('/v1/inbox?limit=1001&status=lost'),
    check: pathIs('?limit', '?status'),
  },
  ...['fields=id,secret', 'fields=', 'type=a%20b', 'limit=0x10', 'limit='].map((query): Case => ({
    what: `a parameter of no sense: ${query}`,
    code: 'validation_failed',
    ask: ({ own }) => own.client.get(`/v1/inbox?${query}`),
  })),
  // 429, 503
  {
    what: 'an empty bucket',
    code: 'rate_limited',
    ask: ({ drained }) => drained.post('/v1/events', event),
    check: ({ retry_after }, { headers }) => {
      assert.ok(retry_after !== undefined && retry_after <= 60);
      assert.equal(headers.get('ratelimit-limit'), '1');
      assert.equal(headers.get('ratelimit-remaining'), '0');
      assert.match(headers.get('ratelimit-reset') ?? '', /^[1-9]\d*$/);
    },
  },
  {
    what: 'an event for which there is no room in the queue',
    code: 'overloaded',
    ask: ({ own }) => own.client.post('/v1/events', { type: 'a', payload: 'x'.repeat(queueBytesMax) }),
  },
];

/** Each request has two faults or more: the one that comes first in the contract is named. */
const inOrder: readonly Case[] = [
  { what: 'path before key', code: 'not_found', ask: ({ nobody }) => nobody.post('/v1/nothing', tooLarge, plain) },
  { what: 'method before key', code: 'method_not_allowed', ask: ({ nobody }) => nobody.call('PUT', '/v1/events', '{') },
  { what: 'key before size', code: 'missing_key', ask: ({ nobody }) => nobody.post('/v1/events', tooLarge, plain) },
  {
    what: 'scope before size',
    code: 'insufficient_scope',
    ask: ({ powerless }) => powerless.post('/v1/events', tooLarge, plain),
  },
  {
    what: 'suspension before scope and media type',
    code: 'org_suspended',
    ask: ({ suspended }) => suspended.post('/v1/orgs', '{', plain),
  },
  { what: 'size before rate', code: 'payload_too_large', ask: ({ drained }) => drained.post('/v1/events', tooLarge) },
  {
    what: 'media type before rate',
    code: 'unsupported_media_type',
    ask: ({ drained }) => drained.post('/v1/events', '{', plain),
  },
  { what: 'rate before the body', code: 'rate_limited', ask: ({ drained }) => drained.post('/v1/events', '{') },
  {
    what: 'gzip before the query',
    code: 'bad_request',
    ask: ({ own }) => own.client.post('/v1/inbox/receive?x=1', '{', gzip),
  },
  {
    what: 'JSON before the query',
    code: 'invalid_json',
    ask: ({ own }) => own.client.post('/v1/inbox/receive?x=1', '{'),
  },
  {
    what: 'JSON before the query of events',
    code: 'invalid_json',
    ask: ({ own }) => own.client.post('/v1/events?x=1', '{'),
  },
  {
    what: 'key before the entity tag',
    code: 'missing_key',
    ask: ({ nobody, foreignEvent }) => nobody.get(`/v1/events/${foreignEvent}`, { 'If-None-Match': '*' }),
  },
];

const scopeOf: readonly (readonly [method: string, path: string, scope: string])[] = [
  ['POST', '/v1/events', 'events:write'],
  ['GET', `/v1/events/${unknownId}`, 'events:read'],
  ...['/v1/inbox', '/v1/inboxes/default'].flatMap((inbox): [string, string, string][] => [
    ['POST', `${inbox}/receive`, 'inbox:consume'],
    ['POST', `${inbox}/ack`, 'inbox:consume'],
    ['GET', inbox, 'inbox:read'],
    ['GET', `${inbox}/stats`, 'inbox:read'],
  ]),
  ['POST', '/v1/keys', 'keys:manage'],
  ['GET', '/v1/keys', 'keys:manage'],
  ['POST', '/v1/keys/key_1/rotate', 'keys:manage'],
  ['DELETE', '/v1/keys/key_1', 'keys:manage'],
];

await onEachEngine({ queueBytesMax }, ({ node }) => {
  let world: World;
  before(async () => {
    world = await createWorld(node().address);
  });

  for (const { what, code, ask, check } of byCode) {
    test(`${code}: ${what}`, async () => {
      const answer = await ask(world);
      const problem = assertProblem(answer, code);
      check?.(problem, answer);
    });
  }

  for (const { what, code, ask } of inOrder) {
    test(`the first of several faults is named: ${what}`, async () => {
      assertProblem(await ask(world), code);
    });
  }

  for (const [method, path, scope] of scopeOf) {
    test(`${method} ${path} needs the scope ${scope} and says so`, async () => {
      const { detail } = assertProblem(await world.powerless.call(method, path), 'insufficient_scope');
      assert.ok(detail.includes(scope), detail);
    });
  }

  test('a refusal of a HEAD has the headers of one of a GET, and no body', async () => {
    const { status, headers, text } = await world.own.client.call('HEAD', `/v1/events/${unknownId}`);
    assert.equal(status, 404);
    assert.equal(headers.get('content-type'), 'application/problem+json');
    assert.match(headers.get('x-request-id') ?? '', /./);
    assert.equal(text, '');
  });

  test('a request id that the client names comes back, unless it could harm a log', async () => {
    const named = await world.own.client.get('/v1/nothing', { 'X-Request-Id': 'mine-1._' });
    assert.equal(assertProblem(named).request_id, 'mine-1._');
    const harmful = await world.own.client.get('/v1/nothing', { 'X-Request-Id': 'a b"' });
    assert.notEqual(assertProblem(harmful).request_id, 'a b"');
  });

  test('every reply that is no refusal carries its request id, and JSON its media type alone', async () => {
    const { client } = world.own;
    const sent = await client.post('/v1/events', event);
    const replies = [
      sent,
      await client.get(sent.headers.get('location') ?? ''),
      await client.get('/v1/inbox'),
      await client.post('/v1/inbox/receive'),
      await client.get('/healthz'),
      await client.get('/readyz'),
    ];
    for (const { status, headers } of replies) {
      assert.ok(status === 200 || status === 201);
      assert.match(headers.get('x-request-id') ?? '', /./);
      assert.equal(headers.get('content-type'), 'application/json');
    }
    for (const { headers } of replies.slice(0, 4)) {
      assert.match(headers.get('ratelimit-limit') ?? '', /^\d+$/);
      assert.match(headers.get('ratelimit-remaining') ?? '', /^\d+$/);
      assert.match(headers.get('ratelimit-reset') ?? '', /^\d+$/);
    }
  });

  test('what operators read ignores Accept, and JSON is given to whoever takes it in any way', async () => {
    assert.equal((await world.admin.get('/metrics', { Accept: 'text/plain' })).status, 200);
    assert.equal((await world.nobody.get('/docs/errors', { Accept: 'text/html' })).status, 200);
    for (const accept of ['*/*', 'application/*;q=0.1', 'text/html, application/json;q=0.5', 'image/png, */*;q=0.1']) {
      assert.equal((await world.own.client.get('/v1/org', { Accept: accept })).status, 200, accept);
    }
  });

  test('gzip and no body at all are read for what they are', async () => {
    const { client } = world.own;
    assert.equal((await client.post('/v1/events', gzipSync(JSON.stringify(event)), gzip)).status, 201);
    assert.equal((await client.post('/v1/events', event, { 'Content-Encoding': 'identity' })).status, 201);
    assert.equal(
      (await client.post('/v1/events', event, { 'Content-Type': 'Application/JSON; Charset=UTF-8' })).status,
      201,
    );
    assert.equal((await client.get('/v1/org', gzip)).status, 200);
  });

  test('either header names the key, and both may', async () => {
    const { key } = world.own;
    assert.equal((await world.nobody.get('/v1/org', { 'X-API-Key': key })).status, 200);
    assert.equal((await world.own.client.get('/v1/org', { 'X-API-Key': key })).status, 200);
  });
});

/** Codes of routes that this version does not have. */
const later = ['batch_too_large', 'rate_exceeds_burst', 'name_taken', 'lease_expired', 'not_stored'];
/** Need a storage or a connection that breaks: storage-gone.test.ts, raw-http.test.ts. */
const elsewhere = ['internal', 'storage_unavailable', 'outcome_unknown', 'headers_too_large', 'request_timeout'];

test('every code has a request here that gets it, or a reason why not', () => {
  const shown = new Set<string>([...byCode.map(({ code }) => code), ...later, ...elsewhere]);
  assert.deepEqual([...shown].toSorted(), Object.keys(errorTable).toSorted());
});

async function createWorld(address: string): Promise<World> {
  const admin = new Client(address, adminToken);
  const [own, other, suspended, drained] = await Promise.all([
    createOrg(address),
    createOrg(address),
    createOrg(address),
    createOrg(address),
  ]);
  const weak = await own.client.post('/v1/keys', { name: 'weak', scopes: ['webhooks:manage'] });
  await admin.call('PATCH', `/v1/orgs/${suspended.id}`, { suspended: true });
  await admin.call('PATCH', `/v1/orgs/${drained.id}`, { limits: { rate_per_minute: 1, burst: 1 } });
  await drained.client.post('/v1/events', event);
  const foreignEvent = await other.client.post('/v1/events', event);
  const foreignLease = await other.client.post('/v1/inbox/receive', { lease_seconds: 600 });
  return {
    address,
    nobody: new Client(address, null),
    stranger: new Client(address, `slk_live_${'x'.repeat(43)}`),
    admin,
    own,
    powerless: new Client(address, weak.json.key),
    suspended: suspended.client,
    drained: drained.client,
    foreignEvent: foreignEvent.json.id,
    foreignLease: foreignLease.json.lease_id,
  };
}
