/**
 * P6, the second wall: a statement that names another org than its transaction finds, changes and adds nothing, because row-level security
 * stands behind it. Every statement that tenants' requests run is tried, with the wall and, to show that the check can fail, without.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Database, Transaction } from '../../src/db/database.js';
import { StorageError } from '../../src/db/database.js';
import * as deliveries from '../../src/db/sql/deliveries.js';
import { readDeliveries } from '../../src/db/sql/deliveries.js';
import * as inboxes from '../../src/db/sql/inboxes.js';
import * as positions from '../../src/db/sql/position-at.js';
import { firstPositionOf } from '../../src/db/sql/position-at.js';
import * as eventList from '../../src/db/sql/event-list.js';
import { Problem } from '../../src/errors.js';
import { existingEvents, findEvent, readEventsAt, readFirstEvents, scanEvents } from '../../src/db/sql/events.js';
import type { AuditedChange } from '../../src/audit-chain.js';
import * as audit from '../../src/db/sql/audit.js';
import * as erasures from '../../src/db/sql/erasures.js';
import * as keys from '../../src/db/sql/keys.js';
import * as leases from '../../src/db/sql/leases.js';
import * as subscriptions from '../../src/db/sql/subscriptions.js';
import type { Place } from '../../src/event-log/append.js';
import { receive } from '../../src/subscriptions/receive.js';
import { append, newLog, openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

const storages = await Promise.all(engineNames.map(createStorage));
after(stopServers);

/** An org with an event in a lease, an event that is dead, and a key. */
interface Victim {
  readonly org: string;
  readonly place: Place;
  readonly lease: leases.LeaseRow;
  readonly keyId: string;
  readonly erasure: string;
}

const inbox = 0;
const all = '{[1,100)}';
const now = new Date();
const later = new Date(now.getTime() + 3_600_000);

