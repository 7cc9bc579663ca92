import { Type } from '@sinclair/typebox';
import type { IncomingMessage } from 'node:http';
import { invalid, Problem } from '../../errors.js';
import type { AtomicCommit } from '../../ingest/atomic-commit.js';
import type { BatchItem } from '../../ingest/batch-body.js';
import { batchBodyBytesMax, parseBatch } from '../../ingest/batch-body.js';
import { cloudEventBatchMediaType, CloudEventReader } from '../../ingest/cloud-event.js';
import { EventReader, toNewEvent } from '../../ingest/envelope.js';
import type { IngestLanes } from '../../ingest/ingest-lanes.js';
import { notStored } from '../../ingest/refusals.js';
import { refusedBatch, replyOf } from '../batch-results.js';
import { mediaTypeOf } from '../admit.js';
import { eventDocs } from '../openapi/event-docs.js';
import { forKeys } from '../route.js';
import { headerOf } from './events.js';

export interface BatchRoutesOptions {
  readonly ingest: IngestLanes;
  readonly atomic: AtomicCommit;
}

const linesMediaType = 'application/x-ndjson';
const isTrueOrFalse = Type.Union([Type.Literal('true'), Type.Literal('false')]);

export function batchRoutes({ ingest, atomic }: BatchRoutesOptions) {
  return [
    forKeys({
      method: 'POST',
      path: '/v1/events/batch',
      docs: eventDocs.sendBatch,
      access: 'events:write',
      bucket: 'write',
      cost: 'counted',
      query: Type.Object({ atomic: Type.Optional(isTrueOrFalse) }, { additionalProperties: false }),
      body: 'raw',
      bodyLimit: { bytesMax: batchBodyBytesMax, code: 'batch_too_large' },
      mediaTypes: ['application/json', linesMediaType, cloudEventBatchMediaType],
      checkBody: parse,
      handler: async ({ raw, request, query, spend, identity: { org } }) => {
        const items = await parse(raw, request);
        if (headerOf(request, 'idempotency-key') !== undefined) {
          const message = 'is for one event; give each event of a batch a dedup_id of its own';
          throw invalid({ path: 'Idempotency-Key', message });
        }
        spend(items.length);
        const events = items.flatMap((item) => (item instanceof Problem ? [] : [toNewEvent(org, item)]));
        if (query['atomic'] !== 'true') {
          const stored = events.length === 0 ? [] : await ingest.addAll(events, raw.length);
          return replyOf(org, items, stored);
        }
        // What is refused already needs no transaction.
        if (events.length < items.length) {
          throw refusedBatch(items.map((item) => (item instanceof Problem ? item : notStored())));
        }
        const stored = await atomic.add(events, raw.length);
        const refused = stored.flatMap((result) => ('refused' in result ? [result.refused] : []));
        if (refused.length > 0) throw refusedBatch(refused);
        return replyOf(org, items, stored);
      },
    }),
  ];
}

function parse(raw: Buffer, request: IncomingMessage): Promise<BatchItem[]> {
  const mediaType = mediaTypeOf(request.headers);
  const reader = mediaType === cloudEventBatchMediaType ? new CloudEventReader() : new EventReader();
  return parseBatch(raw, mediaType === linesMediaType ? 'lines' : 'array', reader);
}
