import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { StorageError } from '../../src/db/database.js';
import type { QueryResult, Scope, Statement } from '../../src/db/database.js';
import { ofKind, refused, schema, signal } from '../support/conformance.js';
import { binaryRows, garbage } from '../support/copy-rows.js';
import { embeddedEngine, postgresEngine } from '../support/database-engines.js';
import type { TestEngine, TestLimits } from '../support/database-engines.js';

const owner: Scope = { role: 'owner' };

let names = 0;
/** A statement of its own: prepared statements are named, and a name belongs to one text. */
const sql = (text: string): Statement => ({ name: `test_${names++}`, text });

const postgres = await postgresEngine();
const app = (org: string): Scope => ({ role: 'app', org });

const engines: TestEngine[] = [await embeddedEngine(), ...(postgres ? [postgres] : [])];
if (!postgres) {
  it(
    'holds on PostgreSQL',
    { skip: 'NOT TESTED: there is no PostgreSQL server on this machine (initdb, postgres)' },
    () => {},
  );
}

for (const engine of engines) {
  describe(`the ${engine.name} engine`, () => {
    let db: Awaited<ReturnType<TestEngine['open']>>;
    before(async () => {
      db = await engine.open();
      await db.transaction(owner, (tx) => tx.script(schema));
    });
    after(async () => {
      await db.close();
      await engine.remove();
    });
    const copy = (target: string, rows: Buffer): Promise<number> =>
      db.transaction(owner, (tx) => tx.copyIn(target, rows));
    const query = (text: string, values?: unknown[]): Promise<QueryResult<Record<string, unknown>>> =>
      db.query(owner, sql(text), values);
    const count = async (table: string, where = 'true'): Promise<number> =>
      Number((await query(`SELECT count(*) AS n FROM ${table} WHERE ${where}`)).rows[0]?.['n']);

    it('keeps what was committed', async () => {
      const value = await db.transaction(owner, async (tx) => {
        const { rowCount } = await tx.query(sql(`INSERT INTO plain VALUES ($1, 'kept'), ($1, 'kept')`), [1]);
        return rowCount;
      });
      assert.equal(value, 2);
      assert.equal(await count('plain', `b = 'kept'`), 2);
    });

    it('keeps nothing of a transaction whose work throws, and throws the same error', async () => {
      const own = new Error('no');
      const failing = db.transaction(owner, async (tx) => {
        await tx.query(sql(`INSERT INTO plain VALUES (1, 'thrown')`));
        throw own;
      });
      await assert.rejects(failing, (error) => error === own);
      assert.equal(await count('plain', `b = 'thrown'`), 0);
    });

    it('reports a refused statement with its SQLSTATE', async () => {
      await assert.rejects(query('SELEC 1'), refused('42601'));
      await assert.rejects(query('SELECT * FROM nowhere'), refused('42P01'));
      await query('INSERT INTO uniq VALUES (1)');
      await assert.rejects(query('INSERT INTO uniq VALUES ($1)', [1]), refused('23505'));
    });

    it('runs a named statement again after it was refused', async () => {
      const divide = sql('SELECT 6 / $1::int AS q');
      assert.deepEqual((await db.query(owner, divide, [2])).rows, [{ q: 3 }]);
      await assert.rejects(db.query(owner, divide, [0]), refused('22012'));
      assert.deepEqual((await db.query(owner, divide, [3])).rows, [{ q: 2 }]);
    });

    it('rejects a COMMIT after a failed statement, even if the work ignored the failure', async () => {
      const ignoring = db.transaction(owner, async (tx) => {
        await tx.query(sql(`INSERT INTO plain VALUES (1, 'ignored')`));
        await tx.query(sql('SELECT 1/0')).catch(() => {});
      });
      await assert.rejects(ignoring, refused('22012'));
      assert.equal(await count('plain', `b = 'ignored'`), 0);
    });

    it('rejects a COMMIT that the server refuses', async () => {
      await assert.rejects(query('INSERT INTO late VALUES (1), (1)'), refused('23505'));
      assert.equal(await count('late'), 0);
    });

    it('waits for statements whose promises the work dropped, before COMMIT', async () => {
      await db.transaction(owner, async (tx) => {
        void tx.query(sql(`INSERT INTO plain VALUES (1, 'dropped')`));
        void tx.query(sql(`INSERT INTO plain VALUES (2, 'dropped')`));
      });
      assert.equal(await count('plain', `b = 'dropped'`), 2);
    });

    it('refuses a statement after the transaction is over', async () => {
      const tx = await db.transaction(owner, async (open) => open);
      await assert.rejects(tx.query(sql('SELECT 1')), ofKind('sql'));
    });

    it('copies binary rows in and returns how many the server counted', async () => {
      const copied = await db.transaction(owner, (tx) => tx.copyIn('plain', binaryRows(20_000, 'copied', 300)));
      assert.equal(copied, 20_000);
      assert.equal(await count('plain', `b LIKE 'copied%' AND length(b) = 300`), 20_000);
      assert.equal(await db.transaction(owner, (tx) => tx.copyIn('plain (a, b)', binaryRows(0, '', 0))), 0);
    });

    it('refuses a COPY of garbage, of half a row and into no table, and goes on', async () => {
      await assert.rejects(copy('plain', garbage), refused('22P04'));
      await assert.rejects(copy('nowhere', binaryRows(3, 'x', 5)), refused('42P01'));
      const whole = binaryRows(5_000, 'half', 300);
      await assert.rejects(
        copy('plain', whole.subarray(0, whole.length - 150)),
        (error) => error instanceof StorageError && error.kind === 'sql',
      );
      assert.equal(await count('plain', `b LIKE 'half%'`), 0);
      assert.equal(await copy('plain', binaryRows(3, 'after', 5)), 3);
    });

    it('says in which line a COPY failed', async () => {
      const rows = binaryRows(3, 'abc', 3);
      rows[rows.lastIndexOf('abc')] = 0xff;
      const failing = db.transaction(owner, (tx) => tx.copyIn('plain', rows));
      await assert.rejects(
        failing,
        (error) => refused('22021')(error) && /plain, line 3/.test((error as StorageError).where ?? ''),
      );
    });

    it('rejects a COMMIT after a failed COPY that the work ignored', async () => {
      const ignoring = db.transaction(owner, async (tx) => {
        await tx.copyIn('plain', garbage).catch(() => {});
      });
      await assert.rejects(ignoring, refused('22P04'));
    });

    it('runs outside of any transaction what no transaction takes', async () => {
      const outside: Scope = { role: 'owner', outsideTransaction: true };
      await assert.rejects(db.query(owner, sql('CREATE INDEX CONCURRENTLY plain_a ON plain (a)')), refused('25001'));
      const { rows } = await db.query(outside, sql('CREATE INDEX CONCURRENTLY plain_a ON plain (a)'));
      assert.deepEqual(rows, []);
      await assert.rejects(db.query(outside, sql('CREATE INDEX CONCURRENTLY plain_a ON plain (a)')), refused('42P07'));
      await db.query(outside, sql('DROP INDEX CONCURRENTLY plain_a'));
      assert.equal((await query(`SELECT FROM pg_class WHERE relname = 'plain_a'`)).rowCount, 0);
    });

    it('shows each org its own rows, under the app role', async () => {
      const insert = sql("INSERT INTO owned SELECT NULLIF(current_setting($1, true), '')::bigint, $2");
      const read = sql('SELECT b FROM owned');
      await db.query(app('1'), insert, ['sluice.org', 'one']);
      await db.query(app('2'), insert, ['sluice.org', 'two']);
      assert.deepEqual((await db.query(app('1'), read)).rows, [{ b: 'one' }]);
      assert.deepEqual((await db.query(app('2'), read)).rows, [{ b: 'two' }]);
      assert.deepEqual((await db.query({ role: 'app' }, read)).rows, []);
      await assert.rejects(db.query(app('1'), sql(`INSERT INTO owned VALUES (2, 'forged')`)), refused('42501'));
    });

    it('gives a role its own grants only, and takes role and org away with the transaction', async () => {
      const who = `SELECT current_user AS who, NULLIF(current_setting('sluice.org', true), '') AS org`;
      assert.deepEqual((await db.query({ role: 'system', org: '77' }, sql(who))).rows, [
        { who: 'sluice_system', org: '77' },
      ]);
      await assert.rejects(db.query({ role: 'ingest' }, sql('SELECT * FROM plain')), refused('42501'));
      assert.equal(await db.transaction({ role: 'ingest' }, (tx) => tx.copyIn('plain', binaryRows(2, 'in', 2))), 2);
      for (const role of ['owner', 'ingest'] as const) {
        const [row] = (await db.query<{ who: string; org: unknown }>({ role }, sql(who))).rows;
        assert.equal(row?.org, null);
        assert.equal(row?.who === 'sluice_ingest', role === 'ingest');
      }
    });

    it('plans for ingest without hash join, merge join, sequential scan and bitmap scan', async () => {
      const names4 = ['enable_hashjoin', 'enable_mergejoin', 'enable_seqscan', 'enable_bitmapscan'];
      const settings = sql(
        names4
          .map((name) => `current_setting('${name}')`)
          .map((call, i) => `${i ? '' : 'SELECT '}${call} AS s${i}`)
          .join(', '),
      );
      assert.deepEqual((await db.query({ role: 'ingest' }, settings)).rows, [
        { s0: 'off', s1: 'off', s2: 'off', s3: 'off' },
      ]);
      assert.deepEqual((await db.query(owner, settings)).rows, [{ s0: 'on', s1: 'on', s2: 'on', s3: 'on' }]);
    });

    it('refuses an org that is not a number before it reaches the server', async () => {
      await assert.rejects(db.query({ role: 'app', org: `1'; DROP TABLE plain; --` }, sql('SELECT 1')), ofKind('sql'));
      await assert.rejects(db.query({ role: 'app', org: '' }, sql('SELECT 1')), ofKind('sql'));
    });

    it('parses values as the other engine does', async () => {
      const { rows } = await query(`SELECT
        '9223372036854775807'::int8 AS big, timestamptz '0001-01-01 00:00:00+00' AS first, timestamptz '9999-12-31 23:59:59.999+00' AS last,
        '\\x00ff10'::bytea AS bytes, '{"a": [1, null]}'::jsonb AS json, ARRAY['a', NULL, 'c,"d'] AS texts,
        '{[1,5),[7,9)}'::int8multirange AS ranges, NULL::text AS nothing, 1.5::float8 AS real, 12.50::numeric AS exact, true AS yes`);
      assert.deepEqual(rows, [
        {
          big: '9223372036854775807',
          first: new Date('0001-01-01T00:00:00.000Z'),
          last: new Date('9999-12-31T23:59:59.999Z'),
          bytes: Buffer.from([0, 255, 16]),
          json: { a: [1, null] },
          texts: ['a', null, 'c,"d'],
          ranges: '{[1,5),[7,9)}',
          nothing: null,
          real: 1.5,
          exact: '12.50',
          yes: true,
        },
      ]);
    });

    it('takes values of every kind it gives', async () => {
      const bytes = Buffer.from([0, 255, 16]);
      const at = new Date('2026-11-21T10:00:00.123Z');
      const { rows } = await query(
        'SELECT $1::bytea AS b, $2::timestamptz AS t, $3::text[] AS a, $4::int8[] AS n, $5::text AS z',
        [bytes, at, ['a"', 'b,', null], ['1', '9223372036854775807'], null],
      );
      assert.deepEqual(rows, [{ b: bytes, t: at, a: ['a"', 'b,', null], n: ['1', '9223372036854775807'], z: null }]);
    });

    it('carries 8 MB in one value, both ways', async () => {
      const big = 'ä'.repeat(4_000_000);
      const { rows } = await query('SELECT $1::text AS big', [big]);
      assert.equal(rows[0]?.['big'], big);
    });

    it('passes warnings that come with COMMIT to the scope, and no others', async () => {
      const warnings: string[] = [];
      await db.transaction(owner, (tx) =>
        tx.script(`
          CREATE TABLE IF NOT EXISTS warns (a int);
          CREATE OR REPLACE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'careful'; RETURN NULL; END $$;
          CREATE OR REPLACE TRIGGER now AFTER INSERT ON warns FOR EACH STATEMENT EXECUTE FUNCTION warn();
          CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON warns DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION warn();`),
      );
      const scope: Scope = { role: 'owner', onCommitWarning: (sqlstate) => warnings.push(sqlstate) };
      await db.query(scope, sql('INSERT INTO warns VALUES (1)'));
      assert.deepEqual(warnings, ['01000']);
    });

    it('hears notifications of a committed transaction until it stops listening', async () => {
      const heard: string[] = [];
      let next = signal();
      const stop = await db.listen('news', (payload) => {
        heard.push(payload);
        next.fire();
      });
      const first = next.promise;
      await query(`SELECT pg_notify('news', 'hello')`);
      await first;
      await assert.rejects(
        db.transaction(owner, async (tx) => {
          await tx.query(sql(`SELECT pg_notify('news', 'rolled back')`));
          throw new Error('no');
        }),
      );
      next = signal();
      const second = next.promise;
      await query(`SELECT pg_notify('news', 'again')`);
      await second;
      assert.deepEqual(heard, ['hello', 'again']);
      await stop();
      await query(`SELECT pg_notify('news', 'nobody')`);
      assert.deepEqual(heard, ['hello', 'again']);
      await assert.rejects(
        db.listen('News; DROP', () => {}),
        TypeError,
      );
    });

    /** Runs `work` on a second handle with these limits. The embedded engine's folder has room for one only. */
    const limited = async (limits: TestLimits, work: (limited: typeof db) => Promise<void>): Promise<void> => {
      if (engine.name === 'embedded') await db.close();
      const small = await engine.open(limits);
      try {
        await work(small);
      } finally {
        await small.close();
        if (engine.name === 'embedded') db = await engine.open();
      }
    };

    it('refuses what waits beyond its bounds, and serves the rest', async () => {
      await limited({ waitersMax: 2, waitMsMax: 200 }, async (bounded) => {
        const release = signal();
        const held = signal();
        const ingest: Scope = { role: 'ingest' };
        const holder = bounded.transaction(ingest, async () => {
          held.fire();
          await release.promise;
        });
        await held.promise;
        const waiters = Promise.allSettled([1, 2].map(() => bounded.query(ingest, sql('SELECT 1'))));
        assert.equal(bounded.stats().waiting, 2);
        await assert.rejects(bounded.query(ingest, sql('SELECT 1')), ofKind('unavailable'));
        for (const result of await waiters) {
          assert.ok(result.status === 'rejected' && ofKind('unavailable')(result.reason), 'a wait is bounded in time');
        }
        release.fire();
        await holder;
        assert.equal((await bounded.query(ingest, sql('SELECT 1'))).rowCount, 1);
        assert.deepEqual([bounded.stats().waiting, bounded.stats().sessionsInUse], [0, 0]);
      });
    });

    it('reports a session that breaks before COMMIT as unavailable, and recovers by itself', async () => {
      await limited({ stallMsMax: 1_000 }, async (breakable) => {
        const breaking = breakable.transaction(owner, async (tx) => {
          await tx.query(sql(`INSERT INTO plain VALUES (1, 'broken')`));
          await tx.query(sql('SELECT pg_sleep(8)'));
        });
        await assert.rejects(breaking, ofKind('unavailable'));
        assert.equal((await breakable.query(owner, sql(`SELECT FROM plain WHERE b = 'broken'`))).rowCount, 0);
      });
    });

    it('reports a session that breaks during COMMIT as an unknown outcome, and recovers by itself', async () => {
      await limited({ stallMsMax: 1_000 }, async (breakable) => {
        await assert.rejects(breakable.query(owner, sql('INSERT INTO stalls VALUES (1)')), ofKind('outcome_unknown'));
        assert.equal((await breakable.query(owner, sql('SELECT 1'))).rowCount, 1);
      });
    });

    it('takes the session back from a transaction whose work never goes on', async () => {
      await limited({ stallMsMax: 1_000 }, async (breakable) => {
        const goOn = signal();
        const started = signal();
        const forgotten = breakable.transaction({ role: 'ingest' }, async (tx) => {
          started.fire();
          await goOn.promise;
          await tx.query(sql('SELECT 1'));
        });
        await started.promise;
        // Nothing tells the work that its session is gone: it learns it from its next statement.
        setTimeout(goOn.fire, 1_500);
        await assert.rejects(forgotten, ofKind('unavailable'));
      });
    });

    it('refuses work once it is closed, after finishing the work under way', async () => {
      await db.close();
      const closing = await engine.open();
      const started = signal();
      const release = signal();
      const work = closing.transaction(owner, async (tx) => {
        started.fire();
        await release.promise;
        await tx.query(sql(`INSERT INTO plain VALUES (1, 'last')`));
      });
      await started.promise;
      const closed = closing.close();
      await assert.rejects(closing.query(owner, sql('SELECT 1')), ofKind('unavailable'));
      release.fire();
      await work;
      await closed;
      await closing.close();
      db = await engine.open();
      assert.equal(await count('plain', `b = 'last'`), 1);
    });
  });
}
