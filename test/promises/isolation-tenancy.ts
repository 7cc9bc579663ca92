import assert from 'node:assert/strict';
import { scopes } from '../../src/tenancy/scopes.js';
import { Client } from '../support/client.js';
import { absent } from './isolation-tenant.js';
import type { Turn } from './isolation-steps.js';
import type { Sent } from './isolation-world.js';

const keysMax = 20;

export async function createKey({ world, tenant, path, draw }: Turn): Promise<void> {
  if (tenant.keys.size >= keysMax) return;
  const name = `key ${draw} ${tenant.canary}`;
  const answer = await world.send(tenant, 'read', { method: 'POST', path, body: { name } });
  assert.equal(answer.status, 201, answer.text);
  tenant.keys.set(answer.json.id, { name });
}

export async function listKeys(turn: Turn): Promise<void> {
  const { tenant } = turn;
  await listPage(turn, ({ data, next_cursor: next }) => {
    const listed = data as { id: string; name: string }[];
    const expected = [...tenant.keys.keys()].toSorted();
    assert.deepEqual(
      listed.map(({ id, name }) => [id, name]),
      expected.slice(0, listed.length).map((id) => [id, tenant.keys.get(id)?.name]),
    );
    if (next === null) assert.equal(listed.length, expected.length);
  });
}

export async function listAudit(turn: Turn): Promise<void> {
  await listPage(turn, ({ data, next_cursor: next }) => {
    const sequences = (data as { sequence: number }[]).map(({ sequence }) => sequence);
    const [newest = 0] = sequences;
    assert.deepEqual(
      sequences,
      sequences.map((_, i) => newest - i),
    );
    if (next === null) assert.equal(sequences.at(-1), 1);
  });
}

interface Page {
  readonly data: unknown;
  readonly next_cursor: string | null;
}

/** The first page of a list, or a try to go on with another org's. */
async function listPage({ world, tenant, path, target, draw, pick }: Turn, check: (page: Page) => void): Promise<void> {
  if (target === 'foreign') {
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
  const query = `${path}?limit=${draw % 2 === 0 ? 1000 : 2}`;
  const answer = await world.send(tenant, 'read', { method: 'GET', path: query });
  check(answer.json as Page);
  if (answer.json.next_cursor !== null) tenant.cursors.push({ path: query, cursor: answer.json.next_cursor });
}

export async function currentKey({ world, tenant, path }: Turn): Promise<void> {
  const answer = await world.send(tenant, 'read', { method: 'GET', path });
  assert.deepEqual([answer.json.id, answer.json.scopes], [tenant.org.keyId, scopes]);
}

export async function rotateKey(turn: Turn): Promise<void> {
  await changeKey(turn, { method: 'POST', path: turn.path, body: {} }, 201);
}

export async function deleteKey(turn: Turn): Promise<void> {
  await changeKey(turn, { method: 'DELETE', path: turn.path }, 204);
}

async function changeKey({ world, tenant, target, pick }: Turn, sent: Sent, done: number): Promise<void> {
  const request = (id: string): Sent => ({ ...sent, path: sent.path.replace(':id', id) });
  if (target === 'foreign') {
    const foreign = pick(world.others(tenant).flatMap(({ keys }) => [...keys.keys()]));
    assert.ok(foreign !== undefined);
    const answer = await world.sendTwins(tenant, 'read', foreign, absent.key(), request);
    assert.equal(answer.status, 404);
    return;
  }
  // The first key is what the tenant calls with.
  const id = pick([...tenant.keys.keys()].slice(1));
  if (id === undefined) return;
  const { name } = tenant.keys.get(id) ?? { name: '' };
  const answer = await world.send(tenant, 'read', request(id));
  assert.equal(answer.status, done, answer.text);
  tenant.keys.delete(id);
  if (done === 201) tenant.keys.set(answer.json.id, { name });
}

export async function ownOrg({ world, tenant, path }: Turn): Promise<void> {
  const { json } = await world.send(tenant, 'read', { method: 'GET', path });
  const limits = { rate_per_minute: 1, burst: tenant.burst, mode: 'enforce' };
  assert.deepEqual(
    [json.id, json.name, json.suspended, json.limits, json.usage.keys],
    [tenant.org.id, `org ${tenant.canary}`, false, limits, tenant.keys.size],
  );
}

/** To as many days as it keeps events anyway. */
export async function changeOwnOrg({ world, tenant, path }: Turn): Promise<void> {
  const answer = await world.send(tenant, 'read', { method: 'PATCH', path, body: { retention_days: 30 } });
  assert.deepEqual([answer.status, answer.json.id], [200, tenant.org.id]);
}

/** Of a subject that all events of another org have, or of one that none has: nothing of anybody goes. */
export async function eraseSubject({ world, tenant, path, target, draw, pick }: Turn): Promise<void> {
  const subject = target === 'foreign' ? pick(world.others(tenant))?.canary : `nobody ${draw % 3}`;
  const answer = await world.send(tenant, 'read', {
    method: 'DELETE',
    path: path.replace(':subject', encodeURIComponent(subject ?? '')),
  });
  assert.equal(answer.status, 202, answer.text);
  tenant.erasures.push(answer.json.id);
}

export async function readErasure({ world, tenant, path, target, pick }: Turn): Promise<void> {
  const request = (id: string): Sent => ({ method: 'GET', path: path.replace(':id', id) });
  if (target === 'foreign') {
    const foreign = pick(world.others(tenant).flatMap(({ erasures }) => erasures));
    if (foreign === undefined) return;
    const answer = await world.sendTwins(tenant, 'read', foreign, absent.erasure(), request);
    assert.equal(answer.status, 404);
    return;
  }
  const id = pick(tenant.erasures);
  if (id === undefined) return;
  const { json } = await world.send(tenant, 'read', request(id));
  assert.deepEqual([json.id, json.erased.events.rows, json.erased.leases.rows], [id, 0, 0]);
}

/** A route of whoever runs the server: no key gets further than its scope, whichever org it names. */
export function refused(method: string, body?: unknown): (turn: Turn) => Promise<void> {
  return async ({ world, tenant, path, pick }) => {
    const request = (id: string): Sent => ({ method, path: path.replace(':id', id), body });
    const foreign = pick(world.others(tenant))?.org.id ?? '';
    const answer = await world.sendTwins(tenant, null, foreign, absent.org(), request);
    assert.equal(answer.json.code, 'insufficient_scope', answer.text);
  };
}

export async function openToAll({ world, tenant, path }: Turn): Promise<void> {
  assert.equal((await world.send(tenant, null, { method: 'GET', path })).status, 200);
}

/** What the program tells of itself, with examples that look like somebody's: whoever asks gets the same as who is nobody. */
export async function sameForAll({ tenant, path }: Turn): Promise<void> {
  const { client } = tenant.nextNode();
  const [own, nobodys] = await Promise.all([client.get(path), new Client(client.address, null).get(path)]);
  assert.equal(own.status, 200);
  assert.ok(own.text === nobodys.text, `${path} depends on who asks`);
}