/** Each returns what it found or changed of the victim: nothing, an empty list, 0 or null where it is walled off. */
const attempts: Readonly<Record<string, (tx: Transaction, victim: Victim) => Promise<unknown>>> = {
  findEvent: (tx, { org, place }) => findEvent(tx, org, place, true),
  scanEvents: (tx, { org, place }) => scanEvents(tx, org, all, daysOf(place), [null, null], 10),
  readEventsAt: (tx, { org, place }) => readEventsAt(tx, org, all, daysOf(place), true),
  readFirstEvents: async (tx, { org, place }) =>
    (await readFirstEvents(tx, org, all, daysOf(place), 10, 1_000, true)).events,
  readLogEnds: (tx, { org }) => eventList.readLogEnds(tx, org),
  findBoundary: (tx, { org, place }) => eventList.findBoundary(tx, org, place.day, now.toISOString()),
  scanList: async (tx, { org, place }) => {
    const stretch = { firstPosition: 1, lastPosition: 100, days: daysOf(place) };
    const { rows, last } = await eventList.scanList(tx, org, stretch, 'asc', null, 10, 10, true);
    return last === null ? rows : last;
  },
  readListed: (tx, { org, place }) => eventList.readListed(tx, org, [{ ...place, bytes: 0 }], true),
  existingEvents: (tx, { org, place }) => existingEvents(tx, org, [place]),
  countEvents: async (tx, { org, place }) =>
    (await subscriptions.countEvents(tx, org, all, daysOf(place), null)).events,
  lockSubscription: (tx, { org }) => subscriptions.lockSubscription(tx, org, inbox),
  lockWithHead: (tx, { org }) => subscriptions.lockWithHead(tx, org, inbox),
  lockIfAnything: (tx, { org }) => subscriptions.lockIfAnything(tx, org, inbox, later),
  moveSubscription: (tx, { org, place }) =>
    changes(tx, 'subscriptions', () =>
      subscriptions.moveSubscription(tx, org, inbox, { cursor: 7, cursorDay: place.day, ahead: '{}', heldChange: 1 }),
    ),
  readHead: (tx, { org }) => subscriptions.readHead(tx, org),
  readSubscriptionSets: (tx, { org }) => subscriptions.readSubscriptionSets(tx, org, inbox, now),
  dueLeases: (tx, { org }) => leases.dueLeases(tx, org, inbox, later, 10),
  nextDueAt: (tx, { org }) => leases.nextDueAt(tx, org, inbox),
  findLease: (tx, { org, lease }) => leases.findLease(tx, org, inbox, lease.lease),
  leasesHolding: (tx, { org }) => leases.leasesHolding(tx, org, inbox, all),
  insertLease: (tx, { org, place }) =>
    changes(tx, 'leases', () =>
      leases.insertLease(tx, org, inbox, {
        lease: 'planted',
        attempt: 1,
        availableAt: later,
        positions: all,
        days: daysOf(place),
      }),
    ),
  removeFromLeases: (tx, { org, lease }) =>
    changes(tx, 'leases', () => leases.removeFromLeases(tx, org, inbox, [lease.lease], lease.positions)),
  takeFromLeases: (tx, { org }) => leases.takeFromLeases(tx, org, inbox, all),
  settleLeases: (tx, { org, lease }) => leases.settleLeases(tx, org, inbox, [lease.lease]),
  handOut: (tx, { org, place }) =>
    leases.handOut(
      tx,
      org,
      inbox,
      [{ lease: 'planted', attempt: 1, availableAt: later, positions: all, days: daysOf(place) }],
      { cursor: 7, cursorDay: place.day, ahead: '{}', heldChange: 1 },
    ),
  insertDeadLetters: (tx, { org, lease }) =>
    changes(tx, 'dead_letters', () => leases.insertDeadLetters(tx, org, inbox, lease, now)),
  deadLettersAt: (tx, { org }) => leases.deadLettersAt(tx, org, inbox, [2]),
  deleteDeadAt: (tx, { org }) => leases.deleteDeadAt(tx, org, inbox, [2]),
  deleteDeadFrom: (tx, { org }) => leases.deleteDeadFrom(tx, org, inbox, 1),
  dyingLeases: (tx, { org }) => leases.dyingLeases(tx, org, inbox, new Date(later.getTime() + 1), 1),
  extendLease: (tx, { org, lease }) =>
    changes(tx, 'leases', () => leases.extendLease(tx, org, inbox, lease.lease, now, now)),
  setSkipped: (tx, { org }) => changes(tx, 'subscriptions', () => subscriptions.setSkipped(tx, org, inbox, all)),
  readDeliveries: (tx, { org }) => readDeliveries(tx, org, 1),
  firstPositionOf: (tx, { org, place }) => firstPositionOf(tx, org, daysOf(place)),
  countInboxesForCreation: (tx, { org }) => inboxes.countInboxesForCreation(tx, org),
  listInboxes: (tx, { org }) => inboxes.listInboxes(tx, org, '', 10),
  findInbox: (tx, { org }) => inboxes.findInbox(tx, org, 'default'),
  lockInbox: (tx, { org }) => inboxes.lockInbox(tx, org, 'default'),
  insertInbox: (tx, { org, place }) => changes(tx, 'subscriptions', () => inboxes.insertInbox(tx, org, inboxOf(place))),
  updateInbox: (tx, { org }) =>
    changes(tx, 'subscriptions', () =>
      inboxes.updateInbox(tx, org, inbox, { maxAttempts: 3, filters: [] }).catch(ignoreGone),
    ),
  deleteInboxRows: (tx, { org }) => changes(tx, 'leases', () => inboxes.deleteInboxRows(tx, org, inbox, 1)),
  countKeysForCreation: (tx, { org }) => keys.countKeysForCreation(tx, org, now),
  listKeys: (tx, { org }) => keys.listKeys(tx, org, '', now, 10),
  findKey: (tx, { org, keyId }) => keys.findKey(tx, org, keyId, now),
  lockKey: (tx, { org, keyId }) => keys.lockKey(tx, org, keyId, now),
  insertKey: (tx, { org }) => keys.insertKey(tx, keyOf(org, 'planted')),
  retireKey: (tx, { org, keyId }) => changes(tx, 'api_keys', () => keys.retireKey(tx, org, keyId, now)),
  deleteKey: (tx, { org, keyId }) => changes(tx, 'api_keys', () => keys.deleteKey(tx, org, keyId)),
  countErasuresForRequest: (tx, { org }) => erasures.countErasuresForRequest(tx, org),
  extendErasure: (tx, { org, place }) =>
    erasures.extendErasure(tx, org, 'somebody', { lastPosition: 2, lastDay: place.day, at: now }),
  insertErasure: (tx, { org, place }) => erasures.insertErasure(tx, org, erasureOf(place, 'planted')),
  findErasure: (tx, { org, erasure }) => erasures.findErasure(tx, org, erasure),
  lockErasure: (tx, { org, erasure }) => erasures.lockErasure(tx, org, erasure),
  scanSubject: async (tx, { org, place }) =>
    (await erasures.scanSubject(tx, org, 'somebody', daysOf(place), 0, 100, 10)).found,
  countErased: (tx, { org }) =>
    changes(tx, 'subscriptions', () => erasures.countErased(tx, org, inbox, { held: 1, dead: 0, pending: 0 })),
  advanceErasure: (tx, { org, place, erasure }) =>
    changes(tx, 'erasures', () =>
      erasures.advanceErasure(tx, org, erasure, { ...place, counts: {}, at: now, isDone: true }),
    ),
  // Where the wall stands, the victim is no org to whose log something could be added.
  recordChanges: (tx, { org }) => audit.recordChanges(tx, org, audited).catch(noOrg),
  listAudit: (tx, { org }) => audit.listAudit(tx, org, 100, 10),
};

