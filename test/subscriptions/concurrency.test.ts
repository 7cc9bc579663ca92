import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { acknowledgeLease } from '../../src/subscriptions/acknowledge.js';
import { readStats } from '../../src/subscriptions/peek.js';
import { receive } from '../../src/subscriptions/receive.js';
import { append, asOrg, intercept, newLog, openLog } from '../support/log.js';
import { createStorage, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { signal } from '../support/conformance.js';

const receivers = 6;
const nowMs = Date.now();

/** The embedded engine has one session, so nothing is concurrent there. */
describe('receivers at the same moment, on postgres', () => {
  let storage: TestStorage | null;
  let database: Database;
  before(async () => {
    storage = await createStorage('postgres');
    if (storage !== null) database = await openLog(storage);
  });
  after(async () => {
    if (storage !== null) await database.close();
    await stopServers();
  });

  /** All receive at once from a log of 60 events. Returns what each was handed out; a receive that fails was handed out nothing. */
  async function receiveAtOnce(used: Database): Promise<{ org: string; positions: number[][]; leases: string[] }> {
    const org = await newLog(database, nowMs);
    await append(
      database,
      org,
      Array.from({ length: 60 }, () => ({})),
      nowMs,
    );
    const leases = Array.from({ length: receivers }, (_, i) => `lse_${i}`);
    const received = await Promise.allSettled(
      leases.map((lease) =>
        receive(used, {
          org,
          subscription: 0,
          eventsMax: 10,
          wantsPayload: true,
          nowMs,
          lease,
          leaseEndsAtMs: nowMs + 60_000,
        }),
      ),
    );
    const positions = received.map((result) =>
      result.status === 'fulfilled' ? (result.value?.events ?? []).map((event) => Number(event.position)) : [],
    );
    return { org, positions, leases };
  }

  test('never get the same event', async (t) => {
    if (storage === null) return t.skip('no PostgreSQL');
    const { org, positions, leases } = await receiveAtOnce(database);
    const all = positions.flat().toSorted((a, b) => a - b);
    assert.deepEqual(
      all,
      Array.from({ length: 60 }, (_, i) => i + 1),
    );
    const acknowledged = await Promise.all(leases.map((lease) => acknowledgeLease(database, org, 0, lease)));
    assert.deepEqual(acknowledged, [10, 10, 10, 10, 10, 10]);
    assert.deepEqual(await readStats(database, org, 0, nowMs), {
      pending: 0,
      leased: 0,
      dead: 0,
      oldestPendingAtMs: null,
    });
    const [row] = await asOrg<{ held: string }>(database, org, 'SELECT held FROM subscriptions');
    assert.equal(Number(row?.held), 0);
  });

  test('would get the same events if the first statement did not lock', async (t) => {
    if (storage === null) return t.skip('no PostgreSQL');
    const allRead = signal();
    let reads = 0;
    const unlocked = intercept(database, async (statement, values, real) => {
      if (statement.name !== 'subscription_lock_outlook') return real(statement, values);
      const text = statement.text.replace('FOR UPDATE', '');
      const state = await real({ name: 'test_subscription_no_lock', text }, values);
      if (++reads === receivers) allRead.fire();
      await allRead.promise;
      return state;
    });
    const all = (await receiveAtOnce(unlocked)).positions.flat();
    assert.ok(new Set(all).size < all.length, 'each event was delivered once');
  });
});
