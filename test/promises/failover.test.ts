/** The primary dies under load and its synchronous standby is promoted: nodes with both hosts in their address follow. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Client as Superuser } from 'pg';
import { Client, createOrg } from '../support/client.js';
import { startNode } from '../support/node.js';
import { startOwnPostgresServer, startStandby } from '../support/postgres-server.js';
import type { PostgresServer } from '../support/postgres-server.js';
import { violations } from './ledger.js';
import { readAcknowledged, repeatAcknowledged, Traffic, walkInbox } from './traffic.js';

const clients = 8;

it('loses nothing acknowledged as replicated when the standby is promoted under load, and the nodes follow', async (t) => {
  const primary = await startOwnPostgresServer();
  if (primary === null) return t.skip('NOT TESTED: there is no PostgreSQL server on this machine');
  const started: { stop(): Promise<void> }[] = [primary];
  t.after(async () => {
    for (const one of started.toReversed()) await one.stop();
  });
  const { pathname } = new URL(await primary.createDatabase());
  const standby = await startStandby(primary);
  started.push(standby);
  await sql(primary, `ALTER SYSTEM SET synchronous_standby_names = '*'`);
  await sql(primary, 'SELECT pg_reload_conf()');

  const hosts = [primary, standby].map(({ port }) => `127.0.0.1:${port}`).join(',');
  const config = { dataDir: '', databaseUrl: `postgres://sluice@${hosts}${pathname}?target_session_attrs=read-write` };
  const start = async (): Promise<string> => {
    const node = await startNode({ engine: 'postgres', config, remove: () => Promise.resolve() });
    started.push(node);
    return node.address;
  };
  const addresses = [await start(), await start()];
  const [first = '', second = ''] = addresses;
  const warmUp = await createOrg(first);
  while ((await warmUp.client.post('/v1/events', { type: 'a', payload: 1 })).json.durability !== 'replicated') {
    await pause(200);
  }

  const org = await createOrg(first);
  const nodes = [org.client, new Client(second, org.key)];
  const traffic = new Traffic();
  const stop = new AbortController();
  const before = traffic.receipts(50);
  const sending = Promise.all(nodes.map((node) => traffic.sendUntilGone(node, clients, stop.signal)));
  await Promise.race([before, sending]);
  const told = traffic.sendings.flatMap(({ receipts }) => receipts.map(({ durability }) => durability));
  await primary.kill('SIGKILL');
  await sql(standby, 'SELECT pg_promote()');
  await Promise.race([traffic.receipts(50), sending]);
  stop.abort();
  await sending;
  assert.ok(told.length >= 50, `${told.length} receipts before the primary died`);
  assert.deepEqual(new Set(told), new Set(['replicated']), 'what the receipts said before the primary died');
  for (const address of addresses) {
    while ((await new Client(address, null).get('/readyz')).status !== 200) await pause(50);
  }
  for (const node of nodes) await traffic.retryUnanswered(node);
  for (const node of nodes) {
    assert.deepEqual(await readAcknowledged(node, traffic.sendings), []);
    assert.deepEqual(await repeatAcknowledged(node, traffic.sendings), []);
  }
  const stored = await walkInbox(org.client);
  assert.deepEqual(violations(traffic.sendings, stored), []);
  t.diagnostic(`${traffic.sendings.length} events sent, ${stored.length} stored`);
});

async function sql(server: PostgresServer, text: string): Promise<void> {
  const client = new Superuser(server.url('postgres'));
  await client.connect();
  await client.query(text);
  await client.end();
}
