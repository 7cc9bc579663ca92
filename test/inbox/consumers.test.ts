import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import { systemClock } from '../../src/clock.js';
import type { Clock } from '../../src/clock.js';
import { Client, createOrg } from '../support/client.js';
import { startNode } from '../support/node.js';
import { Random } from '../support/power-loss/random.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { NodeClock } from '../support/test-clock.js';
import { ack, receive, send, stats, untilWaiting } from './consumer.js';

const eventCount = 200;
const consumerCount = 8;

/** From the end of a lease that nobody acknowledged to the next delivery of what it held, while consumers wait for events. */
const lateMsMax = 10_000;
const finishedMsMax = 60_000;
const seed = Number(process.env['SLUICE_TEST_SEED'] ?? Date.now() % 2 ** 31);

/** How often each event was delivered. */
type Deliveries = Map<string, number>;

/** Receives and acknowledges, by lease and by ids in turn, until a receive waits in vain. */
async function consume(client: Client, max: number, deliveries: Deliveries): Promise<void> {
  for (let turn = 0; ; turn++) {
    const { json } = await receive(client, { max, wait_seconds: 1, lease_seconds: 600 });
    if (json.lease_id === null) return;
    const ids: string[] = json.data.map((event: { id: string }) => event.id);
    for (const event of json.data) {
      assert.equal(event.attempt, 1);
      deliveries.set(event.id, (deliveries.get(event.id) ?? 0) + 1);
    }
    const { acknowledged } = await ack(client, turn % 2 === 0 ? { lease_id: json.lease_id } : { ids });
    assert.equal(acknowledged, ids.length);
  }
}

/** What mortal consumers did. All times by the clock that consumers and nodes share. */
class Leases {
  readonly #random = new Random(seed);
  /** By event: when the newest lease that holds it ends. */
  readonly #endsAtMs = new Map<string, number>();
  readonly acknowledged = new Set<string>();
  readonly wrong: string[] = [];
  deaths = 0;
  lateMs = 0;

  /** Receives for a second at a time, and acknowledges or dies with what it has; another takes its place. Until `isDone`. */
  async consume(client: Client, isDone: () => boolean): Promise<void> {
    while (!isDone()) {
      const done = new Set(this.acknowledged);
      const max = 1 + this.#random.int(20);
      const { json } = await receive(client, { max, wait_seconds: 1, lease_seconds: 1 });
      const events = json.data as { id: string; attempt: number }[];
      for (const { id } of events) this.#noteDelivery(id, done, Date.parse(json.lease_expires_at));
      // Not from the third delivery on, so that nothing becomes a dead letter.
      if (events.some(({ attempt }) => attempt < 3) && this.#random.chance(0.3)) {
        this.deaths++;
      } else if (events.length > 0) {
        const ids = events.map(({ id }) => id);
        // By id: on a busy machine the lease may have ended before.
        await ack(client, { ids });
        for (const id of ids) this.acknowledged.add(id);
      }
    }
  }

  /** `done`: what was acknowledged when the receive was sent. */
  #noteDelivery(id: string, done: ReadonlySet<string>, endsAtMs: number): void {
    const nowMs = Date.now();
    const beforeMs = this.#endsAtMs.get(id);
    if (done.has(id)) this.wrong.push(`${id} came again after its acknowledgement`);
    if (beforeMs !== undefined) {
      if (nowMs < beforeMs) this.wrong.push(`${id} is in two leases, ${beforeMs - nowMs} ms before the first ends`);
      this.lateMs = Math.max(this.lateMs, nowMs - beforeMs);
    }
    this.#endsAtMs.set(id, endsAtMs);
  }
}

async function withNodes(
  storage: TestStorage,
  count: number,
  work: (nodes: RunningServer[]) => Promise<void>,
  clock: Clock = systemClock,
) {
  const nodes = await Promise.all(Array.from({ length: count }, () => startNode(storage, {}, clock)));
  try {
    await work(nodes);
  } finally {
    await Promise.all(nodes.map((node) => node.stop()));
    await storage.remove();
  }
}

const places = [
  ...engineNames.map((engine) => ({ engine, nodeCount: 1 })),
  { engine: 'postgres', nodeCount: 3 } as const,
];

