import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { Problem } from '../../src/errors.js';
import { acknowledge, acknowledgeLease, aheadRangesMax } from '../../src/subscriptions/acknowledge.js';
import { PositionSet } from '../../src/subscriptions/position-set.js';
import { heldPositionsMax, receive } from '../../src/subscriptions/receive.js';
import { append, asOrg, asOwner, newLog, openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

const nowMs = Date.now();
const day = Math.floor(nowMs / 86_400_000);
const address = (position: number) => ({ epoch: 1, position, day });

describe('the state of a subscription is bounded', () => {
  for (const engine of engineNames) {
    describe(`on ${engine}`, () => {
      let storage: TestStorage | null;
      let database: Database;
      before(async () => {
        storage = await createStorage(engine);
        if (storage !== null) database = await openLog(storage);
      });
      after(async () => {
        if (storage === null) return;
        await database.close();
        await storage.remove();
      });

      async function logOf(events: number): Promise<string> {
        const org = await newLog(database, nowMs);
        await append(
          database,
          org,
          Array.from({ length: events }, () => ({})),
          nowMs,
        );
        return org;
      }

      const positionsReceived = async (org: string, lease: string, atMs = nowMs, eventsMax = 10): Promise<number[]> => {
        const leaseEndsAtMs = atMs + 60_000;
        const request = { org, subscription: 0, eventsMax, wantsPayload: true, nowMs: atMs, lease, leaseEndsAtMs };
        return ((await receive(database, request))?.events ?? []).map((event) => Number(event.position));
      };

      const stateOf = async (org: string) =>
        (
          await asOrg<{ cursor: string; ahead: string; held: string }>(
            database,
            org,
            'SELECT cursor, ahead::text AS ahead, held FROM subscriptions',
          )
        )[0];

      const deadOf = async (org: string): Promise<number[]> =>
        (await asOrg<{ position: string }>(database, org, 'SELECT position FROM dead_letters')).map(({ position }) =>
          Number(position),
        );

      test('nothing new is handed out past the limit of unfinished events, until some are acknowledged', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const org = await logOf(20);
        assert.equal((await positionsReceived(org, 'lse_1')).length, 10);
        await asOwner(database, `UPDATE subscriptions SET held = ${heldPositionsMax - 3} WHERE org = ${org}`);
        assert.deepEqual(await positionsReceived(org, 'lse_2'), [11, 12, 13]);
        assert.deepEqual(await positionsReceived(org, 'lse_3'), []);
        // What comes back is not new.
        assert.deepEqual((await positionsReceived(org, 'lse_4', nowMs + 60_000)).length, 10);
        assert.equal(await acknowledgeLease(database, org, 0, 'lse_2'), 3);
        assert.deepEqual(await positionsReceived(org, 'lse_5', nowMs + 60_001), [14, 15, 16]);
      });

      test('acknowledgements without a receive are refused past the limit of ranges, and then change nothing', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const org = await logOf(20);
        const far = Array.from({ length: aheadRangesMax }, (_, i) => 1000 + 2 * i);
        const ahead = PositionSet.of(far).toString();
        await asOwner(database, `UPDATE subscriptions SET ahead = '${ahead}' WHERE org = ${org}`);
        const earlier = await stateOf(org);
        await assert.rejects(
          acknowledge(database, org, 0, [address(1), address(3)]),
          (error) => error instanceof Problem && error.code === 'limit_reached',
        );
        assert.deepEqual(await stateOf(org), earlier);
        // In the order of the log the cursor moves, and nothing is added.
        assert.deepEqual(await acknowledge(database, org, 0, [address(1), address(2)]), [
          'acknowledged',
          'acknowledged',
        ]);
        assert.equal((await stateOf(org))?.cursor, '2');
      });

      test('a consumer that only acknowledges, in the order of the log, leaves nothing behind at its gaps', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const org = await newLog(database, nowMs);
        for (let i = 0; i < 30; i++) {
          const places = await append(database, org, [{}, { dedupId: 'taken' }, {}], nowMs);
          const stored = places.filter((place) => place !== null);
          await acknowledge(database, org, 0, stored);
          const last = stored.at(-1)?.position;
          assert.deepEqual(await stateOf(org), { cursor: String(last), ahead: '{}', held: '0' });
        }
      });

      test('an event that ends its consumers every time ends as the only dead letter of a batch of 500', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const events = 500;
        const org = await logOf(events);
        const poison = 137;
        const delivered = new Set<number>();
        let atMs = nowMs;
        for (let turn = 0; delivered.size < events - 1 || (await deadOf(org)).length === 0; turn++) {
          assert.ok(turn < 500);
          const lease = `lse_${String(turn).padStart(3, '0')}`;
          const positions = await positionsReceived(org, lease, atMs, events);
          if (turn === 0) assert.equal(positions.length, events);
          // Whoever gets it dies with all that it has.
          if (positions.includes(poison) || positions.length === 0) atMs += 60_000;
          else {
            for (const position of positions) delivered.add(position);
            assert.equal(await acknowledgeLease(database, org, 0, lease), positions.length);
          }
        }
        assert.deepEqual(await deadOf(org), [poison]);
        assert.equal(delivered.has(poison), false);
        assert.deepEqual(await positionsReceived(org, 'lse_last', atMs + 60_000, events), []);
      });
    });
  }
  after(stopServers);
});
