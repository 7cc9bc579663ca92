/** What a tenant can make, send and hold, and how much of it: one table for the page, the document and docs/limits.md. */
import { requestMsMax, headerBytesMax } from './request-limits.js';
import { listedDaysMax, scannedEventsMax } from '../event-log/list.js';
import { waitersMax, waitersPerOrgMax } from '../inbox/inbox.js';
import { filterBytesMax, filterVersionsMax, inboxesMax, inboxNameCharsMax } from '../inbox/inboxes.js';
import { batchBodyBytesMax, batchEventsMax } from '../ingest/batch-body.js';
import { attributesBytesMax } from '../ingest/cloud-event.js';
import { bodyBytesMax, payloadBytesMax, payloadDepthMax, textCharsMax } from '../ingest/envelope.js';
import { aheadRangesMax } from '../subscriptions/acknowledge.js';
import { replyPayloadBytesMax } from '../subscriptions/read-bounded.js';
import { heldPositionsMax } from '../subscriptions/receive.js';
import { skippedRangesMax } from '../subscriptions/seek.js';
import { erasuresRunningMax } from '../tenancy/erasures.js';
import { keysMax } from '../tenancy/keys.js';
import { orgBytesMax } from './body-budget.js';
import { streamsMax, streamsPerOrgMax } from './event-streams.js';
import { nameCharsMax } from './name.js';
import { pageItemsMax } from './paging.js';
import { eventsPerReceiveMax, idsMax, leaseSecondsMax, waitSecondsMax } from './routes/inbox.js';
import { maxAttemptsMax } from './routes/inboxes.js';
import { graceSecondsMax } from './routes/keys.js';
import { rateMax, retentionDaysMax } from './routes/orgs.js';
import { typePatternsMax } from './type-filter.js';

export interface Limit {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  /** What happens beyond it. */
  readonly beyond: string;
}

const [invalid, full, overloaded] = ['422 `validation_failed`', '409 `limit_reached`', '503 `overloaded`'];

