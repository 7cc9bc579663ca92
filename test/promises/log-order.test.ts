/** P4 on three nodes at once: the order of a log is the order of its commits, no reader passes an event that commits later, and no two batches deadlock. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { withFaults } from '../support/faulty-database.js';
import { asOwner, newLog, openLog } from '../support/log.js';
import { Random } from '../support/power-loss/random.js';
import { createStorage, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { consumeLogs, followLogs, Writers, Written } from './log-order.js';
import type { Seen } from './log-order.js';

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const roundMs = isSoak ? 300_000 : 30_000;
/** Of each node. */
const laneCounts = [1, 2, 3];
const nodeCount = laneCounts.length;
/** Besides one that writes atomic batches. */
const writersPerNode = 3;
/** Those that are read as well. */
const orgCount = 10;
const moreOrgs = 20_000;
/** Without its protection a round shows what is missed in far less. */
const controlRoundMs = 1_000;
const controlRoundsMax = 30;

const seed = Number(process.env['SLUICE_TEST_SEED'] ?? Date.now() % 2 ** 31);
const storage = await createStorage('postgres');
after(stopServers);

const skip = storage === null ? 'NOT TESTED: there is no PostgreSQL server on this machine' : false;

describe(`${nodeCount} nodes that write to the same logs, with readers on each`, { skip }, () => {
  if (storage === null) return;
  const nodes: Database[] = [];
  let more: string[] = [];
  before(async () => {
    await hurryDeadlocks(storage);
    for (const lanes of laneCounts) nodes.push(await openLog(storage, systemClock, lanes));
  });
  after(async () => {
    await Promise.all(nodes.map((node) => node.close()));
    await storage.remove();
  });

  for (const size of [orgCount, moreOrgs]) {
    it(
      `keep each in the order of commits, and never deadlock, on ${size} logs`,
      { timeout: 10 * 60_000 },
      async (t) => {
        if (size > orgCount) more = await addHeads(nodeAt(0), size - orgCount);
        const deadlocksBefore = await deadlocksOf(nodeAt(0));
        const round = await play(nodes, roundMs);
        const failures = JSON.stringify([...round.written.failures]);
        const { events } = round.written;
        const tried = `${events} events, ${round.looks} looks, atomic batches ${round.atomicBatches.join()}, others at once ${round.batchesAtOnce.join()}`;
        t.diagnostic(`SLUICE_TEST_SEED=${seed}, ${tried}, failures ${failures}`);
        assert.deepEqual(round.wrong.slice(0, 20), [], `with seed ${seed}`);
        assert.equal(round.written.failures.get('40P01'), undefined, `with seed ${seed}: ${failures}`);
        assert.equal(await deadlocksOf(nodeAt(0)), deadlocksBefore, 'deadlocks that the server counted');
        assert.ok(events > 1_000 && round.looks > 10 * nodeCount, `hardly anything was tried: ${tried}`);
        assert.ok(Math.min(...round.atomicBatches) > 0 && Math.max(...round.batchesAtOnce) > 1, tried);
      },
    );
  }

  it('would let readers pass events, did the lock on a head end before the commit', async (t) => {
    more = [];
    const apart = await openLog(storage);
    t.after(() => apart.close());
    const lockless = nodes.map((node) =>
      withFaults(node, {
        query: (statement, values, run) =>
          statement.name === 'ingest_reserve' ? apart.query({ role: 'ingest' }, statement, values) : run(values),
      }),
    );
    const others: string[] = [];
    for (let rounds = 1; rounds <= controlRoundsMax; rounds++) {
      const { wrong, written } = await play(lockless, controlRoundMs);
      const missed = wrong.find((line) => /the stream on node \d passed/.test(line));
      if (missed !== undefined) {
        t.diagnostic(`${wrong.length} flaws in ${written.events} events, in round ${rounds}: ${missed}`);
        return;
      }
      others.push(...wrong.slice(0, 1));
    }
    assert.fail(
      `no stream missed any in ${controlRoundsMax} rounds, with seed ${seed}; other flaws: ${others.join('; ')}`,
    );
  });

  const nodeAt = (i: number): Database => nodes[i] ?? assert.fail();

  /** Everybody at once, for a while, on new logs; then what was written, seen and stored is held against each other. */
  async function play(databases: readonly Database[], ms: number) {
    const orgs = await Promise.all(Array.from({ length: orgCount }, () => newLog(nodeAt(0), Date.now())));
    const written = new Written();
    const random = new Random(seed);
    const pickOrg = (): string => random.pick(more.length > 0 && random.chance(0.5) ? more : orgs);
    const endsAt = performance.now() + ms;
    let isWritten = false;
    const isOver = (): boolean => isWritten || performance.now() > endsAt;
    const writers = databases.map((database, i) => new Writers(database, laneCounts[i] ?? 1, written, pickOrg, random));
    await Promise.all(writers.map((node) => node.start()));
    const writing = Promise.all(
      writers.flatMap((node) => [
        node.writeAtomic(isOver),
        ...Array.from({ length: writersPerNode }, () => node.writeEvents(isOver)),
      ]),
    );
    const isDone = (): boolean => isWritten;
    const consumed: Seen = new Map(orgs.map((org) => [org, []]));
    const following = Promise.all(databases.map((database) => followLogs(database, orgs, isDone)));
    const consuming = Promise.all(
      databases.map((database, i) => consumeLogs(database, orgs, `${i}`, consumed, isDone)),
    );
    try {
      await Promise.race([writing, following.then(() => writing), consuming.then(() => writing)]);
    } finally {
      isWritten = true;
      await Promise.all(writers.map((node) => node.stop()));
    }
    const followed = await following;
    await consuming;

    const wrong = [...written.wrong];
    const logs = await readLogs(nodeAt(0), [...orgs, ...more]);
    for (const [org, stored] of logs) wrong.push(...written.differences(org, stored));
    for (const org of orgs) {
      const all = logs.get(org)?.map(({ position }) => position) ?? [];
      for (const [i, { seen }] of followed.entries())
        wrong.push(...passed(org, all, seen.get(org) ?? [], `the stream on node ${i}`));
      wrong.push(
        ...passed(
          org,
          all,
          (consumed.get(org) ?? []).toSorted((a, b) => a - b),
          'the inbox',
        ),
      );
    }
    return {
      written,
      wrong,
      looks: followed.reduce((sum, { looks }) => sum + looks, 0),
      batchesAtOnce: writers.map((node) => node.batchesAtOnce),
      atomicBatches: writers.map((node) => node.atomicBatches),
    };
  }
});

