import assert from 'node:assert/strict';
import { EventSource } from '../support/event-source.js';
import type { Turn } from './isolation-steps.js';
import { absent } from './isolation-tenant.js';

export async function listEvents({ world, tenant, path, target, draw, pick }: Turn): Promise<void> {
  const type = `type.${draw % 2}`;
  const order = draw % 4 < 2 ? 'asc' : 'desc';
  const filtered = draw % 3 === 0;
  const query = `${path}?order=${order}&limit=${draw % 5 === 0 ? 1000 : 2}${filtered ? `&type=${type}` : ''}`;
  if (target === 'foreign') {
    // The same list, to the letter, but of another org.
    const cursors = world.others(tenant).flatMap((other) => other.cursors);
    const foreign = pick(cursors.filter((of) => of.path.startsWith(`${path}?`)));
    if (foreign === undefined) return;
    const missing = absent.cursor(foreign.cursor);
    const answer = await world.sendTwins(tenant, 'read', foreign.cursor, missing, (cursor) => ({
      method: 'GET',
      path: `${foreign.path}&cursor=${cursor}`,
    }));
    assert.equal(answer.json.code, 'invalid_cursor', answer.text);
    return;
  }
  const expected = tenant.events.filter((event) => !filtered || event.type === type).map(({ id }) => id);
  if (order === 'desc') expected.reverse();
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

export async function streamEvents({ world, tenant, path, target, draw, pick }: Turn): Promise<void> {
  if (target === 'foreign') {
    const foreign = pick(world.others(tenant).flatMap(({ events }) => events));
    if (foreign === undefined) return;
    const answer = await world.sendTwins(tenant, 'read', foreign.id, absent.event(), (id) =>
      draw % 2 === 0
        ? { method: 'GET', path: `${path}?after=${id}` }
        : { method: 'GET', path, headers: { 'Last-Event-ID': id } },
    );
    assert.equal(answer.json.code, 'not_found', answer.text);
    return;
  }
  const event = pick(tenant.events);
  if (event === undefined) return;
  const following = tenant.events.slice(tenant.events.indexOf(event) + 1, draw % 20);
  world.requests++;
  const { client, spent } = tenant.nextNode();
  spent.read++;
  const source = await EventSource.open(client, `?after=${event.id}`);
  const events = await source.take(following.length);
  source.close();
  assert.deepEqual(
    events.map(({ id }) => id),
    following.map(({ id }) => id),
  );
  const headers = new Headers(Object.entries(source.headers).map(([name, value]) => [name, String(value)]));
  world.check(tenant, { status: 200, headers, text: source.text, json: undefined });
}
