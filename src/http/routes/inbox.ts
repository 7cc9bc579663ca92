import { Type } from '@sinclair/typebox';
import type { AuditDetails } from '../../audit-chain.js';
import type { Clock } from '../../clock.js';
import type { Database } from '../../db/database.js';
import { invalid, Problem } from '../../errors.js';
import type { ChangedBy, Delivery, Inbox } from '../../inbox/inbox.js';
import { defaultInbox, parseSeekTarget } from '../../inbox/inbox.js';
import type { Inboxes } from '../../inbox/inboxes.js';
import { defaultInboxName, noInbox } from '../../inbox/inboxes.js';
import type { EventStatus } from '../../subscriptions/peek.js';
import { peek, readStats } from '../../subscriptions/peek.js';
import { replyPayloadBytesMax } from '../../subscriptions/read-bounded.js';
import type { Telemetry } from '../../telemetry.js';
import { formatTime } from '../../time-format.js';
import type { CursorSigner } from '../cursor.js';
import { eventJson, parseFields, wantsPayload } from '../event-json.js';
import { batchPage, jsonPage, pageFormOf, pageTypes } from '../event-page.js';
import type { KeyWatch } from '../key-watch.js';
import { inboxDocs } from '../openapi/inbox-docs.js';
import { pageItemsMax } from '../paging.js';
import type { KeyContext, Reply } from '../route.js';
import { forKeys, json } from '../route.js';
import { SharedCounts } from '../shared-counts.js';
import { parseTypeFilter, typePatternsMax } from '../type-filter.js';

