/** P6: a tenant never sees another tenant's anything. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import type { RunningServer } from '../../src/app.js';
import type { RouteTableOptions } from '../../src/http/routes/table.js';
import { routeTable } from '../../src/http/routes/table.js';
import { decodeOrgId } from '../../src/ids.js';
import { openDatabase, openLog } from '../support/log.js';
import { startNode } from '../support/node.js';
import { startPgbouncer, withoutPgbouncer } from '../support/pgbouncer.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { play, plays, steps } from './isolation-steps.js';
import { Tenant } from './isolation-tenant.js';
import { World } from './isolation-world.js';

const tenantsCount = 3;
const stepsPerRun = 500;
const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const runs = isSoak ? 12 : 4;
const runsThroughPgbouncer = isSoak ? 12 : 1;

/** On PostgreSQL, with as few connections as there can be: every transaction follows one of another org on the same session. */
const nodesOnPostgres = 3;
const dbPool = 2;

const storages = await Promise.all(engineNames.map(createStorage));
after(stopServers);

it('every route of the server is among those that the property plays', () => {
  // The handlers are not called, so they need nothing to work with.
  const routes = routeTable({} as RouteTableOptions).map(({ method, path }) => `${method} ${path}`);
  assert.deepEqual(routes.toSorted(), Object.keys(plays).toSorted());
});

