/**
 * What the parsers beside it take, as schemas for the document of the API. The parsers do not use them: they read bytes, and JSON Schema knows
 * neither how large a payload is or how deep, nor repeated names, unpaired surrogates and what is in the calendar. In all else the two agree,
 * which test/ingest/event-schema.test.ts holds.
 */
import { Type } from '@sinclair/typebox';
import type { TSchema } from '@sinclair/typebox';
import { batchEventsMax } from './batch-body.js';
import { reservedTypePrefix, textCharsMax, typeShape } from './envelope.js';

const eventType = Type.String({
  minLength: 1,
  maxLength: textCharsMax,
  pattern: typeShape.source.replace('^', `^(?!${reservedTypePrefix.replace('.', '\\.')})`),
  description: `1 to ${textCharsMax} characters of \`A-Z a-z 0-9 . _ - : /\`, starting with a letter or a digit. \`${reservedTypePrefix}\` is reserved.`,
});

/** PostgreSQL cannot store the character NUL. */
const storable = '^[^\\u0000]*$';
const optionalText = Type.Optional(
  Type.Union([Type.String({ minLength: 1, maxLength: textCharsMax, pattern: storable }), Type.Null()]),
);
const optionalTime = Type.Optional(
  Type.Union([
    Type.String({
      format: 'date-time',
      pattern: '^\\d{4}-\\d\\d-\\d\\d[Tt]\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,9})?([Zz]|[+-]\\d\\d:\\d\\d)$',
    }),
    Type.Null(),
  ]),
);

/** One event, as `parseEvent` takes it. */
export const newEventSchema = Type.Object(
  {
    type: eventType,
    payload: Type.Unknown({
      description: 'Any JSON value, nested at most 128 levels, of at most 262,144 bytes. It is kept byte for byte.',
    }),
    dedup_id: optionalText,
    subject: optionalText,
    occurred_at: optionalTime,
  },
  {
    $id: 'NewEvent',
    additionalProperties: false,
    description: 'An event to be stored. A field that is null counts as absent.',
  },
);

const attributeText = Type.String({ minLength: 1, pattern: storable });
const extension = Type.Union([
  Type.String({ pattern: storable }),
  Type.Boolean(),
  Type.Integer({ minimum: -(2 ** 31), maximum: 2 ** 31 - 1 }),
  Type.Null(),
]);
const base64 = '^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$';

/** One event in structured mode, as `CloudEventReader` takes it. */
export const newCloudEventSchema = Type.Object(
  {
    specversion: Type.Literal('1.0'),
    id: attributeText,
    source: attributeText,
    type: eventType,
    subject: optionalText,
    time: optionalTime,
    datacontenttype: Type.Optional(Type.Union([attributeText, Type.Null()])),
    dataschema: Type.Optional(Type.Union([attributeText, Type.Null()])),
    data: Type.Optional(Type.Unknown({ description: 'The payload: any JSON value. It is kept byte for byte.' })),
    data_base64: Type.Optional(Type.String({ pattern: base64 })),
  },
  {
    $id: 'NewCloudEvent',
    description:
      'A CloudEvent 1.0 in the JSON format. Further members are extensions. All but the data may have 8,192 bytes together.',
    // A null is an attribute that is absent, whatever its name.
    patternProperties: { '^(?!([a-z0-9]{1,64}|data_base64)$)': Type.Null() },
    additionalProperties: extension,
    documented: { not: { required: ['data', 'data_base64'] } },
  },
);

function batchOf(event: TSchema): TSchema {
  return Type.Array(event, { minItems: 1, maxItems: batchEventsMax });
}

/**
 * What a batch as a whole is refused for is in the length; an event that is not valid is refused alone, so that a batch of which only some events
 * keep to this schema is answered with 200 all the same.
 */
export const newBatchSchema = batchOf(newEventSchema);
export const newCloudEventBatchSchema = batchOf(newCloudEventSchema);
