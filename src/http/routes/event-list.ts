import { Type } from '@sinclair/typebox';
import type { Database } from '../../db/database.js';
import { invalid, Problem } from '../../errors.js';
import type { ListOrder, Walk } from '../../event-log/list.js';
import { listEvents } from '../../event-log/list.js';
import { parseTime, timeMaxMs } from '../../time-format.js';
import type { CursorSigner } from '../cursor.js';
import { eventJson, wantsPayload } from '../event-json.js';
import { batchPage, jsonPage, pageFormOf, pageTypes } from '../event-page.js';
import { eventDocs } from '../openapi/event-docs.js';
import { pageItemsMax } from '../paging.js';
import type { KeyContext, Reply } from '../route.js';
import { forKeys } from '../route.js';
import { parseTypeFilter, typePatternsMax } from '../type-filter.js';

export interface EventListRoutesOptions {
  readonly database: Database;
  readonly cursors: CursorSigner;
}

/** A reply that carries events stops here, but holds at least one. */
const replyBytesMax = 4 * 1024 * 1024;

export function eventListRoutes(options: EventListRoutesOptions) {
  return [
    forKeys({
      method: 'GET',
      path: '/v1/events',
      docs: eventDocs.list,
      access: 'events:read',
      bucket: 'read',
      replyBytesMax,
      replyTypes: pageTypes,
      query: Type.Object(
        {
          type: Type.Optional(Type.Array(Type.String(), { maxItems: typePatternsMax })),
          since: Type.Optional(Type.String()),
          until: Type.Optional(Type.String()),
          order: Type.Optional(Type.Union([Type.Literal('asc'), Type.Literal('desc')])),
          limit: Type.Optional(Type.Integer({ minimum: 1, maximum: pageItemsMax })),
          cursor: Type.Optional(Type.String()),
          fields: Type.Optional(Type.String()),
        },
        { additionalProperties: false },
      ),
      handler: (context) => list(options, context),
    }),
  ];
}

async function list(
  { database, cursors }: EventListRoutesOptions,
  { identity, query, request }: KeyContext,
): Promise<Reply> {
  const { org } = identity;
  const { isBatch, fields } = pageFormOf(request, query);
  const patterns = query['type'] as string[] | undefined;
  const types = parseTypeFilter(patterns);
  const order = (query['order'] as ListOrder | undefined) ?? 'desc';
  const sinceMs = parseBoundary('since', query['since']);
  const untilMs = parseBoundary('until', query['until']);
  const binding = ['events', org, order, sinceMs, untilMs, patterns ?? null];
  const cursor = query['cursor'] as string | undefined;
  const page = await listEvents(database, {
    org,
    order,
    types,
    sinceMs,
    untilMs,
    limit: (query['limit'] as number | undefined) ?? 50,
    bytesMax: replyBytesMax,
    wantsPayload: wantsPayload(fields),
    from: cursor === undefined ? null : walkOf(cursors.verify(binding, cursor)),
  });
  if (page === null) throw new Problem('invalid_key', 'The organisation of this key is gone.');
  const next = page.next === null ? null : cursors.sign(binding, placeOf(page.next));
  if (isBatch) return batchPage(request, org, page.events, next);
  const items = page.events.map((event) => eventJson(org, event, fields));
  return jsonPage(items, next);
}

/** Milliseconds; null where absent. Events have whole ones, so a time between two of them means the later, at either end. */
function parseBoundary(name: 'since' | 'until', text: unknown): number | null {
  if (typeof text !== 'string') return null;
  const parsed = parseTime(text);
  if ('problem' in parsed) throw invalid({ path: `?${name}`, message: parsed.problem });
  return /\.\d{3}\d*[1-9]/.test(text) ? Math.min(parsed.ms + 1, timeMaxMs) : parsed.ms;
}

function placeOf({ next, end }: Walk): readonly number[] {
  return [next.position, next.day, ...(end === null ? [] : [end.position, end.day])];
}

function walkOf(place: readonly (number | string)[]): Walk {
  const [position = 0, day = 0, endPosition, endDay] = place.map(Number);
  const end = endPosition === undefined || endDay === undefined ? null : { position: endPosition, day: endDay };
  return { next: { position, day }, end };
}
