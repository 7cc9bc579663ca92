/** That the tests' client notices what is not documented: else a test that passes would say nothing of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertDocumented } from '../support/documented.js';
import type { SeenReply } from '../support/documented.js';

const limits = { 'ratelimit-limit': '10', 'ratelimit-remaining': '9', 'ratelimit-reset': '1' };
const usual = { 'x-request-id': 'a', 'content-type': 'application/json', vary: 'Accept', ...limits };
const counts = { pending: 1, leased: 0, dead: 0, oldest_pending_seconds: null };
const problem = {
  type: '/docs/errors#not_found',
  title: 'Not found',
  status: 404,
  detail: 'x',
  code: 'not_found',
  request_id: 'a',
};
const event = {
  id: 'evt_FBY3GDH898000080000000010M9B',
  type: 'a',
  subject: null,
  occurred_at: null,
  attributes: null,
  payload: 1,
};
const whole = { ...event, received_at: '2026-11-21T10:00:00.000Z' };

function reply(status: number, body: unknown, headers: Record<string, string> = usual): SeenReply {
  return { status, headers: new Headers(headers), text: body === undefined ? '' : JSON.stringify(body) };
}

const asProblem = { ...usual, 'content-type': 'application/problem+json' };

test('a reply as it is documented passes', () => {
  assertDocumented('GET', '/v1/inbox/stats', reply(200, counts));
  assertDocumented('GET', '/v1/inboxes/orders/stats?', reply(200, counts));
  assertDocumented('GET', '/v1/events/x', reply(404, problem, asProblem));
  assertDocumented('DELETE', '/v1/keys/x', reply(204, undefined));
  assertDocumented('GET', '/v1/events?fields=id', reply(200, { data: [{ id: event.id }], next_cursor: null }));
  assertDocumented('GET', '/v1/events', reply(200, { data: [whole], next_cursor: null }));
  assertDocumented('GET', '/nowhere', reply(404, problem, asProblem));
  assertDocumented('POST', '/v1/inbox/nack', reply(200, { released: 1 }), { ids: ['x'] });
});

const wrong: Record<string, () => void> = {
  'a status': () => assertDocumented('GET', '/v1/inbox/stats', reply(202, counts)),
  'a status of no route': () => assertDocumented('GET', '/nowhere', reply(200, {})),
  'a code of another route': () =>
    assertDocumented('GET', '/v1/events/x', reply(404, { ...problem, code: 'name_taken' }, asProblem)),
  'a header that is missing': () =>
    assertDocumented('GET', '/v1/inbox/stats', reply(200, counts, { 'content-type': 'application/json', ...limits })),
  'a header that is no number': () =>
    assertDocumented('GET', '/v1/inbox/stats', reply(200, counts, { ...usual, 'ratelimit-reset': '-1' })),
  'a media type': () =>
    assertDocumented('GET', '/v1/inbox/stats', reply(200, counts, { ...usual, 'content-type': 'text/plain' })),
  'a body where there is none': () => assertDocumented('DELETE', '/v1/keys/x', reply(204, {})),
  'a field more': () => assertDocumented('GET', '/v1/inbox/stats', reply(200, { ...counts, lost: 0 })),
  'a field less': () => assertDocumented('GET', '/v1/inbox/stats', reply(200, { ...counts, dead: undefined })),
  'a field of another type': () => assertDocumented('GET', '/v1/inbox/stats', reply(200, { ...counts, dead: '0' })),
  'a field less of an event of which all were asked for': () =>
    assertDocumented('GET', '/v1/events', reply(200, { data: [event], next_cursor: null })),
  'a time that is none': () =>
    assertDocumented(
      'GET',
      '/v1/events',
      reply(200, { data: [{ ...whole, received_at: '2026-02-30T00:00:00Z' }], next_cursor: null }),
    ),
  'a body that was taken': () =>
    assertDocumented('POST', '/v1/inbox/nack', reply(200, { released: 1 }), { events: ['x'] }),
};

for (const [what, check] of Object.entries(wrong)) {
  test(`what is not documented fails the test that sees it: ${what}`, () =>
    assert.throws(check, assert.AssertionError));
}
