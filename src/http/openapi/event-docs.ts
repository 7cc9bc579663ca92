import { cloudEventBatchMediaType, cloudEventMediaType } from '../../ingest/cloud-event.js';
import {
  newBatchSchema,
  newCloudEventBatchSchema,
  newCloudEventSchema,
  newEventSchema,
} from '../../ingest/event-schema.js';
import { Type } from '@sinclair/typebox';
import * as replies from './replies.js';
import type { RouteDocs } from './route-docs.js';
import { eventPageReply, jsonReply } from './route-docs.js';

const cached = ['ETag', 'Cache-Control', 'Vary'] as const;
const aLine = Type.String({ description: 'One event a line (JSON lines); blank lines at the end are none.' });

export const eventDocs = {
  send: {
    id: 'sendEvent',
    group: 'Events',
    summary: 'Store one event',
    description: [
      'A 2xx means that the event is in the log, as durable as `durability` says, and is never lost or stored twice.',
      'CloudEvents 1.0 are taken in structured mode (`application/cloudevents+json`) and in binary mode (`ce-` headers, a body of any media type); `source` and `id` together are their dedup id.',
      'The body may be sent with `Content-Encoding: gzip`.',
    ].join('\n'),
    requestHeaders: ['Idempotency-Key', 'ce-specversion', 'ce-id', 'ce-source', 'ce-type', 'ce-subject', 'ce-time'],
    bodies: {
      'application/json': newEventSchema,
      [cloudEventMediaType]: newCloudEventSchema,
      '*/*': Type.Unknown({
        description: 'The data of a CloudEvent in binary mode, whose attributes are in the headers.',
      }),
    },
    replies: {
      201: jsonReply('The event is stored.', replies.receipt, ['Location']),
      200: jsonReply('An event of this dedup id, type and payload had been stored before.', replies.receipt, [
        'Location',
      ]),
    },
    errors: ['dedup_mismatch'],
  },
  sendBatch: {
    id: 'sendEvents',
    group: 'Events',
    summary: 'Store up to 1,000 events',
    description: [
      'Each event has an outcome of its own, in the order sent: a bad one does not take the others down.',
      'With `atomic=true` it is all or nothing: duplicates count as success, anything else refuses all with a 422 whose `results` tell why.',
      'A batch costs as many tokens as it has events.',
    ].join('\n'),
    bodies: {
      'application/json': newBatchSchema,
      'application/x-ndjson': aLine,
      [cloudEventBatchMediaType]: newCloudEventBatchSchema,
    },
    replies: { 200: jsonReply('What became of each event.', replies.batchReply) },
    problem: replies.batchProblem,
  },
  read: {
    id: 'readEvent',
    group: 'Events',
    summary: 'Read one event',
    description: 'With `Accept: application/cloudevents+json` as a CloudEvent; then `fields` is refused.',
    requestHeaders: ['If-None-Match'],
    replies: {
      200: {
        description: 'The event.',
        content: { 'application/json': replies.event, [cloudEventMediaType]: replies.cloudEventReply },
        headers: cached,
      },
      304: { description: 'The client has it already.', headers: cached },
    },
  },
  deliveries: {
    id: 'listDeliveries',
    group: 'Events',
    summary: 'What became of an event, in each inbox',
    replies: { 200: jsonReply('A row for each inbox.', Type.Object({ data: Type.Array(replies.delivery) })) },
  },
  list: {
    id: 'listEvents',
    group: 'Events',
    summary: 'List events',
    description: [
      'One request does a bounded amount of work: a page may hold fewer events than `limit`, or none, and not be the last.',
      'A page stops at 4 MiB, but holds at least one event.',
      'With `Accept: application/cloudevents-batch+json` as a batch of CloudEvents; then `fields` is refused, and the next page is a `Link`.',
    ].join('\n'),
    replies: { 200: eventPageReply(replies.event) },
  },
  stream: {
    id: 'streamEvents',
    group: 'Events',
    summary: 'Read events as they come',
    description: [
      'Server-sent events: `id` is the id of the event, `data` the event as JSON. A comment every 15 s keeps the connection open.',
      'After a break send the last id as `Last-Event-ID` (browsers do): nothing is missed.',
    ].join('\n'),
    requestHeaders: ['Last-Event-ID'],
    replies: {
      200: {
        description: 'A stream that does not end by itself.',
        content: { 'text/event-stream': Type.String() },
        headers: ['Cache-Control'],
      },
    },
  },
} as const satisfies Record<string, RouteDocs>;
