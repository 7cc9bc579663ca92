import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { Problem } from '../../src/errors.js';
import {
  bodyBytesMax,
  dedupHash,
  parseEvent,
  payloadBytesMax,
  payloadDepthMax,
  type EventEnvelope,
} from '../../src/ingest/envelope.js';
import { jsonText } from './json-texts.js';
import { anyCharacter } from '../code-points.js';

function parse(text: string, idempotencyKey?: string): EventEnvelope {
  return parseEvent(Buffer.from(text), { idempotencyKey });
}

/** An event of these fields, each written as JSON text. */
function event(fields: Record<string, string>): string {
  const all: Record<string, string> = { type: '"user.created"', payload: '{}', ...fields };
  return `{${Object.entries(all)
    .map(([name, text]) => `"${name}":${text}`)
    .join(',')}}`;
}

function refusal(text: string | Buffer, idempotencyKey?: string): Problem {
  try {
    parseEvent(typeof text === 'string' ? Buffer.from(text) : text, { idempotencyKey });
  } catch (error) {
    assert.ok(error instanceof Problem, `threw ${String(error)}`);
    return error;
  }
  return assert.fail(`accepted: ${text.toString().slice(0, 200)}`);
}

/** The paths of a 422. */
function faults(text: string, idempotencyKey?: string): string[] {
  const problem = refusal(text, idempotencyKey);
  assert.equal(problem.code, 'validation_failed');
  for (const { message } of problem.errors ?? []) assert.match(message, /^(is|must|appears)/);
  return (problem.errors ?? []).map(({ path }) => path);
}

void test('an event is read with all of its fields', () => {
  const text =
    '{"type": "user.created", "payload": {"user_id": "12345"}, "dedup_id": "abc-1", "subject": "user/12345", "occurred_at": "2026-11-21T10:00:00.000Z"}';
  const { payload, ...rest } = parse(text);
  assert.equal(payload.toString(), '{"user_id": "12345"}');
  assert.deepEqual(rest, {
    type: 'user.created',
    dedupId: 'abc-1',
    subject: 'user/12345',
    occurredAt: Date.UTC(2026, 10, 21, 10),
  });
});

void test('an optional field that is absent or null is null', () => {
  const none = { dedupId: null, subject: null, occurredAt: null };
  for (const text of [event({}), event({ dedup_id: 'null', subject: 'null', occurred_at: 'null' })]) {
    const { dedupId, subject, occurredAt } = parse(text);
    assert.deepEqual({ dedupId, subject, occurredAt }, none);
  }
});

void test('the payload is the bytes that were sent, not a copy', () => {
  const payloads = [
    '1e400',
    '12345678901234567890',
    '-0',
    'null',
    '""',
    '{"a":1,"a":2,"\\u0061":3}',
    '"\\u0000\\ud800\\/\\u00e9\\n"',
    '"😀 é \u2028"',
    '[ 1 ,\n\t{ "x" :\r\n1.10 } ]',
    '{"__proto__":{"type":"x"}}',
    '['.repeat(payloadDepthMax) + ']'.repeat(payloadDepthMax),
    '{"a":'.repeat(payloadDepthMax) + '0' + '}'.repeat(payloadDepthMax),
  ];
  for (const sent of payloads) {
    const body = Buffer.from(` {"payload" :\n${sent}\t, "type":"t"} `);
    const { payload } = parseEvent(body, { idempotencyKey: undefined });
    assert.equal(payload.toString(), sent);
    assert.equal(payload.buffer, body.buffer);
  }
});

void test('any JSON text as payload comes out byte for byte', () => {
  fc.assert(
    fc.property(jsonText, fc.constantFrom('', ' ', '\n\t'), (sent, space) => {
      const { payload } = parse(`{"type":"t","payl\\u006fad":${space}${sent}${space},"subject":"é"}`);
      assert.equal(payload.toString(), sent);
    }),
    { numRuns: 1500 },
  );
});

