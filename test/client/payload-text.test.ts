import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { encodeEvent } from '../../src/client/event.js';
import { elementTexts, memberTexts } from '../../src/client/json-text.js';

/** JSON with spaces wherever they may be. */
const spaced = fc
  .tuple(fc.json({ maxDepth: 4 }), fc.constantFrom('', ' ', '\n\t ', '\r\n'))
  .map(([text, space]) => JSON.stringify(JSON.parse(text), null, space || undefined) ?? 'null');

test('each member of an object and each element of an array is found as the text that stands there', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.string(), spaced), { maxLength: 6 }),
      fc.constantFrom('', ' ', '\n'),
      (members, s) => {
        const object = `${s}{${members.map(([name, text]) => `${s}${JSON.stringify(name)}${s}:${s}${text}${s}`).join(',')}}${s}`;
        assert.deepEqual(memberTexts(object), new Map(members));
        const array = `${s}[${s}${members.map(([, text]) => `${text}${s}`).join(`,${s}`)}]`;
        assert.deepEqual(
          elementTexts(array),
          members.map(([, text]) => text),
        );
      },
    ),
    { numRuns: 500 },
  );
});

test('a raw payload is sent byte for byte, and what is no single JSON value is refused before it is sent', () => {
  const rawPayload = '{"b": 1.0000000000000000001, "a":[ 1e400 ], "a": 2}';
  const { text } = encodeEvent({ type: 'a.b', rawPayload, dedup_id: 'x' });
  assert.equal(memberTexts(text).get('payload'), rawPayload);
  for (const bad of ['1,"subject":"smuggled"', '', 'undefined', '{}}', "{'a':1}"]) {
    assert.throws(() => encodeEvent({ type: 'a.b', rawPayload: bad }), SyntaxError, bad);
  }
  for (const payload of [undefined, () => 1, 1n]) assert.throws(() => encodeEvent({ type: 'a.b', payload }), TypeError);
  assert.throws(() => encodeEvent({ type: 'a.b', payload: 1, rawPayload: '1' }), TypeError);
});

test('an event as text stays as it is, but for a dedup_id where it has none', () => {
  const given = ' {"type":"a.b" , "dedup\\u005fid":"x","payload": 1.0}';
  assert.deepEqual(encodeEvent({ json: given }), { text: given, isRepeatable: true, hasOwnDedupId: false });
  const added = encodeEvent({ json: ' {"type":"a.b" , "payload": 1.0}' });
  assert.match(added.text, /^\{"dedup_id":"[0-9a-f-]{36}","type":"a.b" , "payload": 1.0\}$/);
  assert.equal(Object.keys(JSON.parse(encodeEvent({ json: '{}' }).text)).join(), 'dedup_id');
  // Null is none to the server, so a repeat would store it twice.
  assert.equal(encodeEvent({ json: '{"dedup_id":null}' }).isRepeatable, false);
  for (const bad of ['[]', 'null', '1', '"a"', '{', '{} {}'])
    assert.throws(() => encodeEvent({ json: bad }), Error, bad);
});