export interface InboxRoutesOptions {
  readonly database: Database;
  readonly inbox: Inbox;
  readonly inboxes: Inboxes;
  readonly keyWatch: KeyWatch;
  readonly cursors: CursorSigner;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

const statuses = ['pending', 'leased', 'dead', 'delivered'] as const satisfies readonly EventStatus[];
export const idsMax = 1_000;
export const eventsPerReceiveMax = 1_000;
export const waitSecondsMax = 30;
export const leaseSecondsMax = 43_200;
const leaseSeconds = Type.Number({ minimum: 1, maximum: leaseSecondsMax });

/** Every route of what is in an inbox: under the short path of the inbox `default`, and under the name of any. */
export function inboxRoutes(options: InboxRoutesOptions) {
  const counts = new SharedCounts();
  return ['/v1/inbox', '/v1/inboxes/:name'].flatMap((path) => [
    ...consumerRoutes(path, options),
    ...readerRoutes(path, options, counts),
  ]);
}

function changedBy(
  { keyId }: KeyContext['identity'],
  { name = defaultInboxName }: KeyContext['params'],
  details: AuditDetails,
): ChangedBy {
  return { actor: keyId, target: name, details };
}

async function subscriptionOf(
  { inboxes }: InboxRoutesOptions,
  { identity, params }: Pick<KeyContext, 'identity' | 'params'>,
): Promise<number> {
  const { name = defaultInboxName } = params;
  if (name === defaultInboxName) return defaultInbox;
  const inbox = await inboxes.find(identity.org, name);
  if (inbox === null) throw noInbox();
  return inbox.subscription;
}

function consumerRoutes(base: string, options: InboxRoutesOptions) {
  const { inbox, telemetry } = options;
  return [
    forKeys({
      method: 'POST',
      path: `${base}/receive`,
      docs: inboxDocs.receive,
      access: 'inbox:consume',
      bucket: 'consume',
      query: Type.Object({ fields: Type.Optional(Type.String()) }, { additionalProperties: false }),
      body: Type.Object(
        {
          max: Type.Optional(Type.Integer({ minimum: 1, maximum: eventsPerReceiveMax })),
          wait_seconds: Type.Optional(Type.Number({ minimum: 0, maximum: waitSecondsMax })),
          lease_seconds: Type.Optional(leaseSeconds),
        },
        { additionalProperties: false },
      ),
      handler: async (context) => {
        const { identity, query } = context;
        const fields = parseFields(query['fields']);
        const { lease, received } = await receive(options, context, wantsPayload(fields));
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
      docs: inboxDocs.ack,
      access: 'inbox:consume',
      bucket: 'consume',
      body: Type.Object({ ids: Type.Optional(idList), lease_id: Type.Optional(id) }, { additionalProperties: false }),
      handler: async ({ identity, params, body }) => {
        const what = idsOrLease(body);
        const subscription = await subscriptionOf(options, { identity, params });
        const result = await ('ids' in what
          ? inbox.acknowledge(identity.org, subscription, what.ids)
          : inbox.acknowledgeLease(identity.org, subscription, what.lease));
        telemetry.eventsAcknowledged.inc(result.acknowledged);
        return json(200, {
          acknowledged: result.acknowledged,
          already_acknowledged: result.alreadyAcknowledged,
          unknown: result.unknown,
        });
      },
    }),
    forKeys({
      method: 'POST',
      path: `${base}/nack`,
      docs: inboxDocs.nack,
      access: 'inbox:consume',
      bucket: 'consume',
      body: Type.Object(
        {
          ids: Type.Optional(idList),
          lease_id: Type.Optional(id),
          delay_seconds: Type.Optional(Type.Number({ minimum: 0, maximum: leaseSecondsMax })),
        },
        { additionalProperties: false },
      ),
      handler: async ({ identity, params, body }) => {
        const what = idsOrLease(body);
        const subscription = await subscriptionOf(options, { identity, params });
        const delaySeconds = (body['delay_seconds'] as number | undefined) ?? 0;
        const released = await inbox.release(identity.org, subscription, what, delaySeconds);
        telemetry.eventsReleased.inc(released);
        return json(200, { released });
      },
    }),
    forKeys({
      method: 'POST',
      path: `${base}/extend`,
      docs: inboxDocs.extend,
      access: 'inbox:consume',
      bucket: 'consume',
      body: Type.Object({ lease_id: id, lease_seconds: leaseSeconds }, { additionalProperties: false }),
      handler: async ({ identity, params, body }) => {
        const subscription = await subscriptionOf(options, { identity, params });
        const lease = body['lease_id'] as string;
        const endsAtMs = await inbox.extend(identity.org, subscription, lease, body['lease_seconds'] as number);
        return json(200, { lease_id: lease, lease_expires_at: formatTime(endsAtMs) });
      },
    }),
    forKeys({
      method: 'DELETE',
      path: `${base}/:event_id`,
      docs: inboxDocs.remove,
      access: 'inbox:consume',
      bucket: 'consume',
      handler: async ({ identity, params }) => {
        const subscription = await subscriptionOf(options, { identity, params });
        const result = await inbox.acknowledge(identity.org, subscription, [params['event_id'] ?? '']);
        if (result.unknown.length > 0) throw new Problem('not_found', 'There is no such event in this inbox.');
        telemetry.eventsAcknowledged.inc(result.acknowledged);
        return { status: 204, body: null };
      },
    }),
    forKeys({
      method: 'POST',
      path: `${base}/seek`,
      docs: inboxDocs.seek,
      access: 'inbox:consume',
      bucket: 'consume',
      body: Type.Object({ to: id }, { additionalProperties: false }),
      handler: async ({ identity, params, body }) => {
        const to = body['to'] as string;
        const target = parseSeekTarget(identity.org, to, '/to');
        const subscription = await subscriptionOf(options, { identity, params });
        await inbox.seek(identity.org, subscription, target, changedBy(identity, params, { to }));
        return json(200, { to });
      },
    }),
    forKeys({
      method: 'POST',
      path: `${base}/redrive`,
      docs: inboxDocs.redrive,
      access: 'inbox:consume',
      bucket: 'consume',
      body: Type.Object(
        { ids: Type.Optional(idList), all: Type.Optional(Type.Literal(true)) },
        { additionalProperties: false },
      ),
      handler: async ({ identity, params, body }) => {
        const ids = body['ids'] as string[] | undefined;
        if ((ids === undefined) === (body['all'] === undefined)) {
          throw invalid({ path: '', message: 'must have either ids or "all": true' });
        }
        const subscription = await subscriptionOf(options, { identity, params });
        const what = ids === undefined ? 'all' : { ids };
        const by = changedBy(identity, params, ids === undefined ? { all: true } : { ids: ids.length });
        return json(200, { redriven: await inbox.redrive(identity.org, subscription, what, by) });
      },
    }),
  ];
}

/** Ends early, as a new request would, when the caller's key or org is refused meanwhile. */
async function receive(options: InboxRoutesOptions, context: KeyContext, withPayload: boolean): Promise<Delivery> {
  const { identity, body, request, clientGone } = context;
  const { keyWatch, inbox } = options;
  const subscription = await subscriptionOf(options, context);
  const admittance = { headers: request.headers, org: identity.org, scope: 'inbox:consume' } as const;
  const waitSeconds = (body['wait_seconds'] as number | undefined) ?? 0;
  const gone = clientGone();
  const refused = new AbortController();
  const unwatch = waitSeconds > 0 ? keyWatch.watch(admittance, (refusal) => refused.abort(refusal)) : () => {};
  try {
    return await inbox.receive(identity.org, subscription, {
      eventsMax: (body['max'] as number | undefined) ?? 50,
      waitSeconds,
      leaseSeconds: (body['lease_seconds'] as number | undefined) ?? 60,
      wantsPayload: withPayload,
      signal: waitSeconds > 0 ? AbortSignal.any([gone, refused.signal]) : gone,
      stillAllowed: () => keyWatch.check(admittance),
    });
  } finally {
    unwatch();
  }
}

function readerRoutes(base: string, options: InboxRoutesOptions, counts: SharedCounts) {
  const { database, clock } = options;
  return [
    forKeys({
      method: 'GET',
      // The name alone is the inbox itself.
      path: base === '/v1/inbox' ? base : `${base}/events`,
      docs: inboxDocs.list,
      access: 'inbox:read',
      bucket: 'read',
      replyBytesMax: replyPayloadBytesMax,
      replyTypes: pageTypes,
      query: Type.Object(
        {
          status: Type.Optional(Type.Union(statuses.map((status) => Type.Literal(status)))),
          type: Type.Optional(Type.Array(Type.String(), { maxItems: typePatternsMax })),
          limit: Type.Optional(Type.Integer({ minimum: 1, maximum: pageItemsMax })),
          cursor: Type.Optional(Type.String()),
          fields: Type.Optional(Type.String()),
        },
        { additionalProperties: false },
      ),
      handler: async (context) => list(options, context, await subscriptionOf(options, context)),
    }),
    forKeys({
      method: 'GET',
      path: `${base}/stats`,
      docs: inboxDocs.stats,
      access: 'inbox:read',
      bucket: 'read',
      handler: async ({ identity, params }) => {
        const subscription = await subscriptionOf(options, { identity, params });
        const nowMs = clock.now();
        const count = () => readStats(database, identity.org, subscription, clock.now());
        const stats = await counts.of(identity.org, subscription, count);
        if (stats === null) throw noInbox();
        const { pending, leased, dead, oldestPendingAtMs } = stats;
        const oldest = oldestPendingAtMs === null ? null : Math.max(0, Math.floor((nowMs - oldestPendingAtMs) / 1000));
        return json(200, { pending, leased, dead, oldest_pending_seconds: oldest });
      },
    }),
  ];
}

/** Of any length: what cannot be an id is one that does not exist. The body bounds it. */
const id = Type.String();
const idList = Type.Array(id, { minItems: 1, maxItems: idsMax });

function idsOrLease(
  body: Readonly<Record<string, unknown>>,
): { readonly ids: readonly string[] } | { readonly lease: string } {
  const ids = body['ids'] as string[] | undefined;
  const lease = body['lease_id'] as string | undefined;
  if (ids !== undefined && lease === undefined) return { ids };
  if (lease !== undefined && ids === undefined) return { lease };
  throw invalid({ path: '', message: 'must have either ids or lease_id' });
}

async function list(
  { cursors, database, clock }: InboxRoutesOptions,
  { identity, query, request }: KeyContext,
  subscription: number,
): Promise<Reply> {
  const { org } = identity;
  const { isBatch, fields } = pageFormOf(request, query);
  const patterns = query['type'] as string[] | undefined;
  const status = query['status'] as EventStatus | undefined;
  const binding = ['inbox', org, subscription, status ?? null, patterns ?? null];
  const cursor = query['cursor'] as string | undefined;
  const [position, day] = cursor === undefined ? [] : cursors.verify(binding, cursor);
  const page = await peek(database, {
    org,
    subscription,
    status,
    types: parseTypeFilter(patterns),
    limit: (query['limit'] as number | undefined) ?? 50,
    wantsPayload: wantsPayload(fields),
    after: position === undefined ? null : { position: Number(position), day: Number(day) },
    nowMs: clock.now(),
  });
  if (page === null) throw noInbox();
  const next = page.next === null ? null : cursors.sign(binding, [page.next.position, page.next.day]);
  if (isBatch) {
    const events = page.events.map(({ event }) => event);
    return batchPage(request, org, events, next);
  }
  const items = page.events.map(({ event, status: eventStatus, attempts }) =>
    eventJson(org, event, fields, `"status":"${eventStatus}","attempts":${attempts}`),
  );
  return jsonPage(items, next);
}
