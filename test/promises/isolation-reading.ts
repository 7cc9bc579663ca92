import assert from 'node:assert/strict';
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
