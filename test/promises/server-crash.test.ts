/** kill -9 of PostgreSQL, or of one of its sessions, which makes it recover as from a crash, under load that two nodes take. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Client as Session } from 'pg';
import { Client, createOrg } from '../support/client.js';
import { startNode } from '../support/node.js';
import { Random } from '../support/power-loss/random.js';
import { startOwnPostgresServer } from '../support/postgres-server.js';
import { violations } from './ledger.js';
import { readAcknowledged, repeatAcknowledged, Traffic, walkInbox } from './traffic.js';

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const cycles = isSoak ? 50 : 8;
/** An org of its own for so many cycles, since after each its whole log is compared with everything ever sent. */
const cyclesPerOrg = 8;
const nodeCount = 2;
const clientsPerNode = 4;
const trafficMsMax = 300;
/** From the moment at which PostgreSQL takes a connection. */
const servedMsMax = 5_000;
const returnMsMax = 60_000;
/** Events of a cycle that are also read by id, and sent again. */
const sampleSize = 60;
const controlCyclesMax = 10;

const seed = Number(process.env['SLUICE_TEST_SEED'] ?? Date.now() % 2 ** 31);
const random = new Random(seed);
// Little of it is used; a small one is sooner thrown away and made again.
const server = await startOwnPostgresServer(['shared_buffers=16MB']);
const skip = server === null ? 'NOT TESTED: there is no PostgreSQL server on this machine' : false;

describe(`while ${nodeCount} nodes take events`, { skip }, () => {
  if (server === null) return;
  const started: { stop(): Promise<void> }[] = [server];
  const addresses: string[] = [];
  before(async () => {
    const config = { dataDir: '', databaseUrl: await server.createDatabase() };
    for (let i = 0; i < nodeCount; i++) {
      const node = await startNode({ engine: 'postgres', config, remove: () => Promise.resolve() });
      started.push(node);
      addresses.push(node.address);
    }
  });
  after(async () => {
    for (const one of started.toReversed()) await one.stop();
  });

  /** What each does, and resolves when PostgreSQL takes connections again. */
  const drills: Readonly<Record<string, () => Promise<void>>> = {
    async 'the whole PostgreSQL'() {
      await server.kill('SIGKILL');
      await server.restart();
    },
    async 'a session in the middle of a batch'() {
      await killIngestSession(server.url('postgres'));
      await untilTakesConnections(server.url('postgres'));
    },
  };
  for (const [victim, drill] of Object.entries(drills)) {
    it(`nothing acknowledged is lost or doubled, and service is back within 5 s, over ${cycles} kill -9 of ${victim}`, async (t) => {
      const back: number[] = [];
      let [sent, acknowledged, unknown] = [0, 0, 0];
      for (let done = 0; done < cycles; done += cyclesPerOrg) {
        const { traffic, clients } = await newTraffic();
        for (let cycle = done; cycle < Math.min(cycles, done + cyclesPerOrg); cycle++) {
          const about = `cycle ${cycle}, with seed ${seed}`;
          const from = traffic.sendings.length;
          back.push(...(await crash(traffic, clients, drill, about)));
          const [client] = clients;
          const recent = traffic.sendings.slice(from).filter(({ receipts }) => receipts.length > 0);
          const sample = recent.slice(-sampleSize);
          assert.deepEqual(violations(traffic.sendings, await walkInbox(client)), [], about);
          assert.deepEqual(await readAcknowledged(client, sample), [], `${about}, by id`);
          assert.deepEqual(await repeatAcknowledged(client, sample), [], `${about}, sent again`);
        }
        sent += traffic.sendings.length;
        acknowledged += traffic.sendings.filter(({ receipts }) => receipts.length > 0).length;
        unknown += traffic.sendings.filter((sending) => sending.unknown).length;
      }
      t.diagnostic(
        `SLUICE_TEST_SEED=${seed}, ${sent} events sent, ${acknowledged} acknowledged, ${unknown} unknown, ` +
          `back after ${Math.max(...back).toFixed()} ms at most`,
      );
      assert.ok(acknowledged > 10 * cycles && acknowledged < sent, 'no event met a crash');
    });
  }

  it('what a crash loses is noticed, where PostgreSQL commits before it writes', async (t) => {
    await asSuperuser(
      "ALTER SYSTEM SET synchronous_commit = 'off'",
      "ALTER SYSTEM SET wal_writer_delay = '10s'",
      'SELECT pg_reload_conf()',
    );
    for (let cycle = 1; cycle <= controlCyclesMax; cycle++) {
      const { traffic, clients } = await newTraffic();
      // The org itself is kept.
      await asSuperuser('CHECKPOINT');
      await crash(traffic, clients, drills['the whole PostgreSQL'] ?? assert.fail(), `control ${cycle}`);
      const found = violations(traffic.sendings, await walkInbox(clients[0])).filter((line) =>
        line.endsWith('is missing'),
      );
      if (found.length === 0) continue;
      t.diagnostic(`${found.length} lost in crash ${cycle}`);
      return;
    }
    assert.fail(`nothing was lost in ${controlCyclesMax} crashes`);
  });

  async function newTraffic(): Promise<{ traffic: Traffic; clients: [Client, ...Client[]] }> {
    const { key, client } = await createOrg(addresses[0] ?? '');
    const [, ...others] = addresses;
    return { traffic: new Traffic(), clients: [client, ...others.map((address) => new Client(address, key))] };
  }

  /** One crash under load. Returns how long each node took to take an event again. */
  async function crash(
    traffic: Traffic,
    clients: readonly Client[],
    drill: () => Promise<void>,
    about: string,
  ): Promise<number[]> {
    const stop = new AbortController();
    const sending = Promise.all(clients.map((client) => traffic.sendUntilGone(client, clientsPerNode, stop.signal)));
    let back: (number | null)[];
    try {
      await Promise.race([pause(random.int(trafficMsMax)), sending]);
      await drill();
      back = await Promise.all(clients.map((client) => traffic.sendUntilTaken(client, servedMsMax)));
    } finally {
      stop.abort();
    }
    await sending;
    const inTime = back.filter((ms) => ms !== null && ms <= servedMsMax) as number[];
    assert.equal(inTime.length, clients.length, `${about}: back after ${back.join()} ms`);
    for (const client of clients) await traffic.retryUnanswered(client);
    return inTime;
  }

  async function asSuperuser(...statements: readonly string[]): Promise<void> {
    await withSession(server?.url('postgres') ?? '', async (session) => {
      for (const statement of statements) await session.query(statement);
    });
  }
});

