import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { Problem } from '../../src/errors.js';
import { fieldErrorsMax, parseJsonBody } from '../../src/ingest/json-body.js';
import { jsonObjectText } from './json-texts.js';

function refusal(body: string | Buffer): Problem {
  try {
    parseJsonBody(typeof body === 'string' ? Buffer.from(body) : body);
  } catch (error) {
    assert.ok(error instanceof Problem, `threw ${String(error)}`);
    return error;
  }
  return assert.fail(`accepted: ${body.toString()}`);
}

const paths = (problem: Problem): string[] => (problem.errors ?? []).map(({ path }) => path);

void test('bytes that are not UTF-8 are invalid_utf8, before anything is said about JSON', () => {
  for (const bytes of ['7b22613a22ff227d', 'c0af', 'eda080', 'f5808080', '7b22e282']) {
    assert.equal(refusal(Buffer.from(bytes, 'hex')).code, 'invalid_utf8');
  }
});

void test('text that is not JSON is invalid_json and says where', () => {
  for (const text of [
    '',
    '{',
    '{"a":1,}',
    "{'a':1}",
    '{"a":NaN}',
    '{"a":01}',
    '{"a":"\n"}',
    '{}{}',
    '\ufeff{}',
    'nul',
  ]) {
    assert.equal(refusal(text).code, 'invalid_json', text);
  }
  assert.match(refusal('{"a":1,}').detail, /position 7/);
});

void test('a refusal of bad JSON quotes no more than 40 bytes of the body', () => {
  const secret = 'p4ssw0rd-'.repeat(20);
  for (let length = 0; length <= secret.length; length++) {
    for (const [before, after] of [
      ['{"a":"', '" x}'],
      ['[1,', ''],
      ['', '"'],
      ['é😀', 'é'],
    ] as const) {
      const body = before + secret.slice(0, length) + after;
      const { detail } = refusal(body);
      let quoted = 0;
      for (let from = 0; from < body.length; from++) {
        while (from + quoted < body.length && detail.includes(body.slice(from, from + quoted + 1))) quoted++;
      }
      assert.ok(quoted <= 40, detail);
    }
  }
});

void test('JSON that is not an object is validation_failed', () => {
  for (const text of ['null', '[]', '[{}]', '"a"', '1', 'true']) {
    const problem = refusal(text);
    assert.deepEqual([problem.code, paths(problem)], ['validation_failed', ['']], text);
  }
});

void test('a repeated name is refused however it is spelled', () => {
  assert.deepEqual(paths(refusal('{"name":1,"n\\u0061me":2}')), ['/name']);
  assert.deepEqual(paths(refusal('{"__proto__":1,"__proto__":2}')), ['/__proto__']);
  assert.deepEqual(paths(refusal('{"a/b~":1,"a/b~":2,"a/b~":3}')), ['/a~1b~0']);
  assert.deepEqual(
    parseJsonBody(Buffer.from('{"a":{"b":1,"b":2}}')),
    Object.assign(Object.create(null), { a: { b: 2 } }),
  );
});

void test('a NUL or an unpaired surrogate is refused in every string and name at any depth', () => {
  for (const value of [
    '"\\u0000"',
    '"\\ud800"',
    '["x",["\\udc00\\ud800"]]',
    '{"k":{"\\u0000":1}}',
    '[{"a\\ud83d":[]}]',
  ]) {
    assert.deepEqual(paths(refusal(`{"ok":"\\ud83d\\ude00","bad":${value}}`)), ['/bad'], value);
  }
  assert.deepEqual(paths(refusal('{"a\\u0000":1}')), ['/a\0']);
});

void test('a body with thousands of faults is answered with a few, and with short names', () => {
  const names = Array.from({ length: 5000 }, (_, n) => `"${'x'.repeat(500)}${n}"`);
  const problem = refusal(`{${[...names, ...names].map((name) => `${name}:0`).join(',')}}`);
  assert.equal(problem.errors?.length, fieldErrorsMax);
  assert.ok(problem.detail.length < 2000);
});

void test('__proto__ is a name like any other', () => {
  const fields = parseJsonBody(Buffer.from('{"__proto__":{"admin":true},"constructor":1}'));
  assert.equal(Object.getPrototypeOf(fields), null);
  assert.deepEqual(Object.keys(fields), ['__proto__', 'constructor']);
  assert.equal(fields['admin'], undefined);
  assert.equal(({} as Record<string, unknown>)['admin'], undefined);
});

void test('any object is either read as JSON.parse reads it or refused with validation_failed', () => {
  let read = 0;
  fc.assert(
    fc.property(jsonObjectText, ({ text }) => {
      const parsed: object = JSON.parse(text);
      try {
        assert.deepEqual({ ...parseJsonBody(Buffer.from(text)) }, { ...parsed });
        read++;
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        assert.equal(error.code, 'validation_failed');
      }
    }),
    { numRuns: 500 },
  );
  assert.ok(read > 50);
});

void test('any bytes are read or refused with a problem', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      try {
        parseJsonBody(Buffer.from(bytes));
      } catch (error) {
        assert.ok(error instanceof Problem);
      }
    }),
    { numRuns: 1000 },
  );
});
