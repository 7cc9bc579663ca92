import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { Inboxes } from '../../src/inbox/inboxes.js';
import { append, dayMs, intercept, newLog, openLog, reopenable } from '../support/log.js';
import type { Query } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';
import { checkListing } from './checks.js';
import { Model } from './model.js';
import type { Real, Steps } from './steps.js';
import { stepsUpTo } from './steps.js';

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const runs = isSoak ? 2_000 : 50;
/** An engine, since a start takes a second. After them a restart only forgets what is in memory. */
const reopensMax = isSoak ? 200 : 8;
const firstDay = 20_000;
const lastDay = firstDay + 8;

const reached = new Set<string>();
const toReach = ['a dead letter', 'a fourth attempt', 'a gap', 'a second day', 'erasure', 'retention'];
/** Chance may miss one of them; then there are more runs, up to so many times more. */
const moreMax = 10;

function noteReached({ events, mostAttempts, expired, erased }: Model): void {
  if (events.some((event) => event.settled === 'dead')) reached.add('a dead letter');
  if (mostAttempts >= 4) reached.add('a fourth attempt');
  if (events.some((event, i) => event.position > i + 1)) reached.add('a gap');
  if (events.some((event) => event.day > firstDay)) reached.add('a second day');
  if (expired > 0) reached.add('retention');
  if (erased > 0) reached.add('erasure');
}

describe('a subscription does what its model does', () => {
  for (const engine of engineNames) {
    describe(`on ${engine}`, () => {
      let storage: TestStorage | null;
      let database: Database;
      let reopen: () => Promise<void>;
      let reopens = 0;
      before(async () => {
        storage = await createStorage(engine);
        if (storage === null) return;
        const place = storage;
        const open = () => openLog(place, new TestClock((firstDay + 1) * dayMs));
        ({ database, reopen } = await reopenable(open));
        // Another org's log holds events at positions above every other log's head.
        const other = await newLog(database, firstDay * dayMs);
        const events = Array.from({ length: 3_000 }, () => ({}));
        for (let day = firstDay; day <= lastDay; day++) await append(database, other, events, day * dayMs);
      });
      after(async () => {
        if (storage === null) return;
        await database.close();
        await storage.remove();
      });

      const holds = (used: Database) => async (steps: Steps, attemptsMax: number) => {
        const model = new Model(firstDay * dayMs + 1, attemptsMax);
        const org = await newLog(database, model.nowMs, attemptsMax);
        const startInboxes = () => new Inboxes(used, systemClock);
        const restart = async () => {
          if (++reopens <= reopensMax) await reopen();
          return startInboxes();
        };
        const shared = { database: used, org, firstDay, lastDay, restart };
        const real: Real = { ...shared, inboxes: startInboxes(), cursor: 0, sought: false };
        await fc.asyncModelRun(() => ({ model, real }), steps);
        for (const status of [undefined, 'pending', 'leased', 'dead', 'delivered'] as const) {
          await checkListing(model, real, { status, pattern: '*', limit: 3 });
        }
        noteReached(model);
      };
      const property = (used: Database) =>
        fc.asyncProperty(stepsUpTo(100), fc.constantFrom(1, 2, 3, 5, 10), holds(used));

      test('whatever is appended, received, acknowledged or left to end, in any order', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        reached.clear();
        for (let round = 0; round === 0 || (reached.size < toReach.length && round <= moreMax); round++)
          await fc.assert(property(database), { numRuns: runs });
        // Runs that never come this far would show nothing of it.
        assert.deepEqual([...reached].toSorted(), toReach);
      });

      const breakages: Record<string, Query> = {
        'an ended lease keeps what is handed out again': without('leases_shrink'),
        'an attempt over the limit leaves no dead letter': without('dead_letters_insert'),
        'the cursor stays behind what was handed out': (statement, values, real) => {
          if (statement.name !== 'lease_hand_out') return real(statement, values);
          const text = statement.text.replace('SET cursor = $9', 'SET cursor = LEAST(cursor, $9)');
          return real({ name: 'test_hand_out', text }, values);
        },
        'an erasure forgets the subscriptions': without('erasure_count_subscription'),
        'retention forgets the subscriptions': without('retention_trim_subscription'),
      };
      for (const [what, breakage] of Object.entries(breakages)) {
        test(`and the model notices when ${what}`, async (t) => {
          if (storage === null) return t.skip('no PostgreSQL');
          const broken = intercept(database, breakage);
          const { failed } = await fc.check(property(broken), { numRuns: runs, endOnFailure: true });
          assert.ok(failed);
        });
      }
    });
  }
  after(stopServers);
});

/** The statement of this name is not run, and seems to have done nothing. */
function without(name: string): Query {
  return (statement, values, real) =>
    statement.name === name ? Promise.resolve({ rows: [], rowCount: 0 }) : real(statement, values);
}
