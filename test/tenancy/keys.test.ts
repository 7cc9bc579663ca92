import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { keysMax } from '../../src/tenancy/keys.js';
import { scopes } from '../../src/tenancy/scopes.js';
import { formatTime } from '../../src/time-format.js';
import type { ClockedNodes } from '../support/clocked-nodes.js';
import { onClockedNodes } from '../support/clocked-nodes.js';
import type { Answer, TestOrg } from '../support/client.js';
import { Client, createOrg, whenThereIsRoom } from '../support/client.js';
import { adminToken } from '../support/node.js';
import { assertProblem } from '../support/problem.js';

const pagesMax = 100;
const secondMs = 1_000;

interface TestKey {
  readonly id: string;
  readonly key: string;
}

async function createKey({ client }: { readonly client: Client }, fields: object = {}): Promise<TestKey & Answer> {
  const answer = await client.post('/v1/keys', { name: 'a key', ...fields });
  assert.equal(answer.status, 201, answer.text);
  return { ...answer, id: answer.json.id, key: answer.json.key };
}

const current = (address: string, { key }: { readonly key: string }): Promise<Answer> =>
  new Client(address, key).get('/v1/keys/current');

await onClockedNodes((nodes) => {
  describe('a key', () => {
    keyTests(nodes);
  });
  describe('the end of a key', () => {
    endTests(nodes);
  });
});

