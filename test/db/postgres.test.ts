import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { Client } from 'pg';
import { systemClock } from '../../src/clock.js';
import { StorageError } from '../../src/db/database.js';
import type { Scope } from '../../src/db/database.js';
import { openPostgres } from '../../src/db/postgres.js';
import type { PostgresDatabase, PostgresOptions } from '../../src/db/postgres.js';
import { WireSession } from '../../src/db/wire-session.js';
import { signal } from '../support/conformance.js';
import { binaryRows } from '../support/copy-rows.js';
import { postgresEngine } from '../support/database-engines.js';
import { freePort } from '../support/postgres-server.js';

const owner: Scope = { role: 'owner' };
const statement = (text: string) => ({ name: text.slice(0, 60), text });
const ofKind = (kind: StorageError['kind']) => (error: unknown) => error instanceof StorageError && error.kind === kind;

const engine = await postgresEngine();

describe(
  'the postgres engine',
  { skip: engine ? false : 'NOT TESTED: there is no PostgreSQL server on this machine' },
  () => {
    if (!engine) return;
    let admin: Client;
    const opened: PostgresDatabase[] = [];
    before(async () => {
      admin = new Client(engine.url);
      await admin.connect();
      await admin.query(`DO $$ BEGIN CREATE ROLE sluice_ingest; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
      CREATE TABLE kept (a int);
      CREATE TABLE plain (a int, b text);
      GRANT INSERT ON plain TO sluice_ingest;
      CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
      CREATE TABLE stalls (a int);
      CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON stalls DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stall();`);
    });
    after(async () => {
      await Promise.all(opened.map((db) => db.close()));
      await admin.end();
      await engine.remove();
    });

    const open = async (options: Partial<PostgresOptions> = {}): Promise<PostgresDatabase> => {
      const db = await openPostgres({ url: engine.url, clock: systemClock, onLog: () => {}, ...options });
      opened.push(db);
      return db;
    };

    /** Ends the server's side of every session that runs a text like, was left in a transaction by it, or listens, `pattern`; waits until there is one. */
    const terminate = async (pattern: string): Promise<void> => {
      const text = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1 AND pid <> pg_backend_pid() AND (state <> 'idle' OR query LIKE 'LISTEN%') AND datname = current_database()`;
      for (let tries = 0; (await admin.query(text, [pattern])).rowCount === 0; tries++)
        assert.ok(tries < 10_000, `no session is at ${pattern}`);
    };

    it('is refused with the reason when the server cannot be reached', async () => {
      await assert.rejects(open({ url: `postgres://sluice@127.0.0.1:${await freePort()}/none` }), (error) => {
        assert.ok(ofKind('unavailable')(error));
        assert.match((error as Error).message, /ECONNREFUSED/);
        return true;
      });
    });

    it('reports a server that ends the session between two statements as unavailable', async () => {
      const db = await open();
      const broken = db.transaction(owner, async (tx) => {
        await tx.query(statement('INSERT INTO kept VALUES (101)'));
        await terminate('INSERT INTO kept VALUES (101)%');
        await tx.query(statement('SELECT 1'));
      });
      await assert.rejects(broken, ofKind('unavailable'));
      assert.equal((await db.query(owner, statement('SELECT FROM kept WHERE a = 101'))).rowCount, 0);
    });

    it('reports a server that ends the session during COMMIT as an unknown outcome, not as a refusal', async () => {
      const db = await open();
      const broken = db.query(owner, statement('INSERT INTO stalls VALUES (1)'));
      void terminate('COMMIT%');
      await assert.rejects(broken, ofKind('outcome_unknown'));
    });

    it('reports a COMMIT whose answer never arrives as an unknown outcome, though it is stored', async () => {
      const proxy = await cutAfter('COMMIT\0', engine.server.port);
      const url = engine.url.replace(/:\d+\//, `:${proxy.port}/`);
      const db = await open({ url });
      try {
        await assert.rejects(db.query(owner, statement('INSERT INTO kept VALUES (102)')), ofKind('outcome_unknown'));
        while ((await admin.query('SELECT FROM kept WHERE a = 102')).rowCount === 0);
      } finally {
        await db.close();
        proxy.close();
      }
    });

    it('runs nothing of a transaction whose BEGIN is refused, and uses the session again', async () => {
      const begin = 'BEGIN ISOLATION LEVEL READ COMMITTED';
      const proxy = await altering(begin, begin.replace('LEVEL', 'LEVER'), engine.server.port);
      const url = engine.url.replace(/:\d+\//, `:${proxy.port}/`);
      const db = await open({ url, sessionsMax: 2 });
      const insert = (value: number) => statement(`INSERT INTO kept VALUES (${value})`);
      const stored = async (value: number) => (await admin.query('SELECT FROM kept WHERE a = $1', [value])).rowCount;
      try {
        const refused = (error: unknown) => error instanceof StorageError && error.sqlstate === '42601';
        const several = db.transaction({ role: 'owner' }, async (tx) => {
          const early = tx.query(insert(201));
          await Promise.all([early, tx.query(insert(202)), tx.script('INSERT INTO kept VALUES (203)')]);
        });
        await assert.rejects(several, refused);
        await assert.rejects(
          db.transaction({ role: 'owner' }, (tx) => tx.script('INSERT INTO kept VALUES (205)')),
          refused,
        );
        for (const value of [201, 202, 203, 205]) assert.equal(await stored(value), 0);
        proxy.stop();
        await db.query(owner, insert(206));
        assert.equal(await stored(206), 1);

        // A client that sends its statement behind a BEGIN of its own is not so lucky.
        proxy.begin();
        const careless = new Client({ connectionString: url, pipeline: true });
        await careless.connect();
        const answers = await Promise.allSettled([
          careless.query(begin),
          careless.query('INSERT INTO kept VALUES (207)'),
        ]);
        assert.deepEqual(
          answers.map(({ status }) => status),
          ['rejected', 'fulfilled'],
        );
        assert.equal(await stored(207), 1);
        await careless.end();
      } finally {
        await db.close();
        proxy.close();
      }
    });

    it('replaces a session that fails though its connection stays open', async () => {
      const proxy = await altering('', '', engine.server.port);
      const db = await open({ url: engine.url.replace(/:\d+\//, `:${proxy.port}/`), sessionsMax: 2, waitMsMax: 2_000 });
      try {
        await db.query({ role: 'ingest' }, statement('SELECT 1'));
        const fatal = Buffer.from('SFATAL\0VFATAL\0C57P01\0Mgone\0\0');
        const header = Buffer.from([0x45, 0, 0, 0, fatal.length + 4]);
        proxy.say(Buffer.concat([header, fatal]));
        // Whether it comes before or in the middle of the next statement, there is a session afterwards.
        await db.query({ role: 'ingest' }, statement('SELECT 1')).catch(() => {});
        assert.equal((await db.query({ role: 'ingest' }, statement('SELECT 1'))).rowCount, 1);
      } finally {
        await db.close();
        proxy.close();
      }
    });

    it('gives up a session that is silent for too long, but not while it is the disk that keeps it waiting', async () => {
      const config = { connectionString: engine.url };
      for (const waits of [false, true]) {
        let halves = 0;
        const onHalfStalled = (): void => void halves++;
        const options = { clock: systemClock, stallMsMax: 300, onHalfStalled, waitsForDisk: () => waits };
        const session = await WireSession.open(config, options);
        assert.equal(halves, 0, 'told of a session that made progress');
        const slow = session.transaction(owner, (tx) => tx.query(statement('SELECT pg_sleep(1)')));
        if (waits) assert.equal((await slow).rowCount, 1);
        else await assert.rejects(slow, ofKind('unavailable'));
        assert.equal(session.usable, waits);
        assert.equal(halves, 1);
        session.destroy(new Error('the test is over'));
        await session.ended;
      }
    });

    it('runs transactions side by side', async () => {
      const db = await open();
      const [one, two] = [signal(), signal()];
      const overlap = (mine: typeof one, other: typeof one) =>
        db.transaction(owner, async (tx) => {
          await tx.query(statement('SELECT 1'));
          mine.fire();
          await other.promise;
        });
      await Promise.all([overlap(one, two), overlap(two, one)]);
    });

    it('keeps a session free for ingest when every other is taken', async () => {
      const db = await open();
      const release = signal();
      const all = Array.from({ length: 9 }, () => signal());
      const holders = all.map(({ fire }) =>
        db.transaction(owner, async () => {
          fire();
          await release.promise;
        }),
      );
      await Promise.all(all.map(({ promise }) => promise));
      assert.equal(await db.transaction({ role: 'ingest' }, (tx) => tx.copyIn('plain', binaryRows(1, 'lane', 4))), 1);
      release.fire();
      await Promise.all(holders);
    });

    it('outlives an idle session that the server ends', async () => {
      const db = await open({ sessionsMax: 2 });
      await db.query(owner, statement(`SELECT 'idle session'`));
      // The session's last statement is its COMMIT; the texts of prepared ones name it.
      await admin.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'sluice' AND pid <> pg_backend_pid()`);
      const outcomes = await Promise.allSettled(
        [1, 2, 3].map(() => db.query(owner, statement(`SELECT 'idle session'`))),
      );
      assert.equal(outcomes.at(-1)?.status, 'fulfilled');
    });

    it('prepares its statements again when the server has forgotten them', async () => {
      const db = await open({ sessionsMax: 2 });
      const read = statement('SELECT a FROM kept WHERE a = $1');
      await db.query(owner, read, [1]);
      await db.transaction(owner, (tx) => tx.script('DEALLOCATE ALL'));
      await assert.rejects(db.query(owner, read, [1]), ofKind('sql'));
      assert.equal((await db.query(owner, read, [1])).rowCount, 0);
    });

    it('prepares its statements again when the table they read has changed', async () => {
      const db = await open({ sessionsMax: 2 });
      await admin.query('CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)');
      const read = statement('SELECT * FROM changing');
      await db.query(owner, read);
      await admin.query('ALTER TABLE changing ADD b int');
      await assert.rejects(db.query(owner, read), ofKind('sql'));
      assert.deepEqual((await db.query(owner, read)).rows, [{ a: 1, b: null }]);
    });

    it('bounds every wait on the server: statement, lock, idle transaction', async () => {
      const db = await open();
      const { rows } = await db.query<{ name: string; setting: string }>(
        owner,
        statement(`SELECT name, setting FROM pg_settings
        WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'TimeZone', 'application_name') ORDER BY 1`),
      );
      assert.deepEqual(Object.fromEntries(rows.map(({ name, setting }) => [name, setting])), {
        TimeZone: 'UTC',
        application_name: 'sluice',
        idle_in_transaction_session_timeout: '3000',
        lock_timeout: '1000',
        statement_timeout: '10000',
      });
    });

    it('listens again after its connection was lost, and reports the gap', async () => {
      const db = await open();
      let gap!: () => void;
      let heard!: (payload: string) => void;
      const gaps = new Promise<void>((resolve) => {
        gap = resolve;
      });
      const notified = new Promise<string>((resolve) => {
        heard = resolve;
      });
      // The product's timers do not keep a process alive, and here nothing else does while the listener waits to come back.
      const alive = setInterval(() => {}, 1_000);
      await db.listen('news', heard, gap);
      await terminate('LISTEN "news"%');
      await gaps;
      await admin.query(`NOTIFY news, 'again'`);
      assert.equal(await notified, 'again');
      clearInterval(alive);
    });
  },
);

/** A proxy that passes everything on until the client has sent `word`; from then on nothing comes back, and the client is cut off. */
async function cutAfter(word: string, serverPort: number): Promise<{ port: number; close(): void }> {
  const sockets = new Set<Socket>();
  const proxy = createServer((client) => {
    const server = connect(serverPort, '127.0.0.1');
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => {});
    }
    let cut = false;
    client.on('data', (bytes) => {
      server.write(bytes);
      if (!bytes.includes(word)) return;
      cut = true;
      client.destroy();
    });
    server.on('data', (bytes) => {
      if (!cut) client.write(bytes);
    });
    client.on('close', () => {
      if (!cut) server.destroy();
    });
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    port: (proxy.address() as AddressInfo).port,
    close() {
      proxy.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** A proxy that replaces `from` by `to`, of the same length, in what clients send, until `stop`. */
async function altering(from: string, to: string, serverPort: number) {
  const clients = new Set<Socket>();
  let alters = from !== '';
  const proxy = createServer((client) => {
    const server = connect(serverPort, '127.0.0.1');
    clients.add(client);
    for (const socket of [client, server]) {
      socket.on('error', () => {});
      socket.on('close', () => {
        client.destroy();
        server.destroy();
      });
    }
    client.on('data', (bytes) => {
      server.write(alters ? Buffer.from(bytes.toString('latin1').replaceAll(from, to), 'latin1') : bytes);
    });
    server.on('data', (bytes) => client.write(bytes));
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    port: (proxy.address() as AddressInfo).port,
    begin: () => void (alters = true),
    stop: () => void (alters = false),
    /** As if the server said this to every client. */
    say: (bytes: Buffer) => clients.forEach((client) => client.write(bytes)),
    close() {
      proxy.close();
      for (const client of clients) client.destroy();
    },
  };
}
