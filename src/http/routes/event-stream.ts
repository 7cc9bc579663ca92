import { Type } from '@sinclair/typebox';
import type { Database } from '../../db/database.js';
import { Problem } from '../../errors.js';
import { decodeEventId } from '../../event-log/event-id.js';
import { placeBehind } from '../../event-log/tail.js';
import { eventId, eventJson, parseFields, wantsPayload } from '../event-json.js';
import type { EventStreams } from '../event-streams.js';
import { streamPageBytesMax } from '../event-streams.js';
import { eventDocs } from '../openapi/event-docs.js';
import type { KeyContext, Reply } from '../route.js';
import { forKeys } from '../route.js';
import { parseTypeFilter, typePatternsMax } from '../type-filter.js';

export interface EventStreamRoutesOptions {
  readonly database: Database;
  readonly streams: EventStreams;
}

const mediaType = 'text/event-stream';
// no-store: a stream is nobody's to keep. The other is understood by proxies that collect a reply before they pass it on.
const headers = { 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' };

export function eventStreamRoutes(options: EventStreamRoutesOptions) {
  return [
    forKeys({
      method: 'GET',
      path: '/v1/events/stream',
      docs: eventDocs.stream,
      access: 'events:read',
      bucket: 'read',
      replyTypes: [mediaType],
      replyBytesMax: streamPageBytesMax,
      query: Type.Object(
        {
          type: Type.Optional(Type.Array(Type.String(), { maxItems: typePatternsMax })),
          after: Type.Optional(Type.String()),
          fields: Type.Optional(Type.String()),
        },
        { additionalProperties: false },
      ),
      handler: (context) => open(options, context),
    }),
  ];
}

async function open({ database, streams }: EventStreamRoutesOptions, context: KeyContext): Promise<Reply> {
  const { query, identity, request, clientGone } = context;
  const { org } = identity;
  const fields = parseFields(query['fields']);
  const types = parseTypeFilter(query['type'] as string[] | undefined);
  const after = resumedAfter(request.headers['last-event-id'], query['after']);
  const address = after === null ? null : decodeEventId(after);
  if (after !== null && address === null) throw noEvent();
  const stream = streams.enter({ org, headers: request.headers, gone: clientGone() });
  const place = await placeBehind(database, org, address);
  if (place === null) throw noEvent();
  const render = (event: Parameters<typeof eventJson>[1]): string =>
    `id: ${eventId(org, event)}\n${dataLines(eventJson(org, event, fields))}\n`;
  const events = { place, types, wantsPayload: wantsPayload(fields), render };
  return { status: 200, headers, body: null, mediaType, stream: (body) => stream.run(body, events) };
}

/** A browser that connects again sends the header beside the address it began with, so the header is the later of the two. */
function resumedAfter(header: string | string[] | undefined, parameter: unknown): string | null {
  if (typeof header === 'string' && header !== '') return header;
  return typeof parameter === 'string' ? parameter : null;
}

/** Each line break would end a line of the stream; the client puts the lines together with `\n`. In JSON they stand between values only. */
function dataLines(json: string): string {
  return `data: ${json.replace(/\r\n|[\r\n]/g, '\ndata: ')}\n`;
}

function noEvent(): Problem {
  return new Problem('not_found', 'There is no such event to go on after. Begin without Last-Event-ID and after.');
}
