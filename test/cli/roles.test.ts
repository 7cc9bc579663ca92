/** Half of the work in a process of its own: requests in one, what is done in the background in another. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import type { Config } from '../../src/config.js';
import { existingPartitions, partitionName } from '../../src/db/sql/partitions.js';
import { Client, createOrg } from '../support/client.js';
import { dayMs, openDatabase } from '../support/log.js';
import { adminToken, spawnNode, startNode } from '../support/node.js';
import { createStorage, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

const waitMsMax = 30_000;
const hasPostgres = (await createStorage('postgres')) !== null;

after(stopServers);

describe('roles', { skip: hasPostgres ? false : 'no PostgreSQL on this machine' }, () => {
  for (const role of ['api', 'all'] as const) {
    const promise =
      role === 'api'
        ? 'an api leaves retention and erasure to the worker, which does both'
        : 'a node of all roles does both itself, so that the test above can fail';
    test(promise, async (t) => {
      const storage = await newStorage();
      const clock = new TestClock();
      const first = await started(t, storage, role, clock);
      const org = await createOrg(first.address);
      assert.equal((await org.client.post('/v1/events', { type: 'a', payload: 1 })).status, 201);
      const other = await createOrg(first.address);
      const erased = await new Client(first.address, adminToken).call('DELETE', `/v1/orgs/${other.id}`);
      assert.equal(erased.status, 204, erased.text);
      if (role === 'all') return workIsDone(first, clock);

      // Twice as long as it takes a node of all roles to come to it.
      for (let second = 0; second < 60; second++) {
        clock.advance(1_000);
        assert.deepEqual(await doneBy(first), { orgs: 0, days: 0 });
      }
      await workIsDone(await started(t, storage, 'worker', clock), clock);
      assert.deepEqual(await doneBy(first), { orgs: 0, days: 0 });
    });
  }

  test('partitions are made ahead in every role, so that ingest goes on whatever else runs', async (t) => {
    for (const role of ['api', 'worker'] as const) {
      const storage = await newStorage();
      const clock = new JumpingClock();
      await started(t, storage, role, clock);
      const database = await openDatabase(storage);
      t.after(() => database.close());
      clock.jumpedMs = 6 * dayMs;
      clock.advance(3_600_000);
      const ahead = partitionName(Math.floor(clock.now() / dayMs) + 7);
      await until(async () => {
        clock.advance(1_000);
        return (await existingPartitions(database)).has(ahead);
      }, `${role}: no ${ahead}`);
    }
  });

  test('a worker serves what operators ask for, and no events; its ready line promises no more', async (t) => {
    const storage = await newStorage();
    const node = await spawnNode(storage, ['--role', 'worker']);
    t.after(() => node.end('SIGKILL'));
    const statusOf = async (path: string, method = 'GET'): Promise<number> => {
      const headers = { Authorization: `Bearer ${adminToken}` };
      return (await fetch(node.address + path, { method, headers })).status;
    };
    for (const path of ['/healthz', '/readyz', '/metrics']) assert.equal(await statusOf(path), 200, path);
    assert.equal(await statusOf('/v1/events', 'POST'), 404);
    assert.equal(await statusOf('/v1/orgs'), 404);
    assert.equal(await node.end('SIGTERM'), 0);
  });
});

async function newStorage(): Promise<TestStorage> {
  const storage = await createStorage('postgres');
  assert.ok(storage !== null);
  return storage;
}

async function started(
  t: TestContext,
  storage: TestStorage,
  role: Config['role'],
  clock: TestClock,
): Promise<RunningServer> {
  const node = await startNode(storage, { role }, clock);
  t.after(() => node.stop());
  return node;
}

/** The time of day can jump, with nothing that waits for less. */
class JumpingClock extends TestClock {
  jumpedMs = 0;

  override now(): number {
    return super.now() + this.jumpedMs;
  }
}

interface Done {
  readonly orgs: number;
  /** Yesterday's partition, made for clocks that lag, which no org keeps. */
  readonly days: number;
}

/** What a node has erased and taken out. */
async function doneBy(node: RunningServer): Promise<Done> {
  const { text } = await new Client(node.address, adminToken).get('/metrics');
  const valueOf = (sample: string): number =>
    Number(
      text
        .split('\n')
        .find((line) => line.startsWith(`${sample} `))
        ?.slice(sample.length + 1) ?? 0,
    );
  return {
    orgs: valueOf('sluice_orgs_erased_total'),
    days: valueOf('sluice_retention_deleted_total{what="days"}'),
  };
}

/** Time passes slowly enough for the database to answer in it. */
async function workIsDone(node: RunningServer, clock: TestClock): Promise<void> {
  await until(async () => {
    clock.advance(1_000);
    const done = await doneBy(node);
    return done.orgs === 1 && done.days > 0;
  }, 'it was not done');
}

async function until(holds: () => Promise<boolean>, otherwise: string): Promise<void> {
  const giveUp = AbortSignal.timeout(waitMsMax);
  while (!(await holds())) assert.equal(giveUp.aborted, false, otherwise);
}
