/** What is changed of a key or its org, by another node or by hand, is seen within a second while its requests come and polls say that nothing has changed. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Caller, Identity } from '../../src/admission/authenticate.js';
import { Authenticator } from '../../src/admission/authenticate.js';
import type { Database } from '../../src/db/database.js';
import { findKeysByHash, readAccessVersion, touchKeys } from '../../src/db/sql/keys.js';
import { Problem } from '../../src/errors.js';
import { Keys } from '../../src/tenancy/keys.js';
import { Orgs } from '../../src/tenancy/orgs.js';
import { scopes } from '../../src/tenancy/scopes.js';
import { bearer } from '../support/key-lookups.js';
import { openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

after(stopServers);

const requestMs = 100;
/** A second after the change the last request has come. */
const seenMs = 900;

/** A key, as everybody but the node that is looked at sees it. */
interface Target {
  readonly database: Database;
  readonly keys: Keys;
  readonly orgs: Orgs;
  readonly org: string;
  readonly keyId: string;
}

interface Change {
  readonly name: string;
  readonly make: (target: Target) => Promise<unknown>;
  /** The code of the refusal, or what the key is then. */
  readonly outcome: string | ((identity: Identity) => boolean);
}

const held = ({ keyId }: Target) => ({ keyId, scopes: new Set(scopes) });
const byHand =
  (text: (target: Target) => string) =>
  (target: Target): Promise<void> =>
    target.database.transaction({ role: 'owner' }, (tx) => tx.script(text(target)));
const ofKey = ({ org, keyId }: Target): string => `WHERE org = ${org} AND key_id = '${keyId}'`;

const changes: readonly Change[] = [
  {
    name: 'deleted by another node',
    make: (target) => target.keys.delete(target.org, target.keyId, held(target)),
    outcome: 'invalid_key',
  },
  {
    name: 'rotated by another node',
    make: (target) => target.keys.rotate(target.org, target.keyId, 0, held(target)),
    outcome: 'invalid_key',
  },
  {
    name: 'rotated by another node with a grace',
    make: (target) => target.keys.rotate(target.org, target.keyId, 3_600, held(target)),
    outcome: ({ expiresAtMs }) => expiresAtMs !== null,
  },
  {
    name: 'one of an org that another node suspends',
    make: ({ orgs, org }) => orgs.update(org, { suspended: true }),
    outcome: 'org_suspended',
  },
  {
    name: 'one of an org that another node limits',
    make: ({ orgs, org }) => orgs.update(org, { ratePerMinute: 3, burst: 3 }),
    outcome: ({ limits }) => limits.ratePerMinute === 3 && limits.burst === 3,
  },
  {
    name: 'one of an org that another node deletes',
    make: ({ orgs, org }) => orgs.delete(org),
    outcome: 'invalid_key',
  },
  {
    name: 'deleted by hand',
    make: byHand((target) => `DELETE FROM api_keys ${ofKey(target)}`),
    outcome: 'invalid_key',
  },
  {
    name: 'ended by hand',
    make: byHand((target) => `UPDATE api_keys SET expires_at = '2020-01-01' ${ofKey(target)}`),
    outcome: 'invalid_key',
  },
  {
    name: 'given fewer scopes by hand',
    make: byHand((target) => `UPDATE api_keys SET scopes = '{events:read}' ${ofKey(target)}`),
    outcome: (identity) => identity.scopes.size === 1,
  },
  {
    name: 'one of an org that is suspended by hand',
    make: byHand(({ org }) => `UPDATE orgs SET suspended = true WHERE org = ${org}`),
    outcome: 'org_suspended',
  },
  {
    name: 'one of a table that is emptied by hand',
    make: byHand(() => 'TRUNCATE api_keys'),
    outcome: 'invalid_key',
  },
];