function keyTests(nodes: ClockedNodes): void {
  let org: TestOrg;
  before(async () => {
    org = await createOrg(nodes.address());
  });

  it('is shown once, where it is made, and works; lists show its beginning', async () => {
    const { key, json } = await createKey(org, { name: 'shown once', expires_at: null });
    assert.match(key, /^slk_live_[A-Za-z0-9_-]{43}$/);
    const { key: _, ...shown } = json;
    assert.deepEqual(shown, {
      id: json.id,
      name: 'shown once',
      prefix: key.slice(0, 13),
      scopes,
      created_at: formatTime(nodes.nowMs()),
      expires_at: null,
      last_used_at: null,
    });
    const list = await org.client.get('/v1/keys');
    assert.ok(!list.text.includes(key));
    assert.deepEqual(
      list.json.data.find(({ id }: TestKey) => id === json.id),
      shown,
    );
    assert.deepEqual((await current(nodes.address(), { key })).json, shown);
  });

  it('is found by either header, and by both only if they agree', async () => {
    const { key } = await createKey(org);
    const anybody = new Client(nodes.address(), null);
    assert.equal((await anybody.get('/v1/keys/current', { 'X-API-Key': key })).status, 200);
    assert.equal((await org.client.get('/v1/keys/current', { 'X-API-Key': org.key })).status, 200);
    assertProblem(await org.client.get('/v1/keys/current', { 'X-API-Key': key }), 'invalid_key');
    assertProblem(await anybody.get('/v1/keys/current'), 'missing_key');
  });

  it('grants at most what its maker may do: in creating, rotating and deleting', async () => {
    const few = ['events:read', 'keys:manage'];
    const maker = await createKey(org, { scopes: few.toReversed() });
    assert.deepEqual(maker.json.scopes, few);
    const client = new Client(nodes.address(), maker.key);
    assert.deepEqual((await createKey({ client })).json.scopes, few);
    const fewer = await createKey({ client }, { scopes: ['events:read'] });
    for (const scope of scopes.filter((one) => !few.includes(one)))
      assertProblem(await client.post('/v1/keys', { name: 'x', scopes: ['events:read', scope] }), 'insufficient_scope');
    assertProblem(await client.post(`/v1/keys/${org.keyId}/rotate`, {}), 'insufficient_scope');
    assertProblem(await client.call('DELETE', `/v1/keys/${org.keyId}`), 'insufficient_scope');
    assert.equal((await org.client.get('/v1/keys/current')).status, 200);
    assert.equal((await client.post(`/v1/keys/${fewer.id}/rotate`, {})).status, 201);
    const reader = new Client(nodes.address(), (await createKey(org, { scopes: ['events:read'] })).key);
    for (const [method, path] of [
      ['POST', '/v1/keys'],
      ['GET', '/v1/keys'],
      ['POST', `/v1/keys/${fewer.id}/rotate`],
      ['DELETE', `/v1/keys/${fewer.id}`],
    ] as const) {
      const problem = assertProblem(await reader.call(method, path), 'insufficient_scope');
      assert.match(problem.detail, /keys:manage/);
    }
  });

  it('makes none that lives longer than itself: in creating and rotating, and while it lives out its grace', async () => {
    const endsAt = formatTime(nodes.nowMs() + 3_600_000);
    const brief = await createKey(org, { expires_at: endsAt });
    const client = new Client(nodes.address(), brief.key);
    assert.equal((await createKey({ client })).json.expires_at, endsAt);
    const sooner = formatTime(nodes.nowMs() + 60_000);
    assert.equal((await createKey({ client }, { expires_at: sooner })).json.expires_at, sooner);
    const later = formatTime(nodes.nowMs() + 3_601_000);
    const problem = assertProblem(
      await client.post('/v1/keys', { name: 'x', expires_at: later }),
      'insufficient_scope',
    );
    assert.match(problem.detail, /cannot make a key that lives longer/);
    const lasting = await createKey(org);
    assertProblem(await client.post(`/v1/keys/${lasting.id}/rotate`, {}), 'insufficient_scope');
    assert.equal((await client.post(`/v1/keys/${brief.id}/rotate`, { grace_seconds: 60 })).json.expires_at, endsAt);
    // What is left of it is the grace.
    assertProblem(await client.post('/v1/keys', { name: 'x', expires_at: endsAt }), 'insufficient_scope');
  });

  it('is refused with what would be right', async () => {
    const past = formatTime(nodes.nowMs());
    const refused: [object, string][] = [
      [{}, '/name'],
      [{ name: '' }, '/name'],
      [{ name: 'x'.repeat(256) }, '/name'],
      [{ name: 'a\u0000b' }, '/name'],
      [{ name: 7 }, '/name'],
      [{ name: 'x', scopes: [] }, '/scopes'],
      [{ name: 'x', scopes: ['everything'] }, '/scopes/0'],
      [{ name: 'x', expires_at: past }, '/expires_at'],
      [{ name: 'x', expires_at: 'tomorrow' }, '/expires_at'],
      [{ name: 'x', key: 'slk_live_mine' }, '/key'],
    ];
    for (const [body, path] of refused) {
      const problem = assertProblem(await org.client.post('/v1/keys', body), 'validation_failed');
      assert.equal(problem.errors?.[0]?.path, path, JSON.stringify(problem));
    }
    for (const grace of [-1, 0.5, 30 * 86_400 + 1, '0'])
      assertProblem(
        await org.client.post(`/v1/keys/${org.keyId}/rotate`, { grace_seconds: grace }),
        'validation_failed',
      );
  });

  it('is listed on pages, each once, and only pages of this org continue them', async () => {
    const own = await createOrg(nodes.address());
    const made = [own.keyId];
    for (let i = 0; i < 6; i++) made.push((await createKey(own)).id);
    const listed: string[] = [];
    let cursor: string | null = null;
    let pages = 0;
    do {
      const query: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
      const { json }: Answer = await own.client.get(`/v1/keys?limit=3${query}`);
      listed.push(...json.data.map(({ id }: TestKey) => id));
      if (json.next_cursor !== null)
        assertProblem(await org.client.get(`/v1/keys?limit=3&cursor=${json.next_cursor}`), 'invalid_cursor');
      cursor = json.next_cursor;
      pages++;
    } while (cursor !== null && pages < pagesMax);
    assert.deepEqual(listed, made.toSorted());
    assert.equal(pages, 3);
  });

  it('is one of at most 100 that live, however many are asked for at once; those that have ended do not count', async () => {
    const own = await createOrg(nodes.address());
    const addresses = nodes.addresses();
    const clients = Array.from(
      { length: keysMax + 20 },
      (_, i) => new Client(addresses[i % addresses.length] ?? '', own.key),
    );
    const soonOver = { name: 'soon over', expires_at: formatTime(nodes.nowMs() + secondMs) };
    assert.equal((await own.client.post('/v1/keys', soonOver)).status, 201);
    const answers = await Promise.all(
      clients.map((client) => whenThereIsRoom(() => client.post('/v1/keys', { name: 'one of many' }))),
    );
    const made = answers.filter(({ status }) => status === 201).map(({ json }) => json as TestKey);
    // The first key and the one that is soon over are the other two.
    assert.equal(made.length, keysMax - 2);
    for (const answer of answers) if (answer.status !== 201) assertProblem(answer, 'limit_reached');
    const [one, other] = made.map(({ id }) => id);
    assertProblem(await own.client.post(`/v1/keys/${one}/rotate`, { grace_seconds: 60 }), 'limit_reached');
    assert.equal((await own.client.post(`/v1/keys/${one}/rotate`, {})).status, 201);
    assert.equal((await own.client.call('DELETE', `/v1/keys/${other}`)).status, 204);
    await createKey(own);
    assertProblem(await own.client.post('/v1/keys', { name: 'too many' }), 'limit_reached');
    nodes.advance(secondMs);
    await createKey(own);
    assertProblem(await own.client.post('/v1/keys', { name: 'too many' }), 'limit_reached');
  });

  it('shows when it was last used, within some seconds', async () => {
    const used = await createKey(org);
    const at = formatTime(nodes.nowMs());
    await current(nodes.address(), used);
    nodes.advance(10 * secondMs);
    const lastUsed = async (): Promise<unknown> =>
      (await org.client.get('/v1/keys?limit=1000')).json.data.find(({ id }: TestKey) => id === used.id).last_used_at;
    let shown = await lastUsed();
    // The write began when the clock moved; each look waits for its turn behind it.
    for (let looks = 0; shown === null && looks < 200; looks++) shown = await lastUsed();
    assert.equal(shown, at);
  });
}

