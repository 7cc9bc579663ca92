/** What the server answers with, as schemas. A reply may get further fields in time; none is ever taken away. */
import { Type } from '@sinclair/typebox';
import type { TSchema } from '@sinclair/typebox';
import { errorTable } from '../../errors.js';
import type { ErrorCode } from '../../errors.js';
import { scopes } from '../../tenancy/scopes.js';

const text = Type.String();
const count = Type.Integer({ minimum: 0 });
const time = Type.String({ format: 'date-time' });
const eventId = Type.String({ pattern: '^evt_[0-9A-HJKMNP-TV-Z]{28}$', description: 'The id of the event.' });
const keyId = Type.String({ pattern: '^key_[0-9A-HJKMNP-TV-Z]{26}$', description: 'The id of the key.' });
const hash = Type.String({ pattern: '^[0-9a-f]{64}$' });

function orNull(schema: TSchema) {
  return Type.Union([schema, Type.Null()]);
}

function oneOf(...values: readonly string[]) {
  return Type.Union(values.map((value) => Type.Literal(value)));
}

/** One page of a list. */
export function pageOf(item: TSchema) {
  return Type.Object({ data: Type.Array(item), next_cursor: orNull(text) });
}

const eventFields = {
  id: eventId,
  type: text,
  subject: orNull(text),
  occurred_at: orNull(time),
  received_at: time,
  attributes: orNull(Type.Object({}, { additionalProperties: true })),
  payload: Type.Unknown(),
};
const everyField = Type.Partial(Type.Object(eventFields)).properties;
/** With `?fields=` only some are there, so none is required; the mark says which are there without it. */
const unlessFields = { 'x-present-without-fields': Object.keys(eventFields) };

export const event = Type.Object(everyField, {
  $id: 'Event',
  description: 'An event. All fields are there, unless `fields` asks for some.',
  ...unlessFields,
});

export const receivedEvent = Type.Object(
  { ...everyField, attempt: Type.Integer({ minimum: 1 }) },
  { $id: 'ReceivedEvent', description: 'An event that was handed out.', ...unlessFields },
);

const status = oneOf('pending', 'leased', 'dead', 'delivered');

export const inboxEvent = Type.Object(
  { ...everyField, status, attempts: orNull(count) },
  { $id: 'InboxEvent', description: 'An event, and what the inbox has done with it.', ...unlessFields },
);

export const cloudEventReply = Type.Object(
  {
    specversion: Type.Literal('1.0'),
    id: text,
    source: text,
    type: text,
    subject: Type.Optional(text),
    time: Type.Optional(time),
    datacontenttype: Type.Optional(text),
    data: Type.Optional(Type.Unknown({ description: 'The payload, byte for byte as it was sent.' })),
    data_base64: Type.Optional(text),
  },
  {
    $id: 'CloudEvent',
    description: 'A CloudEvent, with its extensions as further members.',
    additionalProperties: true,
  },
);

const receiptFields = {
  id: eventId,
  received_at: time,
  durability: oneOf('fsync', 'replicated', 'memory'),
  duplicate: Type.Boolean(),
};

export const receipt = Type.Object({ ...receiptFields, type: text }, { $id: 'Receipt' });

export const delivery = Type.Object(
  {
    subscription: text,
    kind: oneOf('inbox', 'webhook'),
    state: oneOf('pending', 'leased', 'delivered', 'dead', 'filtered', 'expired', 'skipped', 'erased'),
    attempts: orNull(count),
    last_error: orNull(text),
    next_attempt_at: orNull(time),
  },
  { $id: 'Delivery' },
);

export const lease = Type.Object({ lease_id: text, lease_expires_at: time }, { $id: 'Lease' });

export const received = Type.Object(
  { lease_id: orNull(text), lease_expires_at: orNull(time), data: Type.Array(receivedEvent) },
  { $id: 'Received', description: 'Without an event there is no lease: both of its fields are null.' },
);

export const acknowledged = Type.Object(
  { acknowledged: count, already_acknowledged: count, unknown: Type.Array(text) },
  { $id: 'Acknowledged' },
);

export const stats = Type.Object(
  { pending: count, leased: count, dead: count, oldest_pending_seconds: orNull(count) },
  { $id: 'InboxStats' },
);

export const inbox = Type.Object(
  {
    name: text,
    types: orNull(Type.Array(text)),
    max_attempts: Type.Integer({ minimum: 1 }),
    expired: count,
    erased: count,
    created_at: time,
  },
  { $id: 'Inbox' },
);

const keyFields = {
  id: keyId,
  name: text,
  prefix: text,
  scopes: Type.Array(oneOf(...scopes)),
  created_at: time,
  expires_at: orNull(time),
  last_used_at: orNull(time),
};

