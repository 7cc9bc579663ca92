import assert from 'node:assert/strict';
import { absent } from './isolation-tenant.js';
import type { Place, SentEvent, Tenant } from './isolation-tenant.js';
import type { Turn } from './isolation-steps.js';
import type { Sent } from './isolation-world.js';

/** Lent for longer than any test runs. */
const leaseSeconds = 43_200;

/** An event that is about to be sent, and what was sent before under its dedup id. */
interface Draft {
  readonly type: string;
  readonly payload: string;
  readonly dedupId: string | null;
  readonly text: (withDedupId: boolean) => string;
}

/** With dedup ids that every tenant uses, so that one org's would be found by another if they were not apart. */
function draft(tenant: Tenant, draw: number): Draft {
  const dedupId = draw % 3 === 0 ? null : `shared ${draw % 7}`;
  const type = `type.${draw % 2}`;
  // One tenant repeats what another sent, but for the canary.
  const payload = JSON.stringify({ canary: tenant.canary, of: dedupId ?? draw, version: draw % 5 === 0 });
  const text = (withDedupId: boolean): string =>
    `{"type":"${type}","subject":"${tenant.canary}","payload":${payload}${dedupId === null || !withDedupId ? '' : `,"dedup_id":"${dedupId}"`}}`;
  return { type, payload, dedupId, text };
}

/** The status that a draft must get, after which the tenant has the event. */
function settleDraft(tenant: Tenant, { type, payload, dedupId }: Draft, id: string): 201 | 200 | 409 {
  const first = dedupId === null ? undefined : tenant.dedup.get(dedupId);
  if (first !== undefined) {
    if (first.type !== type || first.payload !== payload) return 409;
    assert.equal(id, first.id);
    return 200;
  }
  const event = { id, type, payload };
  tenant.events.push(event);
  tenant.places.set(id, 'pending');
  if (dedupId !== null) tenant.dedup.set(dedupId, event);
  return 201;
}

export async function sendEvent({ world, tenant, path, draw }: Turn): Promise<void> {
  const event = draft(tenant, draw);
  const header = event.dedupId !== null && draw % 2 === 0;
  const answer = await world.send(tenant, 'write', {
    method: 'POST',
    path,
    body: event.text(!header),
    ...(header ? { headers: { 'Idempotency-Key': event.dedupId ?? '' } } : {}),
  });
  assert.equal(answer.status, settleDraft(tenant, event, answer.json.id), answer.text);
  if (answer.status === 409) assert.equal(answer.json.code, 'dedup_mismatch', answer.text);
}

/** As an array or as lines, all or nothing or each on its own. */
export async function sendBatch({ world, tenant, path, draw }: Turn): Promise<void> {
  const events = Array.from({ length: 1 + (draw % 4) }, (_, n) => draft(tenant, draw + 11 * n));
  const isAtomic = draw % 3 === 0;
  const texts = events.map(({ text }) => text(true));
  const answer = await world.send(
    tenant,
    'write',
    {
      method: 'POST',
      path: `${path}?atomic=${isAtomic}`,
      body: draw % 2 === 0 ? `[${texts.join(',')}]` : texts.join('\n'),
      headers: { 'Content-Type': draw % 2 === 0 ? 'application/json' : 'application/x-ndjson' },
    },
    events.length,
  );
  const results = answer.json.results as { status: number; code?: string; id: string }[];
  assert.equal(results.length, events.length);
  if (answer.status === 422) {
    assert.ok(isAtomic && results.some(({ code }) => code === 'dedup_mismatch'), answer.text);
    return;
  }
  assert.equal(answer.status, 200, answer.text);
  for (const [n, event] of events.entries()) {
    const { status, id = '' } = results[n] ?? { status: 0 };
    assert.equal(status, settleDraft(tenant, event, id), answer.text);
  }
}

export async function readEvent({ world, tenant, target, draw, pick }: Turn): Promise<void> {
  const request = (id: string): Sent => ({
    method: draw % 4 === 0 ? 'HEAD' : 'GET',
    path: `/v1/events/${id}${draw % 3 === 0 ? '?fields=id,payload' : ''}`,
  });
  if (target === 'own') {
    const event = pick(tenant.events);
    if (event === undefined) return;
    const { method, path } = request(event.id);
    const answer = await world.send(tenant, 'read', { method, path });
    assert.equal(answer.status, 200, answer.text);
    if (method === 'GET') assertShows(answer.text, event);
    return;
  }
  const foreign = pick(world.others(tenant).flatMap(({ events }) => events));
  if (foreign === undefined) return;
  const answer = await world.sendTwins(tenant, 'read', foreign.id, absent.event(), request);
  assert.equal(answer.status, 404);
}

function assertShows(text: string, { id, payload }: SentEvent): void {
  assert.ok(text.includes(`"${id}"`) && text.includes(`"payload":${payload}`), text);
}

