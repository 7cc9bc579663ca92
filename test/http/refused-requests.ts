import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { Client } from '../support/client.js';
import type { Case } from './refusal-world.js';
import { event, gzip, plain, unknownId } from './refusal-world.js';

/** What is refused before anybody looks at what a body says: 400 to 406, 414 and 415. */
export const refusedRequests: readonly Case[] = [
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
  ...['', '/stats', '/events'].map((rest): Case => ({
    what: `a text that names no inbox, before "${rest}"`,
    code: 'not_found',
    ask: ({ own }) => own.client.get(`/v1/inboxes/%00${rest}`),
  })),
  {
    what: 'a change of what names no inbox',
    code: 'not_found',
    ask: ({ own }) => own.client.call('PATCH', '/v1/inboxes/%00', { max_attempts: 2 }),
  },
  {
    what: 'a deletion of what names no inbox',
    code: 'not_found',
    ask: ({ own }) => own.client.call('DELETE', '/v1/inboxes/%00'),
  },
  { what: 'a key that never was', code: 'not_found', ask: ({ own }) => own.client.call('DELETE', '/v1/keys/key_1') },
  { what: 'an org that never was', code: 'not_found', ask: ({ admin }) => admin.get('/v1/orgs/org_0000000001') },
  // 405, 406, 414, 415
  {
    what: 'a method that the path does not take',
    code: 'method_not_allowed',
    ask: ({ own }) => own.client.call('PUT', '/v1/events', event),
    check: (_problem, { headers }) => assert.equal(headers.get('allow'), 'POST, GET, HEAD'),
  },
  {
    what: 'a method that the percent-encoded path does not take',
    code: 'method_not_allowed',
    ask: ({ own }) => own.client.post('/v1/%6frg', {}),
    check: (_problem, { headers }) => assert.equal(headers.get('allow'), 'GET, HEAD, PATCH'),
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
    what: 'an id that is too long to be one',
    code: 'not_found',
    ask: ({ own }) => own.client.get(`/v1/events/${'a'.repeat(600)}`),
  },
  {
    what: 'a path with an endless id',
    code: 'uri_too_long',
    ask: ({ own }) => own.client.get(`/v1/events/${'a'.repeat(20_000)}`),
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
];
