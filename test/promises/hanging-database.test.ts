/**
 * P8, from outside: PostgreSQL is stopped (SIGSTOP of all its processes), or slow, while clients use every kind of route. Each request ends in its
 * time, the node stays as large as it was, and when PostgreSQL goes on, everything works again and nothing acknowledged is lost.
 * That nothing comes any more through the network is in silent-database.test.ts.
 */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Client, createOrg } from '../support/client.js';
import { adminToken, spawnNode } from '../support/node.js';
import { startOwnPostgresServer } from '../support/postgres-server.js';
import { lookAgain, watchMemory } from '../support/process-memory.js';
import { startSilentProxy } from '../support/silent-proxy.js';
import { createStorage, stopServers } from '../support/storage.js';
import { MixedTraffic } from './mixed-traffic.js';

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
/** How long clients go on asking when it hangs. In the soak, longer than any request may take. */
const troubleMs = isSoak ? 60_000 : 3_000;
const quietMs = 1_000;
/** Of each answer of the slow PostgreSQL. A batch takes three of them, or four. */
const delayMs = 800;
/** From the moment at which it goes on. */
const servedMsMax = 5_000;
const patienceMs = 30_000;
/** The least that can be set, so that what waits comes to it. */
const queueBytesMax = 1024 * 1024;
/** Of memory, over what the same traffic takes while all is well. */
const grownBytesMax = 100_000_000;
const lookMs = 100;

const shared = await createStorage('postgres');
const skip = shared === null ? 'NOT TESTED: there is no PostgreSQL server on this machine' : false;
after(stopServers);

/** At once: the time of both is waiting. */
describe(
  'every request ends in its time, and nothing is left of it when PostgreSQL goes on',
  { skip, concurrency: true },
  () => {
    it('that was stopped', async (t) => {
      const server = (await startOwnPostgresServer(['shared_buffers=16MB'])) ?? assert.fail();
      t.after(() => server.stop());
      const url = await server.createDatabase();
      await hang(t, url, { begin: () => server.freeze(), end: () => server.thaw(), takesEvents: false });
    });

    it(`that took ${delayMs} ms more for each answer`, async (t) => {
      const url = new URL(shared?.config.databaseUrl ?? '');
      const proxy = await startSilentProxy(Number(url.port));
      t.after(() => proxy.close());
      url.port = String(proxy.port);
      await hang(t, url.href, { begin: () => proxy.delay(delayMs), end: () => proxy.delay(0), takesEvents: true });
    });
  },
);

interface Trouble {
  begin(): void;
  end(): void;
  /** Whether events are still taken meanwhile. */
  readonly takesEvents: boolean;
}

async function hang(t: TestContext, databaseUrl: string, trouble: Trouble): Promise<void> {
  const storage = {
    engine: 'postgres',
    config: { dataDir: '', databaseUrl },
    remove: () => Promise.resolve(),
  } as const;
  const node = await spawnNode(storage, ['--queue-bytes-max', String(queueBytesMax)]);
  t.after(async () => {
    trouble.end();
    await node.end('SIGKILL');
  });
  const operator = new Client(node.address, adminToken);
  const { client } = await createOrg(node.address);
  const traffic = new MixedTraffic(client);

  const quietMemory = watchMemory(node.pid);
  await traffic.run(quietMs);
  const quietBytes = await quietMemory();
  const { told: earlier } = traffic;

  const memory = watchMemory(node.pid);
  const gauges = watchGauges(operator);
  // Some requests are under way when it happens, and others come after it.
  const running = traffic.run(troubleMs);
  await Promise.race([pause(300), running]);
  trouble.begin();
  // Every one ends while the trouble lasts.
  await running;
  const { told: during } = traffic;
  trouble.end();
  const servedMs = await traffic.untilServed(servedMsMax);
  await traffic.sendUnanswered();
  const most = await gauges();
  const grownBytes = (await memory()) - quietBytes;
  t.diagnostic(
    `${during.served - earlier.served} requests served and ${during.refused - earlier.refused} refused, the slowest after ${traffic.slowest()}; ` +
      `served again after ${servedMs.map((ms) => ms?.toFixed() ?? 'never').join(', ')} ms; ` +
      `${(grownBytes / 1e6).toFixed()} MB more than ${(quietBytes / 1e6).toFixed()}; at most ${JSON.stringify(most)}`,
  );
  assert.ok(
    servedMs.every((ms) => ms !== null && ms <= servedMsMax),
    `served again after ${servedMs.join()} ms`,
  );
  assert.ok(during.refused > earlier.refused, 'no request met the trouble');
  if (trouble.takesEvents) assert.ok(during.acknowledged > earlier.acknowledged, 'no event was taken meanwhile');
  assert.ok(most.queueBytes > 0 && most.queueBytes <= queueBytesMax, `${most.queueBytes} bytes waited`);
  assert.ok(most.sessionsWaiting <= traffic.clients, `${most.sessionsWaiting} waited for a session`);
  assert.ok(grownBytes < grownBytesMax, `${grownBytes} bytes more than before`);

  assert.deepEqual(await traffic.flaws(), []);
  await untilIdle(operator);
}

const names = {
  queueBytes: 'ingest_queue_bytes',
  queueEvents: 'ingest_queue_events',
  sessionsWaiting: 'db_sessions_waiting',
  sessionsInUse: 'db_sessions_in_use',
  inboxWaiters: 'inbox_waiters',
};
type Gauge = keyof typeof names;
type Gauges = Record<Gauge, number>;
const gaugeNames = Object.keys(names) as Gauge[];

async function look(operator: Client): Promise<Gauges> {
  const { text } = await operator.get('/metrics');
  const seen: Partial<Gauges> = {};
  for (const gauge of gaugeNames)
    seen[gauge] = Number(new RegExp(`^sluice_${names[gauge]} (\\d+)$`, 'm').exec(text)?.[1]);
  return seen as Gauges;
}

/** Returns what ends the watch, and resolves with the most of each. */
function watchGauges(operator: Client): () => Promise<Gauges> {
  const most = { queueBytes: 0, queueEvents: 0, sessionsWaiting: 0, sessionsInUse: 0, inboxWaiters: 0 };
  const end = lookAgain(async () => {
    const seen = await look(operator);
    for (const gauge of gaugeNames) most[gauge] = Math.max(most[gauge], seen[gauge]);
  });
  return async () => {
    await end();
    return most;
  };
}

async function untilIdle(operator: Client): Promise<void> {
  const giveUpAt = performance.now() + patienceMs;
  for (;;) {
    const seen = await look(operator);
    if (Object.values(seen).every((count) => count === 0)) return;
    assert.ok(performance.now() < giveUpAt, `nobody asks, and there is still ${JSON.stringify(seen)}`);
    await pause(lookMs);
  }
}
