import assert from 'node:assert/strict';
import { it } from 'node:test';
import { unerasedOrgs } from '../../src/db/sql/deletions.js';
import { appendBatch } from '../../src/event-log/append.js';
import { encodeOrgId } from '../../src/ids.js';
import type { ClockedNodes } from '../support/clocked-nodes.js';
import { onClockedNodes } from '../support/clocked-nodes.js';
import type { Answer } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { newEvent } from '../support/event-log.js';
import { openDatabase, openLog } from '../support/log.js';
import { adminToken, spawnNode } from '../support/node.js';
import { assertProblem } from '../support/problem.js';
import { createStorage, engineNames } from '../support/storage.js';
import { orgsOf, rowsOf, total } from './erasing.js';

await onClockedNodes(apiTests);

function apiTests({ addresses, address, advance }: ClockedNodes): void {
  const event = { type: 'a.b', payload: 1 };
  const current = (at: string, key: string): Promise<Answer> => new Client(at, key).get('/v1/keys/current');

  it('a deleted org is nobody’s: its keys are unknown, within a second on every node, and its id names nothing', async () => {
    const [org, other] = [await createOrg(address()), await createOrg(address())];
    const admin = new Client(address(), adminToken);
    for (const at of addresses()) assert.equal((await current(at, org.key)).status, 200);
    const erased = await admin.call('DELETE', `/v1/orgs/${org.id}`);
    assert.deepEqual([erased.status, erased.text], [204, '']);

    for (const [method, path] of [
      ['GET', '/v1/org'],
      ['GET', '/v1/audit'],
      ['POST', '/v1/keys'],
      ['POST', '/v1/inbox/receive'],
    ] as const) {
      const body = method === 'POST' ? { name: 'x' } : undefined;
      assertProblem(await org.client.call(method, path, body), 'invalid_key');
    }
    // Where the key is still believed, there is no log to store in, and no key is made.
    for (const at of addresses()) {
      const client = new Client(at, org.key);
      assertProblem(await client.post('/v1/events', event), 'invalid_key');
      assertProblem(await client.post('/v1/keys', { name: 'late' }), 'invalid_key');
    }
    advance(999);
    for (const at of addresses()) assertProblem(await current(at, org.key), 'invalid_key');

    for (const at of addresses()) {
      const anyAdmin = new Client(at, adminToken);
      assertProblem(await anyAdmin.get(`/v1/orgs/${org.id}`), 'not_found');
      assertProblem(await anyAdmin.call('PATCH', `/v1/orgs/${org.id}`, { suspended: true }), 'not_found');
      assertProblem(await anyAdmin.call('DELETE', `/v1/orgs/${org.id}`), 'not_found');
      const listed = (await anyAdmin.get('/v1/orgs?limit=1000')).json.data.map(({ id }: { id: string }) => id);
      assert.deepEqual([listed.includes(org.id), listed.includes(other.id)], [false, true]);
    }
    for (const id of ['org_0000000001', other.id.toLowerCase(), 'x'])
      assertProblem(await admin.call('DELETE', `/v1/orgs/${id}`), 'not_found');
    assert.equal((await other.client.post('/v1/events', event)).status, 201);
  });

  it('only the admin token deletes an org, and of many deletions at once one does', async () => {
    const org = await createOrg(address());
    assertProblem(await org.client.call('DELETE', `/v1/orgs/${org.id}`), 'insufficient_scope');
    assertProblem(await new Client(address(), null).call('DELETE', `/v1/orgs/${org.id}`), 'missing_key');
    assert.equal((await org.client.get('/v1/org')).status, 200);
    const admins = [...addresses(), ...addresses(), ...addresses()].map((at) => new Client(at, adminToken));
    const answers = await Promise.all([
      ...admins.map((admin) => admin.call('DELETE', `/v1/orgs/${org.id}`)),
      ...admins.map((admin) => admin.call('PATCH', `/v1/orgs/${org.id}`, { name: 'changed meanwhile' })),
    ]);
    const statuses = answers.map(({ status }) => status);
    assert.equal(statuses.filter((status) => status === 204).length, 1, statuses.join());
    assert.ok(
      statuses.every((status) => [200, 204, 404].includes(status)),
      statuses.join(),
    );
  });
}

for (const engine of engineNames) {
  it(`on ${engine}, a node that is killed in the middle of the erasure goes on with it when it is started again`, async (t) => {
    const storage = await createStorage(engine);
    if (storage === null) return t.skip('no PostgreSQL on this machine');
    t.after(() => storage.remove());
    const database = await openLog(storage);
    const { org } = (await orgsOf(database).create('large', 'free')).org;
    const thousand = Array.from({ length: 1_000 }, (_, n) => newEvent(org, String(n)));
    for (let n = 0; n < 30; n++) await appendBatch(database, thousand, Date.now());
    await database.close();

    const first = await spawnNode(storage);
    t.after(() => first.end('SIGKILL'));
    const answer = await new Client(first.address, adminToken).call('DELETE', `/v1/orgs/${encodeOrgId(org)}`);
    assert.equal(answer.status, 204, answer.text);
    await first.end('SIGKILL');
    const between = await openDatabase(storage);
    const left = total(await rowsOf(between, org));
    assert.deepEqual(await unerasedOrgs(between, '0', 2), [org]);
    assert.ok(left > 0);
    await between.close();

    const second = await spawnNode(storage);
    t.after(() => second.end('SIGKILL'));
    const admin = new Client(second.address, adminToken);
    while (!/^sluice_orgs_erased_total 1$/m.test((await admin.get('/metrics')).text));
    assert.equal(await second.end('SIGTERM'), 0);
    const afterwards = await openDatabase(storage);
    assert.equal(total(await rowsOf(afterwards, org)), 0);
    await afterwards.close();
  });
}