for (const engine of engineNames) {
  const storage = await createStorage(engine);
  describe(`on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage !== null) describeChanges(storage);
  });
}

function describeChanges(storage: TestStorage): void {
  const clock = new TestClock();
  let database: Database;
  let orgs: Orgs;
  let keys: Keys;
  before(async () => {
    database = await openLog(storage, clock);
    orgs = new Orgs(
      database,
      clock,
      () => {},
      () => {},
    );
    keys = new Keys(database, clock, () => {});
  });
  after(async () => {
    await database?.close();
    await storage.remove();
  });

  /** What became of a key a second after the change, and how often it was looked up in the second before. */
  async function changeOne(
    make: Change['make'],
  ): Promise<{ readonly seen: Caller | string; readonly lookups: number }> {
    const { org, key } = await orgs.create('test', 'free');
    const asked = { lookups: 0, underWay: new Set<Promise<unknown>>() };
    const authenticator = new Authenticator(watched(database, asked), clock, 'the-admin-token');
    const request = async (): Promise<Caller | string> => {
      try {
        return await authenticator.authenticate(bearer(key.secret));
      } catch (error) {
        if (error instanceof Problem) return error.code;
        throw error;
      }
    };
    const requestsFor = async (ms: number): Promise<Caller | string> => {
      let last = await request();
      for (let passed = 0; passed < ms; passed += requestMs) {
        await Promise.all(asked.underWay);
        clock.advance(requestMs);
        last = await request();
      }
      return last;
    };
    await requestsFor(1_000);
    const { lookups } = asked;
    await make({ database, keys, orgs, org: org.org, keyId: key.id });
    return { seen: await requestsFor(seenMs), lookups };
  }

  for (const { name, make, outcome } of changes) {
    it(`a key that is ${name} has its new state within a second`, async () => {
      const { seen, lookups } = await changeOne(make);
      assert.equal(lookups, 1, 'it was not remembered when it was changed');
      if (typeof outcome === 'string') assert.equal(seen, outcome);
      else assert.ok(typeof seen === 'object' && seen.kind === 'key' && outcome(seen), JSON.stringify(seen));
    });
  }

  it('would not have it without the trigger', async () => {
    const { seen } = await changeOne(
      byHand(
        (target) => `
          ALTER TABLE api_keys DISABLE TRIGGER api_keys_access;
          DELETE FROM api_keys ${ofKey(target)};
          ALTER TABLE api_keys ENABLE TRIGGER api_keys_access`,
      ),
    );
    assert.equal(typeof seen, 'object');
  });

  it('the use of a key, a new key and a new org leave the version as it is', async () => {
    const { org, key } = await orgs.create('test', 'free');
    const version = await readAccessVersion(database);
    await touchKeys(database, [{ org: org.org, keyId: key.id, at: new Date() }]);
    await keys.create(
      org.org,
      { name: 'another', scopes, expiresAtMs: null },
      { keyId: key.id, scopes: new Set(scopes) },
    );
    await orgs.create('another', 'free');
    assert.equal(await readAccessVersion(database), version);
    await orgs.update(org.org, { suspended: true });
    assert.notEqual(await readAccessVersion(database), version);
  });

  it('every column that a look-up reads raises the version where it is changed', async () => {
    const read = new Set<string>();
    const noting = {
      query: (_: unknown, { text }: { readonly text: string }) => {
        for (const [, alias, column] of text.matchAll(/\b([ko])\.(\w+)/g))
          read.add(`${alias === 'k' ? 'api_keys' : 'orgs'}.${column}`);
        return Promise.resolve({ rows: [], rowCount: 0 });
      },
    };
    await findKeysByHash(noting as unknown as Database, []);
    const text = `
      SELECT format('%s.%s', tgrelid::regclass, attname) AS column
      FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = ANY (tgattr::smallint[]) WHERE tgname LIKE '%\\_access'`;
    const { rows } = await database.query<{ column: string }>({ role: 'owner' }, { name: 'test_columns', text });
    const watchedColumns = new Set(rows.map(({ column }) => column));
    assert.ok(read.size >= 10 && read.has('orgs.suspended'), [...read].join());
    assert.deepEqual(
      [...read].filter((column) => !watchedColumns.has(column)),
      [],
    );
  });

  if (storage.engine === 'postgres') {
    it('changes at one time do not wait for each other, and each raises the version with its commit', async () => {
      const [first, second] = [await orgs.create('first', 'free'), await orgs.create('second', 'free')];
      const suspend = (org: string): string => `UPDATE orgs SET suspended = NOT suspended WHERE org = ${org}`;
      const versions = [await readAccessVersion(database)];
      const note = async (): Promise<void> => void versions.push(await readAccessVersion(database));
      // The second would wait for the first, which waits for it: one row for all would be a deadlock without an end.
      await database.transaction({ role: 'owner' }, async (tx) => {
        await tx.script(suspend(first.org.org));
        await database.transaction({ role: 'owner' }, async (inner) => {
          await inner.script(suspend(second.org.org));
          await note();
        });
        await note();
      });
      await note();
      const [atFirst, uncommitted, one, both] = versions;
      assert.equal(uncommitted, atFirst);
      assert.ok(Number(one) > Number(atFirst) && Number(both) > Number(one), versions.join());
      const count = { name: 'test_slots', text: 'SELECT count(*)::integer AS slots FROM access_versions' };
      const slots = async () =>
        (await database.query<{ slots: number }>({ role: 'owner' }, count)).rows.map((row) => row.slots);
      assert.deepEqual(await slots(), [2]);
      for (let i = 0; i < 5; i++)
        await database.transaction({ role: 'owner' }, (tx) => tx.script(suspend(first.org.org)));
      assert.deepEqual(await slots(), [2]);
    });
  }
}

/** The same database, which notes the look-ups and what is under way. */
function watched(database: Database, asked: { lookups: number; underWay: Set<Promise<unknown>> }): Database {
  return {
    engine: database.engine,
    transaction: (scope, work) => database.transaction(scope, work),
    query(scope, statement, values) {
      if (statement.name === 'key_find_by_hash') asked.lookups++;
      const answer = database.query<never>(scope, statement, values);
      asked.underWay.add(answer);
      const ended = (): void => void asked.underWay.delete(answer);
      answer.then(ended, ended);
      return answer;
    },
    listen: (channel, onNotify, onGap) => database.listen(channel, onNotify, onGap),
    close: () => database.close(),
  };
}
