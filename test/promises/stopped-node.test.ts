/**
 * A node is stopped (SIGSTOP) in the middle of a batch, with the rest of it not yet sent: the others take events of the same org again within 5 s, and
 * when it goes on, nothing is lost or doubled. That the others would wait for ever, did nobody end its session, is in blocked-heads.test.ts.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { RunningServer } from '../../src/app.js';
import { Client, createOrg } from '../support/client.js';
import { spawnNode, startNode } from '../support/node.js';
import type { NodeProcess } from '../support/node.js';
import { Random } from '../support/power-loss/random.js';
import { batchPoints, startStoppingProxy } from '../support/stopping-proxy.js';
import type { BatchPoint, StoppingProxy } from '../support/stopping-proxy.js';
import { createStorage, stopServers } from '../support/storage.js';
import { violations } from './ledger.js';
import { readAcknowledged, repeatAcknowledged, Traffic, walkInbox } from './traffic.js';

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const randomPoints = isSoak ? 40 : 1;
/** The bytes of a few batches of this traffic. */
const randomBytesMax = 20_000;
/** How long a node is stopped at random points: within all limits of the server, or beyond them. */
const stoppedMsMax = isSoak ? 12_000 : 1_000;
const clientsPerNode = 3;
/** From the stop on. */
const takenMsMax = 5_000;
/** For the point to be reached, and for the node to take events again when it goes on. */
const patienceMs = 30_000;

const seed = Number(process.env['SLUICE_TEST_SEED'] ?? Date.now() % 2 ** 31);
const random = new Random(seed);
const storage = await createStorage('postgres');
after(stopServers);
const skip = storage === null ? 'NOT TESTED: there is no PostgreSQL server on this machine' : false;

describe('a node that is stopped in the middle of a batch', { skip }, () => {
  if (storage === null) return;
  const others: RunningServer[] = [];
  let proxy: StoppingProxy;
  let node: NodeProcess;
  before(async () => {
    const url = new URL(storage.config.databaseUrl ?? '');
    proxy = await startStoppingProxy(Number(url.port));
    url.port = String(proxy.port);
    for (let i = 0; i < 2; i++) others.push(await startNode(storage));
    node = await spawnNode({ ...storage, config: { ...storage.config, databaseUrl: url.href } });
  });
  after(async () => {
    await node?.end('SIGKILL');
    await proxy?.close();
    await Promise.all(others.map((other) => other.stop()));
    await storage.remove();
  });

  for (const point of batchPoints) {
    it(`${point} stops no other for 5 s, and loses and doubles nothing`, async (t) => {
      const taken = await stopAndGoOn(point, 0);
      t.diagnostic(`taken again after ${taken.map((ms) => ms.toFixed()).join(' and ')} ms`);
    });
  }

  it(`does not at ${randomPoints} other points, wherever a write is cut`, async (t) => {
    t.diagnostic(`SLUICE_TEST_SEED=${seed}`);
    const taken: number[] = [];
    for (let i = 0; i < randomPoints; i++) {
      taken.push(...(await stopAndGoOn(random.int(randomBytesMax), random.int(stoppedMsMax))));
    }
    t.diagnostic(`taken again after ${Math.max(...taken).toFixed()} ms at most`);
  });

  /** Stops the node at that point for as long as the others take to be free, and so much longer. Returns how long each of them took. */
  async function stopAndGoOn(point: BatchPoint, longerMs: number): Promise<number[]> {
    const about = `stopped at ${point}, with seed ${seed}`;
    const [first, second] = others.map(({ address }) => address) as [string, string];
    const org = await createOrg(first);
    const [stopped, ...free] = [node.address, first, second].map((address) => new Client(address, org.key)) as [
      Client,
      ...Client[],
    ];
    const traffic = new Traffic();
    const stop = new AbortController();
    const sending = Promise.all(
      [stopped, ...free].map((client) => traffic.sendUntilGone(client, clientsPerNode, stop.signal)),
    );
    let taken: (number | null)[];
    try {
      const reached = new Promise<void>((resolve) => {
        proxy.stopAt(point, () => {
          process.kill(node.pid, 'SIGSTOP');
          resolve();
        });
      });
      await Promise.race([reached, sending, missed(about)]);
      taken = await Promise.all(free.map((client) => traffic.sendUntilTaken(client, takenMsMax)));
      await pause(longerMs);
    } finally {
      proxy.release();
      process.kill(node.pid, 'SIGCONT');
      stop.abort();
    }
    await sending;
    const inTime = taken.filter((ms) => ms !== null && ms <= takenMsMax) as number[];
    assert.equal(inTime.length, free.length, `${about}: the others took events after ${taken.join()} ms`);
    assert.notEqual(await traffic.sendUntilTaken(stopped, patienceMs), null, `${about}: it takes no events any more`);

    await traffic.retryUnanswered(stopped);
    assert.deepEqual(violations(traffic.sendings, await walkInbox(org.client)), [], about);
    assert.deepEqual(await readAcknowledged(stopped, traffic.sendings.slice(-100)), [], `${about}, by id`);
    assert.deepEqual(await repeatAcknowledged(org.client, traffic.sendings.slice(-100)), [], `${about}, sent again`);
    return inTime;
  }
});

async function missed(about: string): Promise<never> {
  await pause(patienceMs, undefined, { ref: false });
  throw new Error(`the batch never came to its point: ${about}`);
}