const audited: AuditedChange = { atMs: now.getTime(), actor: 'test', action: 'test', target: 'test', details: {} };

function noOrg(error: unknown): null {
  if (error instanceof Problem && error.code === 'invalid_key') return null;
  throw error;
}

/** Statements on tables with an org that no tenant's request runs. */
/** `deleteSubjectEvents` acts as `erasure`, which sees every org's requests; the policies of that role are tried in subject-erasure.test.ts. */
const notForTenants = [
  'deleteSubjectEvents',
  'runningErasures',
  'deleteCertificates',
  'touchKeys',
  'findKeysByHash',
  'readAccessVersion',
  'startAudit',
  'closeAudit',
  'walkAudit',
];

function describeWall(storage: TestStorage): void {
  let database: Database;
  let attacker: string;
  let victim: Victim;
  before(async () => {
    database = await openLog(storage);
    attacker = await newLog(database, now.getTime());
    victim = await makeVictim(database);
  });
  after(async () => {
    await database.close();
    await storage.remove();
  });

  for (const [name, attempt] of Object.entries(attempts)) {
    it(`${name} with the wrong org finds and changes nothing`, async () => {
      assert.equal(isNothing(await tryAs(database, attacker, '', (tx) => attempt(tx, victim))), true);
      // Under its own org, and under the wrong one where the policies are open, the same call does find or change something.
      assert.equal(isNothing(await tryAs(database, victim.org, '', (tx) => attempt(tx, victim))), false);
      assert.equal(isNothing(await tryAs(database, attacker, openPolicies, (tx) => attempt(tx, victim))), false);
    });
  }
}

