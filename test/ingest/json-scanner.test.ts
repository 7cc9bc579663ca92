import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { scanObject, type Member } from '../../src/ingest/json-scanner.js';
import { jsonObjectText } from './json-texts.js';

function scan(text: string): { body: Buffer; members: Member[] } {
  const body = Buffer.from(text);
  return { body, members: scanObject(body, text) };
}

function depthOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

void test('on any object, the members found are those written, in order, with each value byte for byte', () => {
  fc.assert(
    fc.property(jsonObjectText, ({ text, members: written }) => {
      const { body, members } = scan(text);
      assert.deepEqual(
        members.map(({ name, start, end }) => [name, body.toString('utf8', start, end)]),
        written.map(({ nameText, valueText }) => [JSON.parse(nameText), valueText]),
      );
    }),
    { numRuns: 1500 },
  );
});

void test('on any object, names and values agree with JSON.parse, where the last of a repeated name wins', () => {
  fc.assert(
    fc.property(jsonObjectText, ({ text }) => {
      const { body, members } = scan(text);
      const last = new Map(members.map((member) => [member.name, member]));
      const object: Record<string, unknown> = JSON.parse(text);
      const parsed = new Map(Object.entries(object));
      assert.deepEqual(new Set(last.keys()), new Set(parsed.keys()));
      for (const [name, { start, end }] of last) {
        assert.deepEqual(JSON.parse(body.toString('utf8', start, end)), parsed.get(name));
      }
    }),
    { numRuns: 1000 },
  );
});

void test('the depth of a value counts its levels, and only brackets outside of strings', () => {
  fc.assert(
    fc.property(jsonObjectText, ({ text }) => {
      // A repeated name inside hides values from JSON.parse, so its depth is only a lower bound then.
      const { body, members } = scan(text);
      for (const { start, end, depth } of members) {
        const value = body.toString('utf8', start, end);
        assert.ok(depth >= depthOf(JSON.parse(value)));
        const brackets = value.replaceAll(/"(?:[^"\\]|\\.)*"/gs, '').replaceAll(/[^[\]{}]/g, '');
        assert.equal(depth, deepest(brackets));
      }
    }),
    { numRuns: 500 },
  );
  const depths = scan('{"a":1,"b":[],"c":{"x":{}},"d":"[[[[","e":[{"k":"]"},[[1]]]}').members.map(({ depth }) => depth);
  assert.deepEqual(depths, [0, 1, 2, 0, 3]);
});

function deepest(brackets: string): number {
  let open = 0;
  let most = 0;
  for (const bracket of brackets) {
    open += bracket === '[' || bracket === '{' ? 1 : -1;
    most = Math.max(most, open);
  }
  return most;
}

void test('a string ends at the first quote behind an even number of backslashes', () => {
  for (const value of ['"\\\\"', '"\\\\\\""', '"\\\\\\\\"', '"\\"\\\\"', '""', '"\\u0022,"']) {
    const { body, members } = scan(`{"a":${value},"b":1}`);
    assert.deepEqual(
      members.map(({ name, start, end }) => [name, body.toString('utf8', start, end)]),
      [
        ['a', value],
        ['b', '1'],
      ],
    );
  }
});

void test('the scan ends on bytes that are no JSON at all', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(fc.nat(255), { maxLength: 60 }),
        fc.array(fc.constantFrom(...Buffer.from('{}[]",:\\ a1')), { maxLength: 60 }),
      ),
      (bytes) => {
        try {
          scanObject(Buffer.from(bytes), 'é');
        } catch (error) {
          assert.ok(error instanceof SyntaxError);
        }
      },
    ),
    { numRuns: 1000 },
  );
});

void test('hostile bodies of 320 KiB are scanned to their end', () => {
  const bytes = 327_680;
  const deep = bytes / 2;
  const shapes: Record<string, { readonly text: string; readonly members: number; readonly depth: number }> = {
    'deep nesting': { text: `{"a":${'['.repeat(deep)}${']'.repeat(deep)}}`, members: 1, depth: deep },
    'escaped quotes': { text: `{"a":"${'\\"'.repeat(bytes / 2)}"}`, members: 1, depth: 0 },
    backslashes: { text: `{"a":"${'\\'.repeat(bytes)}"}`, members: 1, depth: 0 },
    members: { text: `{${'"":0,'.repeat(bytes / 5)}"":0}`, members: bytes / 5 + 1, depth: 0 },
    'white space': { text: `{${' '.repeat(bytes)}"a":0}`, members: 1, depth: 0 },
    'one number': { text: `{"a":1${'0'.repeat(bytes)}}`, members: 1, depth: 0 },
  };
  for (const [shape, { text, members, depth }] of Object.entries(shapes)) {
    const body = Buffer.from(text);
    const found = scanObject(body, text);
    assert.equal(found.length, members, shape);
    const last = found.at(-1);
    assert.equal(last?.depth, depth, shape);
    assert.equal(last?.end, body.length - 1, shape);
  }
});
