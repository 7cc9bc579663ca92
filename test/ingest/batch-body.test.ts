import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { Problem } from '../../src/errors.js';
import { parseBatch } from '../../src/ingest/batch-body.js';
import type { BatchFormat, BatchItem } from '../../src/ingest/batch-body.js';
import { EventReader, parseEvent } from '../../src/ingest/envelope.js';
import { jsonObjectText, jsonText } from './json-texts.js';

function parsed(text: string, format: BatchFormat): Promise<BatchItem[]> {
  return parseBatch(Buffer.from(text), format, new EventReader());
}

/** What comes of the event when it is sent alone. */
function alone(text: string): BatchItem {
  try {
    return parseEvent(Buffer.from(text), { idempotencyKey: undefined });
  } catch (error) {
    assert.ok(error instanceof Problem);
    return error;
  }
}

function comparable(item: BatchItem) {
  if (item instanceof Problem) return { code: item.code, errors: item.errors };
  return { ...item, payload: item.payload.toString() };
}

const eventText = fc.oneof(
  jsonText.map((payload) => `{"type":"a.b","payload": ${payload}}`),
  fc.tuple(jsonText, jsonText).map(([payload, other]) => `{"type":"a","subject":${other},"payload":${payload},"x":1}`),
  jsonObjectText.map(({ text }) => text),
  jsonText,
);

for (const format of ['array', 'lines'] as const) {
  void test(`an event in a batch (${format}) has the outcome that it has alone, and the same bytes`, async () => {
    const property = fc.asyncProperty(fc.array(eventText, { minLength: 1, maxLength: 8 }), async (events) => {
      const texts = format === 'array' ? events : events.map((text) => text.replaceAll('\n', ' '));
      const items = await parsed(format === 'array' ? `[${texts.join(',')}]` : texts.join('\n'), format);
      assert.deepEqual(items.map(comparable), texts.map(alone).map(comparable));
    });
    await fc.assert(property, { numRuns: 500 });
  });
}

void test('an event that is too large to be sent alone is refused, and not parsed', async () => {
  // Brackets are what JSON.parse is slowest at.
  const deep = '['.repeat(400_000) + ']'.repeat(400_000);
  const good = '{"type":"a","payload":1}';
  for (const [text, format] of [
    [`[${good},${deep},{"type":"a","payload":${deep}},${good}]`, 'array'],
    [[good, deep, `{"type":"a","payload":${deep}`, good].join('\n'), 'lines'],
  ] as const) {
    const codes = (await parsed(text, format)).map((item) => (item instanceof Problem ? item.code : null));
    assert.deepEqual(codes, [null, 'payload_too_large', 'payload_too_large', null]);
  }
  // Its end is looked for all the same.
  await assert.rejects(parsed(`[${good},${deep}],${good}]`, 'array'), /invalid_json/);
});

void test('other work has its turn while a large batch is read', async () => {
  const event = `{"type":"a","payload":"${'x'.repeat(9_000)}"}`;
  const events = Array.from({ length: 900 }, () => event);
  for (const [text, format] of [
    [`[${events.join(',')}]`, 'array'],
    [events.join('\n'), 'lines'],
  ] as const) {
    let turns = 0;
    let isRead = false;
    const count = (): void => {
      turns++;
      if (!isRead) setImmediate(count);
    };
    setImmediate(count);
    assert.equal((await parsed(text, format)).length, 900);
    isRead = true;
    assert.ok(turns >= 20, `only ${turns} turns`);
  }
});

void test('a broken array is refused with the place where it breaks', async () => {
  const event = '{"type":"a","payload":1}';
  const reasons: Record<string, RegExp> = {
    [`[${event},{"type":01}]`]: /event 1, counted from 0, is not valid JSON/,
    [`[${event} ${event}]`]: /at event 1, counted from 0: neither a comma/,
    [`[${event},{`]: /at event 1, counted from 0: an object that does not end/,
    [`[${event}] 1`]: /more behind the array/,
  };
  for (const [text, reason] of Object.entries(reasons)) await assert.rejects(parsed(text, 'array'), reason);
});
