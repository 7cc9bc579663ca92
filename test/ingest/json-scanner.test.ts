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

void test('hostile bodies of 320 KiB cost time in proportion to their size', () => {
  const shapes: Record<string, (bytes: number) => string> = {
    'deep nesting': (bytes) => `{"a":${'['.repeat(bytes / 2)}${']'.repeat(bytes / 2)}}`,
    'escaped quotes': (bytes) => `{"a":"${'\\"'.repeat(bytes / 2)}"}`,
    backslashes: (bytes) => `{"a":"${'\\'.repeat(bytes)}"}`,
    members: (bytes) => `{${'"":0,'.repeat(bytes / 5)}"":0}`,
    'escaped names': (bytes) => `{${'"\\u0061":0,'.repeat(bytes / 11)}"":0}`,
    'white space': (bytes) => `{${' '.repeat(bytes)}"a":0}`,
    'one number': (bytes) => `{"a":1${'0'.repeat(bytes)}}`,
  };
  for (const [shape, make] of Object.entries(shapes)) {
    const small = fastest(make(16_384));
    const large = fastest(make(327_680));
    // 20 times the size; a quadratic scan would take 400 times as long.
    assert.ok(large < 100 * Math.max(small, 0.05), `${shape}: ${small.toFixed(3)} ms, then ${large.toFixed(3)} ms`);
  }
});

/** Milliseconds of the fastest of some scans. */
function fastest(text: string): number {
  const body = Buffer.from(text);
  let best = Infinity;
  for (let run = 0; run < 8; run++) {
    const before = performance.now();
    scanObject(body, text);
    best = Math.min(best, performance.now() - before);
  }
  return best;
}
