import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { createOrg, whenThereIsRoom } from '../support/client.js';
import type { Case } from './refusal-world.js';
import { event, gzip, pathIs, queueBytesMax, tooLarge, unknownId } from './refusal-world.js';

/** What is refused for what it says, or for how much there is of it: 409, 413, 422, 429 and 503. */
export const refusedContent: readonly Case[] = [
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
      const make = () => whenThereIsRoom(() => client.post('/v1/keys', { name: 'n' }));
      const made = await Promise.all(Array.from({ length: 99 }, make));
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
    what: 'an Idempotency-Key outside of ASCII beside no dedup id',
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/events', { ...event, dedup_id: null }, { 'Idempotency-Key': 'ä' }),
    check: pathIs('Idempotency-Key'),
  },
  ...(
    [
      [[], '/types', 'must have 1 or more items'],
      [[5], '/types/0', 'must be: string'],
      [['a', 5, 'b', {}], '/types/1', 'must be: string'],
      [Array.from({ length: 101 }, () => 'a'), '/types', 'must have 100 items at most'],
      ['a', '/types', 'must be one of array, null'],
    ] as const
  ).map(([types, path, message]): Case => ({
    what: `types of an inbox that are wrong: ${JSON.stringify(types).slice(0, 30)}`,
    code: 'validation_failed',
    ask: ({ own }) => own.client.post('/v1/inboxes', { name: 'wrong', types }),
    check: ({ errors }) => assert.deepEqual(errors?.[0], { path, message }),
  })),
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
  ...[false, true].map((atomic): Case => ({
    what: `a batch${atomic ? ' in one transaction' : ''} for whose first event there is no room in the queue`,
    code: 'overloaded',
    ask: ({ own }) =>
      own.client.post(`/v1/events/batch?atomic=${atomic}`, [{ type: 'a', payload: 'x'.repeat(queueBytesMax) }, event]),
  })),
  {
    what: 'a batch of more than the bucket holds',
    code: 'rate_exceeds_burst',
    ask: ({ drained }) => drained.post('/v1/events/batch', [event, event]),
  },
  {
    what: 'an event for which there is no room in the queue',
    code: 'overloaded',
    ask: ({ own }) => own.client.post('/v1/events', { type: 'a', payload: 'x'.repeat(queueBytesMax) }),
  },
];
