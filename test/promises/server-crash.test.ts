import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Client, createOrg } from '../support/client.js';
import { startNode } from '../support/node.js';
import { startOwnPostgresServer } from '../support/postgres-server.js';
import { violations } from './ledger.js';
import { readAcknowledged, repeatAcknowledged, Traffic, walkInbox } from './traffic.js';

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const cycles = isSoak ? 100 : 4;
/** Each so many cycles, the whole log is compared with everything ever sent; in between, what was sent last. */
const everythingEvery = isSoak ? 20 : 2;
const clients = 8;
const trafficMsMax = 300;

it(`keeps every acknowledged event, and stores none that it refused, over ${cycles} kill -9 of PostgreSQL`, async (t) => {
  const server = await startOwnPostgresServer();
  if (server === null) {
    t.skip('NOT TESTED: there is no PostgreSQL server on this machine');
    return;
  }
  try {
    const config = { dataDir: '', databaseUrl: await server.createDatabase() };
    const node = await startNode({ engine: 'postgres', config, remove: () => Promise.resolve() });
    try {
      const { client } = await createOrg(node.address);
      const traffic = new Traffic();
      for (let cycle = 1; cycle <= cycles; cycle++) {
        const from = traffic.sendings.length;
        const stop = new AbortController();
        const sending = traffic.sendUntilGone(client, clients, stop.signal);
        await pause(randomInt(trafficMsMax));
        await server.kill('SIGKILL');
        await server.restart();
        stop.abort();
        await sending;
        await untilReady(client);
        await traffic.retryUnanswered(client);
        const isThorough = cycle % everythingEvery === 0;
        const sendings = isThorough ? traffic.sendings : traffic.sendings.slice(from);
        assert.deepEqual(await readAcknowledged(client, sendings), [], `cycle ${cycle}, by id`);
        assert.deepEqual(await repeatAcknowledged(client, sendings), [], `cycle ${cycle}, sent again`);
        if (isThorough) assert.deepEqual(violations(traffic.sendings, await walkInbox(client)), [], `cycle ${cycle}`);
      }
      const acknowledged = traffic.sendings.filter(({ receipts }) => receipts.length > 0).length;
      t.diagnostic(`${traffic.sendings.length} events sent, ${acknowledged} acknowledged`);
      assert.ok(acknowledged > cycles && acknowledged < traffic.sendings.length, 'no event met the crash');
    } finally {
      await node.stop();
    }
  } finally {
    await server.stop();
  }
});

async function untilReady(client: Client): Promise<void> {
  // Readiness is asked for; it has no other signal.
  while ((await new Client(client.address, null).get('/readyz')).status !== 200) await pause(50);
}