/** What a reader should have seen, and did not; or saw besides. */
function passed(org: string, all: readonly number[], seen: readonly number[], who: string): string[] {
  const had = new Set(seen);
  const missed = all.filter((position) => !had.has(position));
  if (missed.length > 0) return [`${org}: ${who} passed ${missed.join()}`];
  return seen.length === all.length ? [] : [`${org}: ${who} saw ${seen.length} events of ${all.length}`];
}

/** A deadlock shows before the second after which a wait for a lock is given up. */
async function hurryDeadlocks(place: TestStorage): Promise<void> {
  const database = await openLog(place);
  const text = `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''30ms''', current_database()); END $$`;
  try {
    await asOwner(database, text);
  } finally {
    await database.close();
  }
}

async function deadlocksOf(database: Database): Promise<number> {
  const text = 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()';
  const { rows } = await database.query<{ deadlocks: string }>({ role: 'owner' }, { name: 'test_deadlocks', text });
  return Number(rows[0]?.deadlocks);
}

/** Orgs that are written to and not read. */
async function addHeads(database: Database, count: number): Promise<string[]> {
  const orgs = Array.from({ length: count }, (_, i) => String(i + 1));
  await asOwner(
    database,
    `INSERT INTO orgs (org, name, tier, created_at) SELECT n, 'more', 'free', now() FROM generate_series(1, ${count}) AS n;
     INSERT INTO heads (org, epoch, position, day, received_at, first_position, first_day)
       SELECT n, 1, 0, 0, now(), 1, 0 FROM generate_series(1, ${count}) AS n;
     ANALYZE heads`,
  );
  return orgs;
}

type Line = { readonly position: number; readonly payload: string };

/** As they are stored. */
async function readLogs(database: Database, orgs: readonly string[]): Promise<ReadonlyMap<string, Line[]>> {
  const logs = new Map<string, Line[]>(orgs.map((org) => [org, []]));
  const text = 'SELECT org, position, payload FROM events WHERE org = ANY($1::bigint[]) ORDER BY org, position';
  const statement = { name: 'test_logs', text };
  for (let i = 0; i < orgs.length; i += 500) {
    const some = orgs.slice(i, i + 500);
    const { rows } = await database.query<{ org: string; position: string; payload: string }>(
      { role: 'owner' },
      statement,
      [some],
    );
    for (const row of rows) logs.get(row.org)?.push({ position: Number(row.position), payload: row.payload });
  }
  return logs;
}
