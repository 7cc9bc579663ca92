import assert from 'node:assert/strict';
import fc from 'fast-check';
import { acknowledge, listInbox, readEvent, readStats, receive, sendBatch, sendEvent } from './isolation-events.js';
import {
  acknowledgeOne,
  changeInbox,
  createInbox,
  deleteInbox,
  extend,
  listInboxes,
  readDeliveries,
  readInbox,
  redrive,
  release,
  seek,
} from './isolation-inboxes.js';
import { listEvents, streamEvents } from './isolation-reading.js';
import {
  changeOwnOrg,
  createKey,
  currentKey,
  deleteKey,
  eraseSubject,
  listAudit,
  listKeys,
  openToAll,
  ownOrg,
  readErasure,
  refused,
  rotateKey,
  sameForAll,
} from './isolation-tenancy.js';
import type { Tenant } from './isolation-tenant.js';
import type { World } from './isolation-world.js';

/** One request, or two that must be answered alike. What it is about is drawn from what there is when its turn comes. */
export interface Step {
  readonly tenant: number;
  readonly route: string;
  readonly target: 'own' | 'foreign';
  readonly draw: number;
}

export interface Turn {
  readonly world: World;
  readonly tenant: Tenant;
  /** The path of the route. */
  readonly path: string;
  readonly target: Step['target'];
  readonly draw: number;
  /** One of a list; undefined of an empty one. */
  readonly pick: <T>(list: readonly T[]) => T | undefined;
}

/** What a step of each route does, and what its reply must be. The test asserts that every route of the server is here. */
export const plays: Readonly<Record<string, (turn: Turn) => Promise<void>>> = {
  'POST /v1/events': sendEvent,
  'POST /v1/events/batch': sendBatch,
  'GET /v1/events': listEvents,
  'GET /v1/events/:id': readEvent,
  'GET /v1/events/:id/deliveries': readDeliveries,
  'GET /v1/events/stream': streamEvents,
  'GET /v1/inbox': listInbox,
  'GET /v1/inbox/stats': readStats,
  'POST /v1/inbox/receive': receive,
  'POST /v1/inbox/ack': acknowledge,
  'POST /v1/inbox/nack': release,
  'POST /v1/inbox/extend': extend,
  'POST /v1/inbox/seek': seek,
  'POST /v1/inbox/redrive': redrive,
  'DELETE /v1/inbox/:event_id': acknowledgeOne,
  'GET /v1/inboxes/:name/events': listInbox,
  'GET /v1/inboxes/:name/stats': readStats,
  'POST /v1/inboxes/:name/receive': receive,
  'POST /v1/inboxes/:name/ack': acknowledge,
  'POST /v1/inboxes/:name/nack': release,
  'POST /v1/inboxes/:name/extend': extend,
  'POST /v1/inboxes/:name/seek': seek,
  'POST /v1/inboxes/:name/redrive': redrive,
  'DELETE /v1/inboxes/:name/:event_id': acknowledgeOne,
  'POST /v1/inboxes': createInbox,
  'GET /v1/inboxes': listInboxes,
  'GET /v1/inboxes/:name': readInbox,
  'PATCH /v1/inboxes/:name': changeInbox,
  'DELETE /v1/inboxes/:name': deleteInbox,
  'POST /v1/keys': createKey,
  'GET /v1/keys': listKeys,
  'GET /v1/keys/current': currentKey,
  'POST /v1/keys/:id/rotate': rotateKey,
  'DELETE /v1/keys/:id': deleteKey,
  'GET /v1/audit': listAudit,
  'DELETE /v1/subjects/:subject': eraseSubject,
  'GET /v1/erasures/:id': readErasure,
  'GET /v1/org': ownOrg,
  'PATCH /v1/org': changeOwnOrg,
  'POST /v1/orgs': refused('POST', { name: 'mine too' }),
  'GET /v1/orgs': refused('GET'),
  'GET /v1/orgs/:id': refused('GET'),
  'PATCH /v1/orgs/:id': refused('PATCH', { suspended: true }),
  'DELETE /v1/orgs/:id': refused('DELETE'),
  'GET /metrics': refused('GET'),
  'GET /healthz': openToAll,
  'GET /readyz': openToAll,
  'GET /docs/errors': sameForAll,
  'GET /docs': sameForAll,
  'GET /openapi.json': sameForAll,
};

/** Twice as often as the others, so that there is something to see. */
const often = ['POST /v1/events', 'POST /v1/events', 'POST /v1/inbox/receive', 'POST /v1/inbox/ack'];

export const steps = (count: number, tenants: number): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.record({
      tenant: fc.nat({ max: tenants - 1 }),
      route: fc.constantFrom(...Object.keys(plays), ...often),
      target: fc.constantFrom('own' as const, 'foreign' as const),
      draw: fc.nat({ max: 1_000_000 }),
    }),
    { minLength: count, maxLength: count },
  );

export async function play(world: World, { tenant: index, route, target, draw }: Step): Promise<void> {
  const tenant = world.tenants[index];
  const run = plays[route];
  assert.ok(tenant !== undefined && run !== undefined);
  // What is in an inbox is asked of the inbox `default`, under its name too.
  const path = route.slice(route.indexOf(' ') + 1).replace('/:name/', '/default/');
  await run({ world, tenant, path, target, draw, pick: (list) => list[draw % list.length] });
}
