/** What waits for its retry must not make the work of everybody else dearer. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { acknowledge } from '../../src/subscriptions/acknowledge.js';
import type { AcknowledgedAddress } from '../../src/subscriptions/acknowledge.js';
import { receive } from '../../src/subscriptions/receive.js';
import { release } from '../../src/subscriptions/release.js';
import { append, newLog, openLog } from '../support/log.js';
import { createOwnStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

after(stopServers);

const waitingEvents = 10_000;
const acks = 40;
/** Of several counts the smallest is what acknowledgements write; the others also hold a checkpoint or a vacuum beside them. */
const rounds = 3;

for (const engine of engineNames) {
  const storage = await createOwnStorage(engine);
  describe(`on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage !== null) describeRetries(storage);
  });
}

function describeRetries(storage: TestStorage): void {
  let database: Database;
  before(async () => {
    database = await openLog(storage);
  });
  after(async () => {
    await database.close();
    await storage.remove();
  });

  it('an acknowledgement writes no more rows or bytes while 10,000 events wait for their retry', async () => {
    const nowMs = Date.now();
    const [quiet, busy] = [await newLog(database, nowMs), await newLog(database, nowMs)];
    const places = await fill(database, busy, waitingEvents, nowMs);
    await receiveAll(database, busy, nowMs);
    // Every tenth of each thousand together, so that no row holds neighbours.
    for (let i = 0; i < places.length; i += 1_000) {
      for (let offset = 0; offset < 10; offset++) {
        const addresses = places.slice(i, i + 1_000).filter((_, n) => n % 10 === offset);
        const availableAtMs = nowMs + 3_600_000 + i + offset;
        const waitingId = `wait_${i}_${offset}`;
        const request = { org: busy, subscription: 0, what: { addresses }, nowMs, availableAtMs, waitingId };
        assert.equal(await release(database, request), addresses.length);
      }
    }
    const alone = await costOfAcks(database, quiet, nowMs);
    const beside = await costOfAcks(database, busy, nowMs);
    assert.ok(alone.rows >= acks, `${alone.rows} rows written`);
    assert.equal(beside.rows, alone.rows);
    assert.ok(beside.bytes < 1.25 * alone.bytes, `${beside.bytes} bytes of log beside them, ${alone.bytes} alone`);
  });
}

async function fill(database: Database, org: string, events: number, nowMs: number): Promise<AcknowledgedAddress[]> {
  const places: AcknowledgedAddress[] = [];
  for (let sent = 0; sent < events; sent += 1_000) {
    const stored = await append(
      database,
      org,
      Array.from({ length: Math.min(1_000, events - sent) }, () => ({})),
      nowMs,
    );
    for (const place of stored) if (place !== null) places.push(place);
  }
  return places;
}

async function receiveAll(database: Database, org: string, nowMs: number): Promise<void> {
  for (let n = 0; ; n++) {
    const lease = `lse_${n}_${org}`;
    const request = { org, subscription: 0, eventsMax: 1_000, wantsPayload: false, nowMs, lease };
    const received = await receive(database, { ...request, leaseEndsAtMs: nowMs + 600_000 });
    if (received === null || received.events.length === 0) return;
  }
}

/** Rows and bytes of log that single acknowledgements write, of events that were just received together. */
async function costOfAcks(database: Database, org: string, nowMs: number): Promise<{ rows: number; bytes: number }> {
  const places = await fill(database, org, (1 + rounds) * acks, nowMs);
  await receiveAll(database, org, nowMs);
  const ackAll = async (some: readonly AcknowledgedAddress[]): Promise<void> => {
    for (const place of some) assert.deepEqual(await acknowledge(database, org, 0, [place]), ['acknowledged']);
  };
  // The first after a checkpoint write whole pages.
  await ackAll(places.slice(0, acks));
  const costs: { rows: number; bytes: number }[] = [];
  for (let round = 1; round <= rounds; round++) {
    const earlier = await written(database);
    await ackAll(places.slice(round * acks, (round + 1) * acks));
    const later = await written(database);
    costs.push({ rows: later.rows - earlier.rows, bytes: later.bytes - earlier.bytes });
  }
  return { rows: Math.min(...costs.map(({ rows }) => rows)), bytes: Math.min(...costs.map(({ bytes }) => bytes)) };
}

async function written(database: Database): Promise<{ rows: number; bytes: number }> {
  const owner = { role: 'owner' } as const;
  await database.query(owner, { name: 'test_flush', text: 'SELECT pg_stat_force_next_flush()' });
  const text = `
    SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::text AS rows, (pg_current_wal_insert_lsn() - '0/0')::text AS bytes
    FROM pg_stat_user_tables WHERE relname IN ('subscriptions', 'leases', 'dead_letters')`;
  const { rows } = await database.query<{ rows: string; bytes: string }>(owner, { name: 'test_written', text });
  return { rows: Number(rows[0]?.rows), bytes: Number(rows[0]?.bytes) };
}
