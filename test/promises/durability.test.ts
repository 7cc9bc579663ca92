import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { systemClock } from '../../src/clock.js';
import { storeBatch } from '../../src/ingest/store-batch.js';
import { Client, createOrg } from '../support/client.js';
import { newEvent, openTestLog, unwatched } from '../support/event-log.js';
import { withFaults } from '../support/faulty-database.js';
import { beginNode, startNode } from '../support/node.js';
import type { NodeProcess } from '../support/node.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import type { Sending } from './ledger.js';
import { violations } from './ledger.js';
import { readAcknowledged, repeatAcknowledged, Traffic, walkInbox } from './traffic.js';

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const cyclesOn = { embedded: isSoak ? 200 : 20, postgres: isSoak ? 200 : 10 } as const;
const clients = 8;
/** At another node, which takes events of the same org all the time, where there can be one. */
const clientsBeside = 1;
/** The kill comes up to this long after the traffic began, or after up to so many receipts. */
const trafficMsMax = 300;
const receiptsMax = 150;
/** Each so many cycles, a node is also killed while it starts, and the whole log is compared with everything ever sent. */
const thoroughEvery = 5;
/** Each so many cycles, everything ever sent is also asked for by its id, and sent again; in between, what was sent last. */
const everythingEvery = isSoak ? 50 : 5;
const startMsMax = 1_200;

after(stopServers);

for (const engine of engineNames) {
  const cycles = cyclesOn[engine];
  it(`keeps every acknowledged event, once and as it was sent, over ${cycles} kill -9 (${engine})`, async (t) => {
    const storage = await createStorage(engine);
    if (storage === null) {
      t.skip('NOT TESTED: there is no PostgreSQL server on this machine');
      return;
    }
    const beside = engine === 'postgres' ? await startNode(storage) : null;
    t.after(() => beside?.stop());
    let node = await beginNode(storage).ready;
    try {
      const { key } = await createOrg(node.address);
      const traffic = new Traffic();
      for (let cycle = 1; cycle <= cycles; cycle++) {
        const isThorough = cycle % thoroughEvery === 0;
        const from = traffic.sendings.length;
        const over = new AbortController();
        const going = beside && traffic.sendUntilGone(new Client(beside.address, key), clientsBeside, over.signal);
        try {
          await killUnderTraffic(node, new Client(node.address, key), traffic);
          if (isThorough) await killWhileStarting(storage);
          node = await beginNode(storage).ready;
        } finally {
          over.abort();
          await going;
        }
        const client = new Client(node.address, key);
        await traffic.retryUnanswered(client);
        const recent = cycle % everythingEvery === 0 ? traffic.sendings : traffic.sendings.slice(from);
        assert.deepEqual(await readAcknowledged(client, recent), [], `cycle ${cycle}, by id`);
        assert.deepEqual(await repeatAcknowledged(client, recent), [], `cycle ${cycle}, sent again`);
        if (isThorough) assert.deepEqual(violations(traffic.sendings, await walkInbox(client)), [], `cycle ${cycle}`);
      }
      reportTraffic(t.diagnostic.bind(t), traffic.sendings, cycles);
    } finally {
      await node.end('SIGKILL');
      await storage.remove();
    }
  });
}

async function killUnderTraffic(node: NodeProcess, client: Client, traffic: Traffic): Promise<void> {
  const sending = traffic.sendUntilGone(client, clients);
  // A moment early on, when a cold node has hardly answered; or one in full traffic, however slow the machine is.
  if (randomInt(2) === 0) await pause(randomInt(trafficMsMax));
  else await traffic.receipts(randomInt(1, receiptsMax));
  await node.end('SIGKILL');
  await sending;
}

/** A kill in the middle of recovery, of taking the folder, or of the first moments of being ready. */
async function killWhileStarting(storage: TestStorage): Promise<void> {
  const node = beginNode(storage);
  await pause(randomInt(startMsMax));
  await node.end('SIGKILL');
}

/** A run in which nothing was acknowledged, or nothing was in flight when the node died, has shown nothing. */
function reportTraffic(report: (text: string) => void, sendings: readonly Sending[], cycles: number): void {
  const acknowledged = sendings.filter((sending) => sending.receipts.length > 0).length;
  const unanswered = sendings.filter((sending) => sending.unknown).length;
  report(`${sendings.length} events sent, ${acknowledged} acknowledged, ${unanswered} in flight at a kill`);
  assert.ok(acknowledged > cycles, 'hardly an event was acknowledged');
  assert.ok(unanswered > cycles, 'hardly an event was in flight when its node was killed');
}

describe('were events acknowledged before their COMMIT', async () => {
  for (const engine of engineNames) {
    it(`the check would find them missing (${engine})`, async (t) => {
      const storage = await createStorage(engine);
      if (storage === null) {
        t.skip('NOT TESTED: there is no PostgreSQL server on this machine');
        return;
      }
      const log = await openTestLog(storage);
      try {
        const [org = ''] = await log.addOrgs(1);
        const crash = new Error('the node is killed before COMMIT is sent');
        let crashed: Promise<unknown> = Promise.resolve();
        const hasty = withFaults(log.database, {
          transaction: (run, value) => {
            crashed = assert.rejects(run(), crash);
            return value;
          },
          beforeCommit: () => Promise.reject(crash),
        });
        const payload = '{"token":"a"}';
        const quiet = { onStored: () => {}, onFailure: () => {} };
        const options = { clock: systemClock, blockedHeads: unwatched, outcomeWaitMsMax: 0, ...quiet };
        const [result] = await storeBatch({ ...options, database: hasty }, [newEvent(org, payload)]);
        assert.ok(result !== undefined && 'appended' in result);
        await crashed;
        const sending = { token: 'a', payload, dedupId: null, unknown: false };
        const receipts = [{ status: 201, id: 'evt_a', receivedAt: '' }];
        const stored = (await log.lines(org)).map((line) => ({ id: 'evt_a', token: 'a', payload: line.payload }));
        assert.match(
          violations([{ ...sending, receipts }], stored).join(),
          /a was acknowledged as evt_a and is missing/,
        );
      } finally {
        await log.close();
        await storage.remove();
      }
    });
  }
});