function endTests(nodes: ClockedNodes): void {
  let org: TestOrg;
  before(async () => {
    org = await createOrg(nodes.address());
  });

  const isDead = async (key: { readonly key: string }, code: 'invalid_key' | 'org_suspended' = 'invalid_key') => {
    assertProblem(await current(nodes.address(), key), code);
    nodes.advance(secondMs - 1);
    for (const address of nodes.addresses()) assertProblem(await current(address, key), code);
  };
  const isAlive = async (key: { readonly key: string }): Promise<void> => {
    for (const address of nodes.addresses()) assert.equal((await current(address, key)).status, 200);
  };

  it('comes at once where it is deleted, and within a second on every node', async () => {
    const key = await createKey(org);
    await isAlive(key);
    assert.equal((await org.client.call('DELETE', `/v1/keys/${key.id}`)).status, 204);
    await isDead(key);
    assertProblem(await org.client.call('DELETE', `/v1/keys/${key.id}`), 'not_found');
    assertProblem(await org.client.post(`/v1/keys/${key.id}/rotate`, {}), 'not_found');
    assert.ok(!(await org.client.get('/v1/keys?limit=1000')).text.includes(key.id));
  });

  it('comes with its rotation, which makes a key of the same name, scopes and expiry', async () => {
    const expires = formatTime(nodes.nowMs() + 3_600 * secondMs);
    const key = await createKey(org, { name: 'rotated', scopes: ['inbox:read'], expires_at: expires });
    await isAlive(key);
    const rotated = await org.client.post(`/v1/keys/${key.id}/rotate`);
    assert.equal(rotated.status, 201);
    await isDead(key);
    await isAlive(rotated.json);
    const { name, scopes: held, expires_at } = rotated.json;
    assert.deepEqual({ name, held, expires_at }, { name: 'rotated', held: ['inbox:read'], expires_at: expires });
    assert.notEqual(rotated.json.id, key.id);
  });

  it('comes after the grace of its rotation, and no later than it would have come anyway', async () => {
    const expires = formatTime(nodes.nowMs() + 20 * secondMs);
    const [lasting, ending] = [await createKey(org), await createKey(org, { expires_at: expires })];
    const ends = formatTime(nodes.nowMs() + 60 * secondMs);
    for (const key of [lasting, ending])
      assert.equal((await org.client.post(`/v1/keys/${key.id}/rotate`, { grace_seconds: 60 })).status, 201);
    assert.equal((await current(nodes.address(), lasting)).json.expires_at, ends);
    assert.equal((await current(nodes.address(), ending)).json.expires_at, expires);
    nodes.advance(20 * secondMs - 1);
    await isAlive(ending);
    nodes.advance(1);
    for (const address of nodes.addresses()) assertProblem(await current(address, ending), 'invalid_key');
    nodes.advance(40 * secondMs - 1);
    await isAlive(lasting);
    nodes.advance(1);
    for (const address of nodes.addresses()) assertProblem(await current(address, lasting), 'invalid_key');
    assertProblem(await org.client.post(`/v1/keys/${lasting.id}/rotate`, {}), 'not_found');
  });

  it('is a pause where the org is suspended: within a second on every node, and back as quickly', async () => {
    const own = await createOrg(nodes.address());
    const admin = new Client(nodes.address(), adminToken);
    await isAlive(own);
    assert.equal((await admin.call('PATCH', `/v1/orgs/${own.id}`, { suspended: true })).status, 200);
    await isDead(own, 'org_suspended');
    assertProblem(await own.client.post('/v1/events', { type: 'x', payload: 1 }), 'org_suspended');
    await admin.call('PATCH', `/v1/orgs/${own.id}`, { suspended: false });
    nodes.advance(secondMs - 1);
    await isAlive(own);
  });

  it('comes to no key by an id that is not spelled as it was given', async () => {
    const key = await createKey(org);
    const spellings = [
      key.id.toLowerCase(),
      key.id.replace('key_', 'KEY_'),
      key.id.replace('key_', 'lse_'),
      key.id.slice(0, -1),
      `${key.id}0`,
      `${key.id.slice(0, -1)}%20`,
      `${key.id.slice(0, 10)}-${key.id.slice(10)}`,
      `key_Z${key.id.slice(5)}`,
      'key_',
      'current',
      "key_' OR true --",
    ];
    for (const id of spellings) {
      const path = `/v1/keys/${encodeURIComponent(id)}`;
      assertProblem(await org.client.call('DELETE', path), 'not_found');
      assertProblem(await org.client.post(`${path}/rotate`, {}), 'not_found');
    }
    await isAlive(key);
  });
}
