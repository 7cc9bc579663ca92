import assert from 'node:assert/strict';
import { before, it } from 'node:test';
import { routeTable } from '../../src/http/routes/table.js';
import type { RouteTableOptions } from '../../src/http/routes/table.js';
import { scopes } from '../../src/tenancy/scopes.js';
import type { Answer } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { onEachEngine } from '../support/each-engine.js';
import type { EngineUnderTest } from '../support/each-engine.js';
import { adminToken } from '../support/node.js';
import { assertProblem } from '../support/problem.js';

const tiers = { free: 100, pro: 1_000, business: 10_000, enterprise: 100_000 };
const pagesMax = 100;
const absentOrg = 'org_0000000001';

await onEachEngine({}, orgTests);

function orgTests({ node }: EngineUnderTest): void {
  let admin: Client;
  before(() => {
    admin = new Client(node().address, adminToken);
  });
  const create = async (fields: object): Promise<Answer> => {
    const answer = await admin.post('/v1/orgs', fields);
    assert.equal(answer.status, 201, answer.text);
    return answer;
  };
  const patch = (id: string, change: object): Promise<Answer> => admin.call('PATCH', `/v1/orgs/${id}`, change);

  it('an org is made with a key of all scopes, and is free unless a tier is named', async () => {
    const { json } = await create({ name: 'new' });
    const { key, key_id: keyId, ...org } = json;
    assert.match(org.id, /^org_[0-9A-HJKMNP-TV-Z]{10}$/);
    assert.ok(Math.abs(Date.parse(org.created_at) - Date.now()) < 60_000);
    assert.deepEqual(org, {
      id: org.id,
      name: 'new',
      tier: 'free',
      limits: { rate_per_minute: 100, burst: 100, mode: 'enforce' },
      retention_days: 30,
      suspended: false,
      created_at: org.created_at,
      usage: { keys: 1 },
    });
    const client = new Client(node().address, key);
    assert.deepEqual((await client.get('/v1/org')).json, org);
    assert.deepEqual((await admin.get(`/v1/orgs/${org.id}`)).json, org);
    const current = (await client.get('/v1/keys/current')).json;
    assert.deepEqual([current.id, current.scopes], [keyId, scopes]);
    const { json: inbox } = await client.get('/v1/inbox/stats');
    assert.deepEqual(inbox, { pending: 0, leased: 0, dead: 0, oldest_pending_seconds: null });
  });

  it('each tier has its events a minute, and a bucket for one minute', async () => {
    for (const [tier, rate] of Object.entries(tiers)) {
      const { json } = await create({ name: tier, tier });
      assert.deepEqual([json.tier, json.limits], [tier, { rate_per_minute: rate, burst: rate, mode: 'enforce' }]);
    }
  });

  it('names need not differ, and may be any text of 1 to 255 characters', async () => {
    const names = ['twin', 'twin', ' ', 'x'.repeat(255), '名前 😀', "Robert'); DROP TABLE orgs; --"];
    const made = [];
    for (const name of names) made.push((await create({ name })).json);
    assert.deepEqual(
      made.map((org) => org.name),
      names,
    );
    assert.equal(new Set(made.map(({ id }) => id)).size, names.length);
  });

  it('a change touches what it names, and nothing else', async () => {
    const { json: org } = await create({ name: 'before', tier: 'pro' });
    let expected = { ...org };
    delete expected.key;
    delete expected.key_id;
    const limits = { rate_per_minute: 1_000, burst: 1_000, mode: 'enforce' };
    const changes: [object, object][] = [
      [{ name: 'after' }, { name: 'after' }],
      [{ tier: 'business' }, { tier: 'business', limits: { rate_per_minute: 10_000, burst: 10_000, mode: 'enforce' } }],
      [{ limits: { mode: 'shadow' } }, { limits: { rate_per_minute: 10_000, burst: 10_000, mode: 'shadow' } }],
      [{ limits: { burst: 7 } }, { limits: { rate_per_minute: 10_000, burst: 7, mode: 'shadow' } }],
      [
        { limits: { rate_per_minute: 1_000_000_000 } },
        { limits: { rate_per_minute: 1_000_000_000, burst: 7, mode: 'shadow' } },
      ],
      [{ limits: { ...limits } }, { limits }],
      [{ limits: {} }, {}],
      [{ suspended: true }, { suspended: true }],
      [{}, {}],
      [
        { suspended: false, name: 'both' },
        { suspended: false, name: 'both' },
      ],
      // Its own limits outlive a change of the tier.
      [{ tier: 'free' }, { tier: 'free' }],
    ];
    for (const [change, effect] of changes) {
      expected = { ...expected, ...effect };
      assert.deepEqual((await patch(org.id, change)).json, expected, JSON.stringify(change));
      assert.deepEqual((await admin.get(`/v1/orgs/${org.id}`)).json, expected);
    }
  });

  it('what cannot be is refused, with the field', async () => {
    const { json: org } = await create({ name: 'kept' });
    const both: [object, string][] = [
      [{ name: '' }, '/name'],
      [{ name: 'x'.repeat(256) }, '/name'],
      [{ name: 'a\u0000b' }, '/name'],
      [{ name: null }, '/name'],
      [{ name: 'x', tier: 'gold' }, '/tier'],
      [{ name: 'x', id: org.id }, '/id'],
    ];
    const onlyPatch: [object, string][] = [
      [{ suspended: 'yes' }, '/suspended'],
      [{ limits: { burst: 0 } }, '/limits/burst'],
      [{ limits: { burst: 1.5 } }, '/limits/burst'],
      [{ limits: { rate_per_minute: 1_000_000_001 } }, '/limits/rate_per_minute'],
      [{ limits: { rate_per_minute: null } }, '/limits/rate_per_minute'],
      [{ limits: { mode: 'off' } }, '/limits/mode'],
      [{ limits: { rate_per_second: 1 } }, '/limits/rate_per_second'],
      [{ retention_days: 1 }, '/retention_days'],
    ];
    for (const [body, path] of [...both, [{}, '/name'], [{ name: 'x', suspended: true }, '/suspended']] as [
      object,
      string,
    ][])
      assert.equal(assertProblem(await admin.post('/v1/orgs', body), 'validation_failed').errors?.[0]?.path, path);
    for (const [body, path] of [...both, ...onlyPatch]) {
      const { errors } = assertProblem(await patch(org.id, body), 'validation_failed');
      assert.equal(errors?.[0]?.path, path, JSON.stringify(errors));
    }
    assert.equal((await admin.get(`/v1/orgs/${org.id}`)).json.name, 'kept');
  });

  it('an id that is not one, or is spelled otherwise, is an org that does not exist', async () => {
    const { id } = await createOrg(node().address);
    const spellings = [absentOrg, id.toLowerCase(), id.slice(0, -1), `${id}0`, `org_Z${id.slice(5)}`, 'org_', '1'];
    for (const spelling of spellings) {
      const read = assertProblem(await admin.get(`/v1/orgs/${spelling}`), 'not_found');
      const change = assertProblem(await patch(spelling, { suspended: true }), 'not_found');
      assert.equal(read.detail, 'There is no such organisation.');
      assert.equal(change.detail, read.detail);
    }
    assert.equal((await admin.get(`/v1/orgs/${id}`)).json.suspended, false);
  });

  it('orgs are listed on pages, each once', async () => {
    const made = [];
    for (let i = 0; i < 5; i++) made.push((await create({ name: 'listed' })).json.id);
    const all = (await admin.get('/v1/orgs?limit=1000')).json;
    assert.equal(all.next_cursor, null);
    const ids: string[] = all.data.map(({ id }: { id: string }) => id);
    assert.ok(made.every((id) => ids.includes(id)));
    assert.deepEqual(ids, ids.toSorted());
    const paged: string[] = [];
    let query = '?limit=2';
    for (let pages = 0; query !== '' && pages < pagesMax; pages++) {
      const { json } = await admin.get(`/v1/orgs${query}`);
      assert.ok(json.data.length <= 2);
      paged.push(...json.data.map(({ id }: { id: string }) => id));
      query = json.next_cursor === null ? '' : `?limit=2&cursor=${encodeURIComponent(json.next_cursor)}`;
    }
    assert.deepEqual(paged, ids);
    for (const limit of ['0', '1001', '-1', '1.5', 'x', ''])
      assertProblem(await admin.get(`/v1/orgs?limit=${limit}`), 'validation_failed');
    assertProblem(await admin.get('/v1/orgs?cursor=AAAA'), 'invalid_cursor');
  });

  it('every route answers to a suspended org that it is suspended, and to a deleted one that its key is unknown', async () => {
    const ends = [
      ['org_suspended', (id: string) => patch(id, { suspended: true })],
      ['invalid_key', (id: string) => admin.call('DELETE', `/v1/orgs/${id}`)],
    ] as const;
    for (const [code, end] of ends) {
      const { client, id, keyId } = await createOrg(node().address);
      const routes = routeTable({} as RouteTableOptions).filter(({ access }) => access !== 'public');
      const call = ({ method, path }: (typeof routes)[number]): Promise<Answer> => {
        const body = method === 'POST' || method === 'PATCH' ? {} : undefined;
        return client.call(method, path.replace(':id', path.startsWith('/v1/orgs') ? id : keyId), body);
      };
      assert.equal((await client.get('/v1/org')).status, 200);
      assert.ok([200, 204].includes((await end(id)).status));
      for (const route of routes) assertProblem(await call(route), code);
    }
  });

  it('the admin token opens no route of an org, and no key a route of the admin', async () => {
    const { client, id, keyId } = await createOrg(node().address);
    const anybody = new Client(node().address, null);
    for (const { method, path: template, access } of routeTable({} as RouteTableOptions)) {
      if (access === 'public') continue;
      const path = template.replace(':id', template.startsWith('/v1/orgs') ? id : keyId);
      const body = method === 'POST' || method === 'PATCH' ? {} : undefined;
      const wrong = access === 'admin' ? client : admin;
      assertProblem(await wrong.call(method, path, body), 'insufficient_scope');
      assertProblem(await anybody.call(method, path, body), 'missing_key');
    }
  });
}