export const key = Type.Object(keyFields, { $id: 'Key' });

const secret = Type.String({ pattern: '^slk_live_[A-Za-z0-9_-]{43}$' });

export const createdKey = Type.Object({ ...keyFields, key: secret }, { $id: 'CreatedKey' });

const orgFields = {
  id: Type.String({ pattern: '^org_[0-9A-HJKMNP-TV-Z]{10}$', description: 'The id of the organisation.' }),
  name: text,
  tier: oneOf('free', 'pro', 'business', 'enterprise'),
  limits: Type.Object({
    rate_per_minute: Type.Integer({ minimum: 1 }),
    burst: Type.Integer({ minimum: 1 }),
    mode: oneOf('enforce', 'shadow'),
  }),
  retention_days: Type.Integer({ minimum: 1 }),
  suspended: Type.Boolean(),
  created_at: time,
  usage: Type.Object({ keys: count }),
};

export const org = Type.Object(orgFields, { $id: 'Organisation' });

export const createdOrg = Type.Object({ ...orgFields, key: secret, key_id: keyId }, { $id: 'CreatedOrganisation' });

export const auditRow = Type.Object(
  {
    sequence: Type.Integer({ minimum: 1 }),
    at: time,
    actor: text,
    action: text,
    target: text,
    details: Type.Object({}, { additionalProperties: true }),
    previous_hash: hash,
    hash,
  },
  { $id: 'AuditRow' },
);

const day = Type.String({ format: 'date', description: 'A day in UTC; null where there is no row.' });
const erasedRows = Type.Object(
  { rows: count, first_day: orNull(day), last_day: orNull(day) },
  { $id: 'ErasedRows', description: 'Rows of a table, and the days between which their events were received.' },
);

export const erasure = Type.Object(
  {
    id: Type.String({ pattern: '^ers_[0-9A-HJKMNP-TV-Z]{26}$', description: 'The id of the erasure.' }),
    status: Type.Union([Type.Literal('running'), Type.Literal('done')], { description: 'Whether it is done.' }),
    subject_hash: Type.String({
      pattern: '^[0-9a-f]{64}$',
      description: 'SHA-256 of the id of the erasure, a space and the subject, in hex.',
    }),
    requested_at: time,
    covers_until: time,
    began_at: orNull(time),
    ended_at: orNull(time),
    erased: Type.Object(
      { events: erasedRows, leases: erasedRows, dead_letters: erasedRows },
      { description: 'What has been deleted so far, and where.' },
    ),
    kept: Type.Object({ dedup_ids_until: time }),
    expires_at: Type.Union([time, Type.Null()], {
      description: 'When the certificate is deleted; null while it is not done.',
    }),
  },
  { $id: 'Erasure', description: 'The erasure of a subject. Once it is done, it is the certificate of it.' },
);

const fieldErrors = Type.Array(Type.Object({ path: text, message: text }, { $id: 'FieldError' }));
const problemFields = {
  type: Type.String({ description: 'A link to what is known of the code.' }),
  title: text,
  status: Type.Integer({ minimum: 400, maximum: 599, description: 'The status of the reply.' }),
  detail: text,
  code: oneOf(...(Object.keys(errorTable) as ErrorCode[])),
  errors: Type.Optional(fieldErrors),
  retry_after: Type.Optional(Type.Integer({ minimum: 1 })),
  request_id: text,
};

/** RFC 9457. */
export const problem = Type.Object(problemFields, { $id: 'Problem', description: 'A refusal (RFC 9457).' });

const stored = Type.Object(
  {
    status: Type.Union([Type.Literal(200), Type.Literal(201)], {
      description: '201: stored. 200: it had been before.',
    }),
    ...receiptFields,
  },
  { $id: 'StoredItem', description: 'An event that is stored.' },
);
const refused = Type.Object(
  {
    status: Type.Integer({
      minimum: 400,
      maximum: 599,
      description: 'The status that the event would have been refused with alone.',
    }),
    code: problemFields.code,
    detail: text,
    errors: Type.Optional(fieldErrors),
  },
  { $id: 'RefusedItem', description: 'An event that is not stored.' },
);
const results = Type.Array(Type.Union([stored, refused]));

export const batchReply = Type.Object(
  { accepted: count, duplicates: count, rejected: count, results },
  { $id: 'BatchReply' },
);

export const batchProblem = Type.Object(
  { ...problemFields, results: Type.Optional(Type.Array(refused)) },
  { $id: 'BatchProblem', description: 'A refusal; of an atomic batch with what became of each event.' },
);
