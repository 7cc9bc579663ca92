import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { positionJumpMax } from '../../src/db/sql/epochs.js';
import { expireBefore } from '../../src/subscriptions/expire.js';
import { readStats } from '../../src/subscriptions/peek.js';
import { receive } from '../../src/subscriptions/receive.js';
import { append, asOwner, dayMs, intercept, newLog, openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

after(stopServers);

const firstDay = 20_000;
const subscription = 0;
const events = 20;
/** A few for each gap; by pages of positions it would be twenty thousand. */
const statementsMax = 20 * events;

for (const engine of engineNames) {
  describe(`with gaps as a new epoch leaves them, on ${engine}`, () => {
    it('nothing takes longer for their width', async (t) => {
      const storage = await createStorage(engine);
      if (storage === null) return t.skip('NOT TESTED: there is no PostgreSQL server on this machine');
      t.after(() => storage.remove());
      const database = await openLog(storage, new TestClock((firstDay + 1) * dayMs));
      t.after(() => database.close());
      let statements = 0;
      const counting: Database = intercept(database, (statement, values, real) => {
        statements++;
        assert.ok(statements <= statementsMax, `statement ${statements}: ${statement.name}`);
        return real(statement, values);
      });
      const org = await newLog(database, firstDay * dayMs);
      for (let i = 0; i < events; i++) {
        await append(database, org, [{ type: i % 2 === 0 ? 'a' : 'b' }], (firstDay + Math.floor(i / 10)) * dayMs);
        await asOwner(database, `UPDATE heads SET position = position + ${positionJumpMax} WHERE org = ${org}`);
      }
      const pending = async (): Promise<number | undefined> => {
        statements = 0;
        return (await readStats(counting, org, subscription, (firstDay + 1) * dayMs))?.pending;
      };
      assert.equal(await pending(), events);

      statements = 0;
      const taken = await receive(counting, {
        org,
        subscription,
        eventsMax: 3,
        wantsPayload: false,
        nowMs: (firstDay + 1) * dayMs,
        lease: 'lease',
        leaseEndsAtMs: (firstDay + 2) * dayMs,
      });
      assert.equal(taken?.events.length, 3);
      assert.equal(await pending(), events - 3);

      statements = 0;
      while (!(await expireBefore(counting, org, firstDay + 1)));
      assert.equal(await pending(), events / 2);
    });
  });
}