/** Kills the server process of a session that has written events and not committed them. Resolves when the server has noticed. */
async function killIngestSession(url: string): Promise<void> {
  const text = `
    SELECT pid FROM pg_stat_activity
    WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() AND query ~ 'UPDATE heads|INSERT INTO dedup|^COPY events'`;
  await withSession(url, async (session) => {
    const ended = new Promise<void>((resolve) => session.once('end', resolve));
    const giveUpAt = performance.now() + returnMsMax;
    for (;;) {
      const { rows } = await session.query<{ pid: number }>(text);
      const [row] = rows;
      if (row !== undefined) {
        process.kill(row.pid, 'SIGKILL');
        // The server ends every other session as well.
        await Promise.race([
          ended,
          pause(returnMsMax, undefined, { ref: false }).then(() => assert.fail('it stays up')),
        ]);
        return;
      }
      assert.ok(performance.now() < giveUpAt, 'no session was seen in the middle of a batch');
    }
  });
}

async function untilTakesConnections(url: string): Promise<void> {
  const giveUpAt = performance.now() + returnMsMax;
  for (;;) {
    try {
      await withSession(url, () => Promise.resolve());
      return;
    } catch (error) {
      if (performance.now() > giveUpAt) throw error;
      // It has no other signal for it.
      await pause(20);
    }
  }
}

async function withSession(url: string, work: (session: Session) => Promise<void>): Promise<void> {
  const session = new Session(url);
  session.on('error', () => {});
  await session.connect();
  try {
    await work(session);
  } finally {
    await session.end().catch(() => {});
  }
}