export const limits = {
  // Events
  event_type: { what: 'type of an event', value: textCharsMax, unit: 'characters', beyond: invalid },
  event_dedup_id: {
    what: '`dedup_id` of an event, `Idempotency-Key`',
    value: textCharsMax,
    unit: 'characters',
    beyond: invalid,
  },
  event_subject: { what: 'subject of an event', value: textCharsMax, unit: 'characters', beyond: invalid },
  event_payload: {
    what: 'payload of an event, as sent',
    value: payloadBytesMax,
    unit: 'bytes',
    beyond: '413 `payload_too_large`',
  },
  event_payload_depth: { what: 'nesting of a payload', value: payloadDepthMax, unit: 'levels', beyond: invalid },
  event_attributes: {
    what: 'attributes of a CloudEvent, as JSON',
    value: attributesBytesMax,
    unit: 'bytes',
    beyond: invalid,
  },
  body: {
    what: 'body of a request other than a batch, and one event of a batch',
    value: bodyBytesMax,
    unit: 'bytes',
    beyond: '413 `payload_too_large`',
  },
  batch_events: { what: 'events of a batch', value: batchEventsMax, unit: '', beyond: '413 `batch_too_large`' },
  batch_body: { what: 'body of a batch', value: batchBodyBytesMax, unit: 'bytes', beyond: '413 `batch_too_large`' },
  batch_bodies: {
    what: 'bodies of batches that an organisation has under way on one node',
    value: orgBytesMax,
    unit: 'bytes',
    beyond: overloaded,
  },
  // Reading
  page_items: { what: 'items on a page of a list', value: pageItemsMax, unit: '', beyond: invalid },
  reply: {
    what: 'reply that carries events',
    value: replyPayloadBytesMax,
    unit: 'bytes',
    beyond: 'the page ends; one event is always in it',
  },
  page_scanned: {
    what: 'events that a page of `GET /v1/events` passes over',
    value: scannedEventsMax,
    unit: '',
    beyond: 'the page ends, with a `next_cursor`',
  },
  page_days: {
    what: 'days with events that a page of `GET /v1/events` looks at',
    value: listedDaysMax,
    unit: '',
    beyond: 'the page ends, with a `next_cursor`',
  },
  filter_types: {
    what: 'types in a filter, of a query or of an inbox',
    value: typePatternsMax,
    unit: '',
    beyond: invalid,
  },
  streams_per_org: {
    what: 'open streams of an organisation on one node',
    value: streamsPerOrgMax,
    unit: '',
    beyond: overloaded,
  },
  streams: { what: 'open streams on one node', value: streamsMax, unit: '', beyond: overloaded },
  // Inboxes
  inboxes: { what: 'inboxes of an organisation, `default` included', value: inboxesMax, unit: '', beyond: full },
  inbox_name: { what: 'name of an inbox', value: inboxNameCharsMax, unit: 'characters', beyond: invalid },
  inbox_filter_versions: {
    what: 'changes of the types of an inbox, while events of before are stored',
    value: filterVersionsMax,
    unit: '',
    beyond: full,
  },
  inbox_filter: {
    what: 'types of an inbox, with those it had before, as JSON',
    value: filterBytesMax,
    unit: 'bytes',
    beyond: full,
  },
  inbox_attempts: { what: '`max_attempts` of an inbox', value: maxAttemptsMax, unit: '', beyond: invalid },
  inbox_held: {
    what: 'events of an inbox handed out and not done, dead letters included',
    value: heldPositionsMax,
    unit: '',
    beyond: 'nothing new is handed out',
  },
  inbox_ahead: {
    what: 'stretches of events acknowledged without being received',
    value: aheadRangesMax,
    unit: '',
    beyond: full,
  },
  inbox_skipped: {
    what: 'stretches of the log that seeks have left behind',
    value: skippedRangesMax,
    unit: '',
    beyond: full,
  },
  receive_events: { what: 'events of one receive', value: eventsPerReceiveMax, unit: '', beyond: invalid },
  receive_wait: { what: '`wait_seconds` of a receive', value: waitSecondsMax, unit: 'seconds', beyond: invalid },
  lease: { what: '`lease_seconds`, `delay_seconds`', value: leaseSecondsMax, unit: 'seconds', beyond: invalid },
  ids: { what: 'ids in a request', value: idsMax, unit: '', beyond: invalid },
  receivers_per_org: {
    what: 'waiting receivers of an organisation on one node',
    value: waitersPerOrgMax,
    unit: '',
    beyond: overloaded,
  },
  receivers: { what: 'waiting receivers on one node', value: waitersMax, unit: '', beyond: overloaded },
  // Keys and organisations
  keys: { what: 'living keys of an organisation', value: keysMax, unit: '', beyond: full },
  name: { what: 'name of a key or an organisation', value: nameCharsMax, unit: 'characters', beyond: invalid },
  key_grace: { what: '`grace_seconds` of a rotated key', value: graceSecondsMax, unit: 'seconds', beyond: invalid },
  rate: { what: '`rate_per_minute` and `burst`', value: rateMax, unit: 'events', beyond: invalid },
  retention: { what: '`retention_days`', value: retentionDaysMax, unit: 'days', beyond: invalid },
  erasures: {
    what: 'erasures of subjects of an organisation under way',
    value: erasuresRunningMax,
    unit: '',
    beyond: full,
  },
  // Requests
  headers: {
    what: 'request line and headers',
    value: headerBytesMax,
    unit: 'bytes',
    beyond: '431 `headers_too_large`, 414 `uri_too_long`',
  },
  request: {
    what: 'time for a request to arrive',
    value: requestMsMax / 1000,
    unit: 'seconds',
    beyond: '408 `request_timeout`',
  },
} as const satisfies Record<string, Limit>;