for (const [i, engine] of engineNames.entries()) {
  const storage = storages[i] ?? null;
  describe(`on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage !== null) describeWall(storage);
  });
}

it('every statement that a tenant’s request runs is among those that are tried', async () => {
  const events = await import('../../src/db/sql/events.js');
  const modules = [audit, events, eventList, keys, leases, subscriptions, inboxes, positions, deliveries, erasures];
  const statements = modules.flatMap((module) => Object.entries(module));
  const named = statements.filter(([name, value]) => typeof value === 'function' && !/^event[A-Z]/.test(name));
  assert.deepEqual(named.map(([name]) => name).toSorted(), [...Object.keys(attempts), ...notForTenants].toSorted());
});

const openPolicies = [
  'api_keys',
  'audit_heads',
  'audit_log',
  'heads',
  'events',
  'subscriptions',
  'leases',
  'dead_letters',
  'erasures',
]
  .map((table) => `ALTER POLICY app_own_org ON ${table} USING (true)`)
  .join('; ');

class Undone extends Error {}

/** What `work` gets as a tenant's transaction of `org`, after a superuser changed something. All of it is undone. */
async function tryAs(
  database: Database,
  org: string,
  change: string,
  work: (tx: Transaction) => Promise<unknown>,
): Promise<unknown> {
  let got: unknown;
  const undone = database.transaction({ role: 'owner' }, async (tx) => {
    await tx.script(`${change}; SET LOCAL ROLE sluice_app; SET LOCAL sluice.org = '${org}'`);
    try {
      got = await work(tx);
    } catch (error) {
      // Adding a row that the policy does not allow.
      if (!(error instanceof StorageError && error.sqlstate === '42501')) throw error;
      got = null;
    }
    throw new Undone();
  });
  await assert.rejects(undone, Undone);
  return got;
}

function isNothing(got: unknown): boolean {
  return got === null || got === 0 || (Array.isArray(got) && got.length === 0);
}

/** How many rows of a table `work` adds, changes or removes. */
async function changes(tx: Transaction, table: string, work: () => Promise<unknown>): Promise<number> {
  const read = async (): Promise<string[]> => {
    await tx.script('RESET ROLE');
    const text = `SELECT row_to_json(t)::text AS line FROM ${table} AS t ORDER BY 1`;
    const { rows } = await tx.query<{ line: string }>({ name: `test_rows_of_${table}`, text });
    await tx.script('SET LOCAL ROLE sluice_app');
    return rows.map(({ line }) => line);
  };
  const earlier = await read();
  await work();
  const afterwards = await read();
  return (
    afterwards.filter((line) => !earlier.includes(line)).length +
    earlier.filter((line) => !afterwards.includes(line)).length
  );
}

function daysOf({ day }: Place): subscriptions.DayRange {
  return { first: day, last: day };
}

function keyOf(org: string, keyId: string): keys.NewKey {
  const hash = Buffer.alloc(32, keyId);
  return { org, keyId, hash, name: 'test', prefix: '', scopes: [], createdAt: now, expiresAt: null };
}

function erasureOf({ day }: Place, id: string) {
  return { id, subject: `subject of ${id}`, subjectHash: Buffer.alloc(32), at: now, lastPosition: 2, lastDay: day };
}

function inboxOf({ day }: Place): inboxes.NewInbox {
  const place = { cursor: 0, cursorDay: day, skipped: '{}', filters: [] };
  return { subscription: 99, name: 'planted', maxAttempts: 1, ...place, createdAt: now };
}

/** Under the wrong org there is no row to change. */
function ignoreGone(error: Error): void {
  assert.match(error.message, /was gone/);
}

async function makeVictim(database: Database): Promise<Victim> {
  const org = await newLog(database, now.getTime());
  const [place] = await append(database, org, [{ subject: 'somebody' }, {}], now.getTime());
  assert.ok(place !== undefined && place !== null);
  const lease = 'lse_of_the_victim';
  await receive(database, {
    org,
    subscription: inbox,
    eventsMax: 1,
    wantsPayload: false,
    nowMs: now.getTime(),
    lease,
    leaseEndsAtMs: later.getTime(),
  });
  const row = await database.transaction({ role: 'app', org }, async (tx) => {
    await audit.recordChanges(tx, org, audited);
    await keys.insertKey(tx, keyOf(org, 'key of the victim'));
    await erasures.insertErasure(tx, org, { ...erasureOf(place, 'of the victim'), subject: 'somebody' });
    const found = await leases.findLease(tx, org, inbox, lease);
    assert.ok(found);
    await leases.insertDeadLetters(tx, org, inbox, { ...found, positions: '{[2,3)}' }, now);
    return found;
  });
  return { org, place, lease: row, keyId: 'key of the victim', erasure: 'of the victim' };
}
