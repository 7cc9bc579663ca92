import { Type } from '@sinclair/typebox';
import type { Clock } from '../../clock.js';
import type { Database } from '../../db/database.js';
import { invalid, Problem } from '../../errors.js';
import type { AckResult, Inbox } from '../../inbox/inbox.js';
import { defaultInbox } from '../../inbox/inbox.js';
import type { EventStatus } from '../../subscriptions/peek.js';
import { peek, readStats } from '../../subscriptions/peek.js';
import { replyPayloadBytesMax } from '../../subscriptions/read-bounded.js';
import type { Telemetry } from '../../telemetry.js';
import { formatTime } from '../../time-format.js';
import type { CursorSigner } from '../cursor.js';
import { eventJson, parseFields, wantsPayload } from '../event-json.js';
import { forKeys, json } from '../route.js';
import { SharedCounts } from '../shared-counts.js';
import { parseTypeFilter, typePatternsMax } from '../type-filter.js';

export interface InboxRoutesOptions {
  readonly database: Database;
  readonly inbox: Inbox;
  readonly cursors: CursorSigner;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

const statuses = ['pending', 'leased', 'dead', 'delivered'] as const satisfies readonly EventStatus[];
const idsMax = 1_000;

/** Every route of the inbox `default`, under its short path and under its name. */
export function inboxRoutes(options: InboxRoutesOptions) {
  const counts = new SharedCounts();
  return ['/v1/inbox', '/v1/inboxes/default'].flatMap((path) => routesAt(path, options, counts));
}

function routesAt(base: string, options: InboxRoutesOptions, counts: SharedCounts) {
  const { inbox, telemetry, database, clock } = options;
  return [
    forKeys({
      method: 'POST',
      path: `${base}/receive`,
      access: 'inbox:consume',
      bucket: 'consume',
      query: Type.Object({ fields: Type.Optional(Type.String()) }, { additionalProperties: false }),
      body: Type.Object(
        {
          max: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
          wait_seconds: Type.Optional(Type.Number({ minimum: 0, maximum: 30 })),
          lease_seconds: Type.Optional(Type.Number({ minimum: 1, maximum: 43_200 })),
        },
        { additionalProperties: false },
      ),
      handler: async ({ identity, body, query, clientGone }) => {
        const fields = parseFields(query['fields']);
        const { lease, received } = await inbox.receive(identity.org, defaultInbox, {
          eventsMax: (body['max'] as number | undefined) ?? 50,
          waitSeconds: (body['wait_seconds'] as number | undefined) ?? 0,
          leaseSeconds: (body['lease_seconds'] as number | undefined) ?? 60,
          wantsPayload: wantsPayload(fields),
          signal: clientGone(),
        });
        if (lease === null) return json(200, { lease_id: null, lease_expires_at: null, data: [] });
        telemetry.eventsHandedOut.inc({ redelivery: String(received.attempt > 1) }, received.events.length);
        const attempt = `"attempt":${received.attempt}`;
        const data = received.events.map((event) => eventJson(identity.org, event, fields, attempt));
        const head = `{"lease_id":"${lease.id}","lease_expires_at":"${formatTime(lease.endsAtMs)}"`;
        return { status: 200, body: `${head},"data":[${data.join(',')}]}` };
      },
    }),
    forKeys({
      method: 'POST',
      path: `${base}/ack`,
      access: 'inbox:consume',
      bucket: 'consume',
      body: Type.Object(
        {
          ids: Type.Optional(Type.Array(Type.String({ maxLength: 255 }), { minItems: 1, maxItems: idsMax })),
          lease_id: Type.Optional(Type.String({ maxLength: 255 })),
        },
        { additionalProperties: false },
      ),
      handler: async ({ identity, body }) => {
        const result = await ack(inbox, identity.org, body);
        telemetry.eventsAcknowledged.inc(result.acknowledged);
        return json(200, {
          acknowledged: result.acknowledged,
          already_acknowledged: result.alreadyAcknowledged,
          unknown: result.unknown,
        });
      },
    }),
    forKeys({
      method: 'GET',
      path: base,
      access: 'inbox:read',
      bucket: 'read',
      replyBytesMax: replyPayloadBytesMax,
      query: Type.Object(
        {
          status: Type.Optional(Type.Union(statuses.map((status) => Type.Literal(status)))),
          type: Type.Optional(Type.Array(Type.String(), { maxItems: typePatternsMax })),
          limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
          cursor: Type.Optional(Type.String()),
          fields: Type.Optional(Type.String()),
        },
        { additionalProperties: false },
      ),
      handler: ({ identity, query }) => list(options, identity.org, query),
    }),
    forKeys({
      method: 'GET',
      path: `${base}/stats`,
      access: 'inbox:read',
      bucket: 'read',
      handler: async ({ identity }) => {
        const nowMs = clock.now();
        const stats = await counts.of(identity.org, () => readStats(database, identity.org, defaultInbox, clock.now()));
        if (stats === null) throw noInbox();
        const { pending, leased, dead, oldestPendingAtMs } = stats;
        const oldest = oldestPendingAtMs === null ? null : Math.max(0, Math.floor((nowMs - oldestPendingAtMs) / 1000));
        return json(200, { pending, leased, dead, oldest_pending_seconds: oldest });
      },
    }),
  ];
}

function ack(inbox: Inbox, org: string, body: Readonly<Record<string, unknown>>): Promise<AckResult> {
  const ids = body['ids'] as string[] | undefined;
  const lease = body['lease_id'] as string | undefined;
  if (ids !== undefined && lease === undefined) return inbox.acknowledge(org, defaultInbox, ids);
  if (lease !== undefined && ids === undefined) return inbox.acknowledgeLease(org, defaultInbox, lease);
  throw invalid({ path: '', message: 'must have either ids or lease_id' });
}

async function list(options: InboxRoutesOptions, org: string, query: Readonly<Record<string, unknown>>) {
  const { cursors, database, clock } = options;
  const fields = parseFields(query['fields']);
  const patterns = query['type'] as string[] | undefined;
  const status = query['status'] as EventStatus | undefined;
  const binding = ['inbox', org, defaultInbox, status ?? null, patterns ?? null];
  const cursor = query['cursor'] as string | undefined;
  const [position, day] = cursor === undefined ? [] : cursors.verify(binding, cursor);
  const page = await peek(database, {
    org,
    subscription: defaultInbox,
    status,
    types: parseTypeFilter(patterns),
    limit: (query['limit'] as number | undefined) ?? 50,
    wantsPayload: wantsPayload(fields),
    after: position === undefined ? null : { position: Number(position), day: Number(day) },
    nowMs: clock.now(),
  });
  if (page === null) throw noInbox();
  const data = page.events.map(({ event, status: eventStatus, attempts }) =>
    eventJson(org, event, fields, `"status":"${eventStatus}","attempts":${attempts}`),
  );
  const next = page.next === null ? null : cursors.sign(binding, [page.next.position, page.next.day]);
  return { status: 200, body: `{"data":[${data.join(',')}],"next_cursor":${JSON.stringify(next)}}` };
}

function noInbox(): Problem {
  return new Problem('not_found', 'There is no such inbox.');
}
