import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { systemClock } from '../../src/clock.js';
import { StorageError } from '../../src/db/database.js';
import type { Scope } from '../../src/db/database.js';
import { openEmbedded } from '../../src/db/embedded.js';
import type { EmbeddedDatabase, EmbeddedOptions } from '../../src/db/embedded.js';
import { signal } from '../support/conformance.js';

const owner: Scope = { role: 'owner' };
const statement = (text: string) => ({ name: text.slice(0, 60), text });

describe('the embedded engine', () => {
  let root: string;
  let dataDir: string;
  const logged: string[] = [];
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'sluice-engine-'));
    dataDir = join(root, 'data');
    const db = await open();
    await db.transaction(owner, (tx) => tx.script('CREATE TABLE kept (a int)'));
    await db.close();
  });
  after(() => rm(root, { recursive: true, force: true }));

  function open(options: Partial<EmbeddedOptions> = {}): Promise<EmbeddedDatabase> {
    const onLockLost = (reason: string): never => assert.fail(reason);
    return openEmbedded({ dataDir, clock: systemClock, onLog: (line) => logged.push(line), onLockLost, ...options });
  }

  it('keeps its folder to its owner, the cluster in pg, and no lock after a close', async () => {
    assert.equal((await stat(dataDir)).mode & 0o777, 0o700);
    assert.deepEqual(await readdir(dataDir), ['pg']);
  });

  it('syncs a file with every commit that wrote something', async () => {
    const db = await open();
    try {
      for (let i = 0; i < 5; i++) {
        const earlier = db.stats().fsyncs;
        await db.query(owner, statement('INSERT INTO kept VALUES (1)'));
        assert.ok(db.stats().fsyncs > earlier);
      }
    } finally {
      await db.close();
    }
  });

  it('refuses to start when what it commits is not synced to disk', async () => {
    await assert.rejects(open({ syncFiles: false }), (error) => {
      assert.ok(error instanceof StorageError);
      assert.match(error.message, /does not sync to disk; refusing to start/);
      return true;
    });
    // The refusal gives the folder back.
    await (await open()).close();
  });

  it('refuses a folder that another owner has open', async () => {
    const db = await open();
    try {
      await assert.rejects(open(), /is in use by process/);
      assert.equal((await db.query(owner, statement('SELECT 1'))).rowCount, 1);
    } finally {
      await db.close();
    }
  });

  it('refuses a folder whose pg is something else, and leaves it as it is', async () => {
    const other = join(root, 'other');
    await mkdir(join(other, 'pg'), { recursive: true });
    await writeFile(join(other, 'pg', 'thesis.txt'), 'mine');
    await assert.rejects(open({ dataDir: other }), /holds no database/);
    assert.deepEqual(await readdir(join(other, 'pg')), ['thesis.txt']);
  });

  it('serves waiting reads before waiting writes', async () => {
    const db = await open();
    try {
      const order: string[] = [];
      const held = signal();
      const release = signal();
      const holder = db.transaction(owner, async () => {
        held.fire();
        await release.promise;
      });
      await held.promise;
      const wait = (name: string, priority: 'read' | 'write') =>
        db.transaction({ role: 'owner', priority }, async () => void order.push(name));
      const waiting = [
        wait('write 1', 'write'),
        wait('read 1', 'read'),
        wait('write 2', 'write'),
        wait('read 2', 'read'),
      ];
      assert.equal(db.readsWait, true);
      release.fire();
      await Promise.all([holder, ...waiting]);
      assert.deepEqual(order, ['read 1', 'read 2', 'write 1', 'write 2']);
      assert.equal(db.readsWait, false);
    } finally {
      await db.close();
    }
  });

  it('has nothing to recover after a close', async () => {
    const db = await open();
    await db.query(owner, statement('INSERT INTO kept VALUES (2)'));
    await db.close();
    logged.length = 0;
    await (await open()).close();
    assert.deepEqual(
      logged.filter((line) => /interrupted|recovery|redo/.test(line)),
      [],
    );
  });

  it('opens the folder again by itself after its thread was stopped for taking too long, with all that was committed', async () => {
    const db = await open({ statementTimeoutMs: 700 });
    try {
      await db.query(owner, statement('CREATE TABLE before_stall (a int)'));
      const stalling = db.query(owner, statement('SELECT pg_sleep(30)'));
      await assert.rejects(stalling, (error) => error instanceof StorageError && error.kind === 'unavailable');
      assert.equal((await db.query(owner, statement('SELECT count(*) FROM before_stall'))).rowCount, 1);
      assert.equal(db.stats().reopens, 1);
    } finally {
      await db.close();
    }
  });

  it('acknowledges nothing after a panic, and comes back with all it acknowledged once its disk does', async () => {
    const db = await open();
    const wal = join(dataDir, 'pg', 'pg_wal');
    const insert = { name: 'panic', text: 'INSERT INTO panics VALUES ($1)' };
    const acknowledged: number[] = [];
    try {
      await db.transaction(owner, (tx) => tx.script('CREATE TABLE panics (a int)'));
      await rename(wal, `${wal}-away`);
      // The next segment of the log cannot be made, on which PostgreSQL panics.
      await assert.rejects(async () => {
        for (let i = 0; ; i++) {
          await db.query(owner, insert, [i]);
          acknowledged.push(i);
          await db.query(owner, statement('SELECT pg_switch_wal()'));
        }
      }, StorageError);
      await assert.rejects(
        db.query(owner, insert, [-1]),
        (error) => error instanceof StorageError && error.kind === 'unavailable',
      );
      assert.ok(logged.some((line) => line.includes('PANIC')));
      await rename(`${wal}-away`, wal);
      const read = (): Promise<number[]> =>
        db.query<{ a: number }>(owner, statement('SELECT a FROM panics ORDER BY a')).then(
          ({ rows }) => rows.map(({ a }) => a),
          () => pause(50).then(read),
        );
      const stored = await read();
      assert.deepEqual(stored.slice(0, acknowledged.length), acknowledged);
      assert.ok(!stored.includes(-1));
    } finally {
      await db.close();
    }
  });

  it('listens again after its thread was replaced, and reports the gap', async () => {
    const db = await open({ statementTimeoutMs: 700 });
    try {
      let gap!: () => void;
      let heard!: (payload: string) => void;
      const gaps = new Promise<void>((resolve) => {
        gap = resolve;
      });
      const notified = new Promise<string>((resolve) => {
        heard = resolve;
      });
      await db.listen('news', heard, gap);
      await assert.rejects(db.query(owner, statement('SELECT pg_sleep(30)')));
      await gaps;
      await db.query(owner, statement(`SELECT pg_notify('news', 'again')`));
      assert.equal(await notified, 'again');
    } finally {
      await db.close();
    }
  });

  it('says nothing in its log of the values that a statement failed on', async () => {
    const db = await open();
    try {
      logged.length = 0;
      await assert.rejects(db.query(owner, { name: 'bad', text: 'SELECT $1::int' }, ['secret-value']));
      await assert.rejects(db.transaction(owner, (tx) => tx.script(`SELECT 'secret-value'::int`)));
    } finally {
      await db.close();
    }
    assert.doesNotMatch(logged.join('\n'), /secret-value/);
  });

  it('stops at once when its lock is lost', async () => {
    let lost!: (reason: string) => void;
    const reported = new Promise<string>((resolve) => {
      lost = resolve;
    });
    const db = await open({ onLockLost: lost });
    try {
      await rm(join(dataDir, 'lock'));
      assert.match(await reported, /removed/);
      await assert.rejects(
        db.query(owner, statement('SELECT 1')),
        (error) => error instanceof StorageError && error.kind === 'unavailable',
      );
    } finally {
      await db.close();
    }
  });

  it('comes up whole after being killed at any moment of its first start', async () => {
    const fresh = join(root, 'fresh');
    const start = (): ReturnType<typeof fork> =>
      fork(new URL('../support/embedded-starter.js', import.meta.url), [fresh]);
    for (const delayMs of [200, 300, 400, 500, 700, 900]) {
      const child = start();
      const gone = once(child, 'exit');
      // A moment, not a wait: where in the first start the kill falls is what varies.
      await pause(delayMs);
      child.kill('SIGKILL');
      await gone;
    }
    const db = await open({ dataDir: fresh });
    try {
      assert.deepEqual((await db.query(owner, statement('SELECT 1 AS one'))).rows, [{ one: 1 }]);
      const names = await readdir(fresh);
      assert.deepEqual(
        names.filter((name) => !name.startsWith('lock')),
        ['pg'],
      );
    } finally {
      await db.close();
    }
  });
});