for (const [i, engine] of engineNames.entries()) {
  const storage = storages[i] ?? null;
  describe(`on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage !== null) describeIsolation(storage);
  });
}

describe('on postgres, through PgBouncer in transaction mode', { skip: withoutPgbouncer }, () => {
  it('nothing of an org shows in a reply to another, or changes by it, whatever the two do', async (t) => {
    const [, direct] = storages;
    const url = new URL(direct?.config.databaseUrl ?? 'postgres://nowhere');
    if (direct === null || direct === undefined) return t.skip('no PostgreSQL on this machine');
    const bouncer = await startPgbouncer(Number(url.port), { poolSize: 2, mode: 'transaction', preparedMax: 200 });
    t.after(() => bouncer.stop());
    const databaseUrl = bouncer.url(url.pathname.slice(1));
    await assertIsolated({ ...direct, config: { ...direct.config, databaseUrl } }, runsThroughPgbouncer);
  });
});

async function assertIsolated(storage: TestStorage, numRuns: number): Promise<void> {
  const worlds: World[] = [];
  await withNodes(storage, async (addresses) => {
    await playRandomly(addresses, numRuns, stepsPerRun, worlds);
  });
  const sum = (count: (world: World) => number): number => worlds.reduce((total, world) => total + count(world), 0);
  assert.ok(sum(({ requests }) => requests) > numRuns * stepsPerRun * 0.8);
  assert.ok(sum(({ intrusions }) => intrusions) > numRuns * stepsPerRun * 0.1);
  await assertStoredAsModelled(storage, worlds);
}

function describeIsolation(storage: TestStorage): void {
  after(() => storage.remove());

  it('nothing of an org shows in a reply to another, or changes by it, whatever the two do', async () => {
    await assertIsolated(storage, runs);
  });

  it('dedup ids of one org mean nothing to another, also in the same batch', async () => {
    await withNodes(storage, async (addresses) => {
      const tenants = await Promise.all([1, 2, 3].map(() => Tenant.create(addresses)));
      const dedupIds = Array.from({ length: 50 }, (_, n) => `shared ${n}`);
      // All at once, so that those of one dedup id meet.
      const sending = dedupIds.flatMap((dedup_id) =>
        tenants.map(({ org, canary }) => org.client.post('/v1/events', { type: 'same', payload: canary, dedup_id })),
      );
      const answers = await Promise.all(sending);
      assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([201]));
      assert.equal(new Set(answers.map(({ json }) => json.id)).size, answers.length);
    });
  });

  it('the statements alone keep orgs apart, without row-level security', async () => {
    await setRowSecurity(storage, 'DISABLE');
    try {
      await withNodes(storage, (addresses) => playRandomly(addresses, 1, stepsPerRun / 2, []));
    } finally {
      await setRowSecurity(storage, 'ENABLE');
    }
  });

  it('a reply that shows an id, a key, a cursor or a payload of another org is noticed', async () => {
    await withNodes(storage, async (addresses) => {
      const tenants = await Promise.all([Tenant.create(addresses), Tenant.create(addresses)]);
      const [reader, other] = tenants;
      assert.ok(reader !== undefined && other !== undefined);
      const world = new World(tenants);
      for (const n of [1, 2, 3]) await play(world, { tenant: 1, route: 'POST /v1/events', target: 'own', draw: n * 3 });
      const { client } = other.org;
      const [event] = other.events;
      assert.ok(event !== undefined);
      for (const path of [
        `/v1/events/${event.id}`,
        `/v1/events/${event.id}?fields=payload`,
        '/v1/inbox?limit=1&fields=type',
        '/v1/keys',
        '/v1/org',
      ]) {
        const answer = await client.get(path);
        assert.equal(answer.status, 200, path);
        // The owner sees it first, as in the property.
        world.check(other, answer);
        assert.throws(() => world.check(reader, answer), /which is another org's/, path);
      }
    });
  });
}

async function withNodes(storage: TestStorage, work: (addresses: readonly string[]) => Promise<void>): Promise<void> {
  const nodes: RunningServer[] = [];
  try {
    const count = storage.engine === 'postgres' ? nodesOnPostgres : 1;
    while (nodes.length < count) nodes.push(await startNode(storage, { dbPool }));
    await work(nodes.map(({ address }) => address));
  } finally {
    await Promise.all(nodes.map((node) => node.stop()));
  }
}

/** Each run has orgs of its own. They play at the same time, each its own steps in order, so that batches hold events of several. */
async function playRandomly(
  addresses: readonly string[],
  numRuns: number,
  count: number,
  worlds: World[],
): Promise<void> {
  const property = fc.asyncProperty(steps(count, tenantsCount), async (all) => {
    const tenants = await Promise.all(Array.from({ length: tenantsCount }, () => Tenant.create(addresses)));
    const world = new World(tenants);
    const lanes = tenants.map(async (_, tenant) => {
      for (const step of all.filter((one) => one.tenant === tenant)) {
        await play(world, step).catch((error: unknown) => {
          throw new Error(`${JSON.stringify(step)}: ${String(error)}`, { cause: error });
        });
      }
    });
    // All of them end before the next run, also if one fails.
    for (const lane of await Promise.allSettled(lanes)) if (lane.status === 'rejected') throw lane.reason;
    worlds.push(world);
  });
  const { failed, seed, errorInstance } = await fc.check(property, { numRuns, endOnFailure: true });
  if (failed) throw new Error(`with seed ${seed}: ${String(errorInstance)}`, { cause: errorInstance });
}

const countStatement = {
  name: 'test_isolation_counts',
  text: `
    SELECT o.org, o.name, o.burst::integer AS burst, o.suspended,
      (SELECT count(*) FROM events AS e WHERE e.org = o.org)::integer AS events,
      (SELECT count(*) FROM events AS e WHERE e.org = o.org AND strpos(e.payload, $2) > 0)::integer AS canaries,
      (SELECT count(*) FROM dedup AS d WHERE d.org = o.org)::integer AS dedup,
      (SELECT count(*) FROM api_keys AS k WHERE k.org = o.org)::integer AS keys,
      (SELECT held FROM subscriptions AS s WHERE s.org = o.org AND s.subscription = 0)::integer AS held,
      (SELECT count(*) - 1 FROM subscriptions AS s WHERE s.org = o.org)::integer AS inboxes,
      (SELECT count(*) FROM dead_letters AS d WHERE d.org = o.org)::integer AS dead
    FROM orgs AS o WHERE o.org = $1`,
};

/** What lies in the tables, read by a superuser, is what each org did, and nothing else. */
async function assertStoredAsModelled(storage: TestStorage, worlds: readonly World[]): Promise<void> {
  const database = await openDatabase(storage);
  try {
    for (const { org, burst, canary, events, dedup, keys, inboxes, ...tenant } of worlds.flatMap(
      ({ tenants }) => tenants,
    )) {
      const number = decodeOrgId(org.id);
      const { rows } = await database.query({ role: 'owner' }, countStatement, [number, canary]);
      const stored = {
        events: events.length,
        canaries: events.length,
        dedup: dedup.size,
        keys: keys.size,
        inboxes: inboxes.size,
      };
      const held = [...tenant.places.values()].filter((place) => place === 'leased').length;
      assert.deepEqual(rows, [
        { org: number, name: `org ${canary}`, burst, suspended: false, ...stored, held, dead: 0 },
      ]);
    }
  } finally {
    await database.close();
  }
}

async function setRowSecurity(storage: TestStorage, to: 'ENABLE' | 'DISABLE'): Promise<void> {
  const database = await openLog(storage);
  const tables = [
    'orgs',
    'api_keys',
    'heads',
    'events',
    'dedup',
    'subscriptions',
    'leases',
    'dead_letters',
    'erasures',
  ];
  try {
    await database.transaction({ role: 'owner' }, (tx) =>
      tx.script(tables.map((table) => `ALTER TABLE ${table} ${to} ROW LEVEL SECURITY`).join('; ')),
    );
  } finally {
    await database.close();
  }
}
