/** Consumers whose node is killed again and again: nothing they did is undone, nothing is lost, and after each kill every event has one place. */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { Account } from '../../src/subscriptions/verify.js';
import { verifyOrg } from '../../src/subscriptions/verify.js';
import { decodeOrgId } from '../../src/ids.js';
import { Client, createOrg } from '../support/client.js';
import { openDatabase } from '../support/log.js';
import { beginNode } from '../support/node.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { Traffic } from './traffic.js';

const cycles = process.env['SLUICE_TEST_SOAK'] === '1' ? 60 : 5;
const senders = 3;
const consumers = 5;
const trafficMsMax = 1_500;
const leaseSeconds = 2;

after(stopServers);

/** What consumers were told, and in which order: an event may not come again to a receive that was sent after its acknowledgement was answered. */
class Consumption {
  readonly #acknowledgedAt = new Map<string, number>();
  readonly received = new Set<string>();
  readonly wrong: string[] = [];
  #now = 0;

  get acknowledged(): number {
    return this.#acknowledgedAt.size;
  }

  /** Until the node is gone. */
  async consume(client: Client): Promise<void> {
    try {
      for (;;) await this.turn(client);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
    }
  }

  /** Receives once and does something with it. Returns how many events came; rejects with a TypeError where nobody answers. */
  async turn(client: Client, mayFail = true): Promise<number> {
    const sentAt = ++this.#now;
    const lease = { max: randomInt(1, 30), lease_seconds: leaseSeconds };
    const { status, json, text } = await client.post('/v1/inbox/receive', lease);
    if (status === 503) return 0;
    assert.equal(status, 200, text);
    const ids: string[] = json.data.map((event: { id: string }) => event.id);
    for (const id of ids) {
      this.received.add(id);
      if ((this.#acknowledgedAt.get(id) ?? Infinity) < sentAt) this.wrong.push(`${id} came again`);
    }
    if (ids.length === 0) {
      await pause(20);
      return 0;
    }
    const fate = mayFail ? randomInt(10) : 0;
    const some = ids.slice(0, randomInt(1, ids.length + 1));
    if (fate < 4) await this.#acknowledge(client, { lease_id: json.lease_id }, ids);
    else if (fate < 7) await this.#acknowledge(client, { ids: some }, some);
    else if (fate === 7) await client.post('/v1/inbox/nack', { ids: some, delay_seconds: randomInt(3) });
    else if (fate === 8)
      await client.post('/v1/inbox/extend', { lease_id: json.lease_id, lease_seconds: leaseSeconds });
    // Otherwise it has died with what it had.
    return ids.length;
  }

  async #acknowledge(client: Client, body: Record<string, unknown>, ids: readonly string[]): Promise<void> {
    const { status, json, text } = await client.post('/v1/inbox/ack', body);
    if (status === 503) return;
    assert.equal(status, 200, text);
    // A lease that ended meanwhile holds less than it did.
    if ('lease_id' in body && json.acknowledged < ids.length) return;
    const answeredAt = ++this.#now;
    for (const id of ids) this.#acknowledgedAt.set(id, this.#acknowledgedAt.get(id) ?? answeredAt);
  }
}

for (const engine of engineNames) {
  it(`what consumers did is done, over ${cycles} kill -9 of their node (${engine})`, async (t) => {
    const storage = await createStorage(engine);
    if (storage === null) {
      t.skip('NOT TESTED: there is no PostgreSQL server on this machine');
      return;
    }
    let node = await beginNode(storage).ready;
    try {
      const { id, key } = await createOrg(node.address);
      const traffic = new Traffic();
      const consumption = new Consumption();
      for (let cycle = 1; cycle <= cycles; cycle++) {
        const client = new Client(node.address, key);
        const working = [
          traffic.sendUntilGone(client, senders),
          ...Array.from({ length: consumers }, () => consumption.consume(client)),
        ];
        await traffic.receipts(20);
        await pause(randomInt(trafficMsMax));
        await node.end('SIGKILL');
        await Promise.all(working);
        const account = await accountOf(storage, id);
        assert.ok(account.delivered >= consumption.acknowledged, `cycle ${cycle}: ${JSON.stringify(account)}`);
        node = await beginNode(storage).ready;
      }
      const client = new Client(node.address, key);
      await traffic.retryUnanswered(client);
      await finish(client, consumption);
      const acknowledged = traffic.sendings.flatMap(({ receipts }) => receipts.map((receipt) => receipt.id));
      assert.deepEqual(
        acknowledged.filter((eventId) => !consumption.received.has(eventId)),
        [],
        'acknowledged, and never received',
      );
      assert.deepEqual(consumption.wrong, []);
      await node.end('SIGTERM');
      const { stored, delivered } = await accountOf(storage, id);
      assert.equal(delivered, stored);
      assert.ok(stored >= new Set(acknowledged).size && consumption.received.size === stored);
      t.diagnostic(`${stored} events, ${cycles} kills`);
    } finally {
      await node.end('SIGKILL');
      await storage.remove();
    }
  });
}

/** Until everything is delivered; dead letters as well, begun anew. */
async function finish(client: Client, consumption: Consumption): Promise<void> {
  for (;;) {
    while ((await consumption.turn(client, false)) > 0);
    await client.post('/v1/inbox/redrive', { all: true });
    const { json } = await client.get('/v1/inbox/stats');
    if (json.pending + json.leased + json.dead === 0) return;
    await pause(100);
  }
}

/** As `sluice verify` finds it on what the killed node left. */
async function accountOf(storage: TestStorage, id: string): Promise<Account> {
  const database = await openDatabase(storage);
  try {
    const [account] = (await verifyOrg(database, decodeOrgId(id) ?? '', id, Date.now())) ?? [];
    assert.ok(account);
    return account;
  } finally {
    await database.close();
  }
}
