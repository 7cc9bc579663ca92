import assert from 'node:assert/strict';
import type { Database } from '../../src/db/database.js';
import type { TypeFilter } from '../../src/db/sql/type-filter.js';
import type { PeekPlace } from '../../src/subscriptions/peek.js';
import { peek, readStats } from '../../src/subscriptions/peek.js';
import { verifyOrg } from '../../src/subscriptions/verify.js';
import { PositionSet } from '../../src/subscriptions/position-set.js';
import { asOrg } from '../support/log.js';
import type { Model, ModelEvent, Status } from './model.js';

interface Looked {
  readonly database: Database;
  readonly org: string;
  cursor: number;
  /** Since the last look; nothing else may move the cursor back. */
  sought: boolean;
}

interface Rows {
  readonly cursor: string;
  readonly ahead: string;
  readonly held: string;
  readonly deadCount: string;
  readonly expired: string;
  readonly erased: string;
  readonly leases: readonly string[];
  readonly dead: readonly string[];
}

const rowsText = `
  SELECT s.cursor, s.ahead::text AS ahead, s.held, s.dead AS "deadCount", s.expired, s.erased,
    (SELECT coalesce(json_agg(l.positions::text), '[]') FROM leases AS l WHERE l.org = s.org AND l.subscription = 0) AS leases,
    (SELECT coalesce(json_agg(d.position::text), '[]') FROM dead_letters AS d WHERE d.org = s.org AND d.subscription = 0) AS dead
  FROM subscriptions AS s WHERE s.subscription = 0`;

/** The rows themselves: every event is in exactly one place, the places hold events only, and their counts are right. */
export async function checkRows(model: Model, real: Looked): Promise<void> {
  const [rows] = await asOrg<Rows>(real.database, real.org, rowsText);
  assert.ok(rows);
  const cursor = Number(rows.cursor);
  if (!real.sought) assert.ok(cursor >= real.cursor, `the cursor went back from ${real.cursor} to ${cursor}`);
  real.sought = false;
  real.cursor = cursor;

  const ahead = PositionSet.parse(rows.ahead);
  const leases = rows.leases.map((text) => PositionSet.parse(text));
  const dead = rows.dead.map(Number);
  const held = leases.reduce((sum, lease) => sum + lease.size, 0);
  assert.equal(Number(rows.held), held, 'held is what the leases hold');
  assert.equal(Number(rows.expired), model.expired, 'expired is what retention took before it was done');
  assert.equal(Number(rows.erased), model.erased, 'erased is what was erased before it was done');
  assert.equal(Number(rows.deadCount), dead.length, 'dead is how many dead letters there are');
  assert.equal(PositionSet.union(leases).size, held, 'no two leases hold the same position');
  assert.ok((ahead.ranges[0]?.[0] ?? Infinity) > cursor, 'what is kept ahead lies above the cursor');

  const inLeases = PositionSet.union(leases);
  const positions = new Set(model.events.map((event) => event.position));
  for (const [from, until] of inLeases.ranges) {
    for (let position = from; position < until; position++) assert.ok(positions.has(position), `${position} is a gap`);
  }
  for (const [from, until] of ahead.ranges) {
    for (let position = from; position < until; position++) {
      // What was done and erased stays done.
      assert.ok(positions.has(position) || model.erasedPositions.has(position), `${position} is a gap`);
    }
  }
  for (const event of model.events) {
    const { position } = event;
    const found = [
      ...(position > cursor && !ahead.has(position) && event.settled !== 'filtered' ? ['not handed out'] : []),
      ...(inLeases.has(position) ? ['in a lease'] : []),
      ...dead.filter((other) => other === position).map(() => 'dead'),
    ];
    assert.deepEqual(found.length === 0 ? ['done'] : found, [placeOf(event)], `position ${position}`);
  }
  assert.ok(dead.every((position) => positions.has(position)));
}

/** `sluice verify` comes to the same counts from the rows and the log. */
export async function checkAccount(model: Model, real: Looked): Promise<void> {
  const [account] = (await verifyOrg(real.database, real.org, 'the org', model.nowMs)) ?? [];
  const settled = (what: ModelEvent['settled']): number =>
    model.events.filter((event) => event.settled === what).length;
  assert.deepEqual(account, {
    kind: 'inbox',
    name: 'default',
    stored: model.events.length,
    pending: model.count('pending'),
    leased: model.count('leased'),
    delivered: model.count('delivered'),
    dead: model.count('dead'),
    skipped: settled('skipped'),
    filtered: settled('filtered'),
    expired: model.expired,
    erased: model.erased,
  });
}

function placeOf(event: ModelEvent): string {
  if (event.settled === 'delivered' || event.settled === 'skipped' || event.settled === 'filtered') return 'done';
  if (event.settled === 'dead') return 'dead';
  return event.lease === null ? 'not handed out' : 'in a lease';
}

export interface Listing {
  readonly status: Status | undefined;
  readonly pattern: string;
  readonly limit: number;
}

/** Walks the pages of one listing: together they hold what the model lists, in its order, with its status and attempts. */
export async function checkListing(model: Model, real: Looked, { status, pattern, limit }: Listing): Promise<void> {
  const found: unknown[] = [];
  let after: PeekPlace | null = null;
  do {
    const page = await peek(real.database, {
      org: real.org,
      subscription: 0,
      status,
      types: filterOf(pattern),
      limit,
      wantsPayload: false,
      after,
      nowMs: model.nowMs,
    });
    assert.ok(page !== null && page.events.length <= limit);
    for (const { event, status: eventStatus, attempts } of page.events) {
      found.push({ position: Number(event.position), type: event.type, status: eventStatus, attempts });
    }
    assert.ok(page.next === null || after === null || isAfter(page.next, after), 'a next page begins further on');
    after = page.next;
  } while (after !== null);

  const wants = (type: string): boolean =>
    pattern === '*' || type === pattern || (pattern.endsWith('.*') && type.startsWith(pattern.slice(0, -1)));
  const expected = model.listed(status, wants).map((event) => ({
    position: event.position,
    type: event.type,
    status: model.statusOf(event),
    attempts: model.attemptsOf(event),
  }));
  assert.deepEqual(found, expected, `listing of ${status ?? 'undelivered'}, type ${pattern}, ${limit} a page`);
}

function isAfter(next: PeekPlace, before: PeekPlace): boolean {
  return next.position > before.position || next.day > before.day;
}

function filterOf(pattern: string): TypeFilter | null {
  if (pattern === '*') return null;
  return pattern.endsWith('*') ? { exact: [], prefixes: [pattern.slice(0, -1)] } : { exact: [pattern], prefixes: [] };
}

export async function checkStats(model: Model, real: Looked): Promise<void> {
  const stats = await readStats(real.database, real.org, 0, model.nowMs);
  assert.ok(stats);
  const { pending, leased, dead, oldestPendingAtMs } = stats;
  assert.deepEqual(
    { pending, leased, dead },
    { pending: model.count('pending'), leased: model.count('leased'), dead: model.count('dead') },
  );
  assert.equal(oldestPendingAtMs === null, pending === 0);
}
