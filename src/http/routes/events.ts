import type { IncomingMessage } from 'node:http';
import { Type } from '@sinclair/typebox';
import type { Clock } from '../../clock.js';
import type { Database } from '../../db/database.js';
import { invalid, Problem } from '../../errors.js';
import { decodeEventId, encodeEventId } from '../../event-log/event-id.js';
import { readEvent } from '../../event-log/read.js';
import {
  cloudEventMediaType,
  isBinaryCloudEvent,
  parseBinaryCloudEvent,
  parseStructuredCloudEvent,
} from '../../ingest/cloud-event.js';
import type { EventEnvelope } from '../../ingest/envelope.js';
import { bodyBytesMax, parseEvent, toNewEvent } from '../../ingest/envelope.js';
import type { StoredOrRefused } from '../../ingest/group-commit.js';
import type { IngestLanes } from '../../ingest/ingest-lanes.js';
import { dedupMismatch, orgGone } from '../../ingest/refusals.js';
import type { Delivery } from '../../subscriptions/deliveries.js';
import { deliveriesOf } from '../../subscriptions/deliveries.js';
import { formatTime } from '../../time-format.js';
import { mediaTypeOf, preferredType } from '../admit.js';
import { cloudEventJson } from '../cloud-event-json.js';
import { entityTag, knownTag } from '../entity-tag.js';
import { eventJson, parseFields, wantsPayload } from '../event-json.js';
import { eventDocs } from '../openapi/event-docs.js';
import type { Reply } from '../route.js';
import { forKeys, json } from '../route.js';

export interface EventRoutesOptions {
  readonly database: Database;
  readonly ingest: IngestLanes;
  readonly clock: Clock;
}

export function eventRoutes({ database, ingest, clock }: EventRoutesOptions) {
  return [
    forKeys({
      method: 'POST',
      path: '/v1/events',
      docs: eventDocs.send,
      access: 'events:write',
      bucket: 'write',
      body: 'raw',
      mediaTypes: ['application/json', cloudEventMediaType],
      takesAny: (headers) => isBinaryCloudEvent(headers) && mediaTypeOf(headers) !== cloudEventMediaType,
      checkBody: parse,
      handler: async ({ raw, request, identity }) => {
        const event = parse(raw, request);
        const result = await ingest.add(toNewEvent(identity.org, event));
        return receipt(identity.org, event, result);
      },
    }),
    forKeys({
      method: 'GET',
      path: '/v1/events/:id',
      docs: eventDocs.read,
      access: 'events:read',
      bucket: 'read',
      replyBytesMax: bodyBytesMax,
      replyTypes,
      query: Type.Object({ fields: Type.Optional(Type.String()) }, { additionalProperties: false }),
      handler: async ({ params, query, request, identity }) => {
        const fields = parseFields(query['fields']);
        const isCloudEvent = preferredType(request.headers.accept, replyTypes) === cloudEventMediaType;
        if (isCloudEvent && fields !== null) throw invalid({ path: '?fields', message: 'is not for CloudEvents' });
        const address = decodeEventId(params['id'] ?? '');
        const event = address === null ? null : await readEvent(database, identity.org, address, wantsPayload(fields));
        if (event === null) throw noEvent();
        if (!isCloudEvent) return withEntityTag(request, eventJson(identity.org, event, fields));
        const reply = withEntityTag(request, cloudEventJson(identity.org, event));
        return { ...reply, mediaType: cloudEventMediaType };
      },
    }),
    forKeys({
      method: 'GET',
      path: '/v1/events/:id/deliveries',
      docs: eventDocs.deliveries,
      access: 'events:read',
      bucket: 'read',
      handler: async ({ params, identity }) => {
        const address = decodeEventId(params['id'] ?? '');
        const isOwn = address?.org === identity.org;
        const deliveries = isOwn ? await deliveriesOf(database, identity.org, address, clock.now()) : null;
        if (deliveries === null) throw noEvent();
        return json(200, { data: deliveries.map(deliveryJson) });
      },
    }),
  ];
}

const replyTypes = ['application/json', cloudEventMediaType];

function parse(raw: Buffer, request: IncomingMessage): EventEnvelope {
  const { headers } = request;
  if (mediaTypeOf(headers) === cloudEventMediaType) return parseStructuredCloudEvent(raw);
  if (isBinaryCloudEvent(headers)) return parseBinaryCloudEvent(raw, headers);
  return parseEvent(raw, { idempotencyKey: headerOf(request, 'idempotency-key') });
}

function receipt(org: string, event: EventEnvelope, result: StoredOrRefused): Reply {
  if ('refused' in result) throw result.refused;
  const { appended, durability } = result;
  if (appended.kind === 'org_unknown') throw orgGone();
  if (appended.kind === 'dedup_mismatch') throw dedupMismatch();
  const { place } = appended;
  const id = encodeEventId({ org, epoch: place.epoch, position: place.position, day: place.day });
  const duplicate = appended.kind === 'duplicate';
  // The alphabet of types needs no escapes.
  const body = `{"id":"${id}","type":"${event.type}","received_at":"${formatTime(place.receivedAtMs)}","durability":"${durability}","duplicate":${duplicate}}`;
  return { status: duplicate ? 200 : 201, headers: { Location: `/v1/events/${id}` }, body };
}

/** An event never changes, so its bytes are their own strong validator. */
function withEntityTag(request: IncomingMessage, body: string): Reply {
  const tag = entityTag(body);
  const known = knownTag(request, tag);
  const headers = {
    ETag: known ?? tag,
    'Cache-Control': 'private, no-cache',
    Vary: 'Authorization, X-API-Key, Accept, Accept-Encoding',
  };
  if (known !== null) return { status: 304, headers, body: null };
  return { status: 200, headers, body };
}

export function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

function deliveryJson(delivery: Delivery) {
  return {
    subscription: delivery.subscription,
    kind: delivery.kind,
    state: delivery.state,
    attempts: delivery.attempts,
    last_error: null,
    next_attempt_at: delivery.nextAttemptAtMs === null ? null : formatTime(delivery.nextAttemptAtMs),
  };
}

function noEvent(): Problem {
  return new Problem('not_found', 'There is no such event.');
}