void test('a payload nested deeper than 128 levels is refused, and so is one of 100,000', () => {
  for (const depth of [payloadDepthMax + 1, 100_000]) {
    assert.deepEqual(faults(event({ payload: '['.repeat(depth) + ']'.repeat(depth) })), ['/payload']);
  }
});

void test('a payload of 262,144 bytes is taken, one byte more is payload_too_large', () => {
  const largest = `"${'x'.repeat(payloadBytesMax - 2)}"`;
  assert.equal(parse(event({ payload: largest })).payload.length, payloadBytesMax);
  const problem = refusal(event({ payload: `"${'x'.repeat(payloadBytesMax - 1)}"` }));
  assert.equal(problem.code, 'payload_too_large');
  assert.match(problem.detail, /262145 bytes/);
});

void test('a body of the largest size has room for the largest of every field', () => {
  const emoji = `"${'\\ud83d\\ude00'.repeat(255)}"`;
  const text = event({
    type: `"${'t'.repeat(255)}"`,
    payload: `"${'x'.repeat(payloadBytesMax - 2)}"`,
    dedup_id: emoji,
    subject: emoji,
    occurred_at: '"2026-11-21T10:00:00.123456789+01:00"',
  });
  assert.ok(text.length < bodyBytesMax);
  assert.equal(parse(text).subject, '😀'.repeat(255));
});

void test('refusals come in the order 400, 413, 422', () => {
  const large = `"${'x'.repeat(payloadBytesMax)}"`;
  assert.equal(refusal(Buffer.from(event({ payload: large, type: '"\xff"' }), 'latin1')).code, 'invalid_utf8');
  assert.equal(refusal(event({ payload: large }) + '}').code, 'invalid_json');
  assert.equal(refusal(event({ type: '1', extra: '1', payload: large })).code, 'payload_too_large');
  assert.equal(refusal(event({ type: '1' })).code, 'validation_failed');
});

void test('everything that is wrong is reported at once', () => {
  const text = '{"type":"","dedup_id":1,"subject":"","occurred_at":"today","extra":1,"extra2":2}';
  const expected = [
    '/dedup_id',
    '/extra',
    '/extra2',
    '/occurred_at',
    '/payload',
    '/subject',
    '/type',
    'Idempotency-Key',
  ];
  assert.deepEqual(faults(text, 'é').toSorted(), expected);
});

void test('unknown and repeated fields are refused, compared unescaped', () => {
  assert.deepEqual(faults('{"type":"t","payload":1,"payl\\u006fad":2}'), ['/payload']);
  assert.deepEqual(faults('{"type":"t","type":"t","payload":1}'), ['/type']);
  assert.deepEqual(faults('{"type":"t","payload":1,"__proto__":{}}'), ['/__proto__']);
  assert.deepEqual(faults('{"type":"t","payload":1,"a/b~c":{}}'), ['/a~1b~0c']);
  assert.deepEqual(faults('{"__proto__":{"type":"t","payload":1}}').toSorted(), ['/__proto__', '/payload', '/type']);
  assert.ok(faults(`{${Array.from({ length: 20_000 }, (_, n) => `"f${n}":0`).join(',')}}`).length < 20);
});

void test('a type has 1 to 255 of its characters, starts with a letter or digit, and is not reserved', () => {
  for (const type of ['a', '0', 'A-Z_a.z:0/9', 'sluice', 'sluices.x', 'x'.repeat(255)]) {
    assert.equal(parse(event({ type: JSON.stringify(type) })).type, type);
  }
  const bad = [
    '',
    '.a',
    '-a',
    '_a',
    ':a',
    '/a',
    'a b',
    'a\n',
    'é',
    'a\0',
    'sluice.x',
    'sluice.',
    'x'.repeat(256),
    null,
    1,
    ['a'],
    {},
  ];
  for (const type of bad)
    assert.deepEqual(faults(event({ type: JSON.stringify(type) })), ['/type'], JSON.stringify(type));
});