describe('consumers of one inbox', () => {
  for (const { engine, nodeCount } of places) {
    const where = `${engine}, ${nodeCount === 1 ? 'one node' : `${nodeCount} nodes`}`;

    test(`share its events: each is delivered once while no lease ends, and all get acknowledged (${where})`, async (t) => {
      const storage = await createStorage(engine);
      if (storage === null) return t.skip('no PostgreSQL');
      await withNodes(storage, nodeCount, async (nodes) => {
        const { client, key } = await createOrg((nodes[0] as RunningServer).address);
        const clients = Array.from(
          { length: consumerCount },
          (_, i) => new Client((nodes[i % nodeCount] as RunningServer).address, key),
        );
        const deliveries: Deliveries = new Map();
        const consuming = clients.map((consumer, i) => consume(consumer, 1 + i * 3, deliveries));
        // Four senders at once, so that the log grows in batches while it is read.
        const senders = clients.slice(0, 4).map((sender) =>
          send(
            sender,
            Array.from({ length: eventCount / 4 }, (_, n) => ({ payload: n })),
          ),
        );
        const sent = (await Promise.all(senders)).flat();
        await Promise.all(consuming);
        // A consumer gives up after a second without events; slow senders may outlast them all.
        await consume(client, 100, deliveries);
        assert.deepEqual([...deliveries.keys()].toSorted(), sent.toSorted());
        assert.deepEqual(new Set(deliveries.values()), new Set([1]));
        assert.deepEqual(await stats(client), { pending: 0, leased: 0, dead: 0, oldest_pending_seconds: null });
      });
    });

    test(`get what one that died had, as attempt 2, after its lease (${where})`, async (t) => {
      const storage = await createStorage(engine);
      if (storage === null) return t.skip('no PostgreSQL');
      // Time stands still but where it is moved, so that no machine is too slow for a lease.
      const clock = new NodeClock();
      const play = async (nodes: RunningServer[]): Promise<void> => {
        const { client, key } = await createOrg((nodes[0] as RunningServer).address);
        const ids = await send(
          client,
          Array.from({ length: 5 }, () => ({})),
        );
        const dead = await receive(client, { lease_seconds: 1, max: 4 });
        assert.equal(dead.json.data.length, 4);
        const { address } = nodes.at(-1) as RunningServer;
        const other = new Client(address, key);
        const fresh = await receive(other, { wait_seconds: 25, lease_seconds: 600 });
        assert.deepEqual(idsAndAttempts(fresh.json), [[ids[4], 1]]);
        clock.advance(Date.parse(dead.json.lease_expires_at) - clock.now() - 1);
        assert.deepEqual((await receive(other)).json.data, []);
        const waiting = receive(other, { wait_seconds: 25 });
        await untilWaiting(address, 1);
        clock.advance(1);
        const again = await waiting;
        assert.deepEqual(
          idsAndAttempts(again.json),
          ids.slice(0, 4).map((id) => [id, 2]),
        );
        // The lease that ended holds nothing any more.
        assert.equal((await ack(client, { lease_id: dead.json.lease_id })).acknowledged, 0);
        assert.equal((await ack(other, { lease_id: again.json.lease_id })).acknowledged, 4);
      };
      await withNodes(storage, nodeCount, play, clock);
    });
  }

  test('never have an event in two leases at once, and get what those had who died when its lease ends (postgres, 3 nodes)', async (t) => {
    const storage = await createStorage('postgres');
    if (storage === null) return t.skip('no PostgreSQL');
    await withNodes(storage, 3, async (nodes) => {
      const addresses = nodes.map(({ address }) => address);
      const { key } = await createOrg(addresses[0] ?? '');
      const clients = Array.from({ length: consumerCount }, (_, i) => new Client(addresses[i % 3] ?? '', key));
      const leases = new Leases();
      const giveUpAt = performance.now() + finishedMsMax;
      let hasFailed = false;
      const isDone = (): boolean =>
        hasFailed || leases.acknowledged.size === eventCount || performance.now() > giveUpAt;
      const consuming = clients.map((client) => leases.consume(client, isDone));
      const events = Array.from({ length: eventCount / 4 }, () => ({}));
      const sending = Promise.all(clients.slice(0, 4).map((sender) => send(sender, events)));
      try {
        const [sent] = await Promise.all([sending, ...consuming]);
        const all = sent.flat().toSorted();
        assert.deepEqual([...leases.acknowledged].toSorted(), all, `not all acknowledged, with seed ${seed}`);
      } finally {
        hasFailed = true;
        await Promise.allSettled(consuming);
      }
      t.diagnostic(`SLUICE_TEST_SEED=${seed}, ${leases.deaths} deaths, at most ${leases.lateMs} ms late`);
      assert.deepEqual(leases.wrong, [], `with seed ${seed}`);
      assert.ok(leases.deaths > 0 && leases.lateMs <= lateMsMax, `${leases.lateMs} ms late, with seed ${seed}`);
    });
  });
  after(stopServers);
});

function idsAndAttempts(json: { data: { id: string; attempt: number }[] }): [string, number][] {
  return json.data.map(({ id, attempt }) => [id, attempt]);
}