export async function receive({ world, tenant, path, draw }: Turn): Promise<void> {
  const body = { max: 1 + (draw % 4), lease_seconds: leaseSeconds, ...(draw % 5 === 0 ? { wait_seconds: 0.01 } : {}) };
  const expected = tenant.in('pending').slice(0, body.max);
  const answer = await world.send(tenant, 'consume', { method: 'POST', path, body });
  assert.equal(answer.status, 200, answer.text);
  const data = answer.json.data as { id: string; attempt: number }[];
  assert.deepEqual(
    data.map(({ id }) => id),
    expected,
  );
  assert.ok(data.every(({ attempt }) => attempt === 1));
  for (const event of tenant.events.filter(({ id }) => expected.includes(id))) assertShows(answer.text, event);
  for (const id of expected) tenant.places.set(id, 'leased');
  if (expected.length > 0) tenant.leases.set(answer.json.lease_id, expected);
  else assert.equal(answer.json.lease_id, null);
}

export async function acknowledge(turn: Turn): Promise<void> {
  if (turn.draw % 3 === 0) return acknowledgeLease(turn);
  const { world, tenant, path, target, pick } = turn;
  const own = [pick(tenant.in('pending')), pick(tenant.in('leased')), pick(tenant.in('delivered'))].filter(
    (id) => id !== undefined,
  );
  const foreign = target === 'own' ? undefined : pick(world.others(tenant).flatMap((other) => other.events));
  const unknown = foreign === undefined ? [] : [foreign.id, absent.event()];
  const ids = [...unknown.slice(0, 1), ...own, ...unknown.slice(1)];
  if (ids.length === 0) return;
  const fresh = own.filter((id) => tenant.places.get(id) !== 'delivered');
  const answer = await world.send(tenant, 'consume', { method: 'POST', path, body: { ids } });
  assert.deepEqual(answer.json, {
    acknowledged: fresh.length,
    already_acknowledged: own.length - fresh.length,
    unknown,
  });
  for (const id of fresh) tenant.places.set(id, 'delivered');
}

async function acknowledgeLease({ world, tenant, path, target, pick }: Turn): Promise<void> {
  const request = (lease: string): Sent => ({ method: 'POST', path, body: { lease_id: lease } });
  if (target === 'foreign') {
    const foreign = pick(world.others(tenant).flatMap(({ leases }) => [...leases.keys()]));
    if (foreign === undefined) return;
    const answer = await world.sendTwins(tenant, 'consume', foreign, absent.lease(), request);
    assert.equal(answer.status, 404);
    return;
  }
  const lease = pick([...tenant.leases.keys()]);
  if (lease === undefined) return;
  const held = (tenant.leases.get(lease) ?? []).filter((id) => tenant.places.get(id) === 'leased');
  const answer = await world.send(tenant, 'consume', request(lease));
  assert.deepEqual(answer.json, { acknowledged: held.length, already_acknowledged: 0, unknown: [] });
  for (const id of held) tenant.places.set(id, 'delivered');
}

const statuses = ['', 'pending', 'leased', 'delivered', 'dead'] as const;

export async function listInbox(turn: Turn): Promise<void> {
  const { world, tenant, path, target, draw, pick } = turn;
  const status = statuses[draw % statuses.length] ?? '';
  const query = `${path}?limit=${draw % 2 === 0 ? 1000 : 2}${status === '' ? '' : `&status=${status}`}`;
  if (target === 'foreign') {
    // The same list, to the letter, but of another org.
    const foreign = pick(
      world.others(tenant).flatMap(({ cursors }) => cursors.filter((of) => of.path.startsWith(path))),
    );
    if (foreign === undefined) return;
    const missing = absent.cursor(foreign.cursor);
    const answer = await world.sendTwins(tenant, 'read', foreign.cursor, missing, (cursor) => ({
      method: 'GET',
      path: `${foreign.path}&cursor=${cursor}`,
    }));
    assert.equal(answer.json.code, 'invalid_cursor', answer.text);
    return;
  }
  const places: readonly Place[] = status === '' ? ['pending', 'leased'] : status === 'dead' ? [] : [status];
  const expected = tenant.events
    .map(({ id }) => id)
    .filter((id) => places.some((place) => tenant.places.get(id) === place));
  const answer = await world.send(tenant, 'read', { method: 'GET', path: query });
  assert.equal(answer.status, 200, answer.text);
  const listed = (answer.json.data as { id: string }[]).map(({ id }) => id);
  assert.deepEqual(listed, expected.slice(0, listed.length));
  if (answer.json.next_cursor === null) return assert.equal(listed.length, expected.length);
  tenant.cursors.push({ path: query, cursor: answer.json.next_cursor });
  const next = await world.send(tenant, 'read', { method: 'GET', path: `${query}&cursor=${answer.json.next_cursor}` });
  const following = (next.json.data as { id: string }[]).map(({ id }) => id);
  assert.deepEqual(following, expected.slice(listed.length, listed.length + following.length));
}

export async function readStats({ world, tenant, path }: Turn): Promise<void> {
  const { json } = await world.send(tenant, 'read', { method: 'GET', path });
  const { oldest_pending_seconds: oldest, ...counts } = json;
  const pending = tenant.in('pending').length;
  assert.deepEqual(counts, { pending, leased: tenant.in('leased').length, dead: 0 });
  assert.equal(oldest === null, pending === 0);
}