void test('dedup_id and subject have 1 to 255 code points, without NUL and unpaired surrogates', () => {
  for (const field of ['dedup_id', 'subject'] as const) {
    for (const text of [' ', 'x'.repeat(255), '😀'.repeat(255), '\n', '\uffff']) {
      const parsed = parse(event({ [field]: JSON.stringify(text) }));
      assert.equal(field === 'subject' ? parsed.subject : parsed.dedupId, text);
    }
    const bad = [
      '""',
      `"${'x'.repeat(256)}"`,
      `"${'😀'.repeat(256)}"`,
      '"a\\u0000"',
      '"\\ud800"',
      '"\\udc00\\ud800"',
      '1',
      '[]',
      'false',
    ];
    for (const text of bad) assert.deepEqual(faults(event({ [field]: text })), [`/${field}`], text);
  }
});

void test('occurred_at is refused with its own path and taken in milliseconds', () => {
  assert.equal(parse(event({ occurred_at: '"1969-12-31T23:59:59.9999+00:00"' })).occurredAt, -1);
  for (const text of ['"2026-02-30T00:00:00Z"', '"2026-01-01T00:00:00"', '1', '""']) {
    assert.deepEqual(faults(event({ occurred_at: text })), ['/occurred_at'], text);
  }
});

void test('Idempotency-Key means the same as dedup_id, which wins', () => {
  assert.equal(parse(event({}), 'key 1').dedupId, 'key 1');
  assert.equal(parse(event({ dedup_id: 'null' }), 'key 1').dedupId, 'key 1');
  assert.equal(parse(event({ dedup_id: '"body"' }), 'key 1').dedupId, 'body');
  assert.equal(parse(event({}), '~'.repeat(255)).dedupId, '~'.repeat(255));
  for (const key of ['', 'é', 'a\tb', 'a\x7f', '~'.repeat(256)])
    assert.deepEqual(faults(event({}), key), ['Idempotency-Key']);
});

void test('any bytes are an event or a problem', () => {
  const fragment = fc.constantFrom(
    ...'{}[]",:\\ \0'.split(''),
    '"type"',
    '"payload"',
    '"dedup_id"',
    '"a.b"',
    ':',
    '1',
    '\\u0000',
    'é',
  );
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
    fc.array(fragment, { maxLength: 20 }).map((parts) => Buffer.from(parts.join(''))),
    fc
      .dictionary(fc.constantFrom('type', 'payload', 'dedup_id', 'subject', 'occurred_at', 'x'), jsonText)
      .map((fields) => {
        const members = Object.entries(fields).map(([name, text]) => `"${name}":${text}`);
        return Buffer.from(`{${members.join(',')}}`);
      }),
  );
  fc.assert(
    fc.property(
      body,
      fc.option(fc.string({ unit: anyCharacter, maxLength: 5 }), { nil: undefined }),
      (bytes, idempotencyKey) => {
        try {
          parseEvent(bytes, { idempotencyKey });
        } catch (error) {
          assert.ok(error instanceof Problem, String(error));
        }
      },
    ),
    { numRuns: 2000 },
  );
});

function hash(type: string, payload: string): string {
  return dedupHash(type, Buffer.from(payload)).toString('hex');
}

void test('the dedup hash tells any two pairs of type and payload apart', () => {
  assert.equal(dedupHash('a', Buffer.from('1')).length, 32);
  assert.equal(hash('a', '{"x":1}'), hash('a', '{"x":1}'));
  const distinct = [hash('a', '1'), hash('a1', ''), hash('', 'a1'), hash('a', '1 '), hash('b', '1'), hash('a', '1.0')];
  assert.equal(new Set(distinct).size, distinct.length);
  assert.equal(hash('a', '1'), '82ff976181cd5b35506012eeef1508ce5409e4da7b9ccd6bb578bba553bd920a');
});
