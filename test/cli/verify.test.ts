import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { encodeOrgId } from '../../src/ids.js';
import { acknowledge } from '../../src/subscriptions/acknowledge.js';
import { receive } from '../../src/subscriptions/receive.js';
import { seek } from '../../src/subscriptions/seek.js';
import { AccountBroken, verifyOrg } from '../../src/subscriptions/verify.js';
import { append, asOwner, newLog, openDatabase, openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import { sluice } from '../transfer/command.js';

after(stopServers);

/** What a fault, or somebody with all rights to the database, may leave behind, and what is told. The log is that of `makeLog`. */
const faults: readonly (readonly [what: string, change: string, told: RegExp])[] = [
  [
    'an event is in two leases',
    `UPDATE leases SET positions = '{[1,4)}' WHERE org = $org AND lease = 'lse_2'`,
    /two leases hold the same/,
  ],
  [
    'a lease was lost',
    `DELETE FROM leases WHERE org = $org AND lease = 'lse_2'`,
    /counts 5 events in leases, and they hold 3/,
  ],
  ['a count is wrong', `UPDATE subscriptions SET held = held + 1 WHERE org = $org`, /counts 6 events in leases/],
  [
    'dead letters are miscounted',
    `UPDATE subscriptions SET dead = 3 WHERE org = $org`,
    /counts 3 dead letters, and has 1/,
  ],
  [
    'a dead letter is still in its lease',
    `UPDATE dead_letters SET position = 1 WHERE org = $org`,
    /a dead letter is in a lease, too/,
  ],
  [
    'what is leased counts as never handed out',
    `UPDATE subscriptions SET cursor = 1 WHERE org = $org`,
    /holds what was never handed out/,
  ],
  [
    'the cursor is beyond the log',
    `UPDATE subscriptions SET cursor = 2000 WHERE org = $org`,
    /position 2000, and the log to/,
  ],
  [
    'what was done ahead lies behind',
    `UPDATE subscriptions SET ahead = '{[2,3),[15,16)}' WHERE org = $org`,
    /lies behind where it has come to/,
  ],
  [
    'what is done was never stored',
    `UPDATE subscriptions SET ahead = '{[15,16),[5000,5001)}' WHERE org = $org`,
    /done that was never stored/,
  ],
  [
    'a leased event is gone from the log',
    `DELETE FROM events WHERE org = $org AND position = 2`,
    /hold 5 positions, and 4 of these are events/,
  ],
  [
    'a dead event is gone from the log',
    `DELETE FROM events WHERE org = $org AND position = 6`,
    /1 dead letters, and 0 of these are events/,
  ],
];

for (const engine of engineNames) {
  test(`on ${engine}, every event has one place, and what does not add up is told`, async (t) => {
    const storage = await createStorage(engine);
    if (storage === null) return t.skip('no PostgreSQL on this machine');
    const database = await openLog(storage);
    t.after(async () => {
      await database.close();
      await storage.remove();
    });
    const nowMs = Date.now();
    const org = await makeLog(database, nowMs);
    const account = { kind: 'inbox', name: 'default', stored: 1_020, skipped: 0, filtered: 0, expired: 0, erased: 0 };
    const counts = { pending: 1_011, leased: 5, delivered: 3, dead: 1 };
    assert.deepEqual(await verifyOrg(database, org, 'o', nowMs), [{ ...account, ...counts }]);
    // When the leases have ended, the same events are elsewhere, and their sum is the same.
    const later = { pending: 1_016, leased: 0, delivered: 3, dead: 1 };
    assert.deepEqual(await verifyOrg(database, org, 'o', nowMs + 3_600_000), [{ ...account, ...later }]);
    const tables = ['dead_letters', 'leases', 'events', 'subscriptions'];
    const columns = (table: string): string => (table === 'events' ? `WHERE org = ${org}` : '');
    await asOwner(
      database,
      tables.map((table) => `CREATE TABLE kept_${table} AS SELECT * FROM ${table} ${columns(table)}`).join('; '),
    );
    for (const [what, change, told] of faults) {
      await verifyOrg(database, org, 'o', nowMs);
      await asOwner(database, change.replaceAll('$org', org));
      await assert.rejects(
        verifyOrg(database, org, 'o', nowMs),
        (error) => error instanceof AccountBroken && told.test(error.message),
        what,
      );
      const emptied = tables.map((table) => `DELETE FROM ${table}`);
      const filled = tables.toReversed().map((table) => `INSERT INTO ${table} SELECT * FROM kept_${table}`);
      await asOwner(database, [...emptied, ...filled].join('; '));
    }
    await seek(database, org, 0, { to: 'now' });
    const sought = { pending: 5, leased: 0, delivered: 3, dead: 1, skipped: 1_011 };
    assert.deepEqual(await verifyOrg(database, org, 'o', nowMs + 3_600_000), [{ ...account, ...sought }]);
    assert.equal(await verifyOrg(database, '1', 'o', nowMs), null);
  });

  test(`on ${engine}, the command writes every account, or the first that does not add up`, async (t) => {
    const storage = await createStorage(engine);
    if (storage === null) return t.skip('no PostgreSQL on this machine');
    t.after(() => storage.remove());
    const database = await openLog(storage);
    const org = await makeLog(database, Date.now());
    await newLog(database, Date.now());
    await database.close();
    const sound = await sluice(storage, ['verify']).ended;
    assert.equal(sound.code, 0, sound.stderr);
    assert.match(sound.stderr, /^Every event has one place: verified 1020 events of 2 orgs in 2 subscriptions\.$/m);
    const lines = sound.stdout.toString().trimEnd().split('\n');
    const accounts = lines.map((line) => JSON.parse(line) as { org: string; stored: number });
    assert.deepEqual(new Set(accounts.map(({ stored }) => stored)), new Set([0, 1_020]));
    assert.equal(accounts.find(({ stored }) => stored > 0)?.org, encodeOrgId(org));

    const again = await openDatabase(storage);
    await asOwner(again, `UPDATE subscriptions SET held = held + 1 WHERE org = ${org}`);
    await again.close();
    const broken = await sluice(storage, ['verify']).ended;
    assert.equal(broken.code, 1);
    assert.match(
      broken.stderr,
      new RegExp(`^inbox "default" of ${encodeOrgId(org)} does not add up: it counts 6`, 'm'),
    );
    const mistaken = await sluice(storage, ['verify', encodeOrgId(org)]).ended;
    assert.equal(mistaken.code, 2);
    assert.match(mistaken.stderr, /verify: it takes flags only/);
  });
}

/** 1,020 events: 1 to 3 and 4 to 5 leased, 6 dead, 7 and 8 acknowledged, 15 as well though it was never received. */
async function makeLog(database: Database, nowMs: number): Promise<string> {
  const org = await newLog(database, nowMs);
  for (const size of [20, 1_000])
    await append(
      database,
      org,
      Array.from({ length: size }, () => ({})),
      nowMs,
    );
  const take = async (lease: string, eventsMax: number, seconds: number): Promise<void> => {
    const request = { org, subscription: 0, eventsMax, wantsPayload: false, nowMs, lease };
    await receive(database, { ...request, leaseEndsAtMs: nowMs + seconds * 1000 });
  };
  await take('lse_1', 3, 600);
  await take('lse_2', 2, 600);
  await take('lse_3', 3, 600);
  const day = Math.floor(nowMs / 86_400_000);
  await acknowledge(
    database,
    org,
    0,
    [7, 8, 15].map((position) => ({ epoch: 1, position, day })),
  );
  await asOwner(
    database,
    `DELETE FROM leases WHERE org = ${org} AND lease = 'lse_3';
     INSERT INTO dead_letters (org, subscription, position, day, attempts, died_at) VALUES (${org}, 0, 6, ${day}, 10, now());
     UPDATE subscriptions SET held = 5, dead = 1 WHERE org = ${org}`,
  );
  return org;
}
