/** The schemas of the document of the API against the parsers, which do not use them: both take and refuse the same. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Type } from '@sinclair/typebox';
import type { TSchema } from '@sinclair/typebox';
import fc from 'fast-check';
import { Problem } from '../../src/errors.js';
import { parseBatch } from '../../src/ingest/batch-body.js';
import { CloudEventReader, parseStructuredCloudEvent } from '../../src/ingest/cloud-event.js';
import { EventReader, parseEvent } from '../../src/ingest/envelope.js';
import {
  newBatchSchema,
  newCloudEventBatchSchema,
  newCloudEventSchema,
  newEventSchema,
} from '../../src/ingest/event-schema.js';
import { SchemaComponents } from '../../src/http/openapi/json-schema.js';
import { ajv } from '../support/documented.js';

const numRuns = 3_000;

function validatorOf(schema: TSchema): (value: unknown) => boolean {
  const components = new SchemaComponents();
  const root = components.of(schema);
  const validate = ajv.compile({ ...root, components: { schemas: components.schemas } });
  return (value) => validate(value);
}

function takes(parse: (body: Buffer) => unknown, value: unknown): boolean {
  try {
    parse(Buffer.from(JSON.stringify(value)));
    return true;
  } catch (error) {
    if (error instanceof Problem) return false;
    throw error;
  }
}

// Well-formed, since JSON Schema cannot say that; small, since it cannot say how large.
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 4 }),
  fc.constantFrom('', '\0', 'a\0b', '1.0', 'user.created', 'sluice.x', '.a', 'a b', 'é', 'aGk=', 'aGk', '====', 'a==='),
  fc.constantFrom(254, 255, 256, 257).map((length) => 'a'.repeat(length)),
  fc.constantFrom(255, 256).map((length) => '😀'.repeat(length)),
);
const time = fc.constantFrom(
  '2026-11-21T10:00:00.000Z',
  '2026-11-21t10:00:00z',
  '2026-11-21T10:00:00.123456789+14:00',
  '2026-11-21T10:00:00.1234567890Z',
  '2026-11-21',
  '2026-11-21 10:00:00Z',
  '2026-02-30T10:00:00Z',
  '0000-01-01T00:00:00Z',
  '2026-11-21T10:00:00',
);
const other = fc.oneof(
  text,
  time,
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.boolean(),
  fc.constant(null),
  fc.constant([]),
  fc.constant({}),
);

/** A sound event, of which some fields are replaced, taken away or added. */
function spoiled(sound: fc.Arbitrary<object>, names: readonly string[]): fc.Arbitrary<unknown> {
  const edit = fc.tuple(
    fc.oneof(fc.constantFrom(...names), fc.string({ maxLength: 4 }), fc.constant('x'.repeat(65))),
    fc.option(other, { nil: undefined }),
  );
  const edits = fc.array(edit, { maxLength: 2 });
  const event = fc.tuple(sound, edits).map(([fields, changes]) => ({ ...fields, ...Object.fromEntries(changes) }));
  return fc.oneof({ weight: 20, arbitrary: event }, { weight: 1, arbitrary: other });
}

const optional = <Value>(arbitrary: fc.Arbitrary<Value>) => fc.option(arbitrary, { nil: undefined });
const eventType = fc.constantFrom('user.created', 'a', 'A-1:b/c_d.e');
const soundEvent = fc.record({
  type: eventType,
  payload: fc.jsonValue({ maxDepth: 2 }),
  dedup_id: optional(fc.string({ minLength: 1, maxLength: 4 })),
  subject: optional(fc.constantFrom('s', null)),
  occurred_at: optional(time),
});
const soundCloudEvent = fc.record({
  specversion: fc.constant('1.0'),
  id: fc.constantFrom('1', 'a'),
  source: fc.constant('/s'),
  type: eventType,
  time: optional(time),
  data: optional(fc.jsonValue({ maxDepth: 2 })),
  datacontenttype: optional(fc.constantFrom('application/json', null)),
});
const eventNames = ['type', 'payload', 'dedup_id', 'subject', 'occurred_at', '__proto__', 'Type'];
const cloudEventNames = [
  'specversion',
  'id',
  'source',
  'type',
  'subject',
  'time',
  'data',
  'data_base64',
  'datacontenttype',
  'dataschema',
  'ext1',
  'Ext',
  'a_b',
];

/** Both sides are seen often enough that the agreement says something. */
function agree(document: fc.Arbitrary<unknown>, schema: TSchema, parse: (body: Buffer) => unknown): void {
  const validate = validatorOf(schema);
  const seen = { taken: 0, refused: 0 };
  fc.assert(
    fc.property(document, (value) => {
      // As it is on the wire.
      const sent: unknown = JSON.parse(JSON.stringify(value));
      const taken = takes(parse, sent);
      seen[taken ? 'taken' : 'refused']++;
      assert.equal(validate(sent), taken);
    }),
    { numRuns },
  );
  assert.ok(seen.taken > numRuns / 20 && seen.refused > numRuns / 20, JSON.stringify(seen));
}

describe('the schema says what the parser takes', () => {
  test('of an event', () => {
    agree(spoiled(soundEvent, eventNames), newEventSchema, (body) => parseEvent(body, { idempotencyKey: undefined }));
  });

  test('and a schema that says more or less is found out', () => {
    const sound = newEventSchema.properties;
    const parse = (body: Buffer) => parseEvent(body, { idempotencyKey: undefined });
    const closed = { additionalProperties: false };
    const wrong = [
      Type.Object(sound),
      Type.Object({ ...sound, subject: Type.Optional(Type.String()) }, closed),
      Type.Object({ ...sound, dedup_id: sound.type }, closed),
      Type.Object({ ...sound, type: Type.String() }, closed),
    ];
    for (const schema of wrong) assert.throws(() => agree(spoiled(soundEvent, eventNames), schema, parse));
  });

  test('of a CloudEvent', () => {
    agree(spoiled(soundCloudEvent, cloudEventNames), newCloudEventSchema, parseStructuredCloudEvent);
  });

  test('of batches: a good batch is one of which every event is good', async () => {
    const formats = [
      { schema: newBatchSchema, event: spoiled(soundEvent, eventNames), reader: () => new EventReader() },
      {
        schema: newCloudEventBatchSchema,
        event: spoiled(soundCloudEvent, cloudEventNames),
        reader: () => new CloudEventReader(),
      },
    ];
    for (const { schema, event, reader } of formats) {
      const validate = validatorOf(schema);
      await fc.assert(
        fc.asyncProperty(fc.oneof(fc.array(event, { maxLength: 3 }), other), async (value) => {
          const sent: unknown = JSON.parse(JSON.stringify(value));
          assert.equal(validate(sent), await takesBatch(sent, reader));
        }),
        { numRuns: 1_000 },
      );
    }
    const good = { type: 'a', payload: 1 };
    for (const [length, isTaken] of [
      [1_000, true],
      [1_001, false],
    ] as const) {
      const events = Array.from({ length }, () => good);
      assert.equal(validatorOf(newBatchSchema)(events), isTaken);
      assert.equal(await takesBatch(events, () => new EventReader()), isTaken);
    }
  });
});

async function takesBatch(value: unknown, reader: () => EventReader | CloudEventReader): Promise<boolean> {
  try {
    const items = await parseBatch(Buffer.from(JSON.stringify(value)), 'array', reader());
    return items.every((item) => !(item instanceof Problem));
  } catch (error) {
    if (error instanceof Problem) return false;
    throw error;
  }
}
