import assert from 'node:assert/strict';
import { absent } from './isolation-tenant.js';
import type { Turn } from './isolation-steps.js';
import type { Sent } from './isolation-world.js';

/** Gives back, or extends, what another has; of one's own only what changes nothing that the other steps expect. */
export async function release({ world, tenant, path, target, draw, pick }: Turn): Promise<void> {
  const others = world.others(tenant);
  if (target === 'foreign' && draw % 2 === 0) {
    const foreign = pick(others.flatMap(({ leases }) => [...leases.keys()]));
    if (foreign === undefined) return;
    const request = (lease: string): Sent => ({ method: 'POST', path, body: { lease_id: lease } });
    assert.equal((await world.sendTwins(tenant, 'consume', foreign, absent.lease(), request)).status, 404);
    return;
  }
  const request = (id: string): Sent => ({ method: 'POST', path, body: { ids: [id], delay_seconds: draw % 3 } });
  if (target === 'foreign') {
    const foreign = pick(others.flatMap((other) => other.in('leased')));
    if (foreign === undefined) return;
    const answer = await world.sendTwins(tenant, 'consume', foreign, absent.event(), request);
    assert.deepEqual(answer.json, { released: 0 });
    return;
  }
  // Nobody has it, so nothing is given back.
  const id = pick([...tenant.in('pending'), ...tenant.in('delivered')]);
  if (id === undefined) return;
  assert.deepEqual((await world.send(tenant, 'consume', request(id))).json, { released: 0 });
}

export async function extend({ world, tenant, path, target, pick }: Turn): Promise<void> {
  const request = (lease: string): Sent => ({ method: 'POST', path, body: { lease_id: lease, lease_seconds: 43_200 } });
  if (target === 'foreign') {
    const foreign = pick(world.others(tenant).flatMap(({ leases }) => [...leases.keys()]));
    if (foreign === undefined) return;
    assert.equal((await world.sendTwins(tenant, 'consume', foreign, absent.lease(), request)).status, 404);
    return;
  }
  const lease = pick([...tenant.leases.keys()]);
  if (lease === undefined) return;
  const holds = (tenant.leases.get(lease) ?? []).some((id) => tenant.places.get(id) === 'leased');
  const answer = await world.send(tenant, 'consume', request(lease));
  assert.equal(answer.status, holds ? 200 : 409, answer.text);
}

export async function acknowledgeOne({ world, tenant, path, target, pick }: Turn): Promise<void> {
  const request = (id: string): Sent => ({ method: 'DELETE', path: path.replace(':event_id', id) });
  if (target === 'foreign') {
    const foreign = pick(world.others(tenant).flatMap(({ events }) => events));
    if (foreign === undefined) return;
    assert.equal((await world.sendTwins(tenant, 'consume', foreign.id, absent.event(), request)).status, 404);
    return;
  }
  const event = pick(tenant.events);
  if (event === undefined) return;
  assert.equal((await world.send(tenant, 'consume', request(event.id))).status, 204);
  tenant.places.set(event.id, 'delivered');
}

/** To another's event. Of one's own it would change what the other steps expect. */
export async function seek({ world, tenant, path, pick }: Turn): Promise<void> {
  const foreign = pick(world.others(tenant).flatMap(({ events }) => events));
  if (foreign === undefined) return;
  const request = (to: string): Sent => ({ method: 'POST', path, body: { to } });
  assert.equal((await world.sendTwins(tenant, 'consume', foreign.id, absent.event(), request)).status, 404);
}

/** There are no dead letters here, of nobody. */
export async function redrive({ world, tenant, path, target, pick }: Turn): Promise<void> {
  if (target === 'own') {
    const answer = await world.send(tenant, 'consume', { method: 'POST', path, body: { all: true } });
    return assert.deepEqual(answer.json, { redriven: 0 });
  }
  const foreign = pick(world.others(tenant).flatMap(({ events }) => events));
  if (foreign === undefined) return;
  const request = (id: string): Sent => ({ method: 'POST', path, body: { ids: [id] } });
  const answer = await world.sendTwins(tenant, 'consume', foreign.id, absent.event(), request);
  assert.deepEqual(answer.json, { redriven: 0 });
}

export async function readDeliveries({ world, tenant, path, target, pick }: Turn): Promise<void> {
  const request = (id: string): Sent => ({ method: 'GET', path: path.replace(':id', id) });
  if (target === 'foreign') {
    const foreign = pick(world.others(tenant).flatMap(({ events }) => events));
    if (foreign === undefined) return;
    assert.equal((await world.sendTwins(tenant, 'read', foreign.id, absent.event(), request)).status, 404);
    return;
  }
  const event = pick(tenant.events);
  if (event === undefined) return;
  const { json } = await world.send(tenant, 'read', request(event.id));
  const deliveries = json.data as { subscription: string; state: string }[];
  assert.deepEqual(
    deliveries.map(({ subscription }) => subscription).toSorted(),
    ['default', ...tenant.inboxes].toSorted(),
  );
  const own = deliveries.find(({ subscription }) => subscription === 'default');
  assert.equal(own?.state, tenant.places.get(event.id));
}

/** Names that every tenant uses, and one that tells whose it is. */
function nameOf({ tenant, draw }: Turn): string {
  return draw % 3 === 0 ? tenant.canary : `shared-${draw % 4}`;
}

export async function createInbox(turn: Turn): Promise<void> {
  const { world, tenant, path, target, pick } = turn;
  if (target === 'foreign') {
    const foreign = pick(world.others(tenant).flatMap(({ events }) => events));
    if (foreign === undefined) return;
    const request = (start: string): Sent => ({ method: 'POST', path, body: { name: 'never', start } });
    assert.equal((await world.sendTwins(tenant, 'read', foreign.id, absent.event(), request)).status, 404);
    return;
  }
  const name = nameOf(turn);
  const answer = await world.send(tenant, 'read', { method: 'POST', path, body: { name } });
  assert.equal(answer.status, tenant.inboxes.has(name) ? 409 : 201, answer.text);
  tenant.inboxes.add(name);
}

export async function listInboxes({ world, tenant, path }: Turn): Promise<void> {
  const { json } = await world.send(tenant, 'read', { method: 'GET', path });
  const names = (json.data as { name: string }[]).map(({ name }) => name);
  assert.deepEqual(names, ['default', ...tenant.inboxes].toSorted());
}

/** Of a name that only another has, and of one that nobody has; or of one's own. */
function onInbox(method: string, done: number, body?: unknown): (turn: Turn) => Promise<void> {
  return async (turn) => {
    const { world, tenant, path, target, pick } = turn;
    const request = (name: string): Sent => ({ method, path: path.replace(':name', name), body });
    if (target === 'foreign') {
      const names = world.others(tenant).flatMap(({ inboxes }) => [...inboxes]);
      const foreign = pick(names.filter((name) => !tenant.inboxes.has(name)));
      if (foreign === undefined) return;
      assert.equal((await world.sendTwins(tenant, 'read', foreign, 'no-such-inbox', request)).status, 404);
      return;
    }
    const name = pick([...tenant.inboxes]);
    if (name === undefined) return;
    const answer = await world.send(tenant, 'read', request(name));
    assert.equal(answer.status, done, answer.text);
    if (method === 'DELETE') tenant.inboxes.delete(name);
  };
}

export const readInbox = onInbox('GET', 200);
export const changeInbox = onInbox('PATCH', 200, { max_attempts: 3 });
export const deleteInbox = onInbox('DELETE', 204);
